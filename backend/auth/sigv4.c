/* SPDX-License-Identifier: MIT */
/* Canonical request -> string to sign -> signature, as the servers recompute them. */
#include "auth/sigv4.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "auth/secret.h"
#include "cleanup.h"
#include "file.h"
#include "http/url.h"

enum { CACHE_MAX = 8, CACHE_NAME_MAX = 48, FIELDS_MAX = 128, PAIRS_MAX = 256 };

static const char algorithm[] = "AWS4-HMAC-SHA256";

struct cache_key {
	uint64_t generation; /* 0: free */
	char day[9], region[CACHE_NAME_MAX], service[CACHE_NAME_MAX];
	unsigned char key[SIGV4_KEY_SIZE];
};

struct sigv4_cache {
	pthread_mutex_t lock;
	/* protected by lock */
	struct cache_key key[CACHE_MAX];
	size_t next; /* to be overwritten */
};

/* ---- hashes ---- */

void sigv4_date(int64_t now_ns, char ret[static SIGV4_DATE_MAX])
{
	time_t seconds = now_ns / 1000000000;
	struct tm tm;
	(void)gmtime_r(&seconds, &tm); /* every int64_t of nanoseconds is a date */
	(void)strftime(ret, SIGV4_DATE_MAX, "%Y%m%dT%H%M%SZ", &tm);
}

void sigv4_hash(const void *bytes, size_t n, char ret[static SIGV4_HEX_MAX])
{
	unsigned char hash[SIGV4_KEY_SIZE] = {0}; /* should OpenSSL fail, the server will refuse it */
	(void)EVP_Digest(bytes, n, hash, NULL, EVP_sha256(), NULL);
	(void)str_hex(hash, sizeof(hash), ret);
}

static void cleanup_digest(EVP_MD_CTX **digest)
{
	EVP_MD_CTX_free(*digest);
}

static int digest_add(void *arg, const void *bytes, size_t n)
{
	return EVP_DigestUpdate(arg, bytes, n) == 1 ? 0 : -ENOMEM;
}

int sigv4_hash_fd(int fd, int64_t at, int64_t n, char ret[static SIGV4_HEX_MAX])
{
	__attribute__((cleanup(cleanup_digest))) EVP_MD_CTX *digest = EVP_MD_CTX_new();
	unsigned char hash[SIGV4_KEY_SIZE];
	if (!digest || EVP_DigestInit_ex(digest, EVP_sha256(), NULL) != 1)
		return -ENOMEM;
	int r = file_each_block(fd, at, n, digest_add, digest);
	if (r < 0)
		return r;
	if (EVP_DigestFinal_ex(digest, hash, NULL) != 1)
		return -ENOMEM;
	(void)str_hex(hash, sizeof(hash), ret);
	return 0;
}

static int hmac(const void *key, size_t n_key, const char *text, size_t n,
		unsigned char ret[static SIGV4_KEY_SIZE])
{
	return HMAC(EVP_sha256(), key, (int)n_key, (const unsigned char *)text, n, ret, NULL) ? 0 : -ENOMEM;
}

int sigv4_hmac_hex(const unsigned char key[static SIGV4_KEY_SIZE], const char *text, size_t n,
		   char ret[static SIGV4_HEX_MAX])
{
	unsigned char hash[SIGV4_KEY_SIZE];
	int r = hmac(key, SIGV4_KEY_SIZE, text, n, hash);
	if (r == 0)
		(void)str_hex(hash, sizeof(hash), ret);
	return r;
}

int sigv4_key(const char *secret, const char *date, const char *region, const char *service,
	      unsigned char ret[static SIGV4_KEY_SIZE])
{
	cleanup_secret_str struct str start = {0};
	unsigned char key[SIGV4_KEY_SIZE];
	int r = str_printf(&start, "AWS4%s", secret);
	if (r == 0)
		r = hmac(start.data, start.len, date, 8, key);
	if (r == 0)
		r = hmac(key, sizeof(key), region, strlen(region), key);
	if (r == 0)
		r = hmac(key, sizeof(key), service, strlen(service), key);
	if (r == 0)
		r = hmac(key, sizeof(key), "aws4_request", strlen("aws4_request"), ret);
	explicit_bzero(key, sizeof(key));
	return r;
}

