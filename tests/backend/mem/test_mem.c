/* SPDX-License-Identifier: MIT */
/* mem as an instrument: it is slow, fails and loses replies exactly as told. What it promises beside is in contract/. */
#include "mem/mem.h"

#include "clock.h"
#include "scratch.h"
#include "str.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <pthread.h>

enum { SOON_MS = 20000 };

static struct backend *be;
static struct fault fault;
static char state_dir[300], control_path[300];

static int open_with(const char *options_text)
{
	cleanup_json json_t *options = json_loads(options_text, 0, NULL);
	const struct backend_conf conf = {.name = "remote", .state_dir = state_dir, .options = options};

	cr_assert(ne(ptr, options, NULL));
	return backend_open("mem", &conf, &be, &fault);
}

static void set_up(void)
{
	int dir = scratch_open();

	snprintf(state_dir, sizeof(state_dir), "%s/state", scratch_path);
	snprintf(control_path, sizeof(control_path), "%s/control", scratch_path);
	cr_assert(zero(int, mkdirat(dir, "state", 0700)));
}

static void tear_down(void)
{
	backend_close(be);
	scratch_close();
}

TestSuite(mem, .init = set_up, .fini = tear_down, .timeout = 60);

static int submit(const char *id)
{
	const struct package package = {.dir = scratch_path};
	cleanup_json json_t *spec = json_pack("{s:s}", "entry", "train.py");
	const struct job_request request = {.id = id, .model = "m", .spec = spec, .package = &package};

	return backend_job_submit(be, &request, &fault);
}

static int find_state(void *arg, const struct job_entry *job)
{
	*(int *)arg = job->is_gone ? JOB_STATE_MAX : (int)job->state;
	return 0;
}

/* The state of the job that was reported last; -1 without one. */
static int last_state(void)
{
	struct job_page page;
	int state = -1;

	cr_assert(zero(int, backend_job_list(be, "", find_state, &state, &page, &fault)), "%s", fault.text);
	return state;
}

static int append(void *arg, const char *bytes, size_t n)
{
	return str_append_n(arg, bytes, n);
}

static bool has_log(const char *id, const char *want)
{
	cleanup_str struct str log = {0};
	struct job_page page;

	cr_assert(zero(int, backend_job_log_fetch(be, id, "", append, &log, &page, &fault)), "%s",
		  fault.text);
	return strcmp(log.data ? log.data : "", want) == 0;
}

static void control(const char *command)
{
	cr_assert(zero(int, mem_control(be, command, &fault)), "%s", fault.text);
}

static void write_control(const char *text)
{
	cr_assert(zero(int, file_write_atomic(scratch_fd, "control", text, strlen(text), 0600)));
}

static void open_with_control(void)
{
	char options[400];

	snprintf(options, sizeof(options), "{\"control\": \"%s\"}", control_path);
	cr_assert(zero(int, open_with(options)), "%s", fault.text);
}

Test(mem, wrong_options_are_refused_by_name)
{
	cr_expect(eq(int, open_with("{\"colour\": 1}"), -EINVAL));
	cr_expect(ne(ptr, strstr(fault.text, "colour"), NULL));
	cr_expect(eq(int, open_with("{\"auto\": 1}"), -EINVAL));
	cr_expect(eq(int, open_with("{\"page\": 0}"), -EINVAL));
	cr_expect(eq(int, open_with("{\"max_block_ms\": -1}"), -EINVAL));
	cr_expect(eq(int, open_with("{\"control\": \"relative\"}"), -EINVAL));
	cr_expect(zero(ptr, be));
}

Test(mem, capabilities_can_be_taken_away)
{
	cr_assert(zero(
		int,
		open_with("{\"models\": false, \"buckets\": false, \"watch\": false, \"remove\": false}")));
	cr_expect(not(backend_has_models(be)));
	cr_expect(not(backend_has_buckets(be)));
	cr_expect(not(backend_job_can_watch(be)));
	cr_expect(eq(int, backend_model_create(be, "m", &fault), -EOPNOTSUPP));
	cr_expect(ne(str, fault.text, ""));
	cr_expect(eq(int, backend_job_remove(be, "a", &fault), -EOPNOTSUPP));
}

Test(mem, auto_jobs_run_at_once)
{
	cr_assert(zero(int, open_with("{\"auto\": true}")));
	cr_assert(zero(int, submit("a")), "%s", fault.text);
	cr_expect(eq(int, last_state(), (int)JOB_SUCCEEDED));
	cr_expect(has_log("a", "hello from a\n"));
}

