/* SPDX-License-Identifier: MIT */
/*
 * The journal in SQLite: WAL, synchronous=FULL, one connection behind one lock. Every statement is short, so a handler
 * may call this; another process's transaction is waited for up to BUSY_MS.
 */
#include "journal.h"

#include "cleanup.h"
#include "str.h"

#include <errno.h>
#include <sqlite3.h>
#include <string.h>

enum { BUSY_MS = 5000 };

struct journal {
	pthread_mutex_t lock;
	/* protected by lock */
	sqlite3 *db;
	int64_t data_version;
};

enum { SCHEMA_VERSION = 1 };

static const char schema[] =
	"PRAGMA journal_mode=WAL;"
	"PRAGMA synchronous=FULL;"
	"PRAGMA user_version=1;"
	"CREATE TABLE IF NOT EXISTS draft(id INTEGER PRIMARY KEY AUTOINCREMENT, place INTEGER NOT NULL,"
	" model TEXT NOT NULL, name BLOB NOT NULL, owner TEXT NOT NULL, phase INTEGER NOT NULL DEFAULT 0,"
	" job TEXT UNIQUE, UNIQUE(place, model, name));"
	"CREATE TABLE IF NOT EXISTS submission(id INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL "
	"UNIQUE,"
	" name BLOB NOT NULL, at INTEGER NOT NULL);"
	"CREATE TABLE IF NOT EXISTS switch(id INTEGER PRIMARY KEY, model TEXT NOT NULL, at INTEGER NOT NULL,"
	" was TEXT NOT NULL, became TEXT NOT NULL, by TEXT NOT NULL, owner TEXT);" /* owner NULL: made */
	"CREATE INDEX IF NOT EXISTS switch_model ON switch(model, id);"
	"CREATE TABLE IF NOT EXISTS version(model TEXT NOT NULL, version TEXT NOT NULL, job TEXT NOT NULL,"
	" owner TEXT NOT NULL, PRIMARY KEY(model, version));";

static int errno_of(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_OK:
	case SQLITE_DONE:
	case SQLITE_ROW:
		return 0;
	case SQLITE_CONSTRAINT:
		return -EEXIST;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EAGAIN;
	case SQLITE_READONLY:
	case SQLITE_PERM:
		return -EROFS;
	default:
		return -EIO;
	}
}

/* A new file gets this program's version; another's is not touched. */
static int check_version(struct journal *journal, const char *path, struct fault *reterr)
{
	sqlite3_stmt *stmt = NULL;
	int version = -1;
	if (sqlite3_prepare_v2(journal->db, "PRAGMA user_version", -1, &stmt, NULL) == SQLITE_OK &&
	    sqlite3_step(stmt) == SQLITE_ROW)
		version = sqlite3_column_int(stmt, 0);
	sqlite3_finalize(stmt);
	if (version != 0 && version != SCHEMA_VERSION)
		return fault_set(reterr, EPROTO,
				 "%s was written by another version of trainfs (format %d, this one has %d)",
				 path, version, SCHEMA_VERSION);
	int rc = sqlite3_exec(journal->db, schema, NULL, NULL, NULL);
	return rc == SQLITE_OK ? 0
			       : fault_set(reterr, -errno_of(rc), "cannot use %s: %s", path,
					   sqlite3_errmsg(journal->db));
}

