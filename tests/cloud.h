/* SPDX-License-Identifier: MIT */
/*
 * A backend of a cloud, and the server that it takes for the service: what was asked of it, and objects to be read and
 * written whose bytes are known. One a process.
 */
#pragma once

#include "backend.h"
#include "base/crc32c.h"
#include "scratch.h"
#include "server.h"
#include "str.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdatomic.h>
#include <sys/mman.h>

enum { CLOUD_KEPT_MAX = 512, CLOUD_PERIOD = 251 /* of server_byte */ };

static struct server *server;
static struct backend *be;
static struct fault fault;

static char *cloud_kept[CLOUD_KEPT_MAX];
static atomic_size_t cloud_n_kept;

/* ---- life */

/* The server, in a scratch directory. */
static inline void cloud_start(void)
{
	cr_assert(zero(int, mkdirat(scratch_open(), "state", 0700)));
	cr_assert(zero(int, server_new(&server)));
}

static inline void cloud_stop(void)
{
	backend_close(be);
	server_free(server);
	for (size_t i = 0; i < cloud_n_kept; i++)
		free(cloud_kept[i]);
	scratch_close();
}

/* `be`, with its state in "state" of the scratch directory; steals `options`. */
static inline int cloud_open(const char *type, json_t *options)
{
	cleanup_json json_t *held = options;
	char state_dir[300];
	const struct backend_conf conf = {.name = "remote", .state_dir = state_dir, .options = held};

	cr_assert(ne(ptr, held, NULL));
	snprintf(state_dir, sizeof(state_dir), "%s/state", scratch_path);
	fault = (struct fault){0};
	return backend_open(type, &conf, &be, &fault);
}

/* What `trainfs check` would say, a line each: "ok ..." or "WRONG ...". The caller's. */
static inline void cloud_take_line(void *arg, bool is_ok, const char *line)
{
	str_printf(arg, "%s %s\n", is_ok ? "ok" : "WRONG", line);
}

static inline char *cloud_check(void)
{
	cleanup_str struct str lines = {0};
	char *text = NULL;

	backend_check(be, cloud_take_line, &lines);
	cr_assert(zero(int, str_steal(&lines, &text)));
	return text;
}

/* ---- the server */

#define script(...)                                                                   \
	do {                                                                          \
		static const struct server_answer script_[] = {__VA_ARGS__};          \
		server_script(server, script_, sizeof(script_) / sizeof(script_[0])); \
	} while (0)

/* Text for an answer: those are borrowed by the server, which runs to the end of the test. */
__attribute__((format(printf, 1, 2))) static inline const char *keep(const char *format, ...)
{
	va_list ap;
	size_t i = atomic_fetch_add(&cloud_n_kept, 1);

	if (i >= CLOUD_KEPT_MAX)
		abort();
	va_start(ap, format);
	if (vasprintf(&cloud_kept[i], format, ap) < 0)
		abort();
	va_end(ap);
	return cloud_kept[i];
}

static inline bool is(const struct server_request *request, const char *method, const char *part)
{
	return strcmp(request->method, method) == 0 && strstr(request->target, part);
}

static inline unsigned count(const char *method, const char *part)
{
	unsigned n = 0;

	for (size_t i = 0; i < server_n_requests(server); i++)
		n += is(server_request(server, i), method, part);
	return n;
}

static inline bool was_asked(size_t nth, const char *part)
{
	const struct server_request *request = server_request(server, nth);

	return request && strstr(request->target, part);
}

/* ""; overwritten by the next call. */
static inline const char *header_of(const struct server_request *request, const char *name)
{
	static char text[2000];

	return server_request_header(request, name, text, sizeof(text)) ? text : "";
}

static inline const char *header(size_t nth, const char *name)
{
	const struct server_request *request = server_request(server, nth);

	cr_assert(ne(ptr, (void *)request, NULL));
	return header_of(request, name);
}

/* ---- objects and listings */

/* Are these the bytes of server_byte from there on? */
static inline bool is_served(const struct str *got, int64_t at)
{
	for (size_t i = 0; i < got->len && i < CLOUD_PERIOD; i++) {
		if ((unsigned char)got->data[i] != server_byte(at + (int64_t)i))
			return false;
	}
	return got->len <= CLOUD_PERIOD ||
	       memcmp(got->data, got->data + CLOUD_PERIOD, got->len - CLOUD_PERIOD) == 0;
}

/* n such bytes, in a file without a name. */
static inline int object_of(size_t n)
{
	int fd = memfd_create("object", MFD_CLOEXEC);
	cleanup_free char *bytes = malloc(n + 1);

	for (size_t i = 0; i < n && i < CLOUD_PERIOD; i++)
		bytes[i] = (char)server_byte((int64_t)i);
	for (size_t i = CLOUD_PERIOD, some; i < n; i += some) {
		some = n - i < i ? n - i : i - i % CLOUD_PERIOD;
		memcpy(bytes + i, bytes, some);
	}
	cr_assert(ge(int, fd, 0));
	cr_assert(zero(int, file_write_fd(fd, bytes, n)));
	return fd;
}

static inline const char *crc_of(size_t n)
{
	cleanup_close int fd = object_of(n);
	char text[CHECKSUM_TEXT_MAX];
	uint32_t crc = 0;

	cr_assert(zero(int, crc32c_file(fd, 0, (int64_t)n, &crc)));
	return keep("%s", checksum_text(CHECKSUM_CRC32C, crc, text));
}

/* A bytes_sink into a struct str. */
static inline int take_bytes(void *arg, const void *bytes, size_t n)
{
	return str_append_n(arg, bytes, n);
}

/* A name_sink into a struct str: "one two ". */
static inline int take_name(void *arg, const char *name)
{
	return str_printf(arg, "%s ", name);
}

static inline int count_row(void *arg, const struct object_entry *object)
{
	*(unsigned *)arg += 1;
	return 0;
}

/* All pages of the bucket "data"; 1: after so many there was still one more. */
static inline int list_all(unsigned pages_max)
{
	struct object_page page = {0};
	unsigned n_rows = 0;

	for (unsigned i = 0; i < pages_max; i++) {
		char cursor[OBJECT_CURSOR_MAX + 1];
		memcpy(cursor, page.cursor, sizeof(cursor));
		int r = backend_objects(be, "data", "", cursor, 1000, count_row, &n_rows, &page, &fault);
		if (r < 0 || !page.has_more)
			return r;
	}
	return 1;
}
