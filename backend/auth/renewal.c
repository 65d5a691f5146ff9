/* SPDX-License-Identifier: MIT */
/* One thread asks, the others wait for what it gets: keys or failure. */
#include "auth/renewal.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "clock.h"
#include "log.h"

enum { NS_PER_MS = 1000000, WAIT_SLICE_MS = 100 };

enum need { NEED_NONE, NEED_ADVISORY, NEED_MANDATORY };

struct renewal {
	/* immutable after init */
	renewal_ask ask;
	void *arg;
	int64_t advisory_ns, mandatory_ns;

	pthread_mutex_t lock;
	pthread_cond_t ended;
	/* protected by lock */
	bool is_busy; /* a thread asks */
	struct auth_keys keys;
	uint64_t generation; /* of keys; 0: none yet */
	int64_t renewed_ns;
	uint64_t n_failures;
	int64_t failed_ns; /* 0: the last one to ask did not fail */
	struct fault failure;
};

void auth_keys_release(struct auth_keys *keys)
{
	if (!keys)
		return;
	secret_free(keys->id);
	secret_release(&keys->secret);
	secret_release(&keys->token);
	free(keys->project);
	free(keys->from);
	*keys = (struct auth_keys){0};
}

static int keys_copy(const struct auth_keys *keys, struct auth_keys *ret)
{
	cleanup_auth_keys struct auth_keys copy = {.expires_ns = keys->expires_ns};
	copy.id = strdup(keys->id ?: "");
	copy.from = strdup(keys->from ?: "");
	copy.project = keys->project ? strdup(keys->project) : NULL;
	int r = copy.id && copy.from && (copy.project || !keys->project) ? 0 : -ENOMEM;
	if (r == 0 && keys->secret.text)
		r = secret_set(&copy.secret, keys->secret.text, keys->secret.n);
	if (r == 0 && keys->token.text)
		r = secret_set(&copy.token, keys->token.text, keys->token.n);
	if (r < 0)
		return r;
	*ret = copy;
	copy = (struct auth_keys){0};
	return 0;
}

static bool keys_are_equal(const struct auth_keys *a, const struct auth_keys *b)
{
	return !strcmp(a->id ?: "", b->id ?: "") && secret_is_equal(&a->secret, &b->secret) &&
	       secret_is_equal(&a->token, &b->token);
}

int renewal_new(renewal_ask ask, void *arg, int64_t advisory_ms, int64_t mandatory_ms, struct renewal **ret)
{
	struct renewal *renewal = calloc(1, sizeof(*renewal));
	if (!renewal || pthread_mutex_init(&renewal->lock, NULL) != 0) {
		free(renewal);
		return -ENOMEM;
	}
	clock_condition_init(&renewal->ended);
	renewal->ask = ask;
	renewal->arg = arg;
	renewal->advisory_ns = advisory_ms * NS_PER_MS;
	renewal->mandatory_ns = mandatory_ms * NS_PER_MS;
	*ret = renewal;
	return 0;
}

void renewal_free(struct renewal *renewal)
{
	if (!renewal)
		return;
	auth_keys_release(&renewal->keys);
	pthread_cond_destroy(&renewal->ended);
	pthread_mutex_destroy(&renewal->lock);
	free(renewal);
}

static bool is_within(int64_t now_ns, int64_t since_ns, int64_t ms)
{
	return since_ns && now_ns >= since_ns && now_ns - since_ns < ms * NS_PER_MS;
}

/* Could what is held still be used, if nothing better is to be had? Needs lock. */
static bool is_usable_locked(const struct renewal *renewal, int64_t now_ns, uint64_t refused)
{
	return renewal->generation && renewal->generation != refused &&
	       (!renewal->keys.expires_ns || now_ns < renewal->keys.expires_ns);
}

/* Needs lock. */
static enum need need_locked(const struct renewal *renewal, int64_t now_ns, uint64_t refused)
{
	if (!is_usable_locked(renewal, now_ns, refused))
		return NEED_MANDATORY;
	int64_t left_ns = renewal->keys.expires_ns - now_ns;
	if (!renewal->keys.expires_ns || left_ns > renewal->advisory_ns ||
	    is_within(now_ns, renewal->renewed_ns, RENEWAL_ADVISORY_HOLD_MS))
		return NEED_NONE;
	bool is_mandatory = left_ns <= renewal->mandatory_ns;
	if (is_within(now_ns, renewal->failed_ns, is_mandatory ? RENEWAL_HOLD_MS : RENEWAL_ADVISORY_HOLD_MS))
		return NEED_NONE;
	return is_mandatory ? NEED_MANDATORY : NEED_ADVISORY;
}

