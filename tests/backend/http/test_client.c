/* SPDX-License-Identifier: MIT */
/* One attempt against a server that is as bad as servers are; cancelling; many callers; the end of the engine. */
#include "world.h"

#include "clock.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

TestSuite(client, .init = world_open, .fini = world_close, .timeout = 60);

/* ---- faults on the way */

#define expect_failure(...) expect_failure_(__LINE__, __VA_ARGS__)
static void expect_failure_(int line, int err, struct server_answer answer)
{
	const struct server_answer always[] = {answer, answer, answer, answer, answer};
	size_t n = server_n_requests(world.server);

	server_script(world.server, always, 5);
	cr_expect(eq(int, get_repeatedly("/"), -err), "%s", world.fault.text);
	cr_expect(eq(int, world.reply.status, 0));
	cr_expect(eq(sz, world.reply.headers.n, 0));
	cr_expect(eq(sz, server_n_requests(world.server) - n, HTTP_ATTEMPTS), "line %d: %s", line,
		  world.fault.text);
	server_script(world.server, always, 5);
	cr_expect(eq(int, get("/"), -err), "%s", world.fault.text);
	cr_expect(eq(sz, server_n_requests(world.server) - n, HTTP_ATTEMPTS + 1));
}

Test(client, a_body_shorter_than_announced)
{
	expect_failure(EIO, (struct server_answer){.n_body = 100, .n_announced = 101, .is_last = true});
	expect_failure(EIO, (struct server_answer){.n_body = 100, .cut_at = -1});
	expect_failure(EIO, (struct server_answer){.n_body = 100, .is_chunked = true, .cut_at = 50});
}

Test(client, no_answer)
{
	expect_failure(EIO, (struct server_answer){.deed = SERVER_CLOSES});
	expect_failure(EIO, (struct server_answer){.deed = SERVER_RESETS});
}

Test(client, no_HTTP)
{
	expect_failure(EIO, (struct server_answer){.deed = SERVER_SAYS, .raw = "SSH-2.0-OpenSSH_9.2\r\n"});
	expect_failure(EIO,
		       (struct server_answer){.deed = SERVER_SAYS, .raw = "\0\0\0\0\0\0\0\0", .n_raw = 8});
	expect_failure(EIO,
		       (struct server_answer){.deed = SERVER_SAYS, .raw = "HTTP/1.1 200 OK\r\nContent-Le"});
	expect_failure(EIO, (struct server_answer){.deed = SERVER_SAYS,
						   .raw = "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"});
}

Test(client, silence)
{
	expect_failure(ETIMEDOUT, (struct server_answer){.deed = SERVER_IS_SILENT});
	cr_expect(strstr(world.fault.text, "no byte for 0.4 s") != NULL, "%s", world.fault.text);
	expect_failure(ETIMEDOUT, (struct server_answer){.n_body = 100, .hold_at = 50});
}

Test(client, a_server_that_does_not_read)
{
	static char body[32 << 20]; /* more than sockets hold */

	server_answer_with(world.server, NULL, NULL);
	script({.deed = SERVER_IS_SILENT, .ignores_body = true, .is_held = true});
	cr_expect(eq(
		int,
		ask((struct http_request){.method = "PUT", .url = "/", .body = body, .body_n = sizeof(body)}),
		-ETIMEDOUT));
}

Test(client, a_server_that_says_no_before_it_has_the_body)
{
	static char body[32 << 20];

	script({.status = 403, .body = "no", .ignores_body = true});
	cr_expect(eq(
		int,
		ask((struct http_request){.method = "PUT", .url = "/", .body = body, .body_n = sizeof(body)}),
		-EPERM));
	cr_expect(eq(str, world.reply.body.data, "no"));
}

Test(client, a_slow_server_is_not_a_silent_one)
{
	script({.n_body = 30, .piece = 1, .pause_ms = WORLD_STALL_MS / 10});
	cr_expect(eq(int, get("/"), 0));
	cr_expect(eq(i64, world.reply.n_body, 30));
}

Test(client, a_service_may_be_silent_while_it_works)
{
	script({.n_body = 2, .piece = 1, .pause_ms = WORLD_STALL_MS * 2});
	cr_expect(eq(int, ask((struct http_request){.url = "/", .stall_ms = WORLD_STALL_MS * 20}), 0));
	cr_expect(eq(i64, world.reply.n_body, 2));
	cr_expect(eq(sz, server_n_requests(world.server), 1));
}

Test(client, the_time_of_a_call_ends_it)
{
	script({.is_endless = true, .piece = 1, .pause_ms = 20});
	int64_t begin_ms = clock_mono_ms();
	cr_expect(eq(int, ask((struct http_request){.url = "/", .total_ms = 300, .is_repeatable = true}),
		     -ETIMEDOUT));
	cr_expect(ge(i64, clock_mono_ms() - begin_ms, 300));
	cr_expect(strstr(world.fault.text, "no answer in time") != NULL, "%s", world.fault.text);
	cr_expect(eq(sz, server_n_requests(world.server), 1));
}

