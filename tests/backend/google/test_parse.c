/* SPDX-License-Identifier: MIT */
/* Answers of Cloud Storage as values: every ok-KIND.json of the fixtures is taken, every bad-KIND.json refused. */
#include "google/parse.h"

#include "fixtures.h"

static char next[GOOGLE_TOKEN_MAX + 1];

/* ---- what was told, as text ---- */

static int take_bucket(void *arg, const char *name)
{
	return str_printf(arg, "%s ", name);
}

static int take_row(void *arg, const struct object_entry *object)
{
	if (object->is_prefix)
		return str_printf(arg, "[%s]", object->key);
	return str_printf(arg, "[%s %s %lld %lld]", object->key, object->version,
			  (long long)object->size_bytes, (long long)(object->changed_ns / 1000000));
}

static void tell_object(struct object_detail *detail, const char *crc, struct str *told)
{
	str_printf(told, "%s %lld %lld %s %s %s %s", detail->version, (long long)detail->size_bytes,
		   (long long)(detail->changed_ns / 1000000), crc, detail->content_type ?: "-",
		   detail->storage_class ?: "-", detail->metadata ?: "-");
	object_detail_release(detail);
}

static int parse_object(const char *json, size_t n, struct str *told)
{
	struct object_detail detail = {0};
	char crc[GOOGLE_CRC_MAX];
	int r = google_parse_object(json, n, &detail, crc, &fault);

	if (r == 0)
		tell_object(&detail, crc, told);
	return r;
}

static int parse_rewrite(const char *json, size_t n, struct str *told)
{
	struct google_rewrite rewrite = {0};
	int r = google_parse_rewrite(json, n, &rewrite, &fault);

	if (r == 0 && rewrite.is_done)
		tell_object(&rewrite.object, "", told);
	else if (r == 0)
		str_printf(told, "%lld %s", (long long)rewrite.n_rewritten, rewrite.token);
	return r;
}

static int parse_error(const char *json, size_t n, struct str *told)
{
	struct google_error error;

	if (!google_parse_error(json, n, &error))
		return fault_set(&fault, EIO, "none");
	return str_printf(told, "%s|%s", error.reason, error.message);
}

static int parse(const char *kind, const char *json, size_t n, struct str *told)
{
	if (str_has_prefix(kind, "buckets"))
		return google_parse_buckets(json, n, take_bucket, told, next, &fault);
	if (str_has_prefix(kind, "objects"))
		return google_parse_objects(json, n, "d/", false, take_row, told, next, &fault);
	if (str_has_prefix(kind, "object"))
		return parse_object(json, n, told);
	if (str_has_prefix(kind, "rewrite"))
		return parse_rewrite(json, n, told);
	cr_assert(str_has_prefix(kind, "error"), "%s", kind);
	return parse_error(json, n, told);
}

Test(google_parse, fixtures)
{
	fixtures_judged(".json", parse, 13, 41);
}

/* Every beginning of every fixture: what is cut is refused, and nothing is read beyond it. */
Test(google_parse, cut_anywhere)
{
	static const char *const names[] = {"ok-buckets.json", "ok-objects.json", "ok-object.json",
					    "ok-rewrite.json", "ok-error-details.json"};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		fixture_cut(names[i], parse, 2);
}

Test(google_parse, what_is_told)
{
	static const struct {
		const char *name, *told, *next;
	} rows[] = {
		{"ok-buckets.json", "first second.example.com ", "more/+="},
		{"ok-buckets-none.json", "", ""},
		{"ok-objects.json",
		 "[d/ 1700000000000001 0 1767323045678][d/a b+%\xC3\xBC\n\" 1 7 1767323045678]"
		 "[d/big 1700000000000001 9223372036854775807 1767323045678][d/sub/][d//]",
		 "Cgxk+/="},
		{"ok-objects-page-empty.json", "", "t"},
		{"ok-objects-nul.json", "[d/c 6 1 1778051289000]", ""},
		{"ok-objects-no-size.json", "[d/a 5 0 0]", ""},
		{"ok-object.json",
		 "1700000000000001 7 1767323045678 4waSgw== text/plain NEARLINE {\"a\":\"1\",\"b\":\"2\"}",
		 NULL},
		{"ok-object-least.json", "9 0 0  - - -", NULL},
		{"ok-rewrite.json", "1700000000000001 7 1767323045678  - - -", NULL},
		{"ok-rewrite-more.json", "268435456 tok/en=", NULL},
		{"ok-error.json", "notFound|No such object: b/k really", NULL},
		{"ok-error-details.json",
		 "ACCESS_TOKEN_SCOPE_INSUFFICIENT|Request had insufficient authentication scopes.", NULL},
		{"ok-error-status.json", "UNAVAILABLE|busy", NULL},
		{"ok-error-text.json", "|No such object: b/k", NULL},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		size_t n = 0;
		cleanup_free char *json = fixture(rows[i].name, &n);
		cleanup_str struct str told = {0};
		cr_assert(zero(int, parse(rows[i].name + 3, json, n, &told)), "%s", rows[i].name);
		cr_expect(eq(str, told.data ? told.data : "", (char *)rows[i].told), "%s", rows[i].name);
		if (rows[i].next)
			cr_expect(eq(str, next, (char *)rows[i].next), "%s", rows[i].name);
	}
}