/* Waits for a sign from the thread that asks; in slices, for a cancel does not wake us. Needs lock. */
static void wait_locked(struct renewal *renewal)
{
	(void)clock_wait(&renewal->ended, &renewal->lock,
			 clock_mono_ms() + WAIT_SLICE_MS); /* the caller looks again */
}

static int fail_locked(struct renewal *renewal, struct fault *reterr)
{
	return fault_set(reterr, renewal->failure.err, "%s", renewal->failure.text);
}

/* Takes what was got, or its failure, into account. Takes ownership of `keys`. Needs lock. */
static int settle_locked(struct renewal *renewal, int r, int64_t now_ns, uint64_t refused,
			 struct auth_keys *keys, const struct fault *fault)
{
	if (r == 0 && refused && refused == renewal->generation && keys_are_equal(keys, &renewal->keys))
		r = fault_set(&renewal->failure, EACCES,
			      "the service refuses the credentials, and no others are to be had (%s): "
			      "correct or renew "
			      "them there",
			      keys->from ?: "?");
	else if (r < 0)
		(void)fault_set(&renewal->failure, -r, "%s",
				fault->err ? fault->text : strerrordesc_np(-r) ?: "failed");
	if (r == -EINTR)
		return r; /* says nothing about the credentials */
	if (r < 0) {
		log_debug("credentials: %s", renewal->failure.text);
		renewal->n_failures++;
		renewal->failed_ns = now_ns;
		return r;
	}
	auth_keys_release(&renewal->keys);
	renewal->keys = *keys;
	*keys = (struct auth_keys){0};
	renewal->generation++;
	renewal->renewed_ns = now_ns;
	renewal->failed_ns = 0;
	return 0;
}

/* Asks, with the lock given back meanwhile. Needs lock. */
static int ask_locked(struct renewal *renewal, int64_t now_ns, uint64_t refused, struct http_cancel *cancel)
{
	cleanup_auth_keys struct auth_keys keys = {0};
	struct fault fault = {0};
	renewal->is_busy = true;
	pthread_mutex_unlock(&renewal->lock);
	int r = renewal->ask(renewal->arg, now_ns, cancel, &keys, &fault);
	pthread_mutex_lock(&renewal->lock);
	renewal->is_busy = false;
	pthread_cond_broadcast(&renewal->ended);
	return settle_locked(renewal, r, now_ns, refused, &keys, &fault);
}

/* Until what is held is good enough for the caller. Needs lock. */
static int renew_locked(struct renewal *renewal, int64_t now_ns, uint64_t refused, struct http_cancel *cancel,
			struct fault *reterr)
{
	uint64_t n_failures = renewal->n_failures;
	for (;;) {
		enum need need = need_locked(renewal, now_ns, refused);
		if (need == NEED_NONE || (need == NEED_ADVISORY && renewal->is_busy))
			return 0;
		if (cancel && cancel->is_set)
			return fault_set(reterr, EINTR, "interrupted");
		bool has_failed = n_failures != renewal->n_failures ||
				  is_within(now_ns, renewal->failed_ns, RENEWAL_HOLD_MS);
		if (has_failed)
			return is_usable_locked(renewal, now_ns, refused) ? 0 : fail_locked(renewal, reterr);
		if (renewal->is_busy)
			wait_locked(renewal);
		else if (ask_locked(renewal, now_ns, refused, cancel) == -EINTR)
			return fault_set(reterr, EINTR, "interrupted");
	}
}

int renewal_get(struct renewal *renewal, int64_t now_ns, uint64_t refused, struct http_cancel *cancel,
		struct auth_keys *ret, uint64_t *ret_generation, struct fault *reterr)
{
	LOCK_SCOPE(&renewal->lock);
	int r = renew_locked(renewal, now_ns, refused, cancel, reterr);
	if (r == 0)
		r = keys_copy(&renewal->keys, ret);
	if (r == 0)
		*ret_generation = renewal->generation;
	return r;
}
