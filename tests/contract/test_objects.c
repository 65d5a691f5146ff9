/* SPDX-License-Identifier: MIT */
/* Buckets of objects: listings, versions, reads, writes, copies, and keys of every sort. */
#include "contract.h"

#include "cleanup.h"
#include "clock.h"
#include "str.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static const char B[] = "contract-objects";

/* A test that runs where buckets hold objects, on an empty bucket B. */
#define OBJECT_TEST(name)                                                        \
	static void objects_##name(struct contract *c);                          \
	CONTRACT_TEST(contract_objects, name)                                    \
	{                                                                        \
		if (!backend_has_buckets(c->be) || backend_bucket_is_dir(c->be)) \
			return;                                                  \
		contract_ok(c, backend_bucket_create(c->be, B, &c->fault));      \
		objects_##name(c);                                               \
	}                                                                        \
	static void objects_##name(struct contract *c)

/* ---- what the tests do again and again ---- */

static int file_of(const char *bytes, size_t n)
{
	int fd = memfd_create("object", MFD_CLOEXEC);
	cr_assert(ge(int, fd, 0));
	cr_assert(eq(long, write(fd, bytes, n), (long)n));
	return fd;
}

/* The result of the put; the new version goes to `ret` (OBJECT_VERSION_MAX + 1 bytes, may be NULL). */
static int put_n(struct contract *c, const char *key, const char *bytes, size_t n, const char *if_version,
		 char *ret)
{
	cleanup_close int fd = file_of(bytes, n);
	struct object_detail detail = {0};

	int r = backend_object_put(c->be, B, key, fd, n, if_version, &detail, &c->fault);
	if (r == 0)
		cr_expect(eq(long, detail.size_bytes, (long)n));
	if (r == 0 && ret)
		snprintf(ret, OBJECT_VERSION_MAX + 1, "%s", detail.version);
	object_detail_release(&detail);
	return r;
}

static int put(struct contract *c, const char *key, const char *text, const char *if_version, char *ret)
{
	return put_n(c, key, text, strlen(text), if_version, ret);
}

static int take_bytes(void *arg, const void *bytes, size_t n)
{
	return str_append_n(arg, bytes, n);
}

static int read_range(struct contract *c, const char *key, const char *version, int64_t at, int64_t n,
		      struct str *ret)
{
	return backend_object_read(c->be, B, key, version, at, n, take_bytes, ret, NULL, &c->fault);
}

/* The content that the key has now, of the version that it has now. */
static bool has_content(struct contract *c, const char *key, const char *want)
{
	cleanup_str struct str text = {0};
	struct object_detail detail = {0};

	contract_ok(c, backend_object_get(c->be, B, key, &detail, &c->fault));
	contract_ok(c, read_range(c, key, detail.version, 0, detail.size_bytes, &text));
	object_detail_release(&detail);
	return strcmp(text.data ? text.data : "", want) == 0;
}

/* Everything below a prefix: "key" or "prefix/" a line, sorted by strcmp. */
struct rows {
	char *name[64];
	size_t n, n_pages, n_biggest;
	int stop_after; /* 0: never */
	struct object_entry last;
	const struct object_page *page;    /* what the listing fills */
	char ahead[OBJECT_CURSOR_MAX + 1]; /* what a row found there */
};

