/* SPDX-License-Identifier: MIT */
/* The state of `local` on disk: opening it, transactions, and the few statements that everything else is made of. */
#include "local/store.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "clock.h"
#include "file.h"
#include "str.h"

static const char store_schema[] =
	"CREATE TABLE counter(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
	"INSERT INTO counter VALUES('revision', 0), ('space', 0), ('pruned', 0);"
	"CREATE TABLE setting(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
	"INSERT INTO setting VALUES('store', lower(hex(randomblob(8))));"
	/*
	 * seq orders the queue, whatever the clock says; revision orders the changes; gone: 1 is a deleted job,
	 * 2 one whose files are still to be deleted
	 */
	"CREATE TABLE job(seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, model TEXT NOT "
	"NULL,"
	" state INTEGER NOT NULL, revision INTEGER NOT NULL UNIQUE, created INTEGER NOT NULL,"
	" started INTEGER NOT NULL DEFAULT 0, ended INTEGER NOT NULL DEFAULT 0, changed INTEGER NOT NULL,"
	" exit INTEGER NOT NULL DEFAULT -1, why TEXT, spec TEXT, git TEXT, resumed_from TEXT, python TEXT,"
	" wants_gpus INTEGER NOT NULL DEFAULT -1, gpus TEXT, pid INTEGER NOT NULL DEFAULT 0,"
	" starts INTEGER NOT NULL DEFAULT 0, boot TEXT, space INTEGER NOT NULL DEFAULT 0,"
	" gone INTEGER NOT NULL DEFAULT 0);"
	"CREATE INDEX job_state ON job(state, seq);"
	"CREATE INDEX job_gone ON job(gone, revision) WHERE gone > 0;"
	"CREATE TABLE event(seq INTEGER NOT NULL, at INTEGER NOT NULL, state INTEGER NOT NULL);"
	"CREATE INDEX event_seq ON event(seq);"
	"CREATE TABLE attempt(seq INTEGER NOT NULL, n INTEGER NOT NULL, started INTEGER NOT NULL,"
	" ended INTEGER NOT NULL DEFAULT 0, exit INTEGER NOT NULL DEFAULT -1, why TEXT, PRIMARY KEY(seq, n))"
	" WITHOUT ROWID;"
	"CREATE TABLE model(name TEXT PRIMARY KEY, created INTEGER NOT NULL) WITHOUT ROWID;"
	"CREATE TABLE version(model TEXT NOT NULL, name TEXT NOT NULL, state INTEGER NOT NULL,"
	" created INTEGER NOT NULL, why TEXT, job TEXT, source TEXT, space INTEGER NOT NULL DEFAULT 0,"
	" PRIMARY KEY(model, name)) WITHOUT ROWID;"
	"CREATE INDEX version_job ON version(job) WHERE job IS NOT NULL;"
	"CREATE TABLE alias(model TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL,"
	" PRIMARY KEY(model, name)) WITHOUT ROWID;"
	"PRAGMA user_version = 1;";

static const char *const store_dirs[] = {
	"jobs", "locks", "buckets", "buckets/outputs", "models", "environments", "incoming", "trash",
};

static int store_error(int code)
{
	switch (code & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EAGAIN;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_READONLY:
		return -EROFS;
	case SQLITE_CONSTRAINT:
		return -EEXIST;
	default:
		return -EIO;
	}
}

char *store_path(const struct store *store, const char *format, ...)
{
	char *path;
	va_list ap;
	va_start(ap, format);
	cleanup_free char *rest = NULL;
	int n = vasprintf(&rest, format, ap);
	va_end(ap);
	if (n < 0) {
		rest = NULL;
		return NULL;
	}
	return str_format(&path, "%s/%s", store->state_dir, rest) < 0 ? NULL : path;
}

void store_announce(const struct store *store)
{
	/* a byte over itself: needs no room on a full disk; a lost one costs the others a tick */
	(void)!pwrite(store->changes_fd, "\n", 1, 0);
}

/* ---- opening */

