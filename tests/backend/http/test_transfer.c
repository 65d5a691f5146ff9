/* SPDX-License-Identifier: MIT */
/* What is sent, byte for byte, and what is made of answers: framing, bounds, sinks. */
#include "world.h"

#include "clock.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

TestSuite(transfer, .init = world_open, .fini = world_close, .timeout = 60);

static const struct server_request *asked(size_t nth)
{
	const struct server_request *request = server_request(world.server, nth);
	cr_assert(request != NULL, "request %zu did not come", nth);
	return request;
}

static void expect_header(const struct server_request *request, const char *name, const char *value)
{
	char text[512];
	char *found = server_request_header(request, name, text, sizeof(text));

	if (value)
		cr_expect(found && strcmp(found, value) == 0, "%s: %s", name, found ? found : "(none)");
	else
		cr_expect(found == NULL, "%s: %s", name, found);
}

/* ---- what is sent */

Test(transfer, sends_the_target_as_it_is)
{
	cr_expect(eq(int, get("/a/../b//%2e%2E/./c?x=%20&y"), 0));
	cr_expect(eq(str, asked(0)->target, "/a/../b//%2e%2E/./c?x=%20&y"));
	cr_expect(eq(str, asked(0)->method, "GET"));
	cr_expect(eq(str, world.reply.body.data, "ok"));
	cr_expect(eq(int, world.reply.status, 200));
	cr_expect(eq(i64, world.reply.n_body, 2));
	expect_header(asked(0), "User-Agent", "trainfs/" TRAINFS_VERSION);
	expect_header(asked(0), "Accept-Encoding", NULL);
	expect_header(asked(0), "Content-Length", NULL);
	expect_header(asked(0), "Transfer-Encoding", NULL);
}

Test(transfer, sends_headers_also_empty_ones)
{
	cleanup_http_headers struct http_headers headers = {0};

	cr_assert(eq(int, http_headers_add(&headers, "X-One", "1 2"), 0));
	cr_assert(eq(int, http_headers_add(&headers, "X-Empty", ""), 0));
	cr_assert(eq(int, http_headers_add(&headers, "Content-Type", "a/b"), 0));
	cr_expect(eq(int, ask((struct http_request){.url = "/", .headers = &headers}), 0));
	expect_header(asked(0), "x-one", "1 2");
	expect_header(asked(0), "x-empty", "");
	expect_header(asked(0), "content-type", "a/b");
}

Test(transfer, sends_a_body_from_memory_without_expecting_to_be_told_so)
{
	static char body[3 << 20];

	for (size_t i = 0; i < sizeof(body); i++)
		body[i] = (char)server_byte((int64_t)i);
	cr_expect(eq(
		int,
		ask((struct http_request){
			.method = "PUT", .url = "/o", .body = body, .body_n = sizeof(body), .is_bulk = true}),
		0));
	cr_expect(eq(str, asked(0)->method, "PUT"));
	cr_expect(eq(sz, asked(0)->n_body, sizeof(body)));
	cr_expect(memcmp(asked(0)->body, body, sizeof(body)) == 0);
	expect_header(asked(0), "Expect", NULL);
	expect_header(asked(0), "Transfer-Encoding", NULL);
	expect_header(asked(0), "Content-Type", NULL);
}

