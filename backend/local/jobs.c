/* SPDX-License-Identifier: MIT */
/* The jobs of `local` as the contract wants them: listing, looking at one, cancelling, deleting, watching. */
#include "local/jobs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/inotify.h>

#include "clock.h"
#include "local/local.h"
#include "local/run.h"
#include "local/schedule.h"
#include "local/store.h"
#include "local/submit.h"
#include "log.h"
#include "str.h"

enum { JOBS_PAGE = 1000 };

/* ---- list */

struct jobs_page {
	struct job_entry *row;
	size_t n_rows;
	int64_t last; /* revision */
	bool has_more;
};

static void cleanup_page_(struct jobs_page *page)
{
	for (size_t i = 0; i < page->n_rows; i++) {
		free((char *)page->row[i].id);
		free((char *)page->row[i].model);
	}
	free(page->row);
}

static int jobs_read_page(const struct transaction *t, int64_t after, struct jobs_page *page)
{
	cleanup_statement sqlite3_stmt *s = NULL;
	page->row = calloc(JOBS_PAGE, sizeof(*page->row));
	page->last = after;
	if (!page->row)
		return -ENOMEM;
	int r = store_prepare(
		t, &s,
		"SELECT revision, id, model, state, created, started, ended, changed, exit, gone"
		" FROM job WHERE revision > ? ORDER BY revision LIMIT ?",
		"ii", after, (int64_t)JOBS_PAGE + 1);
	if (r < 0)
		return r;
	while ((r = store_step(t, s)) > 0) {
		if (page->n_rows == JOBS_PAGE) {
			page->has_more = true;
			return 0;
		}
		struct job_entry *row = &page->row[page->n_rows++];
		page->last = sqlite3_column_int64(s, 0);
		if (!store_column_text(s, 1, (char **)&row->id) ||
		    !store_column_text(s, 2, (char **)&row->model))
			return -ENOMEM;
		row->state = (enum job_state)sqlite3_column_int(s, 3);
		row->created_ns = sqlite3_column_int64(s, 4);
		row->started_ns = sqlite3_column_int64(s, 5);
		row->ended_ns = sqlite3_column_int64(s, 6);
		row->changed_ns = sqlite3_column_int64(s, 7);
		row->exit = sqlite3_column_int(s, 8);
		row->is_gone = sqlite3_column_int(s, 9);
	}
	return r;
}

/* "STORE:REVISION"; another store, or one older than the oldest tombstone, is stale. */
static int jobs_parse_cursor(const struct transaction *t, const char *cursor, char **ret_store,
			     int64_t *ret_after)
{
	cleanup_free char *store = NULL;
	int64_t pruned;
	int r = store_get_text(t, &store, "SELECT value FROM setting WHERE name = 'store'", "");
	if (r == 0)
		r = store_get_int(t, &pruned, "SELECT value FROM counter WHERE name = 'pruned'", "");
	if (r < 0)
		return r;
	*ret_after = 0;
	if (*cursor) {
		size_t n = strlen(store);
		if (strncmp(cursor, store, n) != 0 || cursor[n] != ':' ||
		    str_to_int(cursor + n + 1, 0, INT64_MAX, ret_after) < 0 || *ret_after < pruned)
			return -ESTALE;
	}
	*ret_store = STEAL(store);
	return 0;
}

static int local_job_list(struct backend *be, const char *cursor, job_sink sink, void *arg,
			  struct job_page *ret, struct fault *reterr)
{
	struct local *local = local_of(be);
	__attribute__((cleanup(cleanup_page_))) struct jobs_page page = {0};
	cleanup_free char *store = NULL;
	int64_t after;
	{
		cleanup_transaction struct transaction t = {0};
		int r = transaction_read(&t, local->reader);
		if (r == 0)
			r = jobs_parse_cursor(&t, cursor, &store, &after);
		if (r == -ESTALE)
			return fault_set(reterr, ESTALE, "the cursor %s is too old", cursor);
		if (r == 0)
			r = jobs_read_page(&t, after, &page);
		if (r < 0)
			return local_fault(reterr, r, "list");
	}
	for (size_t i = 0; i < page.n_rows; i++) {
		int r = sink(arg, &page.row[i]);
		if (r < 0)
			return r;
	}
	snprintf(ret->cursor, sizeof(ret->cursor), "%s:%" PRId64, store, page.last);
	ret->has_more = page.has_more;
	return 0;
}

