/* SPDX-License-Identifier: MIT */
/* Waiting for what is new. */
#include "contract.h"

#include "clock.h"

#include <errno.h>
#include <pthread.h>

enum { LONG_MS = 50000, SOON_MS = 20000 };

struct watcher {
	struct contract *c;
	pthread_t thread;
	int64_t took_ms;
	int r;
};

static void *watch(void *arg)
{
	struct watcher *watcher = arg;
	int64_t start_ms = clock_mono_ms();

	watcher->r = backend_job_watch(watcher->c->be, LONG_MS);
	watcher->took_ms = clock_mono_ms() - start_ms;
	return NULL;
}

static void watcher_start(struct watcher *watcher, struct contract *c)
{
	watcher->c = c;
	while (backend_job_watch(c->be, 0) == 0) { /* what was new so far */
		int64_t start_ms = clock_mono_ms();
		(void)backend_job_watch(c->be, 50);
		if (clock_mono_ms() - start_ms >= 50)
			break;
	}
	cr_assert(zero(int, pthread_create(&watcher->thread, NULL, watch, watcher)));
}

static void watcher_join(struct watcher *watcher)
{
	pthread_join(watcher->thread, NULL);
	cr_assert(zero(int, watcher->r));
	cr_assert(lt(i64, watcher->took_ms, SOON_MS));
}

CONTRACT_TEST(contract_watch, without_watch_it_says_so)
{
	if (!backend_job_can_watch(c->be))
		cr_assert(eq(int, backend_job_watch(c->be, 0), -EOPNOTSUPP));
	backend_job_wake(c->be);
}

CONTRACT_TEST(contract_watch, a_submission_ends_it)
{
	struct watcher watcher;

	if (!backend_job_can_watch(c->be))
		return;
	watcher_start(&watcher, c);
	contract_ok(c, contract_submit(c, "a", CONTRACT_ENDLESS));
	watcher_join(&watcher);
}

CONTRACT_TEST(contract_watch, a_change_before_it_is_not_lost)
{
	struct watcher watcher = {.c = c};

	if (!backend_job_can_watch(c->be))
		return;
	contract_refresh(c);
	contract_ok(c, contract_submit(c, "a", CONTRACT_ENDLESS));
	watch(&watcher);
	cr_assert(zero(int, watcher.r));
	cr_assert(lt(i64, watcher.took_ms, SOON_MS));
}

CONTRACT_TEST(contract_watch, a_new_model_ends_it)
{
	struct watcher watcher;

	if (!backend_job_can_watch(c->be) || !backend_has_models(c->be))
		return;
	watcher_start(&watcher, c);
	contract_ok(c, backend_model_create(c->be, "m", &c->fault));
	watcher_join(&watcher);
}

CONTRACT_TEST(contract_watch, wake_ends_it)
{
	struct watcher watcher;

	if (!backend_job_can_watch(c->be))
		return;
	watcher_start(&watcher, c);
	backend_job_wake(c->be);
	watcher_join(&watcher);
}

CONTRACT_TEST(contract_watch, its_time_ends_it)
{
	if (!backend_job_can_watch(c->be))
		return;
	int64_t start_ms = clock_mono_ms();
	cr_assert(zero(int, backend_job_watch(c->be, 30)));
	cr_assert(lt(i64, clock_mono_ms() - start_ms, SOON_MS));
}