static int store_make_dirs(struct store *store)
{
	for (size_t i = 0; i < sizeof(store_dirs) / sizeof(*store_dirs); i++) {
		cleanup_free char *path = store_path(store, "%s", store_dirs[i]);
		if (!path)
			return -ENOMEM;
		/* 0755 for what the tree shows: the state directory above is 0700 */
		if (mkdir(path, str_has_prefix(store_dirs[i], "buckets") ? 0755 : 0700) < 0 &&
		    errno != EEXIST)
			return -errno;
	}
	cleanup_free char *changes = store_path(store, "changes");
	if (!changes)
		return -ENOMEM;
	store->changes_fd = open(changes, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	return store->changes_fd < 0 ? -errno : 0;
}

static int store_make_schema(struct store *store)
{
	cleanup_transaction struct transaction t = {0};
	int r = transaction_write(&t, store);
	if (r < 0)
		return r;
	int64_t version;
	r = store_get_int(&t, &version, "PRAGMA user_version", "");
	if (r < 0)
		return r;
	if (version > 1)
		return -EPROTO;
	if (!version)
		r = store_error(sqlite3_exec(store->db, store_schema, NULL, NULL, NULL));
	return r < 0 ? r : transaction_commit(&t);
}

static int store_open_db(struct store *store)
{
	cleanup_free char *path = store_path(store, "local.db");
	if (!path)
		return -ENOMEM;
	int r = store_error(sqlite3_open_v2(
		path, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL));
	if (r < 0)
		return r;
	sqlite3_busy_timeout(store->db, 5000);
	/* switching to WAL can be refused without asking the busy handler; it is needed once in a database's life */
	for (int64_t end = clock_mono_ms() + 5000;;) {
		r = store_error(sqlite3_exec(store->db,
					     "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;", NULL,
					     NULL, NULL));
		if (r != -EAGAIN || clock_mono_ms() >= end)
			return r;
		(void)usleep(5000);
	}
}

static void store_read_boot_id(struct store *store)
{
	cleanup_close int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, store->boot_id, sizeof(store->boot_id) - 1);
	store->boot_id[n > 0 ? n : 0] = '\0';
	store->boot_id[strcspn(store->boot_id, "\n")] = '\0';
}

int store_open(const char *state_dir, struct store **ret, struct fault *reterr)
{
	cleanup_store struct store *store = calloc(1, sizeof(*store));
	if (!store)
		return fault_set(reterr, ENOMEM, "no memory");
	pthread_mutex_init(&store->lock, NULL);
	store->changes_fd = -1;
	store->state_dir = strdup(state_dir);
	if (!store->state_dir)
		return fault_set(reterr, ENOMEM, "no memory");
	store_read_boot_id(store);
	int r = store_make_dirs(store);
	if (r < 0)
		return fault_set(reterr, -r, "%s: %s", state_dir, strerror(-r));
	r = store_open_db(store);
	if (r == 0)
		r = store_make_schema(store);
	if (r == -EPROTO)
		return fault_set(reterr, EPROTO, "%s/local.db was made by a newer trainfs", state_dir);
	if (r < 0)
		return fault_set(reterr, -r, "%s/local.db: %s", state_dir,
				 store->db ? sqlite3_errmsg(store->db) : strerror(-r));
	*ret = STEAL(store);
	return 0;
}

void store_close(struct store *store)
{
	if (!store)
		return;
	sqlite3_close(store->db);
	if (store->changes_fd >= 0)
		close(store->changes_fd);
	pthread_mutex_destroy(&store->lock);
	free(store->state_dir);
	free(store);
}

/* ---- transactions and statements */

static int transaction_begin(struct transaction *t, struct store *store, bool is_write)
{
	pthread_mutex_lock(&store->lock);
	int r = store_error(
		sqlite3_exec(store->db, is_write ? "BEGIN IMMEDIATE" : "BEGIN", NULL, NULL, NULL));
	if (r < 0) {
		pthread_mutex_unlock(&store->lock);
		return r;
	}
	*t = (struct transaction){store, is_write};
	return 0;
}

int transaction_read(struct transaction *t, struct store *store)
{
	return transaction_begin(t, store, false);
}