static int refuse_row(void *arg, const struct object_entry *object)
{
	*(unsigned *)arg += 1;
	return -ENOSPC;
}

static int refuse_bucket(void *arg, const char *name)
{
	*(unsigned *)arg += 1;
	return -ENOSPC;
}

Test(google_parse, what_the_sink_says_ends_it)
{
	size_t n = 0, n_buckets = 0;
	cleanup_free char *json = fixture("ok-objects.json", &n);
	cleanup_free char *buckets = fixture("ok-buckets.json", &n_buckets);
	unsigned n_calls = 0;

	cr_expect(eq(int, google_parse_objects(json, n, "d/", false, refuse_row, &n_calls, next, &fault),
		     -ENOSPC));
	cr_expect(eq(uint, n_calls, 1));
	cr_expect(eq(int, google_parse_buckets(buckets, n_buckets, refuse_bucket, &n_calls, next, &fault),
		     -ENOSPC));
	cr_expect(eq(uint, n_calls, 2));
}

Test(google_parse, long_messages_are_cut_at_a_character)
{
	char json[3000] = "{\"error\":{\"message\":\"x";
	struct google_error error;

	for (int i = 0; i < 600; i++)
		memcpy(json + strlen(json), "\xC3\xBC", 3);
	memcpy(json + strlen(json), "\"}}", 4);
	cr_assert(google_parse_error(json, strlen(json), &error));
	cr_expect(eq(sz, strlen(error.message), sizeof(error.message) - 1));
	cr_expect(eq(str, error.message + sizeof(error.message) - 3, "\xC3\xBC"));
}

/* ---- headers ---- */

Test(google_parse, what_a_session_has)
{
	static const char *const bad[] = {
		"",          "bytes=0-", "bytes=1-5",   "bytes=0-x",  "bytes=0--1",
		"bytes 0-5", "0-5",      "bytes=0-5/9", "bytes=0-5 ", "bytes=0-9223372036854775807"};
	int64_t n = -1;

	cr_expect(zero(int, google_parse_stored(NULL, &n)));
	cr_expect(zero(i64, n));
	cr_expect(zero(int, google_parse_stored("bytes=0-0", &n)));
	cr_expect(eq(i64, n, 1));
	cr_expect(zero(int, google_parse_stored("bytes=0-9223372036854775806", &n)));
	cr_expect(eq(i64, n, INT64_MAX));
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		cr_expect(eq(int, google_parse_stored(bad[i], &n), -EINVAL), "%s", bad[i]);
}

Test(google_parse, the_sum_in_a_header)
{
	static const char *const good[] = {"crc32c=4waSgw==", "crc32c=4waSgw==,md5=x",
					   "md5=x,crc32c=4waSgw==", "md5=x, CRC32C=4waSgw== "};
	static const char *const bad[] = {
		"", "md5=x", "crc32c=", "crc32c=,md5=x", "xcrc32c=4waSgw==", "crc32c=AAAAAAAAAAAAAAAA"};
	char crc[GOOGLE_CRC_MAX];

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		cr_expect(google_parse_hash(good[i], crc), "%s", good[i]);
		cr_expect(eq(str, crc, "4waSgw=="), "%s", good[i]);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		cr_expect(not(google_parse_hash(bad[i], crc)), "%s", bad[i]);
}
