/* SPDX-License-Identifier: MIT */
/*
 * Deleting jobs, one that was asked for or those that may not be kept. A job's row becomes a tombstone first (gone = 2),
 * then its files leave their names in one transaction with gone = 1, then they are deleted; an open goes on where that
 * was interrupted.
 */
#include "local/jobs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "clock.h"
#include "file.h"
#include "local/store.h"

enum { JOBS_TOMBSTONES_MAX = 20000 }; /* then the older half goes, and cursors from before it */

_Static_assert(JOB_SUCCEEDED == 4 && JOB_FAILED == 5 && JOB_CANCELLED == 7, "as in the SQL");
#define SQL_ENDED " state IN (4, 5, 7) "

int64_t jobs_measure(const struct store *store, const char *id, const char *model)
{
	cleanup_free char *job = store_path(store, "jobs/%s", id);
	cleanup_free char *output = store_path(store, "buckets/outputs/%s/%s", model, id);
	int64_t a = 0;
	int64_t b = 0;
	if (!job || tree_size(AT_FDCWD, job, &a) < 0)
		a = 0;
	if (!output || tree_size(AT_FDCWD, output, &b) < 0)
		b = 0;
	return a + b;
}

int jobs_set_space(const struct transaction *t, int64_t seq, int64_t bytes)
{
	int64_t old;
	int64_t sum;
	int r = store_get_int(t, &old, "SELECT space FROM job WHERE seq = ?", "i", seq);
	if (r == 0)
		r = store_exec(t, "UPDATE job SET space = ? WHERE seq = ?", "ii", bytes, seq);
	return r < 0 ? r : store_count(t, "space", bytes - old, &sum);
}

/* Turns an ended job's row into a tombstone; gives its model. */
static int jobs_bury(struct store *store, const char *id, char **ret_model)
{
	cleanup_transaction struct transaction t = {0};
	cleanup_free char *model = NULL;
	int64_t seq;
	int64_t state;
	int64_t n_makers;
	int r = transaction_write(&t, store);
	if (r == 0)
		r = store_get_int(&t, &seq, "SELECT seq FROM job WHERE id = ? AND gone = 0", "s", id);
	if (r == 0)
		r = store_get_int(&t, &state, "SELECT state FROM job WHERE seq = ?", "i", seq);
	if (r == 0)
		r = store_get_text(&t, &model, "SELECT model FROM job WHERE seq = ?", "i", seq);
	if (r == 0)
		r = store_get_int(&t, &n_makers,
				  "SELECT (SELECT count(*) FROM version WHERE job = ?1 AND state = 0) +"
				  " (SELECT count(*) FROM job WHERE resumed_from = ?1 AND state IN (1, 2))",
				  "s", id);
	if (r < 0)
		return r;
	if (!job_state_is_ended((enum job_state)state))
		return -EBUSY;
	if (n_makers)
		return -EADDRINUSE;
	r = jobs_set_space(&t, seq, 0);
	if (r == 0)
		r = store_exec(
			&t,
			"UPDATE job SET gone = 2, why = NULL, spec = NULL, git = NULL, resumed_from = NULL,"
			" python = NULL, gpus = NULL WHERE seq = ?",
			"i", seq);
	if (r == 0)
		r = store_exec(&t, "DELETE FROM event WHERE seq = ?", "i", seq);
	if (r == 0)
		r = store_exec(&t, "DELETE FROM attempt WHERE seq = ?", "i", seq);
	if (r == 0)
		r = store_job_touch(&t, seq);
	if (r == 0)
		r = transaction_commit(&t);
	if (r == 0)
		*ret_model = STEAL(model);
	return r;
}

/* What a buried job has on disk: out of the way in one transaction, so that a new job of its id is safe. */
static int jobs_clear_files(struct store *store, const char *id, const char *model)
{
	cleanup_free char *job = store_path(store, "jobs/%s", id);
	cleanup_free char *lock = store_path(store, "locks/%s", id);
	cleanup_free char *output = store_path(store, "buckets/outputs/%s/%s", model, id);
	cleanup_free char *model_dir = store_path(store, "buckets/outputs/%s", model);
	cleanup_free char *job_trash = store_path(store, "trash/%s.job", id);
	cleanup_free char *output_trash = store_path(store, "trash/%s.output", id);
	if (!job || !lock || !output || !model_dir || !job_trash || !output_trash)
		return -ENOMEM;
	/* of an earlier deletion that was interrupted */
	(void)tree_remove(AT_FDCWD, job_trash);
	(void)tree_remove(AT_FDCWD, output_trash);
	{
		cleanup_transaction struct transaction t = {0};
		int64_t seq;
		int r = transaction_write(&t, store);
		if (r == 0)
			r = store_get_int(&t, &seq, "SELECT seq FROM job WHERE id = ? AND gone = 2", "s", id);
		if (r == 0)
			r = store_exec(&t, "UPDATE job SET gone = 1 WHERE seq = ?", "i", seq);
		if (r < 0)
			return r == -ENOENT ? 0 : r;
		if (rename(job, job_trash) < 0 && errno != ENOENT)
			return -errno;
		if (rename(output, output_trash) < 0 && errno != ENOENT)
			return -errno;
		(void)unlink(lock);
		(void)rmdir(model_dir); /* when it was the last one */
		r = transaction_commit(&t);
		if (r < 0)
			return r;
	}
	int r = tree_remove(AT_FDCWD, job_trash);
	int r2 = tree_remove(AT_FDCWD, output_trash);
	return r < 0 ? r : r2;
}

