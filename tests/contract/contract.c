/* SPDX-License-Identifier: MIT */
/* The types that the suite runs over, and what its tests do again and again. */
#include "contract.h"

#include "clock.h"
#include "mem/mem.h"
#include "scratch.h"
#include "str.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

enum { DEADLINE_MS = 30000 };

static void mem_do(struct backend *be, const char *id, const char *what)
{
	struct fault fault = {0};
	char command[300];

	snprintf(command, sizeof(command), "job %s %s", id, what);
	cr_assert(zero(int, mem_control(be, command, &fault)), "%s", fault.text);
}

static void mem_drive(struct backend *be, const char *id, enum contract_job kind)
{
	mem_do(be, id, "state RUNNING");
	mem_do(be, id,
	       kind == CONTRACT_GOOD  ? "log one\\ntwo"
	       : kind == CONTRACT_BAD ? "log broken"
				      : "log going");
	if (kind != CONTRACT_ENDLESS)
		mem_do(be, id, kind == CONTRACT_GOOD ? "state SUCCEEDED 0" : "state FAILED 3");
}

static const struct contract_type types[] = {
	{"mem", "mem", "{}", mem_drive},
	{"mem, small pages, no watch", "mem", "{\"page\": 2, \"watch\": false}", mem_drive},
	{"local", "local", "{\"slots\": 2}", NULL},
	{"mem, objects", "mem", "{\"objects\": true}", mem_drive},
	{"mem, objects, small pages", "mem", "{\"objects\": true, \"page\": 2}", mem_drive},
	{"aws", "aws", NULL, NULL},
	{"google", "google", NULL, NULL},
};

/* Those that need no server, or the one that $TRAINFS_PEER_TYPE names. */
struct criterion_test_params contract_parameters(void)
{
	static int type_index[sizeof(types) / sizeof(types[0])];
	const char *peer = getenv("TRAINFS_PEER_TYPE");
	size_t n = 0;

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (types[i].options ? !peer : peer && strcmp(peer, types[i].type) == 0)
			type_index[n++] = (int)i;
	}
	return cr_make_param_array(int, type_index, n);
}

/* ---- the backend ---- */

static const char *find_python(void)
{
	return access("/usr/bin/python3", X_OK) == 0 ? "/usr/bin/python3" : NULL;
}

void contract_reopen(struct contract *c)
{
	cleanup_json json_t *options =
		json_loads(c->type->options ? c->type->options : getenv("TRAINFS_PEER_OPTIONS"), 0, NULL);
	const struct backend_conf conf = {
		.name = "remote", .state_dir = c->state_dir, .options = options, .python = find_python()};

	if (c->be) {
		backend_close(c->be);
		c->be = NULL;
	}
	contract_ok(c, backend_open(c->type->type, &conf, &c->be, &c->fault));
}

/* ---- a server's buckets, which outlive a test */

struct names {
	char *name[64];
	size_t n;
};

static int take_name(void *arg, const char *name)
{
	struct names *names = arg;

	cr_assert(lt(sz, names->n, 64));
	names->name[names->n++] = strdup(name);
	return 0;
}

static int take_object_name(void *arg, const struct object_entry *object)
{
	return take_name(arg, object->key);
}

static void empty_prefix(struct contract *c, const char *bucket, const char *prefix)
{
	struct object_page page = {0};

	do {
		struct names names = {0};
		contract_ok(c, backend_objects(c->be, bucket, prefix, "", 60, take_object_name, &names, &page,
					       &c->fault));
		for (size_t i = 0; i < names.n; i++) {
			if (str_has_suffix(names.name[i], "/") && strcmp(names.name[i], prefix) != 0)
				empty_prefix(c, bucket, names.name[i]);
			else
				contract_ok(c, backend_object_remove(c->be, bucket, names.name[i], NULL,
								     &c->fault));
			free(names.name[i]);
		}
	} while (page.has_more);
}

static void empty_peer(struct contract *c)
{
	struct names names = {0};

	contract_ok(c, backend_bucket_list(c->be, take_name, &names, &c->fault));
	for (size_t i = 0; i < names.n; i++) {
		empty_prefix(c, names.name[i], "");
		contract_ok(c, backend_bucket_remove(c->be, names.name[i], &c->fault));
		free(names.name[i]);
	}
}

