/* SPDX-License-Identifier: MIT */
/*
 * At a server that others wrote (tests/peer): what we write another client reads (TYPE/client.py), and
 * what it writes we read.
 */
#include "backend.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "auth/sigv4.h"
#include "scratch.h"
#include "str.h"

enum { MIB = 1 << 20 };

static const char B[] = "compared";
static struct backend *be;
static struct fault fault;
static char state_dir[300];

#define ok(r)                                                 \
	do {                                                  \
		fault = (struct fault){0};                    \
		cr_assert(eq(int, (r), 0), "%s", fault.text); \
	} while (0)

static void open_backend(void)
{
	cleanup_json json_t *options = json_loads(getenv("TRAINFS_PEER_OPTIONS"), 0, NULL);
	const struct backend_conf conf = {.name = "remote", .state_dir = state_dir, .options = options};

	ok(backend_open(getenv("TRAINFS_PEER_TYPE"), &conf, &be, &fault));
}

static int remove_object(void *arg, const struct object_entry *object);

static void empty(const char *prefix)
{
	struct object_page page;

	do
		ok(backend_objects(be, B, prefix, "", 1000, remove_object, (void *)prefix, &page, &fault));
	while (page.has_more);
}

static int remove_object(void *arg, const struct object_entry *object)
{
	if (object->is_prefix)
		empty(object->key);
	else
		ok(backend_object_remove(be, B, object->key, NULL, &fault));
	return 0;
}

static void set_up(void)
{
	int dir = scratch_open();

	cr_assert(zero(int, mkdirat(dir, "state", 0700)));
	snprintf(state_dir, sizeof(state_dir), "%s/state", scratch_path);
	open_backend();
	int r = backend_bucket_create(be, B, &fault);
	cr_assert(r == 0 || r == -EEXIST, "%s", fault.text);
	empty("");
}

static void tear_down(void)
{
	backend_close(be);
	scratch_close();
}

TestSuite(peer, .init = set_up, .fini = tear_down, .timeout = 110);

/* ---- what is told to client.py, and by it */

static void client_check(const json_t *want)
{
	cleanup_free char *command = NULL;
	cleanup_free char *said = NULL;

	cr_assert(str_format(&command, "'%s' '%s/%s/client.py' check %s <'%s/want' >'%s/said' 2>&1",
			     getenv("TRAINFS_PEER_PYTHON"), CLIENTS, getenv("TRAINFS_PEER_TYPE"), B,
			     scratch_path, scratch_path) == 0);
	cleanup_free char *text = json_dumps(want, 0);
	cr_assert(zero(int, file_write_atomic(scratch_fd, "want", text, strlen(text), 0600)));
	int status = system(command);
	cr_assert(zero(int, file_read_all(scratch_fd, "said", MIB, &said, NULL)));
	cr_assert(zero(int, status), "%s", said);
}

static json_t *client_make(void)
{
	cleanup_free char *command = NULL;
	cleanup_free char *said = NULL;

	cr_assert(str_format(&command, "'%s' '%s/%s/client.py' make %s >'%s/said'",
			     getenv("TRAINFS_PEER_PYTHON"), CLIENTS, getenv("TRAINFS_PEER_TYPE"), B,
			     scratch_path) == 0);
	cr_assert(zero(int, system(command)));
	cr_assert(zero(int, file_read_all(scratch_fd, "said", MIB, &said, NULL)));
	json_t *made = json_loads(said, 0, NULL);
	cr_assert(ne(ptr, made, NULL));
	return made;
}

/* ---- writing */

static char *bytes_of(size_t n, unsigned seed)
{
	char *bytes = malloc(n + 1);

	for (size_t i = 0; i < n; i++)
		bytes[i] = (char)((i + seed) * 2654435761U >> 11);
	return bytes;
}

static json_t *facts(const char *bytes, size_t n, const char *version)
{
	char hash[SIGV4_HEX_MAX];

	sigv4_hash(bytes, n, hash);
	return json_pack("[s, I, s]", version, (json_int_t)n, hash);
}

static void put(json_t *want, const char *key, size_t n)
{
	cleanup_free char *bytes = bytes_of(n, (unsigned)json_object_size(want));
	cleanup_close int fd = memfd_create("object", MFD_CLOEXEC);
	struct object_detail detail = {0};

	cr_assert(zero(int, file_write_fd(fd, bytes, n)));
	ok(backend_object_put(be, B, key, fd, (int64_t)n, "", &detail, &fault));
	json_object_set_new(want, key, facts(bytes, n, detail.version));
	object_detail_release(&detail);
}

Test(peer, others_read_what_we_write)
{
	static const size_t sizes[] = {0, 1, 65536, 8 * MIB, 8 * MIB + 1, 20 * MIB};
	cleanup_json json_t *want = json_object();
	struct object_detail detail = {0};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		cleanup_free char *key = NULL;
		cr_assert(str_format(&key, "sizes/%zu", sizes[i]) == 0);
		put(want, key, sizes[i]);
	}
	ok(backend_object_copy(be, B, "sizes/20971520", NULL, B, "copy", "", &detail, &fault));
	json_t *source = json_object_get(want, "sizes/20971520");
	json_object_set_new(
		want, "copy",
		json_pack("[s, O, O]", detail.version, json_array_get(source, 1), json_array_get(source, 2)));
	object_detail_release(&detail);
	put(want, "gone", 10);
	ok(backend_object_remove(be, B, "gone", NULL, &fault));
	json_object_del(want, "gone");
	client_check(want);
}