static int spool(const char *text)
{
	int fd = memfd_create("spool", MFD_CLOEXEC);
	cr_assert(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	return fd;
}

Test(transfer, sends_a_part_of_a_file_again_from_its_beginning)
{
	int fd = spool("0123456789");

	script({.deed = SERVER_CLOSES}, {.status = 500}, {.status = 200});
	cr_expect(eq(int,
		     ask((struct http_request){.method = "PUT",
					       .url = "/",
					       .body_fd = fd,
					       .body_at = 3,
					       .body_n = 4,
					       .is_repeatable = true}),
		     0));
	for (size_t i = 0; i < 3; i++)
		cr_expect(eq(str, asked(i)->body, "3456"));
	close(fd);
}

Test(transfer, does_not_deliver_a_file_that_ends_too_early)
{
	int fd = spool("0123456789");
	const struct http_request request = {
		.method = "PUT", .url = "/", .body_fd = fd, .body_n = 11, .is_repeatable = true};

	cr_expect(eq(int, ask(request), -EIO));
	cr_expect(eq(sz, server_n_requests(world.server), 0));
	close(fd);
}

Test(transfer, sends_an_empty_body_as_one)
{
	static const char *const method[] = {"POST", "PUT", "DELETE"};

	for (size_t i = 0; i < 3; i++) {
		cr_expect(eq(int,
			     ask((struct http_request){.method = method[i], .url = "/", .has_body = true}),
			     0));
		cr_expect(eq(str, asked(i)->method, (char *)method[i]));
		expect_header(asked(i), "Content-Length", "0");
		expect_header(asked(i), "Transfer-Encoding", NULL);
		expect_header(asked(i), "Expect", NULL);
	}
	cr_expect(eq(int, ask((struct http_request){.method = "DELETE", .url = "/"}), 0));
	expect_header(asked(3), "Content-Length", NULL);
}

Test(transfer, asks_for_the_head_only)
{
	script({.headers = "ETag: \"x\"\r\n", .n_body = 1 << 30}, {.status = 404, .n_body = 300},
	       {.body = "next"});
	cr_expect(
		eq(int, ask((struct http_request){.method = "HEAD", .url = "/", .is_repeatable = true}), 0));
	cr_expect(eq(str, (char *)http_headers_get(&world.reply.headers, "content-length"), "1073741824"));
	cr_expect(eq(i64, world.reply.n_body, 0));
	cr_expect(eq(int, ask((struct http_request){.method = "HEAD", .url = "/", .is_repeatable = true}),
		     -ENOENT));
	cr_expect(eq(int, world.reply.status, 404));
	cr_expect(eq(int, get_repeatedly("/"), 0));
	cr_expect(eq(str, world.reply.body.data, "next"));
	cr_expect(eq(sz, server_n_connections(world.server), 1));
}

/* ---- what comes back */

Test(transfer, keeps_a_connection)
{
	for (int i = 0; i < 5; i++)
		cr_expect(eq(int, get_repeatedly("/"), 0));
	cr_expect(eq(sz, server_n_connections(world.server), 1));
	cr_expect(eq(int, asked(4)->nth_on_connection, 4));
}

Test(transfer, takes_a_connection_of_its_own_for_what_must_not_be_sent_twice)
{
	script({.body = "1"}, {.deed = SERVER_CLOSES});
	cr_expect(eq(int, get_repeatedly("/"), 0));
	cr_expect(eq(int, ask((struct http_request){.method = "POST", .url = "/", .has_body = true}), -EIO));
	cr_expect(eq(sz, server_n_requests(world.server), 2));
	cr_expect(eq(sz, server_n_connections(world.server), 2));
}

Test(transfer, reads_every_framing)
{
	script({.is_chunked = true,
		.n_body = 300000,
		.piece = 7777,
		.trailers = "X-Trailer: 1\r\nETag: late\r\n"},
	       {.has_no_length = true, .n_body = 100000}, {.n_body = 3, .piece = 1},
	       {.before = "HTTP/1.1 100 Continue\r\nX-Early: 1\r\n\r\nHTTP/1.1 103 Early Hints\r\nX-Early: "
			  "2\r\n\r\n",
		.body = "late"},
	       {.status = 204}, {.is_chunked = true, .trailers = "X-Trailer: 1\r\n"});
	cr_expect(eq(int, get("/"), 0));
	cr_expect(eq(i64, world.reply.n_body, 300000));
	cr_expect(eq(ptr, (void *)http_headers_get(&world.reply.headers, "x-trailer"), NULL));
	cr_expect(eq(ptr, (void *)http_headers_get(&world.reply.headers, "etag"), NULL));
	cr_expect(eq(int, get("/"), 0));
	cr_expect(eq(i64, world.reply.n_body, 100000));
	for (int64_t i = 0; i < 100000; i++)
		cr_assert(server_byte(i) == (unsigned char)world.reply.body.data[i]);
	cr_expect(eq(int, get("/"), 0));
	cr_expect(eq(i64, world.reply.n_body, 3));
	cr_expect(eq(int, get("/"), 0));
	cr_expect(eq(int, world.reply.status, 200));
	cr_expect(eq(str, world.reply.body.data, "late"));
	cr_expect(eq(ptr, (void *)http_headers_get(&world.reply.headers, "x-early"), NULL));
	cr_expect(eq(int, get("/"), 0));
	cr_expect(eq(int, world.reply.status, 204));
	cr_expect(eq(int, get("/"), 0));
	cr_expect(eq(sz, world.reply.headers.n, 1));
}

Test(transfer, does_not_follow_redirects)
{
	script({.status = 301,
		.headers = "Location: /elsewhere\r\nx-amz-bucket-region: eu-west-1\r\n",
		.body = "moved"});
	cr_expect(eq(int, get_repeatedly("/"), -EIO));
	cr_expect(eq(int, world.reply.status, 301));
	cr_expect(
		eq(str, (char *)http_headers_get(&world.reply.headers, "x-amz-bucket-region"), "eu-west-1"));
	cr_expect(eq(str, world.reply.body.data, "moved"));
	cr_expect(eq(sz, server_n_requests(world.server), 1));
}

Test(transfer, does_not_decompress)
{
	script({.headers = "Content-Encoding: gzip\r\n", .body = "no gzip"});
	cr_expect(eq(int, get("/"), 0));
	cr_expect(eq(str, world.reply.body.data, "no gzip"));
}

Test(transfer, tells_what_was_not_modified)
{
	script({.status = 304, .headers = "ETag: \"x\"\r\n"});
	cr_expect(eq(int, get("/"), 0));
	cr_expect(eq(int, world.reply.status, 304));
}

/* ---- bounds */

Test(transfer, takes_no_more_than_max_body)
{
	const struct http_request request = {.url = "/", .max_body = 1000, .is_repeatable = true};

	script({.n_body = 1000}, {.n_body = 1001}, {.is_chunked = true, .n_body = 1001, .piece = 100},
	       {.is_endless = true}, {.n_body = 10, .n_announced = INT64_C(1) << 40});
	cr_expect(eq(int, ask(request), 0));
	for (int i = 0; i < 4; i++) {
		cr_expect(eq(int, ask(request), -EFBIG), "%d", i);
		cr_expect(eq(int, world.reply.status, 0));
	}
	cr_expect(eq(sz, server_n_requests(world.server), 5));
}

Test(transfer, takes_no_more_than_16_MiB_into_memory)
{
	script({.is_endless = true});
	cr_expect(eq(int, get_repeatedly("/"), -EFBIG));
}

Test(transfer, keeps_the_beginning_of_an_error)
{
	script({.status = 404, .is_endless = true}, {.status = 404, .n_body = 65536},
	       {.status = 403, .n_body = 100, .n_announced = 200, .cut_at = 100});
	cr_expect(eq(int, get("/"), -ENOENT));
	cr_expect(eq(sz, world.reply.body.len, 65536));
	cr_expect(eq(int, get("/"), -ENOENT));
	cr_expect(eq(sz, world.reply.body.len, 65536));
	cr_expect(eq(int, get("/"), -EPERM));
	cr_expect(eq(sz, world.reply.body.len, 100));
}

/* That many headers with values of that many bytes. */
static void say(char *ret, size_t n_headers, size_t n_value)
{
	for (size_t i = 0; i < n_headers; i++) {
		memcpy(ret, "X: ", 3);
		memset(ret + 3, 'x', n_value);
		memcpy(ret + 3 + n_value, "\r\n", 3);
		ret += n_value + 5;
	}
}

Test(transfer, takes_no_more_headers_than_it_may)
{
	static char many[1 << 20], large[1 << 20], endless[1 << 20];

	say(many, 101, 1);
	say(large, 90, 3000);
	for (size_t n = 0; n < sizeof(endless) - 64;)
		n += (size_t)snprintf(endless + n, 64, "HTTP/1.1 102 Processing\r\n\r\n");
	script({.headers = many}, {.headers = large}, {.before = endless, .body = "x"});
	for (int i = 0; i < 3; i++)
		cr_expect(eq(int, get("/"), -EFBIG), "%d: %s", i, world.fault.text);
	say(many, 99, 1000);
	script({.headers = many});
	cr_expect(eq(int, get("/"), 0));
	cr_expect(eq(sz, world.reply.headers.n, 100));
}

Test(transfer, survives_a_header_longer_than_curl_takes)
{
	static char large[1 << 20];

	say(large, 1, 200000);
	script({.headers = large});
	int r = get("/");
	cr_expect(eq(int, r, -EFBIG), "%s", world.fault.text);
}

/* ---- sinks */

struct heap {
	int64_t n, n_seen, stop_at;
	int n_starts;
	bool is_wrong;
};

static int heap_add(void *arg, int64_t at, const void *bytes, size_t n)
{
	struct heap *heap = arg;

	heap->n_starts += at == 0;
	heap->is_wrong |= at != (at == 0 ? 0 : heap->n);
	for (size_t i = 0; i < n; i++)
		heap->is_wrong |= ((const unsigned char *)bytes)[i] != server_byte(at + (int64_t)i);
	heap->n = at + (int64_t)n;
	heap->n_seen += (int64_t)n;
	return heap->stop_at > 0 && heap->n >= heap->stop_at ? -ENOSPC : 0;
}

Test(transfer, gives_a_body_to_the_sink_in_order)
{
	struct heap heap = {0};

	script({.n_body = 20 << 20});
	cr_expect(eq(
		int,
		ask((struct http_request){.url = "/", .sink = heap_add, .sink_arg = &heap, .is_bulk = true}),
		0));
	cr_expect(eq(i64, heap.n, 20 << 20));
	cr_expect(eq(i64, world.reply.n_body, 20 << 20));
	cr_expect(not(heap.is_wrong));
	cr_expect(eq(sz, world.reply.body.len, 0));
}

static int begin_range(void *arg, int status, const struct http_headers *headers)
{
	struct heap *heap = arg;
	const char *etag = http_headers_get(headers, "etag");

	heap->n_starts += 100;
	heap->is_wrong |= heap->n_seen != 0;
	return status == 206 && etag && strcmp(etag, "x") == 0 ? 0 : -ESTALE;
}

Test(transfer, shows_the_head_of_an_answer_before_its_body)
{
	struct heap heap = {0};
	const struct http_request request = {
		.url = "/", .begin = begin_range, .sink = heap_add, .sink_arg = &heap, .is_repeatable = true};

	script({.status = 404, .body = "no"}, {.status = 206, .headers = "ETag: y\r\n", .n_body = 10},
	       {.status = 200, .n_body = 10}, {.status = 206, .headers = "ETag: x\r\n", .n_body = 10});
	cr_expect(eq(int, ask(request), -ENOENT));
	cr_expect(eq(int, heap.n_starts, 0));
	cr_expect(eq(int, ask(request), -ESTALE));
	cr_expect(eq(int, ask(request), -ESTALE));
	cr_expect(eq(i64, heap.n_seen, 0));
	cr_expect(eq(int, ask(request), 0));
	cr_expect(eq(int, heap.n_starts, 301));
	cr_expect(eq(i64, heap.n, 10));
	cr_expect(not(heap.is_wrong));
}

Test(transfer, begins_the_sink_anew_after_a_body_that_was_cut)
{
	struct heap heap = {0};

	script({.n_body = 100000, .cut_at = 50000}, {.n_body = 100000, .cut_at = 99999, .is_reset = true},
	       {.n_body = 100000});
	cr_expect(eq(int,
		     ask((struct http_request){.url = "/",
					       .sink = heap_add,
					       .sink_arg = &heap,
					       .is_repeatable = true,
					       .is_bulk = true}),
		     0));
	cr_expect(eq(i64, heap.n, 100000));
	cr_expect(eq(i64, world.reply.n_body, 100000));
	cr_expect(ge(int, heap.n_starts, 2));
	cr_expect(not(heap.is_wrong));
}

Test(transfer, ends_with_the_error_of_the_sink)
{
	struct heap heap = {.stop_at = 100000};

	script({.is_endless = true});
	cr_expect(eq(int,
		     ask((struct http_request){
			     .url = "/", .sink = heap_add, .sink_arg = &heap, .is_repeatable = true}),
		     -ENOSPC));
	cr_expect(eq(sz, server_n_requests(world.server), 1));
	cr_expect(not(heap.is_wrong));
}

Test(transfer, keeps_errors_from_the_sink)
{
	struct heap heap = {0};

	script({.status = 404, .body = "<Error/>"});
	cr_expect(eq(int, ask((struct http_request){.url = "/", .sink = heap_add, .sink_arg = &heap}),
		     -ENOENT));
	cr_expect(eq(i64, heap.n_seen, 0));
	cr_expect(eq(str, world.reply.body.data, "<Error/>"));
}
