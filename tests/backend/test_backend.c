/* SPDX-License-Identifier: MIT */
/* The wrappers: what they add to a type that does the least. */
#include "backend.h"

#include "scratch.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>

static int list_mutely(struct backend *be, const char *cursor, job_sink sink, void *arg, struct job_page *ret,
		       struct fault *reterr)
{
	return -EIO;
}

static int get_halfway(struct backend *be, const char *id, struct job_detail *ret, struct fault *reterr)
{
	cr_assert(zero(ptr, ret->why));
	ret->why = strdup("half an answer");
	return fault_set(reterr, EAGAIN, "throttled");
}

static const struct job_ops least_ops = {.list = list_mutely, .get = get_halfway};
static const struct backend_type least_type = {.name = "least", .jobs = &least_ops};

static int ignore_row(void *arg, const struct job_entry *job)
{
	return 0;
}

static void ignore_finding(void *arg, bool is_ok, const char *line)
{
}

Test(backend, a_failure_without_a_sentence_gets_one)
{
	struct backend be = {.type = &least_type};
	struct job_page page = {.cursor = "kept"};
	struct fault fault = {0};

	cr_assert(eq(int, backend_job_list(&be, "", ignore_row, NULL, &page, &fault), -EIO));
	cr_expect(eq(int, fault.err, EIO));
	cr_expect(ne(str, fault.text, ""));
	cr_expect(eq(str, page.cursor, "kept"));
	cr_expect(eq(int, backend_job_list(&be, "", ignore_row, NULL, &page, NULL), -EIO));
}

Test(backend, half_an_answer_is_none)
{
	struct backend be = {.type = &least_type};
	struct job_detail detail = {0};
	struct fault fault = {0};

	cr_assert(eq(int, backend_job_get(&be, "a", &detail, &fault), -EAGAIN));
	cr_expect(eq(str, fault.text, "throttled"));
	cr_expect(zero(ptr, detail.why));
}

Test(backend, what_is_missing_is_said)
{
	struct backend be = {.type = &least_type};
	struct model_detail detail;
	struct fault fault = {0};
	int fd = -1;

	cr_expect(eq(int, backend_job_cancel(&be, "a", &fault), -EOPNOTSUPP));
	cr_expect(ne(str, fault.text, ""));
	cr_expect(eq(int, backend_model_get(&be, "m", &detail, NULL), -EOPNOTSUPP));
	cr_expect(eq(int, backend_bucket_dir(&be, "b", &fd, NULL), -EOPNOTSUPP));
	cr_expect(eq(int, backend_job_watch(&be, 0), -EOPNOTSUPP));
	cr_expect(not(backend_job_log_is_file(&be)));
	cr_expect(eq(i64, backend_space_used(&be), -1));
	backend_job_wake(&be);
	backend_check(&be, ignore_finding, NULL);
}

Test(backend, an_unknown_type_is_refused)
{
	cleanup_json json_t *options = json_object();
	const struct backend_conf conf = {.name = "r", .state_dir = "/nonexistent", .options = options};
	struct backend *be = NULL;
	struct fault fault = {0};

	cr_assert(eq(int, backend_open("punchcards", &conf, &be, &fault), -EINVAL));
	cr_expect(ne(ptr, strstr(fault.text, "punchcards"), NULL));
	cr_expect(zero(ptr, (void *)backend_type_find("")));
	cr_expect(ne(ptr, (void *)backend_type_find("local"), NULL));
	backend_close(NULL);
}