static int take_row(void *arg, const struct object_entry *object)
{
	struct rows *rows = arg;

	cr_assert(lt(sz, rows->n, 64));
	rows->name[rows->n++] = strdup(object->key);
	rows->last = *object;
	if (rows->page && rows->page->has_more)
		memcpy(rows->ahead, rows->page->cursor, sizeof(rows->ahead));
	if (object->is_prefix)
		cr_expect(eq(str, (char *)object->version, ""));
	else
		cr_expect(ne(str, (char *)object->version, ""));
	return rows->stop_after && (int)rows->n == rows->stop_after ? -EDOM : 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void rows_release(struct rows *rows)
{
	for (size_t i = 0; i < rows->n; i++)
		free(rows->name[i]);
	*rows = (struct rows){0};
}

static void list(struct contract *c, const char *prefix, unsigned max_rows, struct rows *rows)
{
	struct object_page page = {0};

	do {
		char cursor[OBJECT_CURSOR_MAX + 1];
		size_t before = rows->n;
		memcpy(cursor, page.cursor, sizeof(cursor));
		rows->page = &page;
		rows->ahead[0] = '\0';
		contract_ok(c, backend_objects(c->be, B, prefix, cursor, max_rows, take_row, rows, &page,
					       &c->fault));
		if (rows->n - before > rows->n_biggest)
			rows->n_biggest = rows->n - before;
		if (rows->ahead[0])
			cr_expect(page.has_more && strcmp(rows->ahead, page.cursor) == 0,
				  "%s: a row found another way to the next page", c->type->name);
		cr_assert(lt(sz, ++rows->n_pages, 64));
	} while (page.has_more);
	qsort(rows->name, rows->n, sizeof(*rows->name), by_name);
}

static void expect_listed(struct contract *c, const char *prefix, const char *const *want, size_t n)
{
	for (unsigned max = 1; max <= 1000; max = max < 4 ? max + 1 : 1000 + (max == 1000)) {
		struct rows rows = {0};
		list(c, prefix, max, &rows);
		cr_expect(eq(sz, rows.n, n), "%s: %s, %u rows a page", c->type->name, prefix, max);
		for (size_t i = 0; i < n && i < rows.n; i++)
			cr_expect(eq(str, rows.name[i], (char *)want[i]));
		rows_release(&rows);
	}
}

#define expect_rows(c, prefix, ...)                                                \
	do {                                                                       \
		static const char *const want_[] = {__VA_ARGS__};                  \
		expect_listed(c, prefix, want_, sizeof(want_) / sizeof(want_[0])); \
	} while (0)

/* ---- listings ---- */

OBJECT_TEST(listings_give_objects_and_common_prefixes)
{
	static const char *const key[] = {"a", "b/1", "b/2", "b/c/3", "d/", "d.txt", "e/f/g/h"};

	for (size_t i = 0; i < sizeof(key) / sizeof(key[0]); i++)
		contract_ok(c, put(c, key[i], key[i], NULL, NULL));
	expect_rows(c, "", "a", "b/", "d.txt", "d/", "e/");
	expect_rows(c, "b/", "b/1", "b/2", "b/c/");
	expect_rows(c, "d/", "d/");
	expect_rows(c, "e/", "e/f/");
	expect_rows(c, "e/f/g/", "e/f/g/h");
	expect_rows(c, "d", "d.txt", "d/");
	expect_rows(c, "b/c", "b/c/");
	expect_rows(c, "e/f/g/h", "e/f/g/h");
}

OBJECT_TEST(what_lies_below_a_prefix_is_given_however_deep)
{
	static const char *const key[] = {"a/", "a/1", "a/b/2", "a/b/c/3", "ab", "b/4"};
	struct rows rows = {0};
	bool has_more = true;

	contract_ok(c, backend_objects_below(c->be, B, "a/", 10, take_row, &rows, &has_more, &c->fault));
	cr_expect(eq(sz, rows.n, 0));
	cr_expect(eq(int, has_more, 0));
	for (size_t i = 0; i < sizeof(key) / sizeof(key[0]); i++)
		contract_ok(c, put(c, key[i], str_has_suffix(key[i], "/") ? "" : key[i], NULL, NULL));
	contract_ok(c, backend_objects_below(c->be, B, "a/", 10, take_row, &rows, &has_more, &c->fault));
	qsort(rows.name, rows.n, sizeof(*rows.name), by_name);
	cr_assert(ge(sz, rows.n, 2));
	cr_expect(eq(int, has_more, rows.n < 4)); /* pages may be short */
	for (size_t i = 0; i < rows.n; i++)
		cr_expect(eq(str, rows.name[i], (char *)key[i]));
	rows_release(&rows);
	contract_ok(c, backend_objects_below(c->be, B, "a/", 2, take_row, &rows, &has_more, &c->fault));
	cr_expect(eq(sz, rows.n, 2));
	cr_expect(eq(int, has_more, 1));
	rows_release(&rows);
	contract_fails(c,
		       backend_objects_below(c->be, "contract-none", "a/", 10, take_row, &rows, &has_more,
					     &c->fault),
		       ENOENT);
}

OBJECT_TEST(nothing_below_a_prefix_is_an_empty_page)
{
	struct rows rows = {0};

	list(c, "", 1000, &rows);
	cr_expect(eq(sz, rows.n, 0));
	contract_ok(c, put(c, "ab", "", NULL, NULL));
	list(c, "a/", 1000, &rows);
	list(c, "ab/", 1, &rows);
	cr_expect(eq(sz, rows.n, 0));
}

OBJECT_TEST(a_page_has_no_more_rows_than_were_asked_for)
{
	struct rows rows = {0};
	char key[16];

	for (int i = 0; i < 7; i++) {
		snprintf(key, sizeof(key), "k%d", i);
		contract_ok(c, put(c, key, "", NULL, NULL));
	}
	list(c, "", 3, &rows);
	cr_expect(eq(sz, rows.n, 7));
	cr_expect(le(sz, rows.n_biggest, 3));
	rows_release(&rows);
}

OBJECT_TEST(a_row_says_what_get_says)
{
	struct rows rows = {0};
	struct object_page page;
	struct object_detail detail = {0};
	char version[OBJECT_VERSION_MAX + 1];
	int64_t before_ns = clock_wall_ns();

	contract_ok(c, put(c, "x", "12345", NULL, version));
	contract_ok(c, backend_objects(c->be, B, "", "", 1000, take_row, &rows, &page, &c->fault));
	contract_ok(c, backend_object_get(c->be, B, "x", &detail, &c->fault));
	cr_expect(eq(str, detail.version, version));
	cr_expect(eq(long, detail.size_bytes, 5));
	cr_expect(eq(long, rows.last.size_bytes, 5));
	cr_expect(eq(int, rows.last.is_prefix, 0));
	/* a listing and a head may give the time with another precision, and the service has a clock of its own */
	cr_expect(lt(long, labs(rows.last.changed_ns - detail.changed_ns), 1000000000L));
	cr_expect(lt(long, labs(detail.changed_ns - before_ns), 120000000000L));
	object_detail_release(&detail);
	rows_release(&rows);
}

OBJECT_TEST(a_sink_ends_a_listing)
{
	struct rows rows = {.stop_after = 1};
	struct object_page page;

	contract_ok(c, put(c, "x", "", NULL, NULL));
	contract_ok(c, put(c, "y", "", NULL, NULL));
	contract_fails(c, backend_objects(c->be, B, "", "", 1000, take_row, &rows, &page, &c->fault), EDOM);
	cr_expect(eq(sz, rows.n, 1));
	rows_release(&rows);
}

/* ---- reading ---- */

OBJECT_TEST(ranges_end_where_the_object_does)
{
	static const struct {
		int64_t at, n;
		const char *want;
	} range[] = {
		{0, 10, "0123456789"}, {0, 1, "0"}, {3, 4, "3456"}, {9, 1, "9"}, {8, 100, "89"},
		{10, 1, ""},           {11, 5, ""}, {0, 0, ""},     {5, 0, ""},  {0, 1L << 40, "0123456789"}};
	char version[OBJECT_VERSION_MAX + 1];

	contract_ok(c, put(c, "digits", "0123456789", NULL, version));
	for (size_t i = 0; i < sizeof(range) / sizeof(range[0]); i++) {
		cleanup_str struct str text = {0};
		contract_ok(c, read_range(c, "digits", version, range[i].at, range[i].n, &text));
		cr_expect(eq(str, text.data ? text.data : "", (char *)range[i].want), "%ld, %ld",
			  (long)range[i].at, (long)range[i].n);
	}
}

OBJECT_TEST(an_empty_object_is_an_object)
{
	cleanup_str struct str text = {0};
	char version[OBJECT_VERSION_MAX + 1];

	contract_ok(c, put(c, "empty", "", "", version));
	contract_ok(c, read_range(c, "empty", version, 0, 100, &text));
	cr_expect(eq(sz, text.len, 0));
	expect_rows(c, "", "empty");
}

OBJECT_TEST(all_bytes_come_back)
{
	enum { N = (9 << 20) + 12345 };
	cleanup_free char *bytes = malloc(N);
	cleanup_str struct str back = {0}, middle = {0};
	char version[OBJECT_VERSION_MAX + 1];

	for (size_t i = 0; i < N; i++)
		bytes[i] = (char)(i * 2654435761u >> 13);
	contract_ok(c, put_n(c, "big", bytes, N, NULL, version));
	contract_ok(c, read_range(c, "big", version, 0, N, &back));
	cr_assert(eq(sz, back.len, N));
	cr_expect(zero(int, memcmp(back.data, bytes, N)));
	contract_ok(c, read_range(c, "big", version, (4 << 20) - 7, 1 << 20, &middle));
	cr_assert(eq(sz, middle.len, 1 << 20));
	cr_expect(zero(int, memcmp(middle.data, bytes + (4 << 20) - 7, 1 << 20)));
}

/* A file that grows when its bytes are asked for, a MiB at a time; what is asked for early is not there yet. */
struct growing {
	pthread_mutex_t lock;
	int fd;
	int64_t n, n_all, n_sent;
	int64_t ends_at; /* -ECANCELED from there on; 0: it does not */
};

static int64_t growing_byte(int64_t at)
{
	return at * 2654435761 >> 13;
}

static void grow_locked(struct growing *growing)
{
	cleanup_free char *bytes = malloc(1 << 20);
	int64_t n = growing->n_all - growing->n < 1 << 20 ? growing->n_all - growing->n : 1 << 20;

	for (int64_t i = 0; i < n; i++)
		bytes[i] = (char)growing_byte(growing->n + i);
	cr_assert(eq(i64, pwrite(growing->fd, bytes, (size_t)n, growing->n), n));
	growing->n += n;
}

static int growing_wait(void *arg, int64_t least, int64_t most, int64_t *ret_n, bool *ret_is_all)
{
	struct growing *growing = arg;

	LOCK_SCOPE(&growing->lock);
	if (growing->ends_at && growing->n >= growing->ends_at)
		return -ECANCELED;
	if (growing->n < least)
		grow_locked(growing);
	*ret_is_all = growing->n == growing->n_all && growing->n <= most;
	*ret_n = growing->n < most ? growing->n : most;
	return 0;
}

static void growing_sent(void *arg, int64_t n)
{
	struct growing *growing = arg;

	LOCK_SCOPE(&growing->lock);
	cr_expect(le(i64, n, growing->n), "nothing is sent that was not there");
	growing->n_sent = n;
}

static int put_growing(struct contract *c, struct growing *growing, const char *if_version)
{
	const struct object_source source = {
		.fd = growing->fd, .wait = growing_wait, .sent = growing_sent, .arg = growing};
	struct object_upload *upload = NULL;
	struct object_detail detail = {0};

	int r = backend_object_put_source(c->be, B, "big", &source, if_version, &upload, &detail, &c->fault);
	cr_expect(eq(ptr, upload, NULL));
	if (r == 0)
		cr_expect(eq(i64, detail.size_bytes, growing->n_all));
	object_detail_release(&detail);
	return r;
}

static int compare_growing(void *arg, const void *bytes, size_t n)
{
	int64_t *at = arg;

	for (size_t i = 0; i < n; i++, (*at)++)
		cr_assert(eq(chr, ((const char *)bytes)[i], (char)growing_byte(*at)), "at %ld", (long)*at);
	return 0;
}

/* A part or chunk and a rest, exactly two parts, and so little that it is none. */
OBJECT_TEST(a_put_of_what_still_grows)
{
	static const int64_t size[] = {(17 << 20) + 3, 16 << 20, 5, 0};

	for (size_t i = 0; i < sizeof(size) / sizeof(*size); i++) {
		cleanup_close int fd = memfd_create("growing", MFD_CLOEXEC);
		struct growing growing = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = fd, .n_all = size[i]};
		struct object_detail detail = {0};
		int64_t at = 0;

		contract_ok(c, put_growing(c, &growing, NULL));
		contract_ok(c, backend_object_get(c->be, B, "big", &detail, &c->fault));
		contract_ok(c, backend_object_read(c->be, B, "big", detail.version, 0, INT64_MAX,
						   compare_growing, &at, NULL, &c->fault));
		cr_expect(eq(i64, at, size[i]));
		object_detail_release(&detail);
	}
}

