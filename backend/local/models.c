/* SPDX-License-Identifier: MIT */
/*
 * The models of `local`.
 *
 * A version is CREATING while its files are copied to models/M/.V.tmp, and READY from the transaction that moves them to
 * models/M/V. Who makes or deletes one holds locks/M@V meanwhile; where that lock is free, a row in CREATING or DELETING
 * was interrupted: the same call again starts over, an open makes it FAILED, or finishes the deletion.
 */
#include "local/models.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "clock.h"
#include "file.h"
#include "local/local.h"
#include "str.h"

_Static_assert(VERSION_CREATING == 0 && VERSION_READY == 1 && VERSION_FAILED == 2 && VERSION_DELETING == 3,
	       "as in the SQL");

/* ---- looking */

static int local_model_list(struct backend *be, name_sink sink, void *arg, struct fault *reterr)
{
	struct local *local = local_of(be);
	cleanup_free char *names = NULL;
	{
		cleanup_transaction struct transaction t = {0};
		int r = transaction_read(&t, local->reader);
		if (r == 0)
			r = store_get_text(
				&t, &names,
				"SELECT group_concat(name, '/') FROM (SELECT name FROM model ORDER BY name)",
				"");
		if (r < 0)
			return local_fault(reterr, r, "list models");
	}
	char *rest = names;
	for (char *name; (name = strsep(&rest, "/"));) {
		int r = sink(arg, name);
		if (r < 0)
			return r;
	}
	return 0;
}

static int models_make_api(const struct transaction *t, const char *model, sqlite3_stmt *s, char **ret)
{
	const char *version = (const char *)sqlite3_column_text(s, 0);
	cleanup_free char *directory = store_path(t->store, "models/%s/%s", model, version);
	cleanup_json json_t *api = json_pack("{s:s?, s:s?, s:s, s:s?, s:I, s:s, s:s}", "directory", directory,
					     "job", (const char *)sqlite3_column_text(s, 4), "model", model,
					     "source", (const char *)sqlite3_column_text(s, 5), "space",
					     (json_int_t)sqlite3_column_int64(s, 6), "state",
					     version_state_name((enum version_state)sqlite3_column_int(s, 1)),
					     "version", version);
	*ret = api ? json_dumps(api, JSON_INDENT(2) | JSON_SORT_KEYS) : NULL;
	return *ret ? 0 : -ENOMEM;
}