int transaction_write(struct transaction *t, struct store *store)
{
	return transaction_begin(t, store, true);
}

int transaction_commit(struct transaction *t)
{
	int r = store_error(sqlite3_exec(t->store->db, "COMMIT", NULL, NULL, NULL));
	if (r < 0)
		return r; /* transaction_end rolls it back */
	struct store *store = STEAL(t->store);
	pthread_mutex_unlock(&store->lock);
	if (t->is_write)
		store_announce(store);
	return 0;
}

void transaction_end(struct transaction *t)
{
	if (!t->store)
		return;
	/* a failure may have rolled it back already: then this one is refused, which is as good */
	(void)sqlite3_exec(t->store->db, "ROLLBACK", NULL, NULL, NULL);
	pthread_mutex_unlock(&t->store->lock);
	t->store = NULL;
}

static int store_vprepare(const struct transaction *t, sqlite3_stmt **ret, const char *sql, const char *types,
			  va_list ap)
{
	cleanup_statement sqlite3_stmt *statement = NULL;
	int r = store_error(sqlite3_prepare_v2(t->store->db, sql, -1, &statement, NULL));
	for (int i = 0; r == 0 && types[i]; i++) {
		if (types[i] == 'i')
			r = store_error(sqlite3_bind_int64(statement, i + 1, va_arg(ap, int64_t)));
		else
			r = store_error(sqlite3_bind_text(statement, i + 1, va_arg(ap, const char *), -1,
							  SQLITE_STATIC));
	}
	if (r < 0)
		return r;
	*ret = STEAL(statement);
	return 0;
}

int store_prepare(const struct transaction *t, sqlite3_stmt **ret, const char *sql, const char *types, ...)
{
	va_list ap;
	va_start(ap, types);
	int r = store_vprepare(t, ret, sql, types, ap);
	va_end(ap);
	return r;
}

int store_step(const struct transaction *t, sqlite3_stmt *statement)
{
	int code = sqlite3_step(statement);
	if (code == SQLITE_ROW)
		return 1;
	return store_error(code);
}

int store_exec(const struct transaction *t, const char *sql, const char *types, ...)
{
	cleanup_statement sqlite3_stmt *statement = NULL;
	va_list ap;
	va_start(ap, types);
	int r = store_vprepare(t, &statement, sql, types, ap);
	va_end(ap);
	if (r < 0)
		return r;
	do
		r = store_step(t, statement);
	while (r > 0);
	return r;
}

/* The first row, or -ENOENT. */
static int store_vget(const struct transaction *t, sqlite3_stmt **ret, const char *sql, const char *types,
		      va_list ap)
{
	cleanup_statement sqlite3_stmt *statement = NULL;
	int r = store_vprepare(t, &statement, sql, types, ap);
	if (r == 0)
		r = store_step(t, statement);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	*ret = STEAL(statement);
	return 0;
}

int store_get_int(const struct transaction *t, int64_t *ret, const char *sql, const char *types, ...)
{
	cleanup_statement sqlite3_stmt *statement = NULL;
	va_list ap;
	va_start(ap, types);
	int r = store_vget(t, &statement, sql, types, ap);
	va_end(ap);
	if (r == 0)
		*ret = sqlite3_column_int64(statement, 0);
	return r;
}

int store_get_text(const struct transaction *t, char **ret, const char *sql, const char *types, ...)
{
	cleanup_statement sqlite3_stmt *statement = NULL;
	va_list ap;
	va_start(ap, types);
	int r = store_vget(t, &statement, sql, types, ap);
	va_end(ap);
	if (r < 0)
		return r;
	return store_column_text(statement, 0, ret) ? 0 : -ENOMEM;
}

bool store_column_text(sqlite3_stmt *statement, int column, char **ret)
{
	const char *text = (const char *)sqlite3_column_text(statement, column);
	*ret = text ? strdup(text) : NULL;
	return *ret || sqlite3_column_type(statement, column) == SQLITE_NULL;
}