Test(mem, fails_as_often_as_told)
{
	cr_assert(zero(int, open_with("{}")));
	control("submit fail EAGAIN first 2");
	cr_expect(eq(int, submit("a"), -EAGAIN));
	cr_expect(eq(int, submit("a"), -EAGAIN));
	cr_expect(eq(int, last_state(), -1), "a failed one does nothing");
	cr_expect(zero(int, submit("a")));
	control("submit fail EIO every 2");
	cr_expect(eq(int, submit("b"), -EIO), "the fourth call");
	cr_expect(zero(int, submit("c")));
	control("submit ok");
	cr_expect(zero(int, submit("d")));
	control("* fail EACCES");
	cr_expect(eq(int, submit("e"), -EACCES));
	cr_expect(eq(int, backend_model_create(be, "m", &fault), -EACCES));
	cr_expect(eq(uint, mem_calls(be, "submit"), 7));
}

Test(mem, a_lost_reply_is_a_submission_all_the_same)
{
	cr_assert(zero(int, open_with("{}")));
	control("submit lose-reply");
	cr_expect(eq(int, submit("a"), -ETIMEDOUT));
	cr_expect(eq(int, last_state(), (int)JOB_QUEUED));
	cr_expect(eq(int, submit("a"), -EEXIST));
	control("submit lose-reply EALREADY");
	cr_expect(eq(int, submit("b"), -EALREADY));
}

Test(mem, a_hanging_operation_ends_by_itself)
{
	cr_assert(zero(int, open_with("{\"max_block_ms\": 30}")));
	control("submit hang 3600000");
	int64_t start_ms = clock_mono_ms();
	cr_expect(eq(int, submit("a"), -ETIMEDOUT));
	cr_expect(ge(i64, clock_mono_ms() - start_ms, 30));
	cr_expect(lt(i64, clock_mono_ms() - start_ms, SOON_MS));
	cr_expect(eq(int, last_state(), -1));
}

Test(mem, a_slow_operation_does_its_work)
{
	cr_assert(zero(int, open_with("{}")));
	control("submit delay 30");
	int64_t start_ms = clock_mono_ms();
	cr_expect(zero(int, submit("a")));
	cr_expect(ge(i64, clock_mono_ms() - start_ms, 30));
	cr_expect(eq(int, last_state(), (int)JOB_QUEUED));
}

static void *submit_a(void *arg)
{
	*(int *)arg = submit("a");
	return NULL;
}

/* Waits until an operation has been called. */
static void wait_called(const char *op)
{
	int64_t end_ms = clock_mono_ms() + SOON_MS;

	while (mem_calls(be, op) == 0) {
		cr_assert(lt(i64, clock_mono_ms(), end_ms));
		sched_yield();
	}
}

Test(mem, a_hanging_operation_holds_up_no_other_and_ends_at_a_wake)
{
	pthread_t thread;
	int r = 0;

	cr_assert(zero(int, open_with("{}")));
	control("submit hang 50000");
	int64_t start_ms = clock_mono_ms();
	cr_assert(zero(int, pthread_create(&thread, NULL, submit_a, &r)));
	wait_called("submit");
	cr_expect(eq(int, last_state(), -1));
	cr_expect(zero(int, backend_model_create(be, "m", NULL)));
	/* it may have been called, but not wait yet: wake until it is over */
	while (pthread_tryjoin_np(thread, NULL) == EBUSY) {
		backend_job_wake(be);
		cr_assert(lt(i64, clock_mono_ms() - start_ms, SOON_MS));
		sched_yield();
	}
	cr_expect(eq(int, r, -ETIMEDOUT));
}

Test(mem, a_hanging_operation_goes_on_when_it_is_let)
{
	pthread_t thread;
	int r = -1;

	write_control("submit hang 50000\n");
	open_with_control();
	int64_t start_ms = clock_mono_ms();
	cr_assert(zero(int, pthread_create(&thread, NULL, submit_a, &r)));
	wait_called("submit");
	write_control("# go on\n");
	pthread_join(thread, NULL);
	cr_expect(zero(int, r));
	cr_expect(lt(i64, clock_mono_ms() - start_ms, SOON_MS));
}

Test(mem, the_control_file_drives_jobs_once)
{
	open_with_control();
	cr_assert(zero(int, submit("a")));
	write_control("job a state RUNNING\njob a log one\n");
	cr_expect(eq(int, last_state(), (int)JOB_RUNNING));
	write_control("job a state RUNNING\njob a log one\njob a log two\\tx\\c\njob a state FAILED 7\n");
	cr_expect(eq(int, last_state(), (int)JOB_FAILED));
	cr_expect(has_log("a", "one\ntwo\tx"));
	write_control("job a remove\n");
	cr_expect(eq(int, last_state(), -1));
}

Test(mem, the_control_file_holds_the_rules)
{
	write_control("submit fail EDQUOT\n");
	open_with_control();
	cr_expect(eq(int, submit("a"), -EDQUOT));
	write_control("list delay 1\nnonsense\n");
	cr_expect(zero(int, submit("a")));
}