/* ---- get */

static int jobs_get_attempts(const struct transaction *t, int64_t seq, struct job_detail *ret)
{
	cleanup_statement sqlite3_stmt *s = NULL;
	int r = store_prepare(t, &s, "SELECT started, ended, exit, why FROM attempt WHERE seq = ? ORDER BY n",
			      "i", seq);
	if (r < 0)
		return r;
	while ((r = store_step(t, s)) > 0) {
		struct job_attempt *grown = realloc(ret->attempt, (ret->n_attempts + 1) * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		ret->attempt = grown;
		struct job_attempt *attempt = &grown[ret->n_attempts++];
		*attempt = (struct job_attempt){sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1),
						sqlite3_column_int(s, 2), NULL};
		if (!store_column_text(s, 3, &attempt->why))
			return -ENOMEM;
	}
	return r;
}

static int jobs_get_events(const struct transaction *t, int64_t seq, struct job_detail *ret)
{
	cleanup_statement sqlite3_stmt *s = NULL;
	int r = store_prepare(t, &s, "SELECT state, at FROM event WHERE seq = ? ORDER BY rowid", "i", seq);
	if (r < 0)
		return r;
	while ((r = store_step(t, s)) > 0) {
		struct job_event *grown = realloc(ret->event, (ret->n_events + 1) * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		ret->event = grown;
		grown[ret->n_events++] = (struct job_event){(enum job_state)sqlite3_column_int(s, 0),
							    sqlite3_column_int64(s, 1)};
	}
	return r;
}

/* The record of a job, as a service would give it. */
static int jobs_make_api(const struct local *local, sqlite3_stmt *s, const char *id, const char *model,
			 char **ret)
{
	cleanup_free char *directory = store_path(local->reader, "jobs/%s", id);
	cleanup_free char *output = store_path(local->reader, "buckets/outputs/%s/%s", model, id);
	cleanup_json json_t *api = json_pack(
		"{s:s?, s:s, s:s?, s:s, s:s, s:I, s:s?, s:s?, s:I, s:I, s:s}", "boot",
		(const char *)sqlite3_column_text(s, 12), "directory", directory ? directory : "", "gpus",
		(const char *)sqlite3_column_text(s, 10), "id", id, "model", model, "pid",
		(json_int_t)sqlite3_column_int64(s, 9), "output", output, "python",
		(const char *)sqlite3_column_text(s, 7), "seq", (json_int_t)sqlite3_column_int64(s, 0),
		"space", (json_int_t)sqlite3_column_int64(s, 11), "state",
		job_state_name((enum job_state)sqlite3_column_int(s, 2)));
	*ret = api ? json_dumps(api, JSON_INDENT(2) | JSON_SORT_KEYS) : NULL;
	return *ret ? 0 : -ENOMEM;
}

static int jobs_get_row(const struct local *local, const struct transaction *t, const char *id,
			struct job_detail *ret, int64_t *ret_seq)
{
	cleanup_statement sqlite3_stmt *s = NULL;
	cleanup_free char *model = NULL;
	int r = store_prepare(t, &s,
			      "SELECT seq, model, state, why, spec, git, resumed_from, python, wants_gpus, "
			      "pid, gpus, space,"
			      " boot FROM job WHERE id = ? AND gone = 0",
			      "s", id);
	if (r == 0)
		r = store_step(t, s);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	*ret_seq = sqlite3_column_int64(s, 0);
	if (!store_column_text(s, 1, &model) || !store_column_text(s, 3, &ret->why) ||
	    !store_column_text(s, 4, &ret->spec) || !store_column_text(s, 5, &ret->git) ||
	    !store_column_text(s, 6, &ret->resumed_from))
		return -ENOMEM;
	r = jobs_make_api(local, s, id, model, &ret->api);
	if (r == 0)
		r = str_format(&ret->output, "outputs/%s/%s", model, id);
	if (r == 0 && sqlite3_column_int(s, 2) == JOB_QUEUED) {
		free(STEAL(ret->why));
		r = schedule_why(t, *ret_seq, sqlite3_column_int64(s, 8), &ret->why);
	}
	return r;
}

static int jobs_get_in(const struct local *local, const char *id, struct job_detail *ret)
{
	cleanup_transaction struct transaction t = {0};
	int64_t seq;
	int r = transaction_read(&t, local->reader);
	if (r == 0)
		r = jobs_get_row(local, &t, id, ret, &seq);
	if (r == 0)
		r = jobs_get_attempts(&t, seq, ret);
	if (r == 0)
		r = jobs_get_events(&t, seq, ret);
	if (r < 0)
		return r;
	r = store_get_text(&t, &ret->version,
			   "SELECT model || '/' || name FROM version WHERE job = ? AND state = 1 ORDER BY "
			   "created LIMIT 1",
			   "s", id);
	return r == -ENOENT ? 0 : r;
}

static int local_job_get(struct backend *be, const char *id, struct job_detail *ret, struct fault *reterr)
{
	int r = jobs_get_in(local_of(be), id, ret);
	if (r < 0)
		job_detail_release(ret);
	if (r == -ENOENT)
		return fault_set(reterr, ENOENT, "there is no job %s", id);
	return r < 0 ? local_fault(reterr, r, "get") : 0;
}

/* ---- check, submit, cancel */

static int local_job_check(struct backend *be, const struct job_request *request, struct fault *reterr)
{
	return submit_check(local_of(be), request, reterr);
}

static int local_job_submit(struct backend *be, const struct job_request *request, struct fault *reterr)
{
	struct local *local = local_of(be);
	int r = submit_job(local, request, reterr);
	if (r == 0)
		(void)schedule_run(local->writer); /* the job is there; who looks next tries again */
	return r;
}

static int jobs_cancel_in(struct store *store, const char *id)
{
	cleanup_transaction struct transaction t = {0};
	int64_t seq;
	int64_t state;
	int r = transaction_write(&t, store);
	if (r == 0)
		r = store_get_int(&t, &seq, "SELECT seq FROM job WHERE id = ? AND gone = 0", "s", id);
	if (r == 0)
		r = store_get_int(&t, &state, "SELECT state FROM job WHERE seq = ?", "i", seq);
	if (r < 0)
		return r;
	if (job_state_is_ended((enum job_state)state))
		return -EBUSY;
	if (state == JOB_CANCELLING)
		return 0;
	int64_t now = clock_wall_ns();
	if (state == JOB_QUEUED)
		r = store_exec(
			&t, "UPDATE job SET ended = ?, why = 'cancelled while it was queued' WHERE seq = ?",
			"ii", now, seq);
	if (r == 0)
		r = store_job_set_state(&t, seq, state == JOB_QUEUED ? JOB_CANCELLED : JOB_CANCELLING, now);
	return r < 0 ? r : transaction_commit(&t);
}

static int local_job_cancel(struct backend *be, const char *id, struct fault *reterr)
{
	struct local *local = local_of(be);
	int r = jobs_cancel_in(local->writer, id);
	if (r == -ENOENT)
		return fault_set(reterr, ENOENT, "there is no job %s", id);
	if (r == -EBUSY)
		return fault_set(reterr, EBUSY, "job %s has ended already", id);
	if (r < 0)
		return local_fault(reterr, r, "cancel");
	cleanup_free char *secrets = store_path(local->writer, "jobs/%s/secrets", id);
	cleanup_transaction struct transaction t = {0};
	int64_t state = 0;
	if (secrets && transaction_read(&t, local->writer) == 0 &&
	    store_get_int(&t, &state, "SELECT state FROM job WHERE id = ? AND gone = 0", "s", id) == 0 &&
	    state == JOB_CANCELLED)
		(void)unlink(secrets); /* nobody will take them */
	transaction_end(&t);
	(void)schedule_run(local->writer); /* its supervisor may be gone */
	return 0;
}

/* ---- remove */

static int local_job_remove(struct backend *be, const char *id, struct fault *reterr)
{
	int r = jobs_remove(local_of(be)->writer, id);
	switch (r) {
	case -ENOENT:
		return fault_set(reterr, ENOENT, "there is no job %s", id);
	case -EBUSY:
		return fault_set(reterr, EBUSY, "job %s has not ended; cancel it first", id);
	case -EADDRINUSE:
		return fault_set(reterr, EBUSY,
				 "job %s is in use: a version is being made of it, or a job resumes it", id);
	default:
		return r < 0 ? local_fault(reterr, r, "delete") : 0;
	}
}

/* ---- log and package */

static int jobs_open(struct local *local, const char *id, const char *name, int flags, int *ret_fd,
		     struct fault *reterr)
{
	int r = local_check_name("job id", id, reterr);
	if (r < 0)
		return fault_set(reterr, ENOENT, "there is no job %s", id);
	cleanup_free char *path = store_path(local->reader, "jobs/%s/%s", id, name);
	if (!path)
		return local_fault(reterr, -ENOMEM, name);
	int fd = open(path, flags | O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return fault_set(reterr, errno, "job %s has no %s: %s", id, name, strerror(errno));
	*ret_fd = fd;
	return 0;
}

static int local_job_log_file(struct backend *be, const char *id, int *ret_fd, struct fault *reterr)
{
	return jobs_open(local_of(be), id, "log", 0, ret_fd, reterr);
}

static int local_job_package_dir(struct backend *be, const char *id, int *ret_fd, struct fault *reterr)
{
	return jobs_open(local_of(be), id, "package", O_DIRECTORY, ret_fd, reterr);
}

/* ---- watch */

static int local_job_watch(struct backend *be, int timeout_ms)
{
	struct local *local = local_of(be);
	struct pollfd fd[] = {
		{.fd = local->inotify_fd, .events = POLLIN},
		{.fd = local->wake_fd, .events = POLLIN},
	};
	int n = poll(fd, 2, timeout_ms);
	if (n < 0 && errno != EINTR)
		return -errno;
	uint64_t count;
	if (fd[1].revents)
		(void)!read(local->wake_fd, &count, sizeof(count));
	char event[4096];
	while (fd[0].revents && read(local->inotify_fd, event, sizeof(event)) > 0)
		;
	/* what fails here (a busy database, a full disk) is tried again at the next change */
	int r = schedule_run(local->writer);
	if (r >= 0)
		r = jobs_keep(local->writer);
	if (r < 0)
		log_debug("local: the queue does not move: %s, ignoring", strerror(-r));
	return 0;
}

static void local_job_wake(struct backend *be)
{
	uint64_t one = 1;
	(void)!write(local_of(be)->wake_fd, &one, sizeof(one)); /* full is awake too */
}

const struct job_ops local_job_ops = {
	.list = local_job_list,
	.get = local_job_get,
	.check = local_job_check,
	.submit = local_job_submit,
	.cancel = local_job_cancel,
	.remove = local_job_remove,
	.log_file = local_job_log_file,
	.package_dir = local_job_package_dir,
	.watch = local_job_watch,
	.wake = local_job_wake,
};