/* ---- the cache ---- */

int sigv4_cache_new(struct sigv4_cache **ret)
{
	struct sigv4_cache *cache = calloc(1, sizeof(*cache));
	if (!cache)
		return -ENOMEM;
	if (pthread_mutex_init(&cache->lock, NULL) != 0) {
		free(cache);
		return -ENOMEM;
	}
	*ret = cache;
	return 0;
}

void sigv4_cache_free(struct sigv4_cache *cache)
{
	if (!cache)
		return;
	pthread_mutex_destroy(&cache->lock);
	explicit_bzero(cache, sizeof(*cache));
	free(cache);
}

static bool cache_is_for(const struct cache_key *key, const struct sigv4_request *request, const char *date)
{
	return key->generation == request->generation && !strncmp(key->day, date, 8) &&
	       !strcmp(key->region, request->region) && !strcmp(key->service, request->service);
}

static bool cache_find(struct sigv4_cache *cache, const struct sigv4_request *request, const char *date,
		       unsigned char ret[static SIGV4_KEY_SIZE])
{
	LOCK_SCOPE(&cache->lock);
	for (size_t i = 0; i < CACHE_MAX; i++) {
		if (!cache_is_for(&cache->key[i], request, date))
			continue;
		memcpy(ret, cache->key[i].key, SIGV4_KEY_SIZE);
		return true;
	}
	return false;
}

static void cache_put(struct sigv4_cache *cache, const struct sigv4_request *request, const char *date,
		      const unsigned char bytes[static SIGV4_KEY_SIZE])
{
	LOCK_SCOPE(&cache->lock);
	struct cache_key *key = &cache->key[cache->next++ % CACHE_MAX];
	*key = (struct cache_key){.generation = request->generation};
	memcpy(key->day, date, 8);
	memcpy(key->region, request->region, strlen(request->region) + 1);
	memcpy(key->service, request->service, strlen(request->service) + 1);
	memcpy(key->key, bytes, SIGV4_KEY_SIZE);
}

static int signing_key(struct sigv4_cache *cache, const struct sigv4_request *request, const char *date,
		       unsigned char ret[static SIGV4_KEY_SIZE])
{
	bool is_kept = cache && request->generation && strlen(request->region) < CACHE_NAME_MAX &&
		       strlen(request->service) < CACHE_NAME_MAX;
	if (is_kept && cache_find(cache, request, date, ret))
		return 0;
	int r = sigv4_key(request->secret, date, request->region, request->service, ret);
	if (r == 0 && is_kept)
		cache_put(cache, request, date, ret);
	return r;
}

/* ---- the canonical request ---- */

bool sigv4_is_s3(const char *service)
{
	return !strcmp(service, "s3") || !strcmp(service, "s3express") || !strcmp(service, "s3-outposts");
}

/* Adds one segment of a path ("" and "." are none, ".." takes the last away); `start`: where the path begins. */
static void add_segment(struct str *ret, size_t start, const char *segment, size_t n)
{
	cleanup_free char *text = NULL;
	if (n == 0 || (n == 1 && segment[0] == '.'))
		return;
	if (n == 2 && !memcmp(segment, "..", 2)) {
		while (ret->len > start && ret->data[ret->len - 1] != '/')
			ret->len--;
		if (ret->len > start)
			ret->data[--ret->len] = '\0';
		return;
	}
	text = strndup(segment, n);
	if (!text) {
		ret->err = -ENOMEM;
		return;
	}
	str_append(ret, "/");
	url_encode(ret, text, false);
}

static void canonical_path(const struct sigv4_request *request, const struct url *url, struct str *ret)
{
	if (sigv4_is_s3(request->service)) {
		str_append_n(ret, url->path, (size_t)url->n_path);
		if (url->n_path == 0)
			str_append(ret, "/");
		return;
	}
	size_t start = ret->len;
	const char *end = url->path + url->n_path;
	for (const char *p = url->path; p < end;) {
		const char *slash = memchr(p, '/', (size_t)(end - p)) ?: end;
		add_segment(ret, start, p, (size_t)(slash - p));
		p = slash + 1;
	}
	if (ret->len == start || (url->n_path > 0 && end[-1] == '/'))
		str_append(ret, "/");
}