Test(client, nobody_listens)
{
	struct server *gone;
	char url[64];

	cr_assert(eq(int, server_new(&gone), 0));
	(void)snprintf(url, sizeof(url), "%s/p?secret", server_url(gone));
	server_free(gone);
	cr_expect(eq(int, get(url), -EHOSTUNREACH));
	cr_expect(strstr(world.fault.text, "after 4 attempts") != NULL, "%s",
		  world.fault.text); /* nothing was sent */
	cr_expect(strstr(world.fault.text, "secret") == NULL, "%s", world.fault.text);
}

Test(client, no_such_name)
{
	cr_expect(eq(int, get("http://name.invalid/"), -EHOSTUNREACH));
	cr_expect(eq(int, world.reply.status, 0));
}

Test(client, refuses_other_protocols)
{
	cr_expect(eq(int, get("file:///etc/passwd"), -EINVAL));
	cr_expect(eq(int, get("ftp://127.0.0.1/"), -EINVAL));
	cr_expect(eq(int, get("http://u:hunter2@127.0.0.1/"), -EINVAL));
	cr_expect(strstr(world.fault.text, "hunter2") == NULL, "%s", world.fault.text);
}

/* ---- ending early */

Test(client, a_cancel_ends_what_waits_for_an_answer)
{
	struct http_cancel cancel = {0};
	struct asking asking[2];

	world_close();
	world_open_with(&(struct http_limits){0}); /* nothing else ends them here */
	script({.deed = SERVER_IS_SILENT}, {.deed = SERVER_IS_SILENT});
	for (int i = 0; i < 2; i++)
		asking_begin(&asking[i],
			     (struct http_request){.url = "/", .cancel = &cancel, .is_repeatable = true});
	cr_expect(server_wait(world.server, 2));
	http_cancel(world.http, &cancel);
	for (int i = 0; i < 2; i++) {
		cr_expect(eq(int, asking_end(&asking[i]), -EINTR));
		cr_expect(server_wait_closed(world.server, i));
	}
	cr_expect(eq(int, get("/"), 0));
	cr_expect(eq(int, ask((struct http_request){.url = "/", .cancel = &cancel}), -EINTR));
	cr_expect(eq(sz, server_n_requests(world.server), 3));
}

static void release_all(int n)
{
	for (int i = 0; i < n; i++)
		server_release(world.server);
}

static void answer_held(void *arg, const struct server_request *request, struct server_answer *ret)
{
	*ret = (struct server_answer){.body = "held", .is_held = true};
}

Test(client, sends_sixteen_at_once_and_the_others_after)
{
	enum { N = 24 };
	struct asking asking[N];
	struct http_cancel cancel = {0};

	world_close();
	world_open_with(&(struct http_limits){0});
	server_answer_with(world.server, answer_held, NULL);
	for (int i = 0; i < N; i++)
		asking_begin(&asking[i], (struct http_request){.url = "/",
							       .is_bulk = true,
							       .cancel = i == N - 1 ? &cancel : NULL});
	cr_expect(server_wait(world.server, HTTP_CONNECTIONS_PER_HOST));
	cr_expect(eq(int, get_repeatedly("http://127.0.0.1:1/"),
		     -EHOSTUNREACH)); /* another host does not wait */
	cr_expect(eq(sz, server_n_connections(world.server), HTTP_CONNECTIONS_PER_HOST));
	http_cancel(world.http, &cancel);
	release_all(N);
	for (int i = 0; i < N; i++) {
		int r = asking_end(&asking[i]);
		cr_expect(r == 0 || (i == N - 1 && r == -EINTR), "%d", r);
		asking_release(&asking[i]);
	}
}

Test(client, many_callers_share_connections)
{
	enum { N = 200 };
	static struct asking asking[N];

	for (int i = 0; i < N; i++)
		asking_begin(&asking[i], (struct http_request){.url = "/", .is_repeatable = true});
	for (int i = 0; i < N; i++) {
		cr_expect(eq(int, asking_end(&asking[i]), 0), "%s", asking[i].fault.text);
		cr_expect(eq(str, asking[i].reply.body.data, "ok"));
		asking_release(&asking[i]);
	}
	cr_expect(le(sz, server_n_connections(world.server), HTTP_CONNECTIONS_PER_HOST));
	cr_expect(eq(sz, server_n_requests(world.server), N));
}

Test(client, the_end_of_the_engine_ends_calls)
{
	struct asking asking[3];

	world_close();
	world_open_with(&(struct http_limits){0});
	script({.deed = SERVER_IS_SILENT}, {.deed = SERVER_IS_SILENT}, {.deed = SERVER_IS_SILENT});
	for (int i = 0; i < 3; i++)
		asking_begin(&asking[i],
			     (struct http_request){.url = "/", .is_bulk = i == 2, .is_repeatable = true});
	cr_expect(server_wait(world.server, 3));
	http_stop(world.http);
	for (int i = 0; i < 3; i++)
		cr_expect(eq(int, asking_end(&asking[i]), -ECANCELED));
	cr_expect(eq(int, get("/"), -ECANCELED));
}

Test(client, http_free_waits_for_calls)
{
	struct asking asking;

	script({.deed = SERVER_IS_SILENT});
	asking_begin(&asking, (struct http_request){.url = "/", .is_repeatable = true});
	cr_expect(server_wait(world.server, 1));
	http_free(world.http);
	world.http = NULL;
	cr_expect(eq(int, asking_end(&asking), -ECANCELED));
}
