/* SPDX-License-Identifier: MIT */
/*
 * What `local` knows, on disk: one SQLite file in WAL mode, opened by every mount of this state and by every
 * supervisor at once. Whoever commits a change writes a byte to the file `changes`, which the others watch.
 *
 *   STATE_DIR/local.db            jobs, events, attempts, models, versions, aliases, settings
 *             changes             written after each commit
 *             locks/ID            held by the claimer of a job, then by its supervisor, for as long as it lives
 *             jobs/ID/            package/ run/ log result secrets
 *             buckets/B/          plain directories; outputs/MODEL/ID is a job's output
 *             models/M/V/         a version's files
 *             environments/KEY/   virtual environments
 *             incoming/ trash/    passing; what is not locked in them is removed at open
 */
#pragma once

#include "cleanup.h"
#include "entry.h"
#include "fault.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

struct store {
	/* immutable after init */
	char *state_dir; /* absolute */
	int changes_fd;
	char boot_id[40];

	pthread_mutex_t lock;
	sqlite3 *db; /* protected by lock */
};

/* Makes what is missing in `state_dir`, which exists. */
int store_open(const char *state_dir, struct store **ret, struct fault *reterr);
void store_close(struct store *store); /* takes NULL */

/* Tells every process that has this state open. */
void store_announce(const struct store *store);

/* "STATE_DIR/" and the rest, in new memory; NULL without memory. */
char *store_path(const struct store *store, const char *format, ...) __attribute__((format(printf, 2, 3)));

static inline void cleanup_store_(struct store **store)
{
	store_close(*store);
}
#define cleanup_store __attribute__((cleanup(cleanup_store_)))

/*
 * A time during which the database is this thread's: store->lock held, and, if it is a write, SQLite's write lock of
 * the file too. Left without a commit it is rolled back.
 */
struct transaction {
	struct store *store; /* NULL: not begun */
	bool is_write;
};
int transaction_read(struct transaction *t, struct store *store);
int transaction_write(struct transaction *t, struct store *store);
/* Ends it for good and announces it; on failure nothing of it happened. */
int transaction_commit(struct transaction *t);
void transaction_end(struct transaction *t); /* takes an ended one */

static inline void cleanup_transaction_(struct transaction *t)
{
	transaction_end(t);
}
#define cleanup_transaction __attribute__((cleanup(cleanup_transaction_)))

static inline void cleanup_statement_(sqlite3_stmt **statement)
{
	sqlite3_finalize(*statement);
}
#define cleanup_statement __attribute__((cleanup(cleanup_statement_)))

/*
 * Within a transaction. `types` has a letter for each parameter of the SQL: 'i' an int64_t, 's' a text or NULL (borrowed
 * until the statement is done).
 */
int store_prepare(const struct transaction *t, sqlite3_stmt **ret, const char *sql, const char *types, ...);
/* 1: a row is there; 0: no more. */
int store_step(const struct transaction *t, sqlite3_stmt *statement);
/* Runs it to its end, dropping rows. */
int store_exec(const struct transaction *t, const char *sql, const char *types, ...);
/* The first column of the first row; -ENOENT if there is none. */
int store_get_int(const struct transaction *t, int64_t *ret, const char *sql, const char *types, ...);
int store_get_text(const struct transaction *t, char **ret, const char *sql, const char *types, ...);

/* A column as new memory (NULL stays NULL); false without memory. */
bool store_column_text(sqlite3_stmt *statement, int column, char **ret);

/* ---- settings: what the newest open decided, for the supervisors */
struct settings {
	int64_t slots;
	int64_t gpus;
	bool is_gpu_each; /* a job that names no number of accelerators gets one */
	int64_t grace_ms;
	int64_t keep_ms;    /* 0: no limit */
	int64_t keep_bytes; /* 0: no limit */
};
int settings_load(const struct transaction *t, struct settings *ret);
int settings_save(const struct transaction *t, const struct settings *settings);

/* Adds to a counter ("revision", "space") and gives its new value. */
int store_count(const struct transaction *t, const char *name, int64_t by, int64_t *ret);

/* ---- jobs as rows */

/*
 * Takes the next revision for the job, so that listings see it; with a state other than its present one, records the
 * event as well. */
int store_job_touch(const struct transaction *t, int64_t seq);
int store_job_set_state(const struct transaction *t, int64_t seq, enum job_state state, int64_t now_ns);

/* Removes a file or a tree by way of trash/, so that its name is free at once; not there is no error. */
int store_discard(const struct store *store, const char *path);
/* Empties trash/ and what nobody holds in incoming/. */
void store_sweep(const struct store *store);