static int models_get_versions(const struct transaction *t, const char *model, struct model_detail *ret)
{
	cleanup_statement sqlite3_stmt *s = NULL;
	int r = store_prepare(
		t, &s,
		"SELECT name, state, created, why, job, source, space FROM version WHERE model = ?"
		" ORDER BY name",
		"s", model);
	if (r < 0)
		return r;
	while ((r = store_step(t, s)) > 0) {
		struct version_entry *grown = realloc(ret->version, (ret->n_versions + 1) * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		ret->version = grown;
		struct version_entry *version = &grown[ret->n_versions++];
		*version = (struct version_entry){.state = (enum version_state)sqlite3_column_int(s, 1),
						  .created_ns = sqlite3_column_int64(s, 2)};
		if (!store_column_text(s, 0, &version->name) || !store_column_text(s, 3, &version->why) ||
		    !store_column_text(s, 4, &version->job))
			return -ENOMEM;
		r = models_make_api(t, model, s, &version->api);
		if (r < 0)
			return r;
	}
	return r;
}

static int models_get_aliases(const struct transaction *t, const char *model, struct model_detail *ret)
{
	cleanup_statement sqlite3_stmt *s = NULL;
	int r = store_prepare(t, &s, "SELECT name, version FROM alias WHERE model = ? ORDER BY name", "s",
			      model);
	if (r < 0)
		return r;
	while ((r = store_step(t, s)) > 0) {
		struct alias_entry *grown = realloc(ret->alias, (ret->n_aliases + 1) * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		ret->alias = grown;
		struct alias_entry *alias = &grown[ret->n_aliases++];
		*alias = (struct alias_entry){0};
		if (!store_column_text(s, 0, &alias->name) || !store_column_text(s, 1, &alias->version))
			return -ENOMEM;
	}
	return r;
}

static int models_find(const struct transaction *t, const char *model)
{
	int64_t created;
	return store_get_int(t, &created, "SELECT created FROM model WHERE name = ?", "s", model);
}

static int local_model_get(struct backend *be, const char *model, struct model_detail *ret,
			   struct fault *reterr)
{
	struct local *local = local_of(be);
	cleanup_transaction struct transaction t = {0};
	int r = transaction_read(&t, local->reader);
	if (r == 0)
		r = models_find(&t, model);
	if (r == 0)
		r = models_get_versions(&t, model, ret);
	if (r == 0)
		r = models_get_aliases(&t, model, ret);
	if (r < 0)
		model_detail_release(ret);
	if (r == -ENOENT)
		return fault_set(reterr, ENOENT, "there is no model %s", model);
	return r < 0 ? local_fault(reterr, r, "get model") : 0;
}

/* ---- models */

static int models_add(const struct transaction *t, const char *model)
{
	return store_exec(t, "INSERT INTO model VALUES(?, ?)", "si", model, clock_wall_ns());
}

static int local_model_create(struct backend *be, const char *model, struct fault *reterr)
{
	cleanup_transaction struct transaction t = {0};
	int r = local_check_name("model", model, reterr);
	if (r < 0)
		return r;
	r = transaction_write(&t, local_of(be)->writer);
	if (r == 0)
		r = models_add(&t, model);
	if (r == 0)
		r = transaction_commit(&t);
	if (r == -EEXIST)
		return fault_set(reterr, EEXIST, "there is a model %s already", model);
	return r < 0 ? local_fault(reterr, r, "create model") : 0;
}

static int local_model_remove(struct backend *be, const char *model, struct fault *reterr)
{
	struct local *local = local_of(be);
	cleanup_transaction struct transaction t = {0};
	int64_t n = 0;
	int r = transaction_write(&t, local->writer);
	if (r == 0)
		r = models_find(&t, model);
	if (r == -ENOENT)
		return fault_set(reterr, ENOENT, "there is no model %s", model);
	if (r == 0)
		r = store_get_int(&t, &n, "SELECT count(*) FROM version WHERE model = ?", "s", model);
	if (r == 0 && n)
		return fault_set(reterr, EBUSY, "model %s has %lld versions; delete them first", model,
				 (long long)n);
	if (r == 0)
		r = store_exec(&t, "DELETE FROM alias WHERE model = ?", "s", model);
	if (r == 0)
		r = store_exec(&t, "DELETE FROM model WHERE name = ?", "s", model);
	cleanup_free char *dir = store_path(local->writer, "models/%s", model);
	if (r == 0 && dir)
		(void)rmdir(dir); /* empty, or not there; anything else is a leftover of no consequence */
	if (r == 0)
		r = transaction_commit(&t);
	return r < 0 ? local_fault(reterr, r, "delete model") : 0;
}

static int local_model_check(struct backend *be, const char *model, const char *version, struct fault *reterr)
{
	int r = local_check_name("model", model, reterr);
	return r < 0 ? r : local_check_name("version", version, reterr);
}

/* ---- versions */

/* Gives the descriptor that holds it. Waits for another maker only when told so. */
static int models_lock(const struct store *store, const char *model, const char *version, bool is_waiting)
{
	cleanup_free char *path = store_path(store, "locks/%s@%s", model, version);
	if (!path)
		return -ENOMEM;
	for (;;) {
		cleanup_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd < 0)
			return -errno;
		while (flock(fd, LOCK_EX | (is_waiting ? 0 : LOCK_NB)) < 0)
			if (errno != EINTR)
				return -errno;
		/* its holder may have removed the name meanwhile: then it locks nothing */
		struct stat held, named;
		if (fstat(fd, &held) == 0 && stat(path, &named) == 0 && held.st_ino == named.st_ino)
			return STEAL_FD(fd);
	}
}

static void models_unlock(const struct store *store, const char *model, const char *version, int fd)
{
	cleanup_free char *path = store_path(store, "locks/%s@%s", model, version);
	if (path)
		(void)unlink(path);
	close(fd);
}

struct making {
	struct store *store;
	const char *model;
	const char *version;
	const char *job; /* NULL: from a directory */
	const char *dir;
	char *source; /* the directory that is copied */
	char *tmp;
	char *path;
};

static void cleanup_making_(struct making *m)
{
	free(m->source);
	free(m->tmp);
	free(m->path);
}

static bool models_dir_has_entries(const char *path)
{
	cleanup_closedir DIR *dir = opendir(path);
	struct dirent *entry;
	while (dir && (entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			return true;
	return false;
}

static int models_find_source(struct making *m, const struct transaction *t, struct fault *reterr)
{
	if (!m->job) {
		m->source = strdup(m->dir);
		return m->source ? 0 : -ENOMEM;
	}
	cleanup_free char *model = NULL;
	int64_t state;
	int r = store_get_text(t, &model, "SELECT model FROM job WHERE id = ? AND gone = 0", "s", m->job);
	if (r == 0)
		r = store_get_int(t, &state, "SELECT state FROM job WHERE id = ? AND gone = 0", "s", m->job);
	if (r == -ENOENT)
		return fault_set(reterr, ENOENT, "there is no job %s", m->job);
	if (r < 0)
		return r;
	if (state != JOB_SUCCEEDED)
		return fault_set(reterr, EBUSY, "job %s is %s; a version is made of a job that SUCCEEDED",
				 m->job, job_state_name((enum job_state)state));
	cleanup_free char *output = store_path(m->store, "buckets/outputs/%s/%s", model, m->job);
	cleanup_free char *inner = store_path(m->store, "buckets/outputs/%s/%s/model", model, m->job);
	if (!output || !inner)
		return -ENOMEM;
	m->source = models_dir_has_entries(inner)    ? STEAL(inner)
		    : models_dir_has_entries(output) ? STEAL(output)
						     : NULL;
	return m->source ? 0 : fault_set(reterr, EBADMSG, "job %s wrote nothing to $OUTPUT", m->job);
}

/* The row in CREATING. -EEXIST: it is made. */
static int models_begin(struct making *m, struct fault *reterr)
{
	cleanup_transaction struct transaction t = {0};
	int64_t state;
	int64_t n = 0;
	int r = transaction_write(&t, m->store);
	if (r < 0)
		return r;
	r = store_get_int(&t, &state, "SELECT state FROM version WHERE model = ? AND name = ?", "ss",
			  m->model, m->version);
	if (r == 0 && state == VERSION_READY)
		return fault_set(reterr, EEXIST, "model %s has a version %s already", m->model, m->version);
	if (r == 0 || r == -ENOENT)
		r = store_get_int(&t, &n, "SELECT count(*) FROM alias WHERE model = ? AND name = ?", "ss",
				  m->model, m->version);
	if (r == 0 && n)
		return fault_set(reterr, EEXIST, "%s is an alias of model %s", m->version, m->model);
	if (r == 0)
		r = models_find_source(m, &t, reterr);
	if (r == 0 && models_find(&t, m->model) == -ENOENT)
		r = models_add(&t, m->model);
	if (r == 0)
		r = store_exec(&t, "INSERT OR REPLACE INTO version VALUES(?, ?, 0, ?, NULL, ?, ?, 0)",
			       "ssiss", m->model, m->version, clock_wall_ns(), m->job, m->source);
	return r < 0 ? r : transaction_commit(&t);
}

static int models_copy(const struct making *m, struct fault *reterr)
{
	cleanup_free char *dir = store_path(m->store, "models/%s", m->model);
	if (!dir)
		return -ENOMEM;
	int r = file_make_dirs(AT_FDCWD, dir, 0700);
	if (r == 0)
		r = tree_remove(AT_FDCWD, m->tmp);
	if (r == 0)
		r = tree_copy(AT_FDCWD, m->source, AT_FDCWD, m->tmp, reterr);
	return r < 0 ? r : tree_sync(AT_FDCWD, m->tmp);
}

static int models_finish(const struct making *m)
{
	int64_t space = 0;
	int64_t sum;
	(void)tree_size(AT_FDCWD, m->tmp, &space); /* 0 if it cannot be told */
	cleanup_transaction struct transaction t = {0};
	int r = transaction_write(&t, m->store);
	if (r == 0)
		r = store_discard(m->store, m->path); /* of a crash between the rename and its commit */
	if (r == 0)
		r = store_exec(
			&t,
			"UPDATE version SET state = 1, why = NULL, space = ? WHERE model = ? AND name = ?",
			"iss", space, m->model, m->version);
	if (r == 0)
		r = store_count(&t, "space", space, &sum);
	if (r == 0)
		r = store_exec(&t, "INSERT OR IGNORE INTO alias VALUES(?, 'default', ?)", "ss", m->model,
			       m->version);
	if (r < 0)
		return r;
	if (rename(m->tmp, m->path) < 0)
		return -errno;
	r = transaction_commit(&t);
	if (r < 0)
		(void)rename(m->path, m->tmp);
	return r;
}

static void models_fail(struct store *store, const char *model, const char *version, const char *why)
{
	cleanup_transaction struct transaction t = {0};
	if (transaction_write(&t, store) == 0 &&
	    store_exec(&t, "UPDATE version SET state = 2, why = ? WHERE model = ? AND name = ? AND state = 0",
		       "sss", why, model, version) == 0)
		(void)transaction_commit(&t); /* left CREATING, the next open does it */
}

static int models_make(struct making *m, struct fault *reterr)
{
	m->tmp = store_path(m->store, "models/%s/.%s.tmp", m->model, m->version);
	m->path = store_path(m->store, "models/%s/%s", m->model, m->version);
	if (!m->tmp || !m->path)
		return local_fault(reterr, -ENOMEM, "make a version");
	struct fault fault = {0};
	int r = models_begin(m, &fault);
	bool has_begun = r == 0;
	if (r == 0)
		r = models_copy(m, &fault);
	if (r == 0)
		r = models_finish(m);
	if (r == 0)
		return 0;
	if (!fault.text[0])
		(void)local_fault(&fault, r, "the version's files could not be copied");
	if (has_begun) {
		(void)tree_remove(AT_FDCWD, m->tmp);
		models_fail(m->store, m->model, m->version, fault.text);
	}
	return fault_set(reterr, -r, "%s", fault.text);
}

static int local_version_create(struct backend *be, const char *model, const char *version, const char *job,
				const char *dir, struct fault *reterr)
{
	struct local *local = local_of(be);
	int r = local_model_check(be, model, version, reterr);
	if (r < 0)
		return r;
	int lock = models_lock(local->writer, model, version, true);
	if (lock < 0)
		return local_fault(reterr, lock, "make a version");
	__attribute__((cleanup(cleanup_making_))) struct making m = {
		.store = local->writer, .model = model, .version = version, .job = job, .dir = dir};
	r = models_make(&m, reterr);
	models_unlock(local->writer, model, version, lock);
	return r;
}

/* With its lock held: the files go, then the row. */
static int models_delete(struct store *store, const char *model, const char *version)
{
	cleanup_free char *path = store_path(store, "models/%s/%s", model, version);
	cleanup_free char *tmp = store_path(store, "models/%s/.%s.tmp", model, version);
	if (!path || !tmp)
		return -ENOMEM;
	int r = store_discard(store, path);
	if (r == 0)
		r = store_discard(store, tmp);
	cleanup_transaction struct transaction t = {0};
	int64_t space = 0;
	int64_t sum;
	if (r == 0)
		r = transaction_write(&t, store);
	if (r == 0)
		r = store_get_int(&t, &space, "SELECT space FROM version WHERE model = ? AND name = ?", "ss",
				  model, version);
	if (r == 0)
		r = store_count(&t, "space", -space, &sum);
	if (r == 0)
		r = store_exec(&t, "DELETE FROM version WHERE model = ? AND name = ?", "ss", model, version);
	return r < 0 ? r : transaction_commit(&t);
}

static int models_mark_deleting(struct store *store, const char *model, const char *version,
				struct fault *reterr)
{
	cleanup_transaction struct transaction t = {0};
	cleanup_free char *alias = NULL;
	int64_t state;
	int r = transaction_write(&t, store);
	if (r == 0)
		r = store_get_int(&t, &state, "SELECT state FROM version WHERE model = ? AND name = ?", "ss",
				  model, version);
	if (r == -ENOENT)
		return fault_set(reterr, ENOENT, "model %s has no version %s", model, version);
	if (r == 0)
		r = store_get_text(&t, &alias, "SELECT name FROM alias WHERE model = ? AND version = ?", "ss",
				   model, version);
	if (r == 0)
		return fault_set(reterr, EBUSY, "version %s is in use: %s points at it", version, alias);
	if (r == -ENOENT)
		r = store_exec(&t, "UPDATE version SET state = 3 WHERE model = ? AND name = ?", "ss", model,
			       version);
	if (r == 0)
		r = transaction_commit(&t);
	return r < 0 ? local_fault(reterr, r, "delete a version") : 0;
}

static int local_version_remove(struct backend *be, const char *model, const char *version,
				struct fault *reterr)
{
	struct local *local = local_of(be);
	if (local_model_check(be, model, version, NULL) < 0)
		return fault_set(reterr, ENOENT, "model %s has no version %s", model, version);
	int lock = models_lock(local->writer, model, version, false);
	if (lock == -EWOULDBLOCK)
		return fault_set(reterr, EBUSY, "version %s is being made or deleted", version);
	if (lock < 0)
		return local_fault(reterr, lock, "delete a version");
	int r = models_mark_deleting(local->writer, model, version, reterr);
	if (r == 0) {
		r = models_delete(local->writer, model, version);
		if (r < 0)
			(void)local_fault(reterr, r, "delete a version");
	}
	models_unlock(local->writer, model, version, lock);
	return r;
}

static int models_next_interrupted(struct store *store, int64_t *offset, char **ret_model, char **ret_version,
				   int64_t *ret_state)
{
	static const char from[] =
		" FROM version WHERE state IN (0, 3) ORDER BY model, name LIMIT 1 OFFSET ?";
	cleanup_transaction struct transaction t = {0};
	cleanup_statement sqlite3_stmt *s = NULL;
	cleanup_free char *sql = NULL;
	int r = str_format(&sql, "SELECT model, name, state%s", from);
	if (r == 0)
		r = transaction_read(&t, store);
	if (r == 0)
		r = store_prepare(&t, &s, sql, "i", *offset);
	if (r == 0)
		r = store_step(&t, s);
	if (r > 0 && (!store_column_text(s, 0, ret_model) || !store_column_text(s, 1, ret_version)))
		r = -ENOMEM;
	if (r > 0)
		*ret_state = sqlite3_column_int64(s, 2);
	sqlite3_finalize(STEAL(s)); /* before the transaction ends */
	return r;
}

void models_settle(struct store *store)
{
	for (int64_t offset = 0;;) {
		cleanup_free char *model = NULL;
		cleanup_free char *version = NULL;
		int64_t state;
		if (models_next_interrupted(store, &offset, &model, &version, &state) <= 0)
			return;
		int lock = models_lock(store, model, version, false);
		if (lock < 0) { /* someone is at it */
			offset++;
			continue;
		}
		if (state == VERSION_DELETING && models_delete(store, model, version) < 0)
			offset++;
		if (state == VERSION_CREATING)
			models_fail(store, model, version, "it was interrupted; make it again");
		models_unlock(store, model, version, lock);
	}
}

static int local_artifacts_dir(struct backend *be, const char *model, const char *version, int *ret_fd,
			       struct fault *reterr)
{
	struct local *local = local_of(be);
	cleanup_transaction struct transaction t = {0};
	int64_t state = VERSION_FAILED;
	int r = transaction_read(&t, local->reader);
	if (r == 0)
		r = store_get_int(&t, &state, "SELECT state FROM version WHERE model = ? AND name = ?", "ss",
				  model, version);
	if (r == -ENOENT || (r == 0 && state != VERSION_READY))
		return fault_set(reterr, ENOENT, "model %s has no version %s that is ready", model, version);
	if (r < 0)
		return local_fault(reterr, r, "open a version");
	cleanup_free char *path = store_path(local->reader, "models/%s/%s", model, version);
	int fd = path ? file_open_dir(AT_FDCWD, path) : -ENOMEM;
	if (fd < 0)
		return local_fault(reterr, fd, "open a version");
	*ret_fd = fd;
	return 0;
}

/* ---- aliases */

static int local_alias_set(struct backend *be, const char *model, const char *alias, const char *version,
			   struct fault *reterr)
{
	cleanup_transaction struct transaction t = {0};
	int64_t state;
	int64_t n = 0;
	int r = local_check_name("alias", alias, reterr);
	if (r < 0)
		return r;
	r = transaction_write(&t, local_of(be)->writer);
	if (r == 0)
		r = store_get_int(&t, &state, "SELECT state FROM version WHERE model = ? AND name = ?", "ss",
				  model, version);
	if (r == -ENOENT)
		return fault_set(reterr, ENOENT, "model %s has no version %s", model, version);
	if (r == 0 && state != VERSION_READY)
		return fault_set(reterr, EBUSY, "version %s is %s, not READY", version,
				 version_state_name((enum version_state)state));
	if (r == 0)
		r = store_get_int(&t, &n, "SELECT count(*) FROM version WHERE model = ? AND name = ?", "ss",
				  model, alias);
	if (r == 0 && n)
		return fault_set(reterr, EEXIST, "model %s has a version called %s", model, alias);
	if (r == 0)
		r = store_exec(&t, "INSERT OR REPLACE INTO alias VALUES(?, ?, ?)", "sss", model, alias,
			       version);
	if (r == 0)
		r = transaction_commit(&t);
	return r < 0 ? local_fault(reterr, r, "set an alias") : 0;
}

static int local_alias_remove(struct backend *be, const char *model, const char *alias, struct fault *reterr)
{
	cleanup_transaction struct transaction t = {0};
	cleanup_free char *version = NULL;
	int r = transaction_write(&t, local_of(be)->writer);
	if (r == 0)
		r = store_get_text(&t, &version,
				   "DELETE FROM alias WHERE model = ? AND name = ? RETURNING version", "ss",
				   model, alias);
	if (r == -ENOENT)
		return fault_set(reterr, ENOENT, "model %s has no alias %s", model, alias);
	if (r == 0)
		r = transaction_commit(&t);
	return r < 0 ? local_fault(reterr, r, "remove an alias") : 0;
}

const struct model_ops local_model_ops = {
	.list = local_model_list,
	.get = local_model_get,
	.create = local_model_create,
	.remove = local_model_remove,
	.check = local_model_check,
	.version_create = local_version_create,
	.version_remove = local_version_remove,
	.artifacts_dir = local_artifacts_dir,
	.alias_set = local_alias_set,
	.alias_remove = local_alias_remove,
};
