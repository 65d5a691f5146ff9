/* SPDX-License-Identifier: MIT */
/* Signatures: Amazon's published examples, and botocore's of requests at random. */
#include "auth/sigv4.h"

#include "auth/secret.h"
#include "cleanup.h"
#include "clock.h"
#include "file.h"
#include "http/url.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static int64_t at(const char *text)
{
	int64_t ns;
	cr_assert(zero(int, clock_parse(text, &ns)));
	return ns;
}

static struct sigv4_request s3_example(const char *method, const char *url)
{
	return (struct sigv4_request){.method = method,
				      .url = url,
				      .payload = EMPTY,
				      .service = "s3",
				      .region = "us-east-1",
				      .key_id = "AKIAIOSFODNN7EXAMPLE",
				      .secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"};
}

static void check(struct sigv4_request request, const char *const (*header)[2], size_t n, int64_t now_ns,
		  const char *signature)
{
	struct http_headers headers = {0}, ret = {0};
	for (size_t i = 0; i < n; i++)
		cr_assert(zero(int, http_headers_add(&headers, header[i][0], header[i][1])));
	request.headers = &headers;
	cr_assert(zero(int, sigv4_sign(NULL, &request, now_ns, &ret)));
	const char *authorization = http_headers_get(&ret, "authorization");
	cr_assert(authorization != NULL);
	const char *found = strstr(authorization, "Signature=");
	cr_assert(found != NULL);
	cr_assert(eq(str, (char *)found + strlen("Signature="), (char *)signature));
	http_headers_release(&headers);
	http_headers_release(&ret);
}

/* https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html */
Test(sigv4, s3_get_of_a_range)
{
	static const char *const header[][2] = {{"Range", "bytes=0-9"}};
	check(s3_example("GET", "https://examplebucket.s3.amazonaws.com/test.txt"), header, 1,
	      at("2013-05-24T00:00:00Z"), "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

Test(sigv4, s3_put_of_an_escaped_key)
{
	static const char *const header[][2] = {{"Date", "Fri, 24 May 2013 00:00:00 GMT"},
						{"x-amz-storage-class", "REDUCED_REDUNDANCY"}};
	char hash[SIGV4_HEX_MAX];
	sigv4_hash("Welcome to Amazon S3.", strlen("Welcome to Amazon S3."), hash);
	struct sigv4_request request =
		s3_example("PUT", "https://examplebucket.s3.amazonaws.com/test%24file.text");
	request.payload = hash;
	check(request, header, 2, at("2013-05-24T00:00:00Z"),
	      "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

Test(sigv4, s3_query_without_a_value)
{
	check(s3_example("GET", "https://examplebucket.s3.amazonaws.com/?lifecycle"), NULL, 0,
	      at("2013-05-24T00:00:00Z"), "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
}

Test(sigv4, s3_query_is_sorted)
{
	check(s3_example("GET", "https://examplebucket.s3.amazonaws.com/?prefix=J&max-keys=2"), NULL, 0,
	      at("2013-05-24T00:00:00Z"), "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

static void check_chunk(const unsigned char *key, const char *before, size_t n, const char *signature)
{
	cleanup_free char *chunk = malloc(n + 1);
	cleanup_str struct str text = {0};
	char hash[SIGV4_HEX_MAX], found[SIGV4_HEX_MAX];
	cr_assert(chunk != NULL);
	memset(chunk, 'a', n);
	sigv4_hash(chunk, n, hash);
	str_printf(
		&text,
		"AWS4-HMAC-SHA256-PAYLOAD\n20130524T000000Z\n20130524/us-east-1/s3/aws4_request\n%s\n%s\n%s",
		before, EMPTY, hash);
	cr_assert(zero(int, sigv4_hmac_hex(key, text.data, text.len, found)));
	cr_assert(eq(str, found, (char *)signature));
}

/* https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html */
Test(sigv4, s3_streamed_in_chunks)
{
	static const char *const header[][2] = {{"Content-Encoding", "aws-chunked"},
						{"Content-Length", "66824"},
						{"x-amz-decoded-content-length", "66560"},
						{"x-amz-storage-class", "REDUCED_REDUNDANCY"}};
	static const char *const signature[] = {
		"4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
		"ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
		"0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
		"b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"};
	struct sigv4_request request =
		s3_example("PUT", "https://s3.amazonaws.com/examplebucket/chunkObject.txt");
	request.payload = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
	check(request, header, 4, at("2013-05-24T00:00:00Z"), signature[0]);
	unsigned char key[SIGV4_KEY_SIZE];
	cr_assert(zero(int, sigv4_key(request.secret, "20130524", "us-east-1", "s3", key)));
	check_chunk(key, signature[0], 65536, signature[1]);
	check_chunk(key, signature[1], 1024, signature[2]);
	check_chunk(key, signature[2], 0, signature[3]);
}

Test(sigv4, another_service)
{
	const struct sigv4_request request = {.method = "GET",
					      .url = "https://example.amazonaws.com/",
					      .payload = EMPTY,
					      .service = "service",
					      .region = "us-east-1",
					      .key_id = "AKIDEXAMPLE",
					      .secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"};
	check(request, NULL, 0, at("2015-08-30T12:36:00Z"),
	      "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
}

static void check_key(const char *secret, const char *day, const char *service, const char *hex)
{
	unsigned char key[SIGV4_KEY_SIZE];
	char found[SIGV4_HEX_MAX];
	cr_assert(zero(int, sigv4_key(secret, day, "us-east-1", service, key)));
	for (size_t i = 0; i < SIGV4_KEY_SIZE; i++)
		snprintf(found + 2 * i, 3, "%02x", key[i]);
	cr_assert(eq(str, found, (char *)hex));
}

Test(sigv4, signing_keys)
{
	check_key("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "20130524T000000Z", "s3",
		  "dbb893acc010964918f1fd433add87c70e8b0db6be30c1fbeafefa5ec6ba8378");
	check_key("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20150830", "iam",
		  "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
}

/* ---- botocore ---- */

static const char *text_of(const json_t *json, const char *name)
{
	return json_string_value(json_object_get(json, name));
}

static void check_against(struct sigv4_cache *cache, uint64_t generation, const json_t *json)
{
	struct http_headers headers = {0}, ret = {0};
	cleanup_str struct str canonical = {0}, names = {0};
	size_t i;
	json_t *pair;
	json_array_foreach (json_object_get(json, "headers"), i, pair)
		cr_assert(zero(int, http_headers_add(&headers, json_string_value(json_array_get(pair, 0)),
						     json_string_value(json_array_get(pair, 1)))));
	char hash[SIGV4_HEX_MAX], date[SIGV4_DATE_MAX];
	const json_t *body = json_object_get(json, "body");
	sigv4_hash(json_string_value(body), json_string_length(body), hash);
	const struct sigv4_request request = {.method = text_of(json, "method"),
					      .url = text_of(json, "url"),
					      .headers = &headers,
					      .payload = hash,
					      .service = text_of(json, "service"),
					      .region = text_of(json, "region"),
					      .key_id = text_of(json, "id"),
					      .secret = text_of(json, "secret"),
					      .token = text_of(json, "token"),
					      .generation = generation};
	int64_t now_ns = json_integer_value(json_object_get(json, "now")) * 1000000000;
	sigv4_date(now_ns, date);
	cr_assert(zero(int, sigv4_canonical(&request, date, &canonical, &names)));
	cr_assert(eq(str, canonical.data, (char *)text_of(json, "canonical")));
	cr_assert(zero(int, sigv4_sign(cache, &request, now_ns, &ret)));
	cr_assert(eq(str, (char *)http_headers_get(&ret, "Authorization"),
		     (char *)text_of(json, "authorization")));
	http_headers_release(&headers);
	http_headers_release(&ret);
}

Test(sigv4, signs_as_botocore)
{
	enum { N_CASES = 400 };
	cleanup_free char *line = NULL;
	size_t size = 0;
	uint64_t n = 0;
	struct sigv4_cache *cache;
	cr_assert(zero(int, sigv4_cache_new(&cache)));
	FILE *oracle = popen("/usr/bin/python3 " ORACLE " 4 400", "re");
	cr_assert(oracle != NULL);
	while (getline(&line, &size, oracle) > 0) {
		cleanup_json json_t *json = json_loads(line, JSON_ALLOW_NUL, NULL);
		cr_assert(json != NULL);
		check_against(cache, ++n, json);
		check_against(cache, n, json); /* with the key that is cached now */
	}
	cr_assert(zero(int, pclose(oracle)), "python3-botocore is missing: contrib/deps --tests");
	cr_assert(eq(u64, n, N_CASES));
	sigv4_cache_free(cache);
}

/* ---- the rest ---- */

Test(sigv4, a_cached_key_is_known_by_its_generation)
{
	struct sigv4_cache *cache;
	struct sigv4_request request = s3_example("GET", "https://h/");
	struct http_headers first = {0}, second = {0};
	cr_assert(zero(int, sigv4_cache_new(&cache)));
	request.generation = 1;
	cr_assert(zero(int, sigv4_sign(cache, &request, 0, &first)));
	request.generation = 2;
	request.secret = "another";
	cr_assert(zero(int, sigv4_sign(cache, &request, 0, &second)));
	cr_assert(ne(str, (char *)http_headers_get(&first, "Authorization"),
		     (char *)http_headers_get(&second, "Authorization")));
	http_headers_release(&first);
	http_headers_release(&second);
	sigv4_cache_free(cache);
}

Test(sigv4, what_changes_on_the_way_is_not_signed)
{
	struct http_headers headers = {0};
	cleanup_str struct str canonical = {0}, names = {0};
	struct sigv4_request request = s3_example("GET", "https://h/");
	static const char *const header[] = {"Expect",          "User-Agent", "Transfer-Encoding",
					     "Connection",      "TE",         "Proxy-Authorization",
					     "X-Amzn-Trace-Id", "Upgrade"};
	for (size_t i = 0; i < sizeof(header) / sizeof(header[0]); i++)
		cr_assert(zero(int, http_headers_add(&headers, header[i], "x")));
	request.headers = &headers;
	cr_assert(zero(int, sigv4_canonical(&request, "20130524T000000Z", &canonical, &names)));
	cr_assert(eq(str, names.data, "host;x-amz-content-sha256;x-amz-date"));
	http_headers_release(&headers);
}

Test(sigv4, a_part_of_a_file_is_hashed)
{
	char whole[SIGV4_HEX_MAX], part[SIGV4_HEX_MAX];
	cleanup_close int fd = memfd_create("body", MFD_CLOEXEC);
	cleanup_free char *bytes = calloc(1, 200001);
	cr_assert(bytes && fd >= 0);
	for (size_t i = 0; i < 200000; i++)
		bytes[i] = (char)(i % 251 + 1);
	cr_assert(zero(int, file_write_fd(fd, bytes, 200000)));
	sigv4_hash(bytes + 7, 150000, whole);
	cr_assert(zero(int, sigv4_hash_fd(fd, 7, 150000, part)));
	cr_assert(eq(str, whole, part));
	cr_assert(eq(int, sigv4_hash_fd(fd, 100000, 100001, part), -EIO), "it ends before");
}
