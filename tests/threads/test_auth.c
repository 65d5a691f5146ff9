/* SPDX-License-Identifier: MIT */
/*
 * Credentials and signing keys used by many threads at once, for ThreadSanitizer: however many ask, the service is
 * asked once a renewal. A plain program: 0, or a line on stderr and 1.
 */
#include "auth/renewal.h"
#include "auth/sigv4.h"
#include "cleanup.h"
#include "str.h"
#include "threads.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { N_THREADS = 16, N_ROUNDS = 50 };

static const int64_t minute = 60000000000;

static struct {
	/* immutable once threads run */
	struct renewal *renewal;
	struct sigv4_cache *cache;
	pthread_barrier_t round;
	/* atomic */
	_Atomic int n_asked, n_entered, n_failed;
} test;

/* Gets an answer only when all threads want one: if they did not share it, more than one would come here. */
static int answer(void *arg, int64_t now_ns, struct http_cancel *cancel, struct auth_keys *ret,
		  struct fault *reterr)
{
	int n = atomic_fetch_add(&test.n_asked, 1);
	while (atomic_load(&test.n_entered) < N_THREADS)
		sched_yield();
	if (n % 3 == 2)
		return fault_set(reterr, EHOSTUNREACH, "away");
	char text[32];
	snprintf(text, sizeof(text), "secret %d", n);
	ret->id = strdup("ID");
	ret->from = strdup("here");
	ret->expires_ns = now_ns + 20 * minute;
	return secret_set(&ret->secret, text, strlen(text));
}

static void sign(const struct auth_keys *keys, uint64_t generation, int64_t now_ns)
{
	struct http_headers cached = {0}, plain = {0};
	const struct sigv4_request request = {.method = "GET",
					      .url = "https://bucket.example.com/key",
					      .payload = SIGV4_UNSIGNED_PAYLOAD,
					      .service = "s3",
					      .region = "us-east-1",
					      .key_id = keys->id,
					      .secret = keys->secret.text,
					      .generation = generation};
	must(sigv4_sign(test.cache, &request, now_ns, &cached) == 0);
	must(sigv4_sign(NULL, &request, now_ns, &plain) == 0);
	must(!strcmp(http_headers_get(&cached, "Authorization"), http_headers_get(&plain, "Authorization")));
	http_headers_release(&cached);
	http_headers_release(&plain);
}

static void *work(void *arg)
{
	for (int i = 0; i < N_ROUNDS; i++) {
		cleanup_auth_keys struct auth_keys keys = {0};
		struct fault fault = {0};
		uint64_t generation = 0;
		int64_t now_ns = (i + 1) * 1000 * minute; /* all have ended since */
		pthread_barrier_wait(&test.round);
		atomic_fetch_add(&test.n_entered, 1);
		int r = renewal_get(test.renewal, now_ns, 0, NULL, &keys, &generation, &fault);
		if (r < 0)
			must(r == -EHOSTUNREACH && !strcmp(fault.text, "away") &&
			     atomic_fetch_add(&test.n_failed, 1) >= 0);
		else
			sign(&keys, generation, now_ns);
		if (pthread_barrier_wait(&test.round) == PTHREAD_BARRIER_SERIAL_THREAD) {
			must(atomic_load(&test.n_asked) == i + 1);
			must(atomic_exchange(&test.n_failed, 0) == (i % 3 == 2 ? N_THREADS : 0));
			atomic_store(&test.n_entered, 0);
		}
	}
	return NULL;
}

int main(void)
{
	pthread_t thread[N_THREADS];
	must(renewal_new(answer, NULL, 15 * 60000, 10 * 60000, &test.renewal) == 0);
	must(sigv4_cache_new(&test.cache) == 0);
	must(pthread_barrier_init(&test.round, NULL, N_THREADS) == 0);
	for (int i = 0; i < N_THREADS; i++)
		must(pthread_create(&thread[i], NULL, work, NULL) == 0);
	for (int i = 0; i < N_THREADS; i++)
		must(pthread_join(thread[i], NULL) == 0);
	must(atomic_load(&test.n_asked) == N_ROUNDS);
	pthread_barrier_destroy(&test.round);
	sigv4_cache_free(test.cache);
	renewal_free(test.renewal);
	return 0;
}