Test(mem, watch_sees_the_control_file)
{
	open_with_control();
	cr_assert(zero(int, backend_job_watch(be, 0)));
	write_control("job elsewhere state RUNNING\n");
	int64_t start_ms = clock_mono_ms();
	cr_assert(zero(int, backend_job_watch(be, 50000)));
	cr_expect(lt(i64, clock_mono_ms() - start_ms, SOON_MS));
	cr_expect(eq(int, last_state(), (int)JOB_RUNNING));
	int fd = -1;
	cr_expect(eq(int, backend_job_package_dir(be, "elsewhere", &fd, &fault), -ENOENT));
}

Test(mem, commands_that_make_no_sense_are_refused)
{
	static const char *const bad[] = {"submit",      "submit fail",           "submit fail EWHAT",
					  "submit hang", "submit hang -1",        "what delay 1",
					  "job a",       "job a state",           "job a state UP",
					  "job a jump",  "submit fail EIO every", "submit fail EIO every 0"};

	cr_assert(zero(int, open_with("{}")));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect(eq(int, mem_control(be, bad[i], &fault), -EINVAL), "%s", bad[i]);
	control("");
	control("   # nothing");
	cr_expect(eq(int, mem_control(be, "job none log x", &fault), -ENOENT));
}

Test(mem, cursors_can_be_made_stale)
{
	struct job_page page;
	int state;

	cr_assert(zero(int, open_with("{}")));
	cr_assert(zero(int, backend_job_list(be, "", find_state, &state, &page, &fault)));
	control("cursors stale");
	struct job_page again;
	cr_expect(eq(int, backend_job_list(be, page.cursor, find_state, &state, &again, &fault), -ESTALE));
	cr_expect(eq(int, backend_job_list(be, "what", find_state, &state, &again, &fault), -ESTALE));
}

Test(mem, a_version_is_seen_while_it_is_made)
{
	struct model_detail detail;

	cr_assert(zero(int, open_with("{}")));
	control("version-create fail EIO");
	cr_assert(eq(int, backend_model_version_create(be, "m", "v1", NULL, state_dir, &fault), -EIO));
	cr_assert(zero(int, backend_model_get(be, "m", &detail, &fault)));
	cr_assert(eq(sz, detail.n_versions, 1));
	cr_expect(eq(int, (int)detail.version[0].state, (int)VERSION_FAILED));
	cr_expect(ne(ptr, detail.version[0].why, NULL));
	model_detail_release(&detail);
}

Test(mem, accepted_submissions_are_on_record)
{
	cleanup_free char *text = NULL;

	cr_assert(zero(int, open_with("{}")));
	cr_assert(zero(int, submit("a")));
	cr_assert(zero(int, submit("b")));
	control("job b state FAILED");
	cr_assert(zero(int, backend_job_remove(be, "b", &fault)));
	backend_close(be);
	be = NULL;
	cr_assert(zero(int, file_read_all(scratch_fd, "state/accepted.jsonl", 10000, &text, NULL)));
	size_t n_lines = 0;
	for (const char *p = text; (p = strchr(p, '\n')); p++)
		n_lines++;
	cr_expect(eq(sz, n_lines, 3));
	/* a process killed while it wrote */
	cleanup_free char *torn = NULL;
	cr_assert(zero(int, str_format(&torn, "%s{\"id\":\"c\",\"mod", text)));
	cr_assert(zero(int, file_write_atomic(scratch_fd, "state/accepted.jsonl", torn, strlen(torn), 0600)));
	cr_assert(zero(int, open_with("{}")), "%s", fault.text);
	cr_expect(eq(int, last_state(), (int)JOB_QUEUED));
	cr_expect(eq(int, submit("a"), -EEXIST));
	cr_expect(zero(int, submit("b")));
	cr_expect(zero(int, submit("c")));
	backend_close(be);
	be = NULL;
	cr_assert(zero(int, open_with("{}")), "%s", fault.text);
	cr_expect(eq(int, submit("b"), -EEXIST));
	cr_expect(eq(int, submit("c"), -EEXIST), "a torn line spoils no later one");
}

Test(mem, a_long_log_comes_in_pages)
{
	cleanup_str struct str log = {0};
	struct job_page page = {0};
	char command[1100] = "job a log ";
	size_t n_pages = 0;

	cr_assert(zero(int, open_with("{\"page\": 1}")));
	cr_assert(zero(int, submit("a")));
	memset(command + strlen(command), 'x', 1000);
	for (int i = 0; i < 5; i++)
		control(command);
	do {
		char cursor[256];
		memcpy(cursor, page.cursor, sizeof(cursor));
		cr_assert(zero(int, backend_job_log_fetch(be, "a", cursor, append, &log, &page, &fault)));
		n_pages++;
	} while (page.has_more);
	cr_expect(eq(sz, n_pages, 5), "5005 bytes in pages of 1024");
	cr_expect(eq(sz, log.len, 5005));
}