OBJECT_TEST(a_put_that_is_given_up_leaves_nothing)
{
	cleanup_close int fd = memfd_create("growing", MFD_CLOEXEC);
	struct growing growing = {
		.lock = PTHREAD_MUTEX_INITIALIZER, .fd = fd, .n_all = 30 << 20, .ends_at = 20 << 20};
	struct object_detail detail = {0};

	contract_fails(c, put_growing(c, &growing, ""), ECANCELED);
	contract_fails(c, backend_object_get(c->be, B, "big", &detail, &c->fault), ENOENT);
	contract_ok(c, backend_bucket_remove(c->be, B, &c->fault));
}

OBJECT_TEST(a_put_of_what_grows_looks_at_the_version_at_its_end)
{
	cleanup_close int fd = memfd_create("growing", MFD_CLOEXEC);
	struct growing growing = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = fd, .n_all = 17 << 20};

	contract_ok(c, put(c, "big", "theirs", NULL, NULL));
	contract_fails(c, put_growing(c, &growing, ""), EEXIST);
	cr_expect(has_content(c, "big", "theirs"));
}

/* As a read of a part tells it, or the service when it is asked; NONE where it keeps none. */
static struct checksum told(struct contract *c, const char *key, const char *version)
{
	cleanup_str struct str part = {0};
	struct checksum sum = {0};
	contract_ok(c, backend_object_read(c->be, B, key, version, 1000, 2000, take_bytes, &part, &sum,
					   &c->fault));
	cr_expect(eq(sz, part.len, 2000));
	if (!sum.kind && backend_object_checksum(c->be, B, key, version, &sum, &c->fault) < 0)
		cr_expect(eq(int, c->fault.err, EOPNOTSUPP), "%s", c->fault.text);
	return sum;
}