struct pair {
	const char *name, *value;
	size_t n_name, n_value;
};

static int compare_bytes(const char *a, size_t n_a, const char *b, size_t n_b)
{
	int r = memcmp(a, b, n_a < n_b ? n_a : n_b);
	return r ?: (n_a > n_b) - (n_a < n_b);
}

static int pair_compare(const void *a, const void *b)
{
	const struct pair *x = a, *y = b;
	return compare_bytes(x->name, x->n_name, y->name, y->n_name)
		       ?: compare_bytes(x->value, x->n_value, y->value, y->n_value);
}

static int canonical_query(const struct url *url, struct str *ret)
{
	struct pair pair[PAIRS_MAX];
	size_t n = 0;
	const char *end = url->query + url->n_query;
	for (const char *p = url->query; p < end;) {
		const char *next = memchr(p, '&', (size_t)(end - p)) ?: end;
		const char *sign = memchr(p, '=', (size_t)(next - p)) ?: next;
		if (n == PAIRS_MAX)
			return -EFBIG;
		if (next > p) {
			const char *value = sign < next ? sign + 1 : next;
			pair[n++] = (struct pair){p, value, (size_t)(sign - p), (size_t)(next - value)};
		}
		p = next + 1;
	}
	if (n > 0)
		qsort(pair, n, sizeof(pair[0]), pair_compare);
	for (size_t i = 0; i < n; i++) {
		str_append(ret, i > 0 ? "&" : "");
		str_append_n(ret, pair[i].name, pair[i].n_name);
		str_append(ret, "=");
		str_append_n(ret, pair[i].value, pair[i].n_value);
	}
	return ret->err;
}

/* ---- headers ---- */

struct field {
	const char *name, *value;
	size_t n_value, order;
};

struct fields {
	struct field field[FIELDS_MAX];
	size_t n;
};

/* Those on the way change these, or libcurl makes them after us. */
static bool is_signed(const char *name)
{
	static const char *const never[] = {
		"authorization", "connection",        "expect",  "keep-alive", "te",
		"trailer",       "transfer-encoding", "upgrade", "user-agent", "x-amzn-trace-id"};
	for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
		if (!strcasecmp(name, never[i]))
			return false;
	}
	return strncasecmp(name, "proxy-", strlen("proxy-")) != 0;
}

static int fields_add(struct fields *fields, const char *name, const char *value, size_t n_value)
{
	if (fields->n == FIELDS_MAX)
		return -EFBIG;
	fields->field[fields->n] =
		(struct field){.name = name, .value = value, .n_value = n_value, .order = fields->n};
	fields->n++;
	return 0;
}

static int field_compare(const void *a, const void *b)
{
	const struct field *x = a, *y = b;
	return strcasecmp(x->name, y->name) ?: (x->order > y->order) - (x->order < y->order);
}

/* "host:443" of https is sent as "host". */
static size_t host_length(const struct url *url)
{
	const char *port = url->n_scheme == 5 ? ":443" : ":80";
	size_t n = (size_t)url->n_host, n_port = strlen(port);
	return n > n_port && !memcmp(url->host + n - n_port, port, n_port) ? n - n_port : n;
}

static int fields_fill(struct fields *fields, const struct sigv4_request *request, const struct url *url,
		       const char *date)
{
	int r = 0;
	const struct http_headers *headers = request->headers;
	if (!headers || !http_headers_get(headers, "host"))
		r = fields_add(fields, "host", url->host, host_length(url));
	for (size_t i = 0; headers && i < headers->n && r == 0; i++) {
		const struct http_header *header = &headers->header[i];
		if (is_signed(header->name))
			r = fields_add(fields, header->name, header->value, strlen(header->value));
	}
	if (r == 0)
		r = fields_add(fields, "x-amz-date", date, strlen(date));
	if (r == 0 && request->token)
		r = fields_add(fields, "x-amz-security-token", request->token, strlen(request->token));
	if (r == 0 && sigv4_is_s3(request->service))
		r = fields_add(fields, "x-amz-content-sha256", request->payload, strlen(request->payload));
	qsort(fields->field, fields->n, sizeof(fields->field[0]), field_compare);
	return r;
}

