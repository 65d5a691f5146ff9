/* SPDX-License-Identifier: MIT */
/* Whom TLS trusts, which HTTP is spoken over it, proxies, and names that take long to be found. Peers are real programs. */
#include "tls_peer.h"
#include "world.h"

#include "clock.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void open_tls(void)
{
	tls_peer_open();
	(void)setenv("SSL_CERT_FILE", tls_peer_cert(), 1);
}

static void close_tls(void)
{
	world_close();
	tls_peer_close();
}

TestSuite(tls, .init = open_tls, .fini = close_tls, .timeout = 60);

/* Until it listens; the result of the first request that gets further than that. */
static int ask_peer(bool is_bulk)
{
	const struct http_request request = {
		.url = tls_peer_url(), .is_bulk = is_bulk, .is_repeatable = true};
	int64_t until_ms = clock_mono_ms() + 20000;
	int r;

	do {
		r = ask(request);
	} while (r == -EHOSTUNREACH && strstr(world.fault.text, "connect") && clock_mono_ms() < until_ms);
	return r;
}

Test(tls, trusts_SSL_CERT_FILE)
{
	world_open();
	tls_peer_start(TLS_PEER_PYTHON);
	for (int i = 0; i < 3; i++) {
		cr_expect(eq(int, ask_peer(i % 2), 0), "%s", world.fault.text);
		cr_expect(eq(str, world.reply.body.data, "hello\n"));
	}
}

Test(tls, trusts_SSL_CERT_DIR)
{
	(void)unsetenv("SSL_CERT_FILE");
	tls_peer_run("mkdir ca && cp cert.pem ca/ && openssl rehash ca");
	char ca[80];
	(void)snprintf(ca, sizeof(ca), "%s/ca", tls_peer_dir());
	(void)setenv("SSL_CERT_DIR", ca, 1);
	world_open();
	tls_peer_start(TLS_PEER_PYTHON);
	cr_expect(eq(int, ask_peer(false), 0), "%s", world.fault.text);
}

Test(tls, trusts_nobody_else)
{
	(void)unsetenv("SSL_CERT_FILE");
	world_open();
	tls_peer_start(TLS_PEER_PYTHON);
	cr_expect(eq(int, ask_peer(false), -EHOSTUNREACH));
	cr_expect(eq(int, ask_peer(false), -EHOSTUNREACH)); /* it listens: one attempt */
	cr_expect(strstr(world.fault.text, "self-signed certificate") != NULL, "%s", world.fault.text);
	cr_expect(strstr(world.fault.text, "attempts") == NULL, "%s", world.fault.text);
	cr_expect(eq(int, world.reply.status, 0));
}

Test(tls, does_not_mix_names_up)
{
	world_open();
	tls_peer_start(TLS_PEER_PYTHON);
	cr_expect(eq(int, ask_peer(false), 0), "%s", world.fault.text);
	memcpy(strstr(tls_peer_url(), "127.0.0.1"), "localhost", 9);
	cr_expect(eq(int, ask_peer(false), -EHOSTUNREACH));
	cr_expect(strstr(world.fault.text, "certificate subject name") != NULL, "%s", world.fault.text);
}

Test(tls, a_client_may_trust_others)
{
	struct http_client *client;

	(void)unsetenv("SSL_CERT_FILE");
	world_open();
	tls_peer_start(TLS_PEER_PYTHON);
	cr_expect(eq(int, ask_peer(false), -EHOSTUNREACH));
	cr_assert(eq(int, http_client_set_ca(world.client, tls_peer_cert()), 0));
	for (int i = 0; i < 2; i++)
		cr_expect(eq(int, ask_peer(i), 0), "%s", world.fault.text);
	cr_assert(eq(int, http_client_new(world.http, "other", &client), 0));
	const struct http_request request = {.method = "GET", .url = tls_peer_url()};
	http_reply_release(&world.reply);
	cr_expect(eq(int, http_perform(client, &request, &world.reply, &world.fault), -EHOSTUNREACH));
	http_client_free(client);
	cr_assert(eq(int, http_client_set_ca(world.client, NULL), 0));
	for (int i = 0; i < 2; i++)
		cr_expect(eq(int, ask_peer(i), -EHOSTUNREACH));
}

Test(tls, a_file_of_authorities_that_is_not_there_is_named)
{
	world_open();
	tls_peer_start(TLS_PEER_PYTHON);
	cr_expect(eq(int, ask_peer(false), 0), "%s", world.fault.text);
	cr_assert(eq(int, http_client_set_ca(world.client, "/nonexistent/ca.pem"), 0));
	cr_expect(eq(int, ask_peer(false), -EHOSTUNREACH));
	cr_expect(strstr(world.fault.text, "/nonexistent/ca.pem") != NULL, "%s", world.fault.text);
	cr_expect(strstr(world.fault.text, "attempts") == NULL, "%s", world.fault.text);
}