/* In one call, and in parts. */
OBJECT_TEST(the_checksum_of_a_whole_is_that_of_its_bytes)
{
	static const size_t size[] = {9000, (17 << 20) + 3};

	for (size_t i = 0; i < sizeof(size) / sizeof(*size); i++) {
		cleanup_str struct str all = {0};
		char version[OBJECT_VERSION_MAX + 1], text[CHECKSUM_TEXT_MAX];
		for (size_t at = 0; at < size[i]; at++)
			cr_assert(zero(int, str_append_n(&all, &(char){(char)growing_byte((int64_t)at)}, 1)));
		contract_ok(c, put_n(c, "big", all.data, all.len, NULL, version));
		const struct checksum sum = told(c, "big", version);
		cr_expect(lt(int, sum.kind, CHECKSUM_CRC_MAX));
		if (sum.kind)
			cr_expect(eq(
				str, (char *)sum.text,
				checksum_text(sum.kind, checksum_add(sum.kind, 0, all.data, all.len), text)));
	}
}

OBJECT_TEST(the_checksum_of_another_version_is_not_told)
{
	char old[OBJECT_VERSION_MAX + 1];
	struct checksum sum = {0};

	contract_ok(c, put(c, "x", "old", NULL, old));
	contract_ok(c, put(c, "x", "new", NULL, NULL));
	if (backend_object_checksum(c->be, B, "x", old, &sum, &c->fault) == -EOPNOTSUPP)
		return;
	contract_fails(c, backend_object_checksum(c->be, B, "x", old, &sum, &c->fault), ESTALE);
	contract_ok(c, backend_object_remove(c->be, B, "x", NULL, &c->fault));
	contract_fails(c, backend_object_checksum(c->be, B, "x", old, &sum, &c->fault), ENOENT);
	cr_expect(zero(int, sum.kind));
}

