// SPDX-License-Identifier: MIT
/* Listings page by page, of `mem`: the next page is asked for while rows are taken, and no more pages than were wanted. */
#include "object_pages.h"

#include "backend/mem/mem.h"
#include "clock.h"
#include "pool.h"
#include "tests/scratch.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>

enum { N_ROWS = 40, PAGE = 4, SOON_MS = 20000 };

struct listing {
	struct backend *be;
	struct pool *pool;
	struct fault fault;
	size_t n_rows, n_between;
	size_t fail_at;       /* row, from 1 on; 0: none */
	unsigned await_calls; /* the first row waits for so many */
	bool has_enough;
};

static void control(struct listing *l, const char *command)
{
	cr_assert_eq(mem_control(l->be, command, &l->fault), 0, "%s", l->fault.text);
}

static void begin(struct listing *ret)
{
	static char state_dir[300];
	cleanup_json json_t *options = json_pack("{sb si}", "objects", 1, "page", PAGE);
	const struct backend_conf conf = {.name = "remote", .state_dir = state_dir, .options = options};

	int dir = scratch_open();
	(void)snprintf(state_dir, sizeof(state_dir), "%s/state", scratch_path);
	cr_assert_eq(mkdirat(dir, "state", 0700), 0);
	*ret = (struct listing){0};
	cr_assert_eq(backend_open("mem", &conf, &ret->be, &ret->fault), 0, "%s", ret->fault.text);
	cr_assert_eq(backend_bucket_create(ret->be, "b", NULL), 0);
	cr_assert_eq(pool_new("ahead", 1, 2, &ret->pool), 0);
	control(ret, "object b fill d/ 40");
}

static void end(struct listing *l)
{
	pool_stop(l->pool);
	pool_free(l->pool);
	backend_close(l->be);
	scratch_close();
}

static int take(void *arg, const struct object_entry *object)
{
	struct listing *l = arg;
	char want[OBJECT_KEY_MAX];

	(void)snprintf(want, sizeof(want), "d/%09zu", l->n_rows);
	cr_expect_str_eq(object->key, want);
	for (int64_t until = clock_mono_ms() + SOON_MS; mem_calls(l->be, "objects") < l->await_calls;) {
		cr_assert_lt(clock_mono_ms(), until, "nobody asks for the next page");
		(void)poll(NULL, 0, 1);
	}
	return ++l->n_rows == l->fail_at ? -EDOM : 0;
}

static bool goes_on(void *arg)
{
	struct listing *l = arg;

	l->n_between++;
	return !l->has_enough;
}

static int run(struct listing *l, size_t n_max)
{
	const struct object_pages wanted = {.be = l->be,
					    .pool = l->pool,
					    .bucket = "b",
					    .prefix = "d/",
					    .n_max = n_max,
					    .sink = take,
					    .goes_on = goes_on,
					    .arg = l};
	return object_pages(&wanted, &l->fault);
}

TestSuite(object_pages, .timeout = 60);

Test(object_pages, the_next_is_asked_for_before_a_row_is_taken)
{
	struct listing l;

	begin(&l);
	l.await_calls = 2;
	cr_expect_eq(run(&l, SIZE_MAX), 0);
	cr_expect_eq(l.n_rows, N_ROWS);
	cr_expect_eq(l.n_between, N_ROWS / PAGE - 1);
	cr_expect_eq(mem_calls(l.be, "objects"), N_ROWS / PAGE);
	end(&l);
}

Test(object_pages, no_more_are_asked_for_than_are_wanted)
{
	for (size_t n_max = 1; n_max < 4; n_max++) {
		struct listing l;

		begin(&l);
		cr_expect_eq(run(&l, n_max), -EFBIG);
		cr_expect_eq(l.n_rows, n_max * PAGE);
		cr_expect_eq(mem_calls(l.be, "objects"), n_max);
		end(&l);
	}
}

Test(object_pages, a_pool_that_takes_nothing_is_done_without)
{
	struct listing l;

	begin(&l);
	pool_stop(l.pool);
	cr_expect_eq(run(&l, SIZE_MAX), 0);
	cr_expect_eq(l.n_rows, N_ROWS);
	end(&l);
}

Test(object_pages, who_has_enough_gets_no_more)
{
	struct listing l;

	begin(&l);
	l.has_enough = true;
	cr_expect_eq(run(&l, SIZE_MAX), -EINTR);
	cr_expect_eq(l.n_rows, PAGE);
	end(&l);
}

Test(object_pages, what_a_sink_says_ends_it_while_the_next_is_on_its_way)
{
	for (size_t row = 1; row <= PAGE + 1; row++) {
		struct listing l;

		begin(&l);
		l.fail_at = row;
		l.await_calls = 2;
		cr_expect_eq(run(&l, SIZE_MAX), -EDOM);
		cr_expect_eq(l.n_rows, row);
		end(&l);
	}
}

Test(object_pages, a_page_that_fails_ends_it_with_its_sentence)
{
	struct listing l;

	begin(&l);
	control(&l, "objects fail EIO every 3");
	cr_expect_eq(run(&l, SIZE_MAX), -EIO);
	cr_expect_eq(l.n_rows, 2 * PAGE);
	cr_expect(strstr(l.fault.text, "EIO"), "%s", l.fault.text);
	end(&l);
}

Test(object_pages, a_service_that_repeats_itself_is_found_out)
{
	struct listing l;

	begin(&l);
	control(&l, "objects repeat");
	cr_expect_eq(run(&l, SIZE_MAX), -EIO);
	cr_expect(strstr(l.fault.text, "again and again"), "%s", l.fault.text);
	end(&l);
}