/* nghttpd speaks nothing but HTTP/2. */
Test(tls, speaks_HTTP_2_where_offered_but_not_for_object_data)
{
	world_open();
	tls_peer_start("exec nghttpd -a 127.0.0.1 -d . $1 key.pem cert.pem >>log 2>&1");
	for (int i = 0; i < 3; i++) {
		cr_expect(eq(int, ask_peer(false), 0), "%s", world.fault.text);
		cr_expect(eq(str, world.reply.body.data, "hello\n"));
		cr_expect(lt(int, ask_peer(true), 0));
	}
}

Test(tls, many_requests_share_one_HTTP_2_connection)
{
	enum { N = 64 };
	static struct asking asking[N];

	world_open();
	tls_peer_start("exec nghttpd -v -a 127.0.0.1 -d . $1 key.pem cert.pem >>log 2>&1");
	cr_expect(eq(int, ask_peer(false), 0), "%s", world.fault.text);
	for (int i = 0; i < N; i++)
		asking_begin(&asking[i], (struct http_request){.url = tls_peer_url(), .is_repeatable = true});
	for (int i = 0; i < N; i++) {
		cr_expect(eq(int, asking_end(&asking[i]), 0), "%s", asking[i].fault.text);
		asking_release(&asking[i]);
	}
	tls_peer_run("test $(grep -o '^\\[id=[0-9]*\\]' log | sort -u | wc -l) = 1");
}

Test(tls, goes_through_a_proxy)
{
	char proxy[64];
	struct server *server;

	cr_assert(eq(int, server_new(&server), 0));
	(void)snprintf(proxy, sizeof(proxy), "%s", server_url(server));
	(void)setenv("http_proxy", proxy, 1);
	(void)setenv("no_proxy", "direct.invalid", 1);
	world_open();
	cr_expect(eq(int, get("http://far.invalid/x?y"), 0), "%s", world.fault.text);
	cr_expect(eq(str, server_request(server, 0)->target, "http://far.invalid/x?y"));
	cr_expect(eq(int, get("http://direct.invalid/"), -EHOSTUNREACH));
	cr_expect(eq(int, ask((struct http_request){.url = "/", .is_direct = true}), 0), "%s",
		  world.fault.text);
	cr_expect(eq(sz, server_n_requests(server), 1));
	server_free(server);
}

/* ---- a name server that does not answer: libcurl calls this one */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* protected by lock */
	int n_waiting;
	bool is_answered;
} resolver = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

int getaddrinfo(const char *restrict node, const char *restrict service,
		const struct addrinfo *restrict hints, struct addrinfo **restrict ret)
{
	int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
		(int (*)(const char *, const char *, const struct addrinfo *, struct addrinfo **))dlsym(
			RTLD_NEXT, "getaddrinfo");

	if (!node || strcmp(node, "slow.example") != 0)
		return real(node, service, hints, ret);
	pthread_mutex_lock(&resolver.lock);
	resolver.n_waiting++;
	pthread_cond_broadcast(&resolver.changed);
	while (!resolver.is_answered)
		pthread_cond_wait(&resolver.changed, &resolver.lock);
	resolver.n_waiting--;
	pthread_cond_broadcast(&resolver.changed);
	pthread_mutex_unlock(&resolver.lock);
	return EAI_NONAME;
}

static void resolver_wait(int n_waiting)
{
	pthread_mutex_lock(&resolver.lock);
	while (resolver.n_waiting != n_waiting)
		pthread_cond_wait(&resolver.changed, &resolver.lock);
	pthread_mutex_unlock(&resolver.lock);
}

Test(tls, a_name_that_is_not_found_in_time_holds_up_nobody)
{
	struct http_cancel cancel = {0};
	struct asking asking;

	world_open_with(&(struct http_limits){0});
	asking_begin(&asking, (struct http_request){.url = "http://slow.example/", .cancel = &cancel});
	resolver_wait(1);
	cr_expect(eq(int, get("/"), 0));
	http_cancel(world.http, &cancel);
	cr_expect(eq(int, asking_end(&asking), -EINTR)); /* while getaddrinfo still runs */
	cr_expect(eq(int, get("/"), 0));
	pthread_mutex_lock(&resolver.lock);
	resolver.is_answered = true;
	pthread_cond_broadcast(&resolver.changed);
	pthread_mutex_unlock(&resolver.lock);
	resolver_wait(0);
}