static int refuse(void *arg, const void *bytes, size_t n)
{
	return -EDOM;
}

OBJECT_TEST(a_sink_ends_a_read)
{
	char version[OBJECT_VERSION_MAX + 1];

	contract_ok(c, put(c, "x", "abc", NULL, version));
	contract_fails(c, backend_object_read(c->be, B, "x", version, 0, 3, refuse, NULL, NULL, &c->fault),
		       EDOM);
}

OBJECT_TEST(another_version_is_not_read)
{
	cleanup_str struct str text = {0};
	char old[OBJECT_VERSION_MAX + 1], new[OBJECT_VERSION_MAX + 1];

	contract_ok(c, put(c, "x", "old", NULL, old));
	contract_ok(c, put(c, "x", "new", NULL, new));
	cr_expect(ne(str, old, new));
	contract_fails(c, read_range(c, "x", old, 0, 3, &text), ESTALE);
	cr_expect(eq(sz, text.len, 0));
	contract_ok(c, read_range(c, "x", new, 0, 3, &text));
	contract_ok(c, backend_object_remove(c->be, B, "x", NULL, &c->fault));
	contract_fails(c, read_range(c, "x", new, 0, 3, &text), ENOENT);
}

/* ---- changes on a condition ---- */

OBJECT_TEST(a_put_over_nothing)
{
	contract_ok(c, put(c, "x", "first", "", NULL));
	contract_fails(c, put(c, "x", "second", "", NULL), EEXIST);
	cr_expect(has_content(c, "x", "first"));
}

