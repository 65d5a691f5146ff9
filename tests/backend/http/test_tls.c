/* SPDX-License-Identifier: MIT */
/* Whom TLS trusts, which HTTP is spoken over it, proxies, and names that take long to be found. Peers are real programs. */
#include "world.h"

#include "clock.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64];
static pid_t peer;
static char peer_url[64];

static void run(const char *command)
{
	char line[1024];

	(void)snprintf(line, sizeof(line), "cd %s && %s", dir, command);
	cr_assert(eq(int, system(line), 0), "%s", line);
}

static void open_tls(void)
{
	(void)snprintf(dir, sizeof(dir), "/tmp/trainfs-tls.XXXXXX");
	cr_assert(mkdtemp(dir) != NULL);
	run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out "
	    "cert.pem "
	    "-days 2 -subj /CN=trainfs-test -addext subjectAltName=IP:127.0.0.1 >log 2>&1 && echo hello "
	    ">index.html");
	char cert[sizeof(dir) + 16];
	(void)snprintf(cert, sizeof(cert), "%s/cert.pem", dir);
	(void)setenv("SSL_CERT_FILE", cert, 1);
}

static void close_tls(void)
{
	world_close();
	if (peer > 0) {
		(void)kill(peer, SIGKILL);
		(void)waitpid(peer, NULL, 0);
	}
	run("rm -rf \"$PWD\"");
}

TestSuite(tls, .init = open_tls, .fini = close_tls, .timeout = 60);

/* A program that gets the port as its first argument, and is waited for until it listens there. */
static void start_peer(const char *script)
{
	struct server *free_port;
	char port[16];

	cr_assert(eq(int, server_new(&free_port), 0));
	(void)snprintf(port, sizeof(port), "%d", server_port(free_port));
	(void)snprintf(peer_url, sizeof(peer_url), "https://127.0.0.1:%s/index.html", port);
	server_free(free_port);
	peer = fork();
	cr_assert(ge(int, peer, 0));
	if (peer == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (chdir(dir) == 0)
			execl("/bin/sh", "sh", "-c", script, "sh", port, NULL);
		_exit(127);
	}
}

/* Until it listens; the result of the first request that gets further than that. */
static int ask_peer(bool is_bulk)
{
	const struct http_request request = {.url = peer_url, .is_bulk = is_bulk, .is_repeatable = true};
	int64_t until_ms = clock_mono_ms() + 20000;
	int r;

	do {
		r = ask(request);
	} while (r == -EHOSTUNREACH && strstr(world.fault.text, "connect") && clock_mono_ms() < until_ms);
	return r;
}

static const char python_peer[] =
	"exec python3 -c 'import sys, ssl, http.server\n"
	"class H(http.server.SimpleHTTPRequestHandler):\n"
	"    protocol_version = \"HTTP/1.1\"\n"
	"s = http.server.ThreadingHTTPServer((\"127.0.0.1\", int(sys.argv[1])), H)\n"
	"c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n"
	"c.load_cert_chain(\"cert.pem\", \"key.pem\")\n"
	"s.socket = c.wrap_socket(s.socket, server_side=True)\n"
	"s.serve_forever()' $1 2>>log";

Test(tls, trusts_SSL_CERT_FILE)
{
	world_open();
	start_peer(python_peer);
	for (int i = 0; i < 3; i++) {
		cr_expect(eq(int, ask_peer(i % 2), 0), "%s", world.fault.text);
		cr_expect(eq(str, world.reply.body.data, "hello\n"));
	}
}

Test(tls, trusts_SSL_CERT_DIR)
{
	(void)unsetenv("SSL_CERT_FILE");
	run("mkdir ca && cp cert.pem ca/ && openssl rehash ca");
	char ca[80];
	(void)snprintf(ca, sizeof(ca), "%s/ca", dir);
	(void)setenv("SSL_CERT_DIR", ca, 1);
	world_open();
	start_peer(python_peer);
	cr_expect(eq(int, ask_peer(false), 0), "%s", world.fault.text);
}

Test(tls, trusts_nobody_else)
{
	(void)unsetenv("SSL_CERT_FILE");
	world_open();
	start_peer(python_peer);
	cr_expect(eq(int, ask_peer(false), -EHOSTUNREACH));
	cr_expect(eq(int, ask_peer(false), -EHOSTUNREACH)); /* it listens: one attempt */
	cr_expect(strstr(world.fault.text, "self-signed certificate") != NULL, "%s", world.fault.text);
	cr_expect(strstr(world.fault.text, "attempts") == NULL, "%s", world.fault.text);
	cr_expect(eq(int, world.reply.status, 0));
}

Test(tls, does_not_mix_names_up)
{
	world_open();
	start_peer(python_peer);
	cr_expect(eq(int, ask_peer(false), 0), "%s", world.fault.text);
	memcpy(strstr(peer_url, "127.0.0.1"), "localhost", 9);
	cr_expect(eq(int, ask_peer(false), -EHOSTUNREACH));
	cr_expect(strstr(world.fault.text, "certificate subject name") != NULL, "%s", world.fault.text);
}

/* nghttpd speaks nothing but HTTP/2. */
Test(tls, speaks_HTTP_2_where_offered_but_not_for_object_data)
{
	world_open();
	start_peer("exec nghttpd -a 127.0.0.1 -d . $1 key.pem cert.pem >>log 2>&1");
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
	start_peer("exec nghttpd -v -a 127.0.0.1 -d . $1 key.pem cert.pem >>log 2>&1");
	cr_expect(eq(int, ask_peer(false), 0), "%s", world.fault.text);
	for (int i = 0; i < N; i++)
		asking_begin(&asking[i], (struct http_request){.url = peer_url, .is_repeatable = true});
	for (int i = 0; i < N; i++) {
		cr_expect(eq(int, asking_end(&asking[i]), 0), "%s", asking[i].fault.text);
		asking_release(&asking[i]);
	}
	run("test $(grep -o '^\\[id=[0-9]*\\]' log | sort -u | wc -l) = 1");
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
