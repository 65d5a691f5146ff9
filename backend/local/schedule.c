/* SPDX-License-Identifier: MIT */
/*
 * The queue: claiming, leasing and settling.
 *
 * A job in PREPARING, RUNNING or CANCELLING is alive as long as somebody holds the lock of locks/ID: first the process
 * that claims it, which takes the lock before the claim is committed, then the supervisor, which inherits the very same
 * open file. So there is no moment in which a claimed job looks dead, and the lock of a killed one is free at once.
 * Who finds a live job's lock free settles it, under that lock.
 */
#include "local/schedule.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "clock.h"
#include "file.h"
#include "local/launch.h"
#include "local/store.h"
#include "log.h"
#include "str.h"

enum {
	SCHEDULE_GPUS_MAX = 64,
	SCHEDULE_STARTS_MAX = 3, /* supervisors lost before they began, until the job is given up */
	SCHEDULE_BATCH = 64,
};

/* States as numbers in SQL; entry.h owns them. */
_Static_assert(JOB_QUEUED == 1 && JOB_PREPARING == 2 && JOB_RUNNING == 3 && JOB_CANCELLING == 6,
	       "as in the SQL");
#define SQL_LIVE " state IN (2, 3, 6) "

struct claim {
	char *id;
	int lock_fd;
};