OBJECT_TEST(a_put_over_one_version)
{
	char old[OBJECT_VERSION_MAX + 1], new[OBJECT_VERSION_MAX + 1];

	contract_ok(c, put(c, "x", "1", NULL, old));
	contract_ok(c, put(c, "x", "2", old, new));
	contract_fails(c, put(c, "x", "3", old, NULL), ESTALE);
	cr_expect(has_content(c, "x", "2"));
	contract_ok(c, put(c, "x", "4", new, NULL));
	cr_expect(has_content(c, "x", "4"));
	contract_ok(c, put(c, "x", "5", NULL, NULL));
	contract_ok(c, put(c, "x", "55", NULL, NULL));
	cr_expect(has_content(c, "x", "55"));
}

OBJECT_TEST(a_put_over_a_version_that_has_gone)
{
	struct object_detail detail = {0};
	char old[OBJECT_VERSION_MAX + 1];

	contract_ok(c, put(c, "x", "1", NULL, old));
	contract_ok(c, backend_object_remove(c->be, B, "x", NULL, &c->fault));
	contract_fails(c, put(c, "x", "2", old, NULL), ESTALE);
	contract_fails(c, backend_object_get(c->be, B, "x", &detail, &c->fault), ENOENT);
}

OBJECT_TEST(a_removal_of_one_version)
{
	struct object_detail detail = {0};
	char old[OBJECT_VERSION_MAX + 1], new[OBJECT_VERSION_MAX + 1];

	contract_ok(c, put(c, "x", "1", NULL, old));
	contract_ok(c, put(c, "x", "2", NULL, new));
	contract_fails(c, backend_object_remove(c->be, B, "x", old, &c->fault), ESTALE);
	contract_ok(c, backend_object_remove(c->be, B, "x", new, &c->fault));
	contract_fails(c, backend_object_get(c->be, B, "x", &detail, &c->fault), ENOENT);
	int r = backend_object_remove(c->be, B, "x", NULL, &c->fault);
	cr_expect(r == 0 || r == -ENOENT, "%s", c->fault.text);
}

/* ---- copies ---- */