static void write_package(int dirfd)
{
	cr_assert(zero(int, mkdirat(dirfd, "package", 0755)));
	cr_assert(zero(int, mkdirat(dirfd, "package/data", 0750)));
	cr_assert(zero(int, file_write_atomic(dirfd, "package/data/numbers", "1 2 3\n", 6, 0640)));
	cr_assert(zero(int, file_write_atomic(dirfd, "package/run.sh", "exit 0\n", 7, 0755)));
	cr_assert(zero(int, file_write_atomic(dirfd, "package/ignored", "x", 1, 0644)));
	cr_assert(zero(int, symlinkat("data/numbers", dirfd, "package/link")));
}

void contract_open(struct contract *c, int index)
{
	c->type = &types[index];
	unsetenv("BXFI_MAP"); /* else Criterion's sandbox takes our helpers for its own workers */
	int dirfd = scratch_open();
	snprintf(c->state_dir, sizeof(c->state_dir), "%s/state", scratch_path);
	snprintf(c->package_dir, sizeof(c->package_dir), "%s/package", scratch_path);
	cr_assert(zero(int, mkdirat(dirfd, "state", 0700)));
	write_package(dirfd);
	contract_reopen(c);
	if (!c->type->options)
		empty_peer(c);
}

void contract_close(struct contract *c)
{
	if (backend_has_jobs(c->be))
		contract_refresh(c);
	for (size_t i = 0; i < c->n_rows; i++) {
		struct contract_row *row = &c->row[i];
		if (row->entry.is_gone || job_state_is_ended(row->entry.state))
			continue;
		int r = backend_job_cancel(c->be, row->id, NULL);
		cr_assert(r == 0 || r == -EBUSY, "%s", row->id);
		contract_wait(c, row->id, JOB_CANCELLED);
	}
	backend_close(c->be);
	c->be = NULL;
	scratch_close();
}

/* ---- what is told of jobs ---- */

const struct contract_row *contract_row(const struct contract *c, const char *id)
{
	for (size_t i = 0; i < c->n_rows; i++) {
		if (strcmp(c->row[i].id, id) == 0)
			return &c->row[i];
	}
	return NULL;
}

/* What a job has to say for itself, when it went another way than the test wanted. Leaks on the way out. */
static const char *why_of(struct contract *c, const char *id)
{
	struct job_detail detail = {0};

	return backend_job_get(c->be, id, &detail, NULL) == 0 && detail.why ? detail.why : "";
}

static int take_row(void *arg, const struct job_entry *entry)
{
	struct contract *c = arg;
	struct contract_row *row = (struct contract_row *)contract_row(c, entry->id);

	if (!row) {
		cr_assert(c->n_rows < CONTRACT_ROWS_MAX);
		row = &c->row[c->n_rows++];
		snprintf(row->id, sizeof(row->id), "%s", entry->id);
	}
	if (!entry->is_gone)
		snprintf(row->model, sizeof(row->model), "%s", entry->model);
	row->entry = *entry;
	row->entry.id = row->entry.model = row->entry.cost = NULL;
	row->n_reports++;
	return 0;
}

void contract_refresh(struct contract *c)
{
	struct job_page page;

	do {
		contract_ok(c, backend_job_list(c->be, c->cursor, take_row, c, &page, &c->fault));
		cr_assert(ne(str, page.cursor, ""));
		memcpy(c->cursor, page.cursor, sizeof(c->cursor));
		c->n_pages++;
	} while (page.has_more);
}

void contract_forget(struct contract *c)
{
	c->cursor[0] = '\0';
	c->n_rows = c->n_pages = 0;
}

void contract_wait(struct contract *c, const char *id, enum job_state state)
{
	int64_t end_ms = clock_mono_ms() + DEADLINE_MS;

	for (;;) {
		contract_refresh(c);
		const struct contract_row *row = contract_row(c, id);
		if (row && !row->entry.is_gone && row->entry.state == state)
			return;
		cr_assert(not(row && job_state_is_ended(row->entry.state)), "%s: %s ended as %s, not %s: %s",
			  c->type->name, id, job_state_name(row->entry.state), job_state_name(state),
			  why_of(c, id));
		cr_assert(clock_mono_ms() < end_ms, "%s: %s is %s, not %s", c->type->name, id,
			  row ? job_state_name(row->entry.state) : "not told of", job_state_name(state));
		if (backend_job_can_watch(c->be))
			cr_assert(zero(int, backend_job_watch(c->be, 1000)));
		else
			poll(NULL, 0, 20); /* as the tree does without a watch */
	}
}

