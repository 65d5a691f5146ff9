/* SPDX-License-Identifier: MIT */
/*
 * The contract suite: every promise of backend.h, asked of every backend type. A type joins with a row in contract.c.
 *
 * What the tests want of a type beside the contract: that it can run the three kinds of job below (by itself from
 * their command, or by `drive`).
 */
#pragma once

#include "backend.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <criterion/parameterized.h>

enum contract_job {
	CONTRACT_GOOD,    /* logs "one\ntwo\n", leaves output/model/model.txt, succeeds */
	CONTRACT_BAD,     /* logs "broken\n", fails with exit code 3 */
	CONTRACT_ENDLESS, /* logs "going\n", runs until it is cancelled */
};

struct contract_type {
	const char *name; /* in messages */
	const char *type; /* of backend.h */
	const char *
		options; /* JSON; NULL: the type is tested at a server (tests/peer), with $TRAINFS_PEER_OPTIONS, and alone */
	/* Makes the job do what its kind says; NULL: it does so by itself. */
	void (*drive)(struct backend *be, const char *id, enum contract_job kind);
};

struct contract_row {
	char id[160];
	struct job_entry entry; /* its texts are not kept */
	char model[160];
	unsigned n_reports;
};

enum { CONTRACT_ROWS_MAX = 256 };

/* One backend, open, and what listings have told of its jobs. */
struct contract {
	const struct contract_type *type;
	struct backend *be;
	char state_dir[300], package_dir[300];
	char cursor[256];
	struct contract_row row[CONTRACT_ROWS_MAX];
	size_t n_rows;
	size_t n_pages;
	struct fault fault; /* give it to operations */
};

void contract_open(struct contract *c, int type_index);
void contract_reopen(struct contract *c);
void contract_close(struct contract *c); /* cancels what lives */
struct criterion_test_params contract_parameters(void);

/* Reports from where the last call ended go into c->row. */
void contract_refresh(struct contract *c);
void contract_forget(struct contract *c); /* the next refresh begins at "" */
const struct contract_row *contract_row(const struct contract *c, const char *id); /* NULL: never told of */

/* Submits; the result of the operation. */
int contract_submit(struct contract *c, const char *id, enum contract_job kind);
/* Submits, drives, and waits until it has ended (of an endless one: until it runs). */
void contract_run(struct contract *c, const char *id, enum contract_job kind);
/* Waits, by watch, until the job is in that state; fails the test after a while. */
void contract_wait(struct contract *c, const char *id, enum job_state state);

/* A request for such a job: borrowed from `c` and valid until the next. */
const struct job_request *contract_request(struct contract *c, const char *id, const char *model,
					   enum contract_job kind);

char *contract_log(struct contract *c, const char *id); /* all of it; caller frees */

/* A name_sink, and its arg: how often a listing has the name. */
struct contract_search {
	const char *name;
	unsigned n;
};
int contract_search(void *arg, const char *name);

/* Is the text of `name` below this directory `want`? */
bool contract_has_text(int dirfd, const char *name, const char *want);

/* The operation failed with this error, and said so in a sentence. */
#define contract_fails(c, r, want)                                                           \
	do {                                                                                 \
		(c)->fault = (struct fault){0};                                              \
		int r_ = (r);                                                                \
		cr_assert(eq(int, r_, -(want)), "%s: %s", (c)->type->name, (c)->fault.text); \
		cr_assert(eq(int, (c)->fault.err, (want)));                                  \
		cr_assert(ne(str, (c)->fault.text, ""));                                     \
	} while (0)

#define contract_ok(c, r)                                                                    \
	do {                                                                                 \
		(c)->fault = (struct fault){0};                                              \
		int r_ = (r);                                                                \
		cr_assert(eq(int, r_, 0), "%s: %s", (c)->type->name, (c)->fault.text);       \
		cr_assert(eq(int, (c)->fault.err, 0), "a fault is written on failure only"); \
	} while (0)

/* A test that runs for each type, on a fresh backend `c`. */
#define CONTRACT_TEST(suite, name)                                \
	static void suite##_##name(struct contract *c);           \
	ParameterizedTestParameters(suite, name)                  \
	{                                                         \
		return contract_parameters();                     \
	}                                                         \
	ParameterizedTest(int *index, suite, name, .timeout = 60) \
	{                                                         \
		struct contract c = {0};                          \
		contract_open(&c, *index);                        \
		suite##_##name(&c);                               \
		contract_close(&c);                               \
	}                                                         \
	static void suite##_##name(struct contract *c)