static int copy(struct contract *c, const char *key, const char *version, const char *to,
		const char *if_version)
{
	struct object_detail detail = {0};
	int r = backend_object_copy(c->be, B, key, version, B, to, if_version, &detail, &c->fault);

	object_detail_release(&detail);
	return r;
}

OBJECT_TEST(copies_stand_alone)
{
	contract_ok(c, put(c, "x", "content", NULL, NULL));
	contract_ok(c, copy(c, "x", NULL, "dir/y", NULL));
	contract_ok(c, put(c, "x", "changed", NULL, NULL));
	cr_expect(has_content(c, "dir/y", "content"));
	contract_ok(c, backend_object_remove(c->be, B, "x", NULL, &c->fault));
	cr_expect(has_content(c, "dir/y", "content"));
}

OBJECT_TEST(copies_on_conditions)
{
	char old[OBJECT_VERSION_MAX + 1], new[OBJECT_VERSION_MAX + 1], to[OBJECT_VERSION_MAX + 1];

	contract_fails(c, copy(c, "x", NULL, "y", NULL), ENOENT);
	contract_ok(c, put(c, "x", "1", NULL, old));
	contract_ok(c, put(c, "x", "2", NULL, new));
	contract_fails(c, copy(c, "x", old, "y", NULL), ESTALE);
	contract_ok(c, copy(c, "x", new, "y", ""));
	contract_fails(c, copy(c, "x", new, "y", ""), EEXIST);
	contract_ok(c, put(c, "y", "mine", NULL, to));
	contract_ok(c, copy(c, "x", NULL, "y", to));
	contract_fails(c, copy(c, "x", NULL, "y", to), ESTALE);
	cr_expect(has_content(c, "y", "2"));
}

OBJECT_TEST(a_copy_onto_itself)
{
	contract_ok(c, put(c, "x", "content", NULL, NULL));
	contract_ok(c, copy(c, "x", NULL, "x", NULL));
	cr_expect(has_content(c, "x", "content"));
}

/* ---- keys and buckets ---- */

static void use_key(struct contract *c, const char *key)
{
	struct object_detail detail = {0};
	struct rows rows = {0};
	cleanup_free char *prefix = strdup(key);
	size_t end = strlen(key) - 1;

	contract_ok(c, put(c, key, "old", "", NULL));
	contract_ok(c, put(c, key, key, NULL, NULL));
	cr_expect(has_content(c, key, key), "%s", key);
	while (end > 0 && prefix[end - 1] != '/')
		end--;
	prefix[end] = '\0';
	list(c, prefix, 1000, &rows);
	cr_expect(eq(sz, rows.n, 1), "%s", key);
	cr_expect(eq(str, rows.name[0], (char *)key));
	rows_release(&rows);
	contract_ok(c, copy(c, key, NULL, "copy of it", NULL));
	cr_expect(has_content(c, "copy of it", key));
	contract_ok(c, backend_object_remove(c->be, B, "copy of it", NULL, &c->fault));
	contract_ok(c, backend_object_remove(c->be, B, key, NULL, &c->fault));
	contract_fails(c, backend_object_get(c->be, B, key, &detail, &c->fault), ENOENT);
}

OBJECT_TEST(keys_of_every_sort)
{
	static const char *const key[] = {"a b",          " ",
					  "a%20b",        "%",
					  "%2F",          "a+b",
					  "a?b=c&d",      "a#b",
					  "a\\b",         "a\"b",
					  "<a&b>",        "a'b",
					  "a;b",          "\303\244\303\266",
					  "\346\227\245", "\360\237\222\251",
					  "e\314\201",    "/lead",
					  "//lead",       "a//b",
					  "a/",           "a/b/",
					  "a//",          "../up",
					  "a/../b",       "a/./b",
					  "*[x]{y}~$!",   "a:b@c,d=e",
					  "a\tb",         "a|b^c`d"};

	for (size_t i = 0; i < sizeof(key) / sizeof(key[0]); i++)
		use_key(c, key[i]);
}