/* Without blanks at its ends, one for a run of them inside. */
static void add_value(struct str *ret, const char *value, size_t n)
{
	const char *end = value + n;
	for (bool is_first = true;; is_first = false) {
		while (value < end && (*value == ' ' || *value == '\t'))
			value++;
		const char *word = value;
		while (value < end && *value != ' ' && *value != '\t')
			value++;
		if (value == word)
			return;
		str_append(ret, is_first ? "" : " ");
		str_append_n(ret, word, (size_t)(value - word));
	}
}

static void canonical_headers(const struct fields *fields, struct str *ret, struct str *ret_names)
{
	for (size_t i = 0; i < fields->n; i++) {
		const struct field *field = &fields->field[i];
		if (i > 0 && !strcasecmp(field->name, field[-1].name)) {
			str_append(ret, ",");
			add_value(ret, field->value, field->n_value);
			continue;
		}
		str_append(ret, i > 0 ? "\n" : "");
		str_append(ret_names, i > 0 ? ";" : "");
		for (const char *p = field->name; *p; p++) {
			char c = (char)tolower((unsigned char)*p);
			str_append_n(ret, &c, 1);
			str_append_n(ret_names, &c, 1);
		}
		str_append(ret, ":");
		add_value(ret, field->value, field->n_value);
	}
}

int sigv4_canonical(const struct sigv4_request *request, const char *date, struct str *ret,
		    struct str *ret_names)
{
	struct fields fields = {.n = 0};
	struct url url;
	int r = url_parse(request->url, &url);
	if (r == 0)
		r = fields_fill(&fields, request, &url, date);
	if (r < 0)
		return r;
	str_append(ret, request->method);
	str_append(ret, "\n");
	canonical_path(request, &url, ret);
	str_append(ret, "\n");
	r = canonical_query(&url, ret);
	if (r < 0)
		return r;
	str_append(ret, "\n");
	canonical_headers(&fields, ret, ret_names);
	str_printf(ret, "\n\n%s\n%s", ret_names->data ?: "", request->payload);
	return ret->err ?: ret_names->err;
}

/* ---- signing ---- */

static int sign_canonical(struct sigv4_cache *cache, const struct sigv4_request *request, const char *date,
			  const struct str *canonical, const char *names, char **ret)
{
	unsigned char key[SIGV4_KEY_SIZE];
	char hash[SIGV4_HEX_MAX], signature[SIGV4_HEX_MAX];
	cleanup_str struct str scope = {0}, text = {0};
	sigv4_hash(canonical->data, canonical->len, hash);
	str_printf(&scope, "%.8s/%s/%s/aws4_request", date, request->region, request->service);
	int r = scope.err ?: str_printf(&text, "%s\n%s\n%s\n%s", algorithm, date, scope.data, hash);
	if (r == 0)
		r = signing_key(cache, request, date, key);
	if (r == 0)
		r = sigv4_hmac_hex(key, text.data, text.len, signature);
	explicit_bzero(key, sizeof(key));
	if (r < 0)
		return r;
	return str_format(ret, "%s Credential=%s/%s, SignedHeaders=%s, Signature=%s", algorithm,
			  request->key_id, scope.data, names, signature);
}

int sigv4_sign(struct sigv4_cache *cache, const struct sigv4_request *request, int64_t now_ns,
	       struct http_headers *ret)
{
	cleanup_secret_str struct str canonical = {0};
	cleanup_str struct str names = {0};
	cleanup_secret_free char *authorization = NULL;
	char date[SIGV4_DATE_MAX];
	sigv4_date(now_ns, date);
	int r = sigv4_canonical(request, date, &canonical, &names);
	if (r == 0)
		r = sign_canonical(cache, request, date, &canonical, names.data, &authorization);
	if (r == 0)
		r = http_headers_add(ret, "X-Amz-Date", date);
	if (r == 0 && request->token)
		r = http_headers_add(ret, "X-Amz-Security-Token", request->token);
	if (r == 0 && sigv4_is_s3(request->service))
		r = http_headers_add(ret, "x-amz-content-sha256", request->payload);
	return r ?: http_headers_add(ret, "Authorization", authorization);
}
