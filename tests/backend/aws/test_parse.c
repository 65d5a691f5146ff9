/* SPDX-License-Identifier: MIT */
/* Answers of S3 as values: every ok-KIND.xml of the fixtures is taken, every bad-KIND.xml refused. */
#include "aws/parse.h"

#include "fixtures.h"

static char next[AWS_TOKEN_MAX + 1];

/* ---- what a listing told, as text ---- */

static int take_bucket(void *arg, const char *name, const char *region)
{
	return str_printf(arg, "%s@%s ", name, region);
}

static int take_object(void *arg, const struct object_entry *object)
{
	if (object->is_prefix)
		return str_printf(arg, "[%s]", object->key);
	return str_printf(arg, "[%s %s %lld %lld]", object->key, object->version,
			  (long long)object->size_bytes, (long long)(object->changed_ns / 1000000));
}

static int parse(const char *kind, const char *xml, size_t n, struct str *told)
{
	struct aws_error error;
	struct aws_made made;
	cleanup_free char *id = NULL;

	if (str_has_prefix(kind, "buckets"))
		return aws_parse_buckets(xml, n, take_bucket, told, next, &fault);
	if (str_has_prefix(kind, "objects"))
		return aws_parse_objects(xml, n, "d/", false, take_object, told, next, &fault);
	if (str_has_prefix(kind, "made"))
		return aws_parse_made(xml, n, "CompleteMultipartUploadResult", &made, &error, &fault);
	if (str_has_prefix(kind, "error"))
		return aws_parse_error(xml, n, &error) ? 0 : fault_set(&fault, EIO, "none");
	cr_assert(str_has_prefix(kind, "upload"), "%s", kind);
	return aws_parse_upload(xml, n, &id, &fault);
}

Test(aws_parse, fixtures)
{
	fixtures_judged(".xml", parse, 9, 21);
}

/* Every beginning of every fixture: what is cut is refused or whole, and nothing is read beyond it. */
Test(aws_parse, cut_anywhere, .timeout = 120)
{
	static const char *const names[] = {"ok-buckets.xml", "ok-objects.xml", "ok-upload.xml",
					    "ok-made-complete.xml", "ok-error-region.xml"};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		fixture_cut(names[i], parse, 1);
}

Test(aws_parse, buckets_with_their_regions)
{
	size_t n = 0;
	cleanup_free char *xml = fixture("ok-buckets.xml", &n);
	cleanup_str struct str told = {0};

	cr_assert(zero(int, parse("buckets", xml, n, &told)));
	cr_expect(eq(str, told.data, "first@eu-west-1 second@ "));
	cr_expect(eq(str, next, "more/+="));
}

Test(aws_parse, objects_decoded)
{
	size_t n = 0;
	cleanup_free char *xml = fixture("ok-objects.xml", &n);
	cleanup_str struct str told = {0};

	cr_assert(zero(int, parse("objects", xml, n, &told)));
	cr_expect(eq(str, told.data,
		     "[d/ fba9dede5f27731c9771645a39863328 0 1255369830250]"
		     "[d/a b+%\xC3\xBC\n\" fba9dede5f27731c9771645a39863328 434234 1255369830250]"
		     "[d/sub/][d//]"));
	cr_expect(eq(str, next, "1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM="));
}

Test(aws_parse, a_key_with_a_nul_does_not_pass_for_a_shorter_one)
{
	size_t n = 0;
	cleanup_free char *xml = fixture("ok-objects-nul.xml", &n);
	cleanup_str struct str told = {0};

	cr_assert(zero(int, parse("objects", xml, n, &told)));
	cr_expect(eq(str, told.data,
		     "[d/c fba9dede5f27731c9771645a39863328 9223372036854775807 1255369830250]"));
	cr_expect(eq(str, next, ""));
}

Test(aws_parse, keys_stay_as_they_are_when_not_encoded)
{
	size_t n = 0;
	cleanup_free char *xml = fixture("ok-objects-not-encoded.xml", &n);
	cleanup_str struct str told = {0};

	cr_assert(zero(int, parse("objects", xml, n, &told)));
	cr_expect(eq(str, told.data, "[d/a+b%2B fba9dede5f27731c9771645a39863328 1 1255369830250]"));
}

static int refuse_object(void *arg, const struct object_entry *object)
{
	*(unsigned *)arg += 1;
	return -ENOSPC;
}

Test(aws_parse, what_the_sink_says_ends_it)
{
	size_t n = 0;
	cleanup_free char *xml = fixture("ok-objects.xml", &n);
	unsigned n_calls = 0;

	cr_expect(eq(int, aws_parse_objects(xml, n, "d/", false, refuse_object, &n_calls, next, &fault),
		     -ENOSPC));
	cr_expect(eq(uint, n_calls, 1));
}

Test(aws_parse, an_error_inside_a_success)
{
	size_t n = 0;
	cleanup_free char *xml = fixture("bad-made-error.xml", &n);
	struct aws_error error;
	struct aws_made made;

	cr_expect(eq(int, aws_parse_made(xml, n, "CopyObjectResult", &made, &error, &fault), -EIO));
	cr_expect(eq(str, error.code, "InternalError"));
	cr_expect(eq(str, error.message, "We encountered an internal error. Please try again."));
	cr_expect(eq(str, fault.text,
		     "S3 began well and ended in InternalError: We encountered an internal error. Please try "
		     "again."));
}

Test(aws_parse, what_was_made)
{
	size_t n = 0;
	cleanup_free char *xml = fixture("ok-made-complete.xml", &n);
	struct aws_error error;
	struct aws_made made;

	cr_assert(zero(int, aws_parse_made(xml, n, "CompleteMultipartUploadResult", &made, &error, &fault)));
	cr_expect(eq(str, made.version, "3858f62230ac3c915f300c664312c11f-9"));
	cr_expect(eq(str, made.crc32c, "4waSgw=="));
	cr_expect(eq(int, aws_parse_made(xml, n, "CopyObjectResult", &made, &error, &fault), -EIO));
}

Test(aws_parse, etags)
{
	char version[OBJECT_VERSION_MAX + 1], longest[OBJECT_VERSION_MAX + 4] = "\"";

	cr_assert(zero(int, aws_parse_etag("\"a-1\"", version)));
	cr_expect(eq(str, version, "a-1"));
	cr_assert(zero(int, aws_parse_etag("a", version)));
	cr_expect(eq(str, version, "a"));
	cr_assert(zero(int, aws_parse_etag("W/\"a\"", version)));
	cr_expect(eq(str, version, "W/\"a\""));
	memset(longest + 1, 'x', OBJECT_VERSION_MAX);
	longest[OBJECT_VERSION_MAX + 1] = '"';
	cr_expect(zero(int, aws_parse_etag(longest, version)));
	longest[OBJECT_VERSION_MAX + 1] = 'x';
	longest[OBJECT_VERSION_MAX + 2] = '"';
	cr_expect(eq(int, aws_parse_etag(longest, version), -EINVAL));
	cr_expect(eq(int, aws_parse_etag("", version), -EINVAL));
	cr_expect(eq(int, aws_parse_etag("\"\"", version), -EINVAL));
	cr_expect(eq(int, aws_parse_etag("a\r\nX: y", version), -EINVAL));
}