int journal_open(const char *state_dir, struct journal **ret, struct fault *reterr)
{
	cleanup_free char *path = NULL;
	struct journal *journal = calloc(1, sizeof(*journal));
	if (!journal || str_format(&path, "%s/fs.db", state_dir) < 0) {
		free(journal);
		return -ENOMEM;
	}
	pthread_mutex_init(&journal->lock, NULL);
	int rc = sqlite3_open_v2(path, &journal->db,
				 SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_busy_timeout(journal->db, BUSY_MS);
	int r = rc == SQLITE_OK
			? check_version(journal, path, reterr)
			: fault_set(reterr, -errno_of(rc), "cannot open %s: %s", path, sqlite3_errstr(rc));
	if (r < 0) {
		journal_close(journal);
		return r;
	}
	*ret = journal;
	return 0;
}

void journal_close(struct journal *journal)
{
	if (!journal)
		return;
	(void)sqlite3_close(journal->db); /* every statement is finalised where it was made */
	pthread_mutex_destroy(&journal->lock);
	free(journal);
}

/* One statement with its arguments: 't' text, 'b' bytes (a string), 'i' int64_t; NULL text is NULL. */
static int prepare_locked(struct journal *journal, sqlite3_stmt **ret, const char *sql, const char *types,
			  va_list ap)
{
	int rc = sqlite3_prepare_v2(journal->db, sql, -1, ret, NULL);
	for (int i = 1; rc == SQLITE_OK && types[i - 1]; i++) {
		if (types[i - 1] == 'i') {
			rc = sqlite3_bind_int64(*ret, i, va_arg(ap, int64_t));
			continue;
		}
		const char *text = va_arg(ap, const char *);
		if (types[i - 1] == 'b')
			rc = sqlite3_bind_blob(*ret, i, text, (int)strlen(text), SQLITE_TRANSIENT);
		else
			rc = sqlite3_bind_text(*ret, i, text, -1, SQLITE_TRANSIENT);
	}
	return rc;
}

/* Runs a change; ret_changes (may be NULL) gets the number of rows. */
static int change_locked(struct journal *journal, int *ret_changes, const char *sql, const char *types,
			 va_list ap)
{
	sqlite3_stmt *stmt = NULL;
	int rc = prepare_locked(journal, &stmt, sql, types, ap);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	sqlite3_finalize(stmt);
	if (rc == SQLITE_DONE && ret_changes)
		*ret_changes = sqlite3_changes(journal->db);
	return errno_of(rc);
}

static int change_one_locked(struct journal *journal, int *ret_changes, const char *sql, const char *types,
			     ...)
{
	va_list ap;
	va_start(ap, types);
	int r = change_locked(journal, ret_changes, sql, types, ap);
	va_end(ap);
	return r;
}

/* A change of exactly one row; -ENOENT if there is none. */
static int change(struct journal *journal, const char *sql, const char *types, ...)
{
	LOCK_SCOPE(&journal->lock);
	int n = 0;
	va_list ap;
	va_start(ap, types);
	int r = change_locked(journal, &n, sql, types, ap);
	va_end(ap);
	return r < 0 ? r : n == 0 ? -ENOENT : 0;
}

bool journal_has_changed(struct journal *journal)
{
	LOCK_SCOPE(&journal->lock);
	sqlite3_stmt *stmt = NULL;
	int64_t version = journal->data_version;
	if (sqlite3_prepare_v2(journal->db, "PRAGMA data_version", -1, &stmt, NULL) == SQLITE_OK &&
	    sqlite3_step(stmt) == SQLITE_ROW)
		version = sqlite3_column_int64(stmt, 0);
	sqlite3_finalize(stmt);
	bool has_changed = version != journal->data_version;
	journal->data_version = version;
	return has_changed;
}

int journal_draft_add(struct journal *journal, enum place place, const char *model, const char *name,
		      const char *owner, int64_t *ret_id)
{
	LOCK_SCOPE(&journal->lock);
	int r = change_one_locked(journal, NULL,
				  "INSERT INTO draft(place, model, name, owner) VALUES(?,?,?,?)", "itbt",
				  (int64_t)place, model, name, owner);
	if (r == 0)
		*ret_id = sqlite3_last_insert_rowid(journal->db);
	return r;
}

int journal_draft_move(struct journal *journal, int64_t id, enum place place, const char *model,
		       const char *name)
{
	return change(journal, "UPDATE draft SET place=?, model=?, name=? WHERE id=?", "itbi", (int64_t)place,
		      model, name, id);
}

int journal_draft_remove(struct journal *journal, int64_t id)
{
	return change(journal, "DELETE FROM draft WHERE id=?", "i", id);
}

int journal_draft_complete(struct journal *journal, int64_t id)
{
	return change(journal, "UPDATE draft SET phase=1 WHERE id=? AND phase=0", "i", id);
}

/* Ends the transaction: commits when r is 0. */
static int end_locked(struct journal *journal, int r)
{
	int rc = sqlite3_exec(journal->db, r == 0 ? "COMMIT" : "ROLLBACK", NULL, NULL, NULL);
	if (rc != SQLITE_OK && r == 0) {
		(void)sqlite3_exec(journal->db, "ROLLBACK", NULL, NULL, NULL);
		return errno_of(rc);
	}
	return r;
}

static int begin_locked(struct journal *journal)
{
	return errno_of(sqlite3_exec(journal->db, "BEGIN IMMEDIATE", NULL, NULL, NULL));
}

static int claim_locked(struct journal *journal, int64_t id, const char *owner, const char *job)
{
	int n = 0;
	int r = change_one_locked(journal, &n,
				  "UPDATE draft SET phase=2, job=? WHERE id=? AND owner=? AND phase<2", "tit",
				  job, id, owner);
	return r < 0 ? r : n == 0 ? -EBUSY : 0;
}

int journal_draft_claim(struct journal *journal, int64_t id, const char *owner, const char *job)
{
	LOCK_SCOPE(&journal->lock);
	int r = begin_locked(journal);
	return r < 0 ? r : end_locked(journal, claim_locked(journal, id, owner, job));
}

static int sent_locked(struct journal *journal, int64_t id, const char *job, const char *name, int64_t at_ns)
{
	int r = change_one_locked(journal, NULL, "DELETE FROM draft WHERE id=?", "i", id);
	if (r < 0 || !name)
		return r;
	return change_one_locked(journal, NULL,
				 "INSERT OR REPLACE INTO submission(job, name, at) VALUES(?,?,?)", "tbi", job,
				 name, at_ns);
}

int journal_draft_sent(struct journal *journal, int64_t id, const char *job, const char *name, int64_t at_ns)
{
	LOCK_SCOPE(&journal->lock);
	int r = begin_locked(journal);
	return r < 0 ? r : end_locked(journal, sent_locked(journal, id, job, name, at_ns));
}

int journal_draft_refuse(struct journal *journal, int64_t id, const char *new_name)
{
	return change(journal, "UPDATE draft SET phase=0, job=NULL, place=1, model='', name=? WHERE id=?",
		      "bi", new_name, id);
}

int journal_draft_adopt(struct journal *journal, int64_t id, const char *from, const char *to)
{
	int r = change(journal, "UPDATE draft SET owner=? WHERE id=? AND owner=?", "tit", to, id, from);
	return r == -ENOENT ? -EBUSY : r;
}

/* A bytes column as a string of its own. */
static int column_string(sqlite3_stmt *stmt, int column, char **ret)
{
	const void *bytes = sqlite3_column_blob(stmt, column);
	int n = sqlite3_column_bytes(stmt, column);
	*ret = strndup(bytes ? bytes : "", n);
	return *ret ? 0 : -ENOMEM;
}

static const char *column_text(sqlite3_stmt *stmt, int column)
{
	return (const char *)sqlite3_column_text(stmt, column);
}

/* Runs a query; `row` is called for each row with the lock held, so it must not come back here. */
static int query(struct journal *journal, const char *sql, const char *argument,
		 int (*row)(sqlite3_stmt *stmt, void *sink, void *arg), void *sink, void *arg)
{
	LOCK_SCOPE(&journal->lock);
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(journal->db, sql, -1, &stmt, NULL);
	if (rc == SQLITE_OK && argument)
		rc = sqlite3_bind_text(stmt, 1, argument, -1, SQLITE_TRANSIENT);
	int r = errno_of(rc);
	while (r == 0 && (rc = sqlite3_step(stmt)) == SQLITE_ROW)
		r = row(stmt, sink, arg);
	sqlite3_finalize(stmt);
	return r < 0 ? r : errno_of(rc);
}

static int draft_row(sqlite3_stmt *stmt, void *sink, void *arg)
{
	cleanup_free char *name = NULL;
	int r = column_string(stmt, 3, &name);
	if (r < 0)
		return r;
	struct draft_row row = {
		.id = sqlite3_column_int64(stmt, 0),
		.place = sqlite3_column_int(stmt, 1),
		.model = column_text(stmt, 2),
		.name = name,
		.owner = column_text(stmt, 4),
		.phase = sqlite3_column_int(stmt, 5),
		.job = column_text(stmt, 6),
	};
	return (*(draft_sink *)sink)(arg, &row);
}

int journal_drafts(struct journal *journal, draft_sink sink, void *arg)
{
	return query(journal, "SELECT id, place, model, name, owner, phase, job FROM draft ORDER BY id", NULL,
		     draft_row, &sink, arg);
}

static int submission_row(sqlite3_stmt *stmt, void *sink, void *arg)
{
	cleanup_free char *name = NULL;
	int r = column_string(stmt, 1, &name);
	if (r < 0)
		return r;
	return (*(submission_sink *)sink)(arg, sqlite3_column_int64(stmt, 2), column_text(stmt, 0), name);
}

int journal_submissions(struct journal *journal, int64_t after, submission_sink sink, void *arg)
{
	char row[24];
	snprintf(row, sizeof(row), "%lld", (long long)after);
	return query(journal,
		     "SELECT job, name, id FROM submission WHERE id > CAST(? AS INTEGER) ORDER BY id", row,
		     submission_row, &sink, arg);
}

int journal_switch_begin(struct journal *journal, const char *model, const struct switch_row *row,
			 const char *owner, int64_t *ret_id)
{
	LOCK_SCOPE(&journal->lock);
	int r = change_one_locked(journal, NULL,
				  "INSERT INTO switch(model, at, was, became, by, owner) VALUES(?,?,?,?,?,?)",
				  "titttt", model, row->at_ns, row->from, row->to, row->by, owner);
	if (r == 0)
		*ret_id = sqlite3_last_insert_rowid(journal->db);
	return r;
}

int journal_switch_end(struct journal *journal, int64_t id, bool is_made)
{
	return change(journal,
		      is_made ? "UPDATE switch SET owner=NULL WHERE id=?" : "DELETE FROM switch WHERE id=?",
		      "i", id);
}

static int open_switch_row(sqlite3_stmt *stmt, void *sink, void *arg)
{
	return (*(open_switch_sink *)sink)(arg, sqlite3_column_int64(stmt, 0), column_text(stmt, 1),
					   column_text(stmt, 2));
}

int journal_open_switches(struct journal *journal, const char *model, open_switch_sink sink, void *arg)
{
	return query(journal,
		     "SELECT id, became, owner FROM switch WHERE model=? AND owner IS NOT NULL ORDER BY id",
		     model, open_switch_row, &sink, arg);
}

static int switch_row(sqlite3_stmt *stmt, void *sink, void *arg)
{
	struct switch_row row = {
		.at_ns = sqlite3_column_int64(stmt, 0),
		.from = column_text(stmt, 1),
		.to = column_text(stmt, 2),
		.by = column_text(stmt, 3),
	};
	return (*(switch_sink *)sink)(arg, &row);
}

int journal_switches(struct journal *journal, const char *model, switch_sink sink, void *arg)
{
	return query(journal,
		     "SELECT at, was, became, by FROM switch WHERE model=? AND owner IS NULL ORDER BY id",
		     model, switch_row, &sink, arg);
}

int journal_version_add(struct journal *journal, const char *model, const char *version, const char *job,
			const char *owner)
{
	return change(journal, "INSERT INTO version(model, version, job, owner) VALUES(?,?,?,?)", "tttt",
		      model, version, job, owner);
}

int journal_version_remove(struct journal *journal, const char *model, const char *version)
{
	return change(journal, "DELETE FROM version WHERE model=? AND version=?", "tt", model, version);
}

static int version_row(sqlite3_stmt *stmt, void *sink, void *arg)
{
	return (*(version_sink *)sink)(arg, column_text(stmt, 0), column_text(stmt, 1), column_text(stmt, 2),
				       column_text(stmt, 3));
}

int journal_versions(struct journal *journal, version_sink sink, void *arg)
{
	return query(journal, "SELECT model, version, job, owner FROM version ORDER BY rowid", NULL,
		     version_row, &sink, arg);
}