/* ---- jobs ---- */

#define CONTRACT_GOOD_SCRIPT                                                                 \
	"echo one; echo two; mkdir -p \"$OUTPUT/model\"; echo \"model of $TRAINFS_JOB_ID\" " \
	">\"$OUTPUT/model/model.txt\""

const struct job_request *contract_request(struct contract *c, const char *id, const char *model,
					   enum contract_job kind)
{
	static const char *const script[] = {
		[CONTRACT_GOOD] = CONTRACT_GOOD_SCRIPT,
		[CONTRACT_BAD] = "echo broken; exit 3",
		[CONTRACT_ENDLESS] = "echo going; exec tail -f /dev/null",
	};
	static const char *const path[] = {"data", "data/numbers", "link", "run.sh"};
	static struct package package;
	static struct job_request request;
	static json_t *spec;

	json_decref(spec);
	spec = json_pack("{s:i, s:[s, s, s], s:s}", "trainfs", 1, "command", "sh", "-c", script[kind],
			 "model", model);
	cr_assert(ne(ptr, spec, NULL));
	package = (struct package){.dir = c->package_dir, .path = path, .n_paths = 4, .size_bytes = 13};
	request = (struct job_request){
		.id = id,
		.model = model,
		.spec = spec,
		.package = &package,
		.git = "{\"branch\":\"main\",\"commit\":\"0123456789abcdef0123456789abcdef01234567\","
		       "\"dirty\":false}",
	};
	return &request;
}

int contract_submit(struct contract *c, const char *id, enum contract_job kind)
{
	return backend_job_submit(c->be, contract_request(c, id, "digits", kind), &c->fault);
}

void contract_run(struct contract *c, const char *id, enum contract_job kind)
{
	static const enum job_state end[] = {[CONTRACT_GOOD] = JOB_SUCCEEDED,
					     [CONTRACT_BAD] = JOB_FAILED,
					     [CONTRACT_ENDLESS] = JOB_RUNNING};

	contract_ok(c, contract_submit(c, id, kind));
	if (c->type->drive)
		c->type->drive(c->be, id, kind);
	contract_wait(c, id, end[kind]);
}

static int take_bytes(void *arg, const char *bytes, size_t n)
{
	return str_append_n(arg, bytes, n);
}

static void fetch_log(struct contract *c, const char *id, struct str *log)
{
	struct job_page page = {0};

	do {
		char cursor[256];
		memcpy(cursor, page.cursor, sizeof(cursor));
		contract_ok(c, backend_job_log_fetch(c->be, id, cursor, take_bytes, log, &page, &c->fault));
	} while (page.has_more);
	size_t len = log->len;
	char cursor[256];
	memcpy(cursor, page.cursor, sizeof(cursor));
	contract_ok(c, backend_job_log_fetch(c->be, id, cursor, take_bytes, log, &page, &c->fault));
	cr_assert(eq(sz, log->len, len), "no byte is given twice");
}

char *contract_log(struct contract *c, const char *id)
{
	struct str log = {0};
	char *text = NULL;

	if (backend_job_log_is_file(c->be)) {
		int fd = -1;
		char buf[4096];
		int r = backend_job_log_file(c->be, id, &fd, &c->fault);
		cr_assert(r == 0 || r == -ENOENT, "%s", c->fault.text);
		for (ssize_t n; r == 0 && (n = read(fd, buf, sizeof(buf))) > 0;)
			str_append_n(&log, buf, (size_t)n);
		if (fd >= 0)
			close(fd);
	} else {
		fetch_log(c, id, &log);
	}
	cr_assert(zero(int, str_steal(&log, &text)));
	return text;
}

int contract_search(void *arg, const char *name)
{
	struct contract_search *search = arg;

	search->n += strcmp(search->name, name) == 0;
	return 0;
}

bool contract_has_text(int dirfd, const char *name, const char *want)
{
	cleanup_free char *text = NULL;

	return file_read_all(dirfd, name, 1 << 20, &text, NULL) == 0 && strcmp(text, want) == 0;
}