/* Signed by us, checked by the server, read by another client. */
Test(peer, odd_keys)
{
	static const char *const keys[] = {
		"a b",     "a+b",       "a%20b",    "%",
		"%2F",     "a?b=c&d",   "a#b",      "a\"b",
		"<a&b>",   "a'b",       "a;b",      "a:b@c,d=e",
		"~$!*()",  "[x]{y}|^`", "\303\274", "\346\227\245/\360\237\222\251",
		"x=1/y=2", "a\\b",      "-_.~"};
	cleanup_json json_t *want = json_object();

	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
		put(want, keys[i], i);
	client_check(want);
	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		struct object_detail detail = {0};
		ok(backend_object_get(be, B, keys[i], &detail, &fault));
		cr_expect(eq(i64, detail.size_bytes, (int64_t)i));
		object_detail_release(&detail);
		ok(backend_object_copy(be, B, keys[i], NULL, B, "copy", NULL, &detail, &fault));
		object_detail_release(&detail);
	}
}

Test(peer, an_upload_that_fails_leaves_nothing)
{
	cleanup_json json_t *want = json_object();
	cleanup_close int fd = memfd_create("object", MFD_CLOEXEC);
	struct object_detail detail = {0};

	cr_assert(zero(int, ftruncate(fd, 10 * MIB)));
	cr_expect(eq(int, backend_object_put(be, B, "x", fd, 20 * MIB, NULL, &detail, &fault), -EIO));
	put(want, "x", 9 * MIB);
	cr_assert(zero(int, ftruncate(fd, 20 * MIB)));
	cr_expect(eq(int, backend_object_put(be, B, "x", fd, 20 * MIB, "", &detail, &fault), -EEXIST));
	cr_expect(eq(int, backend_object_put(be, B, "x", fd, 20 * MIB, "17", &detail, &fault), -ESTALE));
	client_check(want);
}

/* ---- reading */

static int take_bytes(void *arg, const void *bytes, size_t n)
{
	return str_append_n(arg, bytes, n);
}

static void compare(const char *key, const json_t *want)
{
	struct object_detail detail = {0};
	cleanup_str struct str whole = {0}, pieces = {0};
	char hash[SIGV4_HEX_MAX];

	ok(backend_object_get(be, B, key, &detail, &fault));
	cr_expect(eq(str, detail.version, (char *)json_string_value(json_array_get(want, 0))));
	cr_expect(eq(i64, detail.size_bytes, json_integer_value(json_array_get(want, 1))));
	cr_expect(eq(str, detail.content_type, (char *)json_string_value(json_array_get(want, 3))));
	cleanup_json json_t *metadata =
		detail.metadata ? json_loads(detail.metadata, 0, NULL) : json_object();
	cr_expect(json_equal(metadata, json_array_get(want, 4)), "%s: %s", key, detail.metadata);
	ok(backend_object_read(be, B, key, detail.version, 0, detail.size_bytes, take_bytes, &whole, NULL,
			       &fault));
	sigv4_hash(whole.data ? whole.data : "", whole.len, hash);
	cr_expect(eq(str, hash, (char *)json_string_value(json_array_get(want, 2))), "%s", key);
	for (int64_t at = 0; at < detail.size_bytes; at += 3 * MIB)
		ok(backend_object_read(be, B, key, detail.version, at, 3 * MIB, take_bytes, &pieces, NULL,
				       &fault));
	cr_expect(eq(sz, pieces.len, whole.len));
	cr_expect(whole.len == 0 || memcmp(pieces.data, whole.data, whole.len) == 0, "%s", key);
	object_detail_release(&detail);
}

struct names {
	char last[2][64]; /* of objects, of prefixes: a page has the ones before the others */
	unsigned n, n_prefixes;
};

static int take_row(void *arg, const struct object_entry *object)
{
	struct names *names = arg;

	char *last = names->last[object->is_prefix];

	cr_expect(gt(str, (char *)object->key, last), "in order, none twice");
	snprintf(last, sizeof(names->last[0]), "%s", object->key);
	names->n++;
	names->n_prefixes += object->is_prefix;
	return 0;
}

static struct names list(const char *prefix)
{
	struct names names = {0};
	struct object_page page = {0};

	do {
		char cursor[OBJECT_CURSOR_MAX + 1];
		memcpy(cursor, page.cursor, sizeof(cursor));
		ok(backend_objects(be, B, prefix, cursor, 1000, take_row, &names, &page, &fault));
	} while (page.has_more);
	return names;
}

Test(peer, we_read_what_others_write)
{
	cleanup_json json_t *made = client_make();
	const char *key;
	json_t *want;

	cr_assert(eq(sz, json_object_size(made), 5));
	json_object_foreach (made, key, want)
		compare(key, want);
	struct names top = list(""), many = list("many/");
	cr_expect(eq(uint, top.n, 6));
	cr_expect(eq(uint, top.n_prefixes, 2));
	cr_expect(eq(uint, many.n, 1100));
}

/* ---- who may */

Test(peer, a_wrong_secret_is_refused)
{
	struct object_page page;
	struct names names = {0};

	if (strcmp(getenv("TRAINFS_PEER_NAME"), "versitygw") != 0)
		cr_skip_test("it lets everybody in");
	backend_close(be);
	cleanup_free char *secret = strdup(getenv("AWS_SECRET_ACCESS_KEY"));
	setenv("AWS_SECRET_ACCESS_KEY", "wrong", 1);
	open_backend();
	cr_expect(eq(int, backend_objects(be, B, "", "", 10, take_row, &names, &page, &fault), -EACCES), "%s",
		  fault.text);
	cr_expect(eq(ptr, strstr(fault.text, "wrong"), NULL));
	setenv("AWS_SECRET_ACCESS_KEY", secret, 1);
}