/* A service may refuse them; then it does so always, and nothing else is meant by them. */
OBJECT_TEST(keys_that_are_all_dots)
{
	static const char *const key[] = {".", ".."};
	struct object_detail detail = {0};

	for (size_t i = 0; i < sizeof(key) / sizeof(key[0]); i++) {
		if (put(c, key[i], "dots", "", NULL) == 0) {
			contract_ok(c, backend_object_remove(c->be, B, key[i], NULL, &c->fault));
			use_key(c, key[i]);
			continue;
		}
		contract_ok(c, put(c, "x", "content", NULL, NULL));
		contract_fails(c, put(c, key[i], "dots", NULL, NULL), EINVAL);
		contract_fails(c, copy(c, "x", NULL, key[i], NULL), EINVAL);
		contract_fails(c, backend_object_get(c->be, B, key[i], &detail, &c->fault), EINVAL);
		contract_fails(c, backend_object_remove(c->be, B, key[i], NULL, &c->fault), EINVAL);
		cr_expect(has_content(c, "x", "content"));
	}
}

OBJECT_TEST(keys_that_differ_a_little_are_different)
{
	static const char *const key[] = {"a",   "A",   "a ",    " a",       "a/",       "/a",
					  "a+b", "a b", "a%20b", "\303\251", "e\314\201"};

	for (size_t i = 0; i < sizeof(key) / sizeof(key[0]); i++)
		contract_ok(c, put(c, key[i], key[i], "", NULL));
	for (size_t i = 0; i < sizeof(key) / sizeof(key[0]); i++)
		cr_expect(has_content(c, key[i], key[i]), "%s", key[i]);
}

OBJECT_TEST(the_longest_key)
{
	char key[OBJECT_KEY_MAX + 1];

	for (size_t i = 0; i < OBJECT_KEY_MAX; i++)
		key[i] = i % 200 == 199 ? '/' : (char)('a' + i % 26);
	key[OBJECT_KEY_MAX] = '\0';
	use_key(c, key);
	for (size_t i = 0; i + 1 < OBJECT_KEY_MAX; i += 2)
		memcpy(key + i, "\303\244", 2);
	use_key(c, key);
}

OBJECT_TEST(a_bucket_that_is_not_there)
{
	struct object_detail detail = {0};
	struct object_page page;
	struct rows rows = {0};
	struct backend *be = c->be;

	contract_fails(c, backend_objects(be, "contract-none", "", "", 10, take_row, &rows, &page, &c->fault),
		       ENOENT);
	contract_fails(c, backend_object_get(be, "contract-none", "x", &detail, &c->fault), ENOENT);
	contract_fails(c, backend_object_put(be, "contract-none", "x", -1, 0, NULL, &detail, &c->fault),
		       ENOENT);
	contract_ok(c, put(c, "x", "", NULL, NULL));
	contract_fails(c,
		       backend_object_copy(be, B, "x", NULL, "contract-none", "x", NULL, &detail, &c->fault),
		       ENOENT);
}

OBJECT_TEST(a_bucket_with_objects_stays)
{
	contract_ok(c, put(c, "x", "", NULL, NULL));
	contract_fails(c, backend_bucket_remove(c->be, B, &c->fault), ENOTEMPTY);
	cr_expect(has_content(c, "x", ""));
	contract_ok(c, backend_object_remove(c->be, B, "x", NULL, &c->fault));
	contract_ok(c, backend_bucket_remove(c->be, B, &c->fault));
}

OBJECT_TEST(objects_outlive_the_backend)
{
	contract_ok(c, put(c, "x", "1", NULL, NULL));
	contract_ok(c, put(c, "x", "kept", NULL, NULL));
	contract_ok(c, put(c, "y", "2", NULL, NULL));
	contract_ok(c, backend_object_remove(c->be, B, "y", NULL, &c->fault));
	contract_reopen(c);
	cr_expect(has_content(c, "x", "kept"));
	expect_rows(c, "", "x");
	contract_fails(c, put(c, "x", "3", "", NULL), EEXIST);
}