int jobs_remove(struct store *store, const char *id)
{
	cleanup_free char *model = NULL;
	int r = jobs_bury(store, id, &model);
	if (r == 0)
		(void)jobs_clear_files(store, id, model); /* the job is gone; the next open tries again */
	return r;
}

static int jobs_keep_next(struct store *store, char **ret_id)
{
	cleanup_transaction struct transaction t = {0};
	struct settings settings;
	int64_t sum = 0;
	int r = transaction_read(&t, store);
	if (r == 0)
		r = settings_load(&t, &settings);
	if (r < 0)
		return r;
	if (!settings.keep_ms && !settings.keep_bytes)
		return -ENOENT;
	if (settings.keep_bytes)
		r = store_get_int(&t, &sum, "SELECT total(space) FROM job WHERE gone = 0 AND" SQL_ENDED, "");
	if (r < 0)
		return r;
	int64_t before = settings.keep_ms ? clock_wall_ns() - settings.keep_ms * 1000000 : 0;
	if (settings.keep_bytes && sum > settings.keep_bytes)
		before = INT64_MAX;
	return store_get_text(&t, ret_id,
			      "SELECT id FROM job WHERE gone = 0 AND" SQL_ENDED " AND ended < ?"
			      " AND id NOT IN (SELECT job FROM version WHERE job IS NOT NULL AND state = 0)"
			      " AND id NOT IN (SELECT resumed_from FROM job WHERE state IN (1, 2) AND "
			      "resumed_from IS NOT NULL)"
			      " ORDER BY ended, seq LIMIT 1",
			      "i", before);
}

int jobs_keep(struct store *store)
{
	for (int n = 0;; n++) {
		cleanup_free char *id = NULL;
		int r = jobs_keep_next(store, &id);
		if (r < 0)
			return r == -ENOENT ? n : r;
		r = jobs_remove(store, id);
		if (r < 0 && r != -ENOENT)
			return r;
	}
}

static int jobs_next_buried(struct store *store, char **ret_id, char **ret_model)
{
	cleanup_transaction struct transaction t = {0};
	int r = transaction_read(&t, store);
	if (r == 0)
		r = store_get_text(&t, ret_id, "SELECT id FROM job WHERE gone > 0 AND gone = 2 LIMIT 1", "");
	if (r == 0)
		r = store_get_text(&t, ret_model, "SELECT model FROM job WHERE id = ?", "s", *ret_id);
	return r;
}

/* Too many tombstones: the older half is forgotten, and who was away for so long lists anew. */
static int jobs_prune(struct store *store)
{
	cleanup_transaction struct transaction t = {0};
	int64_t n;
	int64_t limit;
	int r = transaction_write(&t, store);
	if (r == 0)
		r = store_get_int(&t, &n, "SELECT count(*) FROM job WHERE gone > 0", "");
	if (r < 0 || n <= JOBS_TOMBSTONES_MAX)
		return r;
	r = store_get_int(&t, &limit,
			  "SELECT revision FROM job WHERE gone > 0 ORDER BY revision LIMIT 1 OFFSET ?", "i",
			  n / 2);
	if (r == 0)
		r = store_exec(&t, "DELETE FROM job WHERE gone > 0 AND gone = 1 AND revision <= ?", "i",
			       limit);
	if (r == 0)
		r = store_exec(&t, "UPDATE counter SET value = ? WHERE name = 'pruned'", "i", limit);
	return r < 0 ? r : transaction_commit(&t);
}

void jobs_sweep(struct store *store)
{
	for (;;) {
		cleanup_free char *id = NULL;
		cleanup_free char *model = NULL;
		if (jobs_next_buried(store, &id, &model) < 0 || jobs_clear_files(store, id, model) < 0)
			break;
	}
	(void)jobs_prune(store); /* there is always a next open */
}