static int schedule_lock(const struct store *store, const char *id, int flags)
{
	cleanup_free char *path = store_path(store, "locks/%s", id);
	if (!path)
		return -ENOMEM;
	cleanup_close int fd = open(path, flags | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	return STEAL_FD(fd);
}

/* ---- GPUs */

uint64_t schedule_parse_gpus(const char *text)
{
	uint64_t bits = 0;
	unsigned int n = 0;
	/* written by schedule_lease_gpus: small numbers and commas */
	for (; text && *text; text++) {
		n = *text == ',' ? 0 : n * 10 + (unsigned int)(*text - '0');
		if ((text[1] == ',' || !text[1]) && n < SCHEDULE_GPUS_MAX)
			bits |= UINT64_C(1) << n;
	}
	return bits;
}

int schedule_lease_gpus(int64_t gpus, uint64_t busy, int64_t n, char **ret)
{
	cleanup_str struct str text = {0};
	for (int64_t i = 0; i < gpus && i < SCHEDULE_GPUS_MAX && n > 0; i++) {
		if (busy & UINT64_C(1) << i)
			continue;
		str_printf(&text, text.len ? ",%d" : "%d", (int)i);
		n--;
	}
	return n > 0 ? -EAGAIN : str_steal(&text, ret);
}

static int64_t schedule_wanted(const struct settings *settings, int64_t wants_gpus)
{
	if (wants_gpus >= 0)
		return wants_gpus;
	return settings->is_gpu_each && settings->gpus ? 1 : 0;
}

/* ---- settling */

struct lost_job {
	int64_t seq;
	char *id;
	enum job_state state;
	bool has_begun; /* its supervisor ran */
	int64_t starts;
	bool is_other_boot;
};

static int schedule_settle_result(const struct transaction *t, const struct lost_job *job, int64_t now)
{
	cleanup_free char *path = store_path(t->store, "jobs/%s/result", job->id);
	cleanup_free char *text = NULL;
	if (!path)
		return -ENOMEM;
	if (file_read_all(AT_FDCWD, path, 8192, &text, NULL) < 0 || text[0] != '{')
		return -ENOENT;
	cleanup_json json_t *result = json_loads(text, 0, NULL);
	const char *name = json_string_value(json_object_get(result, "state"));
	enum job_state state;
	if (!name || job_state_parse(name, &state) < 0 || !job_state_is_ended(state))
		return -ENOENT;
	int r = store_exec(t, "UPDATE job SET exit = ?, why = ?, started = ?, ended = ? WHERE seq = ?",
			   "isiii", json_integer_value(json_object_get(result, "exit")),
			   json_string_value(json_object_get(result, "why")),
			   json_integer_value(json_object_get(result, "started")),
			   json_integer_value(json_object_get(result, "ended")), job->seq);
	return r < 0 ? r : store_job_set_state(t, job->seq, state, now);
}

static int schedule_settle_write(const struct transaction *t, const struct lost_job *job)
{
	int64_t now = clock_wall_ns();
	if (!job->has_begun && job->state == JOB_PREPARING && job->starts < SCHEDULE_STARTS_MAX) {
		int r = store_exec(t, "UPDATE job SET gpus = NULL WHERE seq = ?", "i", job->seq);
		return r < 0 ? r : store_job_set_state(t, job->seq, JOB_QUEUED, now);
	}
	cleanup_free char *secrets = store_path(t->store, "jobs/%s/secrets", job->id);
	if (secrets)
		(void)unlink(secrets); /* nobody will take them */
	int r = schedule_settle_result(t, job, now);
	if (r != -ENOENT)
		return r;
	const char *why = job->is_other_boot ? "the machine was restarted while it ran"
			  : job->has_begun   ? "its supervisor was killed"
					     : "its supervisor could not be started";
	bool is_cancel = job->state == JOB_CANCELLING;
	r = store_exec(t, "UPDATE job SET why = ?, ended = ? WHERE seq = ?", "sii",
		       is_cancel && !job->has_begun ? "cancelled before it ran" : why, now, job->seq);
	if (r == 0)
		r = store_exec(t, "UPDATE attempt SET ended = ?, why = ? WHERE seq = ? AND ended = 0", "isi",
			       now, why, job->seq);
	return r < 0 ? r : store_job_set_state(t, job->seq, is_cancel ? JOB_CANCELLED : JOB_FAILED, now);
}

/* With its lock held: looks again, and records its end. 1 if it did. */
static int schedule_settle_locked(struct store *store, const char *id)
{
	cleanup_transaction struct transaction t = {0};
	int r = transaction_write(&t, store);
	if (r < 0)
		return r;
	struct lost_job job = {.id = (char *)id};
	{
		cleanup_statement sqlite3_stmt *s = NULL;
		r = store_prepare(&t, &s,
				  "SELECT seq, state, pid != 0, starts, boot IS NOT ? FROM job"
				  " WHERE id = ? AND gone = 0 AND" SQL_LIVE,
				  "ss", store->boot_id, id);
		if (r == 0)
			r = store_step(&t, s);
		if (r <= 0)
			return r;
		job.seq = sqlite3_column_int64(s, 0);
		job.state = (enum job_state)sqlite3_column_int(s, 1);
		job.has_begun = sqlite3_column_int(s, 2);
		job.starts = sqlite3_column_int64(s, 3);
		job.is_other_boot = sqlite3_column_int(s, 4);
	}
	if (!job.is_other_boot)
		(void)launch_kill_orphans(store, id, job.seq);
	r = schedule_settle_write(&t, &job);
	if (r == 0)
		r = transaction_commit(&t);
	log_debug("local: job %s had no supervisor: settled (%d)", id, r);
	return r < 0 ? r : 1;
}

static int schedule_settle(struct store *store)
{
	cleanup_free char *ids = NULL;
	{
		cleanup_transaction struct transaction t = {0};
		int r = transaction_read(&t, store);
		if (r == 0)
			r = store_get_text(&t, &ids, "SELECT group_concat(id, '/') FROM job WHERE" SQL_LIVE,
					   "");
		if (r < 0 || !ids)
			return r;
	}
	int n = 0;
	char *rest = ids;
	for (char *id; (id = strsep(&rest, "/"));) {
		/* opened for reading: its close must not look like a supervisor's end */
		cleanup_close int fd = schedule_lock(store, id, O_RDONLY);
		int r = fd < 0 ? 0 : schedule_settle_locked(store, id);
		if (r < 0)
			return r;
		n += r;
	}
	return n;
}

/* ---- claiming */

struct busy {
	int64_t slots;
	uint64_t gpus;
};

static int schedule_count_busy(const struct transaction *t, struct busy *ret)
{
	*ret = (struct busy){0};
	cleanup_statement sqlite3_stmt *s = NULL;
	int r = store_prepare(t, &s, "SELECT gpus FROM job WHERE" SQL_LIVE, "");
	if (r < 0)
		return r;
	while ((r = store_step(t, s)) > 0) {
		ret->slots++;
		ret->gpus |= schedule_parse_gpus((const char *)sqlite3_column_text(s, 0));
	}
	return r;
}

/* The next queued job, if it can be had. 1 and a claim, or 0. */
static int schedule_claim_one(const struct transaction *t, const struct settings *settings, struct busy *busy,
			      struct claim *ret)
{
	cleanup_free char *id = NULL;
	cleanup_free char *gpus = NULL;
	int64_t seq;
	int64_t wants_gpus;
	{
		cleanup_statement sqlite3_stmt *s = NULL;
		int r = store_prepare(
			t, &s, "SELECT seq, id, wants_gpus FROM job WHERE state = 1 ORDER BY seq LIMIT 1",
			"");
		if (r == 0)
			r = store_step(t, s);
		if (r <= 0)
			return r;
		seq = sqlite3_column_int64(s, 0);
		wants_gpus = sqlite3_column_int64(s, 2);
		if (!store_column_text(s, 1, &id))
			return -ENOMEM;
	}
	int64_t n = schedule_wanted(settings, wants_gpus);
	int r = settings->gpus ? schedule_lease_gpus(settings->gpus, busy->gpus, n, &gpus) : 0;
	if (r < 0)
		return r == -EAGAIN ? 0 : r;
	cleanup_close int fd = schedule_lock(t->store, id, O_RDWR);
	if (fd < 0)
		return fd == -EWOULDBLOCK ? 0 : fd;
	r = store_exec(t, "UPDATE job SET pid = 0, starts = starts + 1, gpus = ?, boot = ? WHERE seq = ?",
		       "ssi", gpus, t->store->boot_id, seq);
	if (r == 0)
		r = store_job_set_state(t, seq, JOB_PREPARING, clock_wall_ns());
	if (r < 0)
		return r;
	busy->slots++;
	busy->gpus |= schedule_parse_gpus(gpus);
	*ret = (struct claim){STEAL(id), STEAL_FD(fd)};
	return 1;
}

static int schedule_claim(struct store *store, struct claim *claim, int max)
{
	cleanup_transaction struct transaction t = {0};
	struct settings settings;
	struct busy busy = {0};
	int r = transaction_write(&t, store);
	if (r == 0)
		r = settings_load(&t, &settings);
	if (r == 0)
		r = schedule_count_busy(&t, &busy);
	if (r < 0)
		return r;
	int n = 0;
	while (n < max && busy.slots < settings.slots) {
		r = schedule_claim_one(&t, &settings, &busy, &claim[n]);
		if (r <= 0)
			break;
		n++;
	}
	if (r >= 0 && n)
		r = transaction_commit(&t);
	for (int i = 0; r < 0 && i < n; i++) { /* rolled back: nothing is claimed */
		close(claim[i].lock_fd);
		free(claim[i].id);
	}
	return r < 0 ? r : n;
}

/* Is anything queued while a slot is free? Saves taking the write lock for nothing. */
static int schedule_has_work(struct store *store)
{
	cleanup_transaction struct transaction t = {0};
	struct settings settings;
	struct busy busy = {0};
	int64_t n_queued;
	int r = transaction_read(&t, store);
	if (r == 0)
		r = store_get_int(&t, &n_queued, "SELECT count(*) FROM job WHERE state = 1", "");
	if (r == 0)
		r = settings_load(&t, &settings);
	if (r == 0)
		r = schedule_count_busy(&t, &busy);
	return r < 0 ? r : n_queued && busy.slots < settings.slots;
}

int schedule_run(struct store *store)
{
	int n_done = schedule_settle(store);
	if (n_done < 0)
		return n_done;
	int r;
	while ((r = schedule_has_work(store)) > 0) {
		struct claim claim[SCHEDULE_BATCH];
		int n = schedule_claim(store, claim, SCHEDULE_BATCH);
		for (int i = 0; i < n; i++) {
			int started = launch_supervisor(store, claim[i].id, claim[i].lock_fd);
			if (started < 0) /* whoever looks next finds its lock free */
				log_debug("local: %s: no supervisor: %s", claim[i].id, strerror(-started));
			close(claim[i].lock_fd);
			free(claim[i].id);
		}
		if (n <= 0)
			return n < 0 ? n : n_done;
		n_done += n;
	}
	return r < 0 ? r : n_done;
}

int schedule_why(const struct transaction *t, int64_t seq, int64_t wants_gpus, char **ret)
{
	struct settings settings;
	struct busy busy = {0};
	int64_t place;
	int r = settings_load(t, &settings);
	if (r == 0)
		r = schedule_count_busy(t, &busy);
	if (r == 0)
		r = store_get_int(t, &place, "SELECT count(*) FROM job WHERE state = 1 AND seq <= ?", "i",
				  seq);
	if (r < 0)
		return r;
	const char *suffix = place % 100 / 10 == 1 ? "th"
			     : place % 10 == 1     ? "st"
			     : place % 10 == 2     ? "nd"
			     : place % 10 == 3     ? "rd"
						   : "th";
	cleanup_str struct str text = {0};
	str_printf(&text, "%lld%s in the queue, %lld of %lld slots busy", (long long)place, suffix,
		   (long long)busy.slots, (long long)settings.slots);
	int64_t n = schedule_wanted(&settings, wants_gpus);
	if (settings.gpus && n)
		str_printf(&text, "; it needs %lld of %lld GPUs, %lld are free", (long long)n,
			   (long long)settings.gpus,
			   (long long)(settings.gpus - __builtin_popcountll(busy.gpus)));
	return str_steal(&text, ret);
}