int store_count(const struct transaction *t, const char *name, int64_t by, int64_t *ret)
{
	return store_get_int(t, ret, "UPDATE counter SET value = value + ? WHERE name = ? RETURNING value",
			     "is", by, name);
}

/* ---- settings */

static const struct {
	const char *name;
	size_t offset;
} settings_number[] = {
	{"slots", offsetof(struct settings, slots)},
	{"gpus", offsetof(struct settings, gpus)},
	{"grace_ms", offsetof(struct settings, grace_ms)},
	{"keep_ms", offsetof(struct settings, keep_ms)},
	{"keep_bytes", offsetof(struct settings, keep_bytes)},
};
enum { SETTINGS_NUMBERS = sizeof(settings_number) / sizeof(*settings_number) };

int settings_load(const struct transaction *t, struct settings *ret)
{
	struct settings settings = {.slots = 1, .grace_ms = 10000};
	static const char sql[] = "SELECT CAST(value AS INTEGER) FROM setting WHERE name = ?";
	for (size_t i = 0; i < SETTINGS_NUMBERS; i++) {
		int64_t *number = (int64_t *)((char *)&settings + settings_number[i].offset);
		int r = store_get_int(t, number, sql, "s", settings_number[i].name);
		if (r < 0 && r != -ENOENT)
			return r;
	}
	int64_t is_gpu_each = 0;
	int r = store_get_int(t, &is_gpu_each, sql, "s", "gpu_each");
	if (r < 0 && r != -ENOENT)
		return r;
	settings.is_gpu_each = is_gpu_each;
	*ret = settings;
	return 0;
}

int settings_save(const struct transaction *t, const struct settings *settings)
{
	static const char sql[] = "INSERT INTO setting VALUES(?1, ?2) ON CONFLICT DO UPDATE SET value = ?2";
	for (size_t i = 0; i < SETTINGS_NUMBERS; i++) {
		int64_t number = *(const int64_t *)((const char *)settings + settings_number[i].offset);
		int r = store_exec(t, sql, "si", settings_number[i].name, number);
		if (r < 0)
			return r;
	}
	return store_exec(t, sql, "si", "gpu_each", (int64_t)settings->is_gpu_each);
}

/* ---- jobs */

int store_job_touch(const struct transaction *t, int64_t seq)
{
	int64_t revision;
	int r = store_count(t, "revision", 1, &revision);
	if (r < 0)
		return r;
	return store_exec(t, "UPDATE job SET revision = ? WHERE seq = ?", "ii", revision, seq);
}

int store_job_set_state(const struct transaction *t, int64_t seq, enum job_state state, int64_t now_ns)
{
	int r = store_exec(t, "UPDATE job SET state = ?, changed = ? WHERE seq = ?", "iii", (int64_t)state,
			   now_ns, seq);
	if (r == 0)
		r = store_exec(t, "INSERT INTO event VALUES(?, ?, ?)", "iii", seq, now_ns, (int64_t)state);
	return r < 0 ? r : store_job_touch(t, seq);
}

/* ---- what is not needed any more */

int store_discard(const struct store *store, const char *path)
{
	static _Atomic unsigned int serial;
	cleanup_free char *trash =
		store_path(store, "trash/%ld.%lld.%u", (long)getpid(), (long long)clock_wall_ns(), serial++);
	if (!trash)
		return -ENOMEM;
	if (rename(path, trash) == 0)
		return tree_remove(AT_FDCWD, trash);
	return errno == ENOENT ? 0 : -errno;
}

static void store_sweep_dir(const struct store *store, const char *name)
{
	cleanup_free char *path = store_path(store, "%s", name);
	cleanup_closedir DIR *dir = path ? opendir(path) : NULL;
	struct dirent *entry;
	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		cleanup_close int fd =
			openat(dirfd(dir), entry->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		/* locked: someone still fills or empties it */
		if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) == 0)
			(void)tree_remove(dirfd(dir), entry->d_name); /* the next open tries again */
	}
}

void store_sweep(const struct store *store)
{
	store_sweep_dir(store, "incoming");
	store_sweep_dir(store, "trash");
}
