/* SPDX-License-Identifier: MIT */
/* Google credentials: which are found, what is asked for them, and that a signature holds. */
#include "auth/auth.h"

#include "auth/google.h"
#include "auth/jwt.h"
#include "cleanup.h"
#include "clock.h"
#include "file.h"
#include "peer.h"
#include "scratch.h"
#include "str.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <string.h>

static const int64_t minute = 60000000000;

static struct {
	struct http *http;
	struct http_client *client;
	struct google_credentials *credentials;
	struct google_bearer bearer;
	struct http_headers headers;
	struct fault fault;
	int64_t now_ns;
	json_t *endpoints;
} test;

static void set_up(void)
{
	cr_assert(ge(int, scratch_open(), 0));
	peer_start();
	cr_assert(zero(int, http_new(&test.http, NULL)));
	cr_assert(zero(int, http_client_new(test.http, "test", &test.client)));
	cr_assert(zero(int, clock_parse("2026-11-21T12:00:00Z", &test.now_ns)));
	test.endpoints = json_pack("{s:s, s:s, s:s}", "oauth2", peer_url(), "sts", peer_url(),
				   "iamcredentials", peer_url());
}

static void tear_down(void)
{
	http_headers_release(&test.headers);
	google_credentials_free(test.credentials);
	http_client_free(test.client);
	http_free(test.http);
	json_decref(test.endpoints);
	peer_stop();
	scratch_close();
}

TestSuite(google, .init = set_up, .fini = tear_down, .timeout = 60);

static void put(const char *name, const char *text)
{
	cr_assert(zero(int, file_write_atomic(scratch_fd, name, text, strlen(text), 0600)));
}

/* HOME, and gcloud's directory, are the scratch directory; `file` is a name in it, or NULL. */
static void open_as(const char *file, const char *const *pairs)
{
	struct profile_env env = {0};
	cleanup_free char *home = NULL, *dir = NULL, *path = NULL;
	const char *all[20] = {0};
	cr_assert(zero(int, str_format(&home, "HOME=%s", scratch_path)));
	cr_assert(zero(int, str_format(&dir, "CLOUDSDK_CONFIG=%s", scratch_path)));
	cr_assert(zero(int, str_format(&path, "%s/%s", scratch_path, file ?: "")));
	all[0] = home;
	all[1] = dir;
	for (size_t i = 0; pairs[i]; i++)
		all[2 + i] = pairs[i];
	cr_assert(zero(int, profile_env_from(all, &env)));
	google_credentials_free(test.credentials);
	const struct google_options options = {
		.client = test.client, .file = file ? path : NULL, .endpoints = test.endpoints, .env = &env};
	cr_assert(zero(int, google_credentials_new(&options, &test.credentials, &test.fault)), "%s",
		  test.fault.text);
	profile_env_release(&env);
	test.bearer = (struct google_bearer){.credentials = test.credentials, .scopes = GOOGLE_SCOPE_STORAGE};
}
#define OPEN_AS(file, ...) open_as(file, (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

static int authorize(bool is_refused)
{
	const struct http_request request = {.method = "GET",
					     .url = "https://storage.googleapis.com/storage/v1/b"};
	http_headers_release(&test.headers);
	test.fault = (struct fault){0};
	int r = google_authorize(&test.bearer, &request, test.now_ns, is_refused, &test.headers, &test.fault);
	cr_assert(strstr(test.fault.text, "hidden") == NULL, "%s", test.fault.text);
	return r;
}

static void check_token(const char *token)
{
	cleanup_free char *wanted = NULL;
	int r = authorize(false);
	cr_assert(zero(int, r), "%s", test.fault.text);
	cr_assert(zero(int, str_format(&wanted, "Bearer %s", token)));
	cr_assert(eq(str, (char *)http_headers_get(&test.headers, "Authorization"), wanted));
}

static void check_fault(int err, const char *part)
{
	cr_assert(eq(int, authorize(false), -err), "%s", test.fault.text);
	cr_assert(strstr(test.fault.text, part) != NULL, "%s", test.fault.text);
}

#define TOKEN(text) "{\"access_token\":\"" text "\",\"expires_in\":3599,\"token_type\":\"Bearer\"}"
#define USER                                                    \
	"{\"type\":\"authorized_user\",\"client_id\":\"c "      \
	"d\",\"client_secret\":\"hidden-s\",\"refresh_token\":" \
	"\"hidden/r\",\"quota_project_id\":\"payer\"}"

/* ---- users ---- */

Test(google, a_users_login_gives_tokens_that_are_renewed_ahead)
{
	put("application_default_credentials.json", USER);
	PEER_SET({"POST", "/token ", 200, NULL, TOKEN("T1")});
	OPEN_AS(NULL);
	check_token("T1");
	cr_assert(eq(str, (char *)http_headers_get(&test.headers, "x-goog-user-project"), "payer"));
	cr_assert(peer_has(
		0, "\r\n\r\ngrant_type=refresh_token&refresh_token=hidden%2Fr&client_id=c%20d&client_secret="
		   "hidden-s"));
	test.now_ns += 56 * minute;
	check_token("T1");
	cr_assert(eq(int, peer_n_asked(), 1));
	PEER_SET({"POST", "/token ", 200, NULL, TOKEN("T2")});
	test.now_ns += minute;
	check_token("T2");
}

Test(google, a_token_that_is_refused_is_replaced)
{
	put("application_default_credentials.json", USER);
	PEER_SET({"POST", "/token ", 200, NULL, TOKEN("T1")});
	OPEN_AS(NULL);
	check_token("T1");
	PEER_SET({"POST", "/token ", 200, NULL, TOKEN("T2")});
	cr_assert(zero(int, authorize(true)), "%s", test.fault.text);
	check_token("T2");
	test.bearer.scopes = GOOGLE_SCOPE_ALL;
	PEER_SET({"POST", "/token ", 200, NULL, TOKEN("T3")});
	check_token("T3");
	test.bearer.scopes = GOOGLE_SCOPE_STORAGE;
	check_token("T2");
}

Test(google, a_login_that_has_ended_says_how_to_renew_it)
{
	put("application_default_credentials.json", USER);
	PEER_SET({"POST", "/token ", 400, NULL,
		  "{\"error\":\"invalid_grant\",\"error_description\":\"Token has been expired or "
		  "revoked.\"}"});
	OPEN_AS(NULL);
	check_fault(EACCES, "`gcloud auth application-default login`");
	cr_assert(strstr(test.fault.text, "revoked") != NULL, "%s", test.fault.text);
	PEER_SET({"POST", "/token ", 200, NULL, "{\"token\":\"x\"}"});
	test.now_ns += minute;
	check_fault(EBADMSG, "no token");
}

/* ---- service accounts ---- */

/* As PEM, with its newlines as JSON has them. */
static char *make_key(EVP_PKEY **ret)
{
	char *pem, *json;
	EVP_PKEY *key = EVP_RSA_gen(2048);
	BIO *bio = BIO_new(BIO_s_mem());
	cr_assert(key && bio && PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1);
	long n = BIO_get_mem_data(bio, &pem);
	cleanup_json json_t *text = json_stringn(pem, (size_t)n);
	json = json_dumps(text, JSON_ENCODE_ANY);
	BIO_free(bio);
	*ret = key;
	return json;
}

static void put_service_account(const char *key)
{
	cleanup_free char *json = NULL;
	cr_assert(zero(
		int,
		str_format(&json,
			   "{\"type\":\"service_account\",\"project_id\":\"its-project\",\"private_key_id\":"
			   "\"kid1\",\"private_key\":%s,\"client_email\":\"robot@x.iam.gserviceaccount.com\","
			   "\"token_uri\":\"https://oauth2.googleapis.com/token\"}",
			   key)));
	put("key.json", json);
}

static size_t decode(const char *text, size_t n, unsigned char *ret)
{
	char padded[2048];
	cr_assert(n + 4 < sizeof(padded));
	for (size_t i = 0; i < n; i++)
		padded[i] = text[i] == '-' ? '+' : text[i] == '_' ? '/' : text[i];
	size_t n_pad = (4 - n % 4) % 4;
	memcpy(padded + n, "===", n_pad);
	int got = EVP_DecodeBlock(ret, (unsigned char *)padded, (int)(n + n_pad));
	cr_assert(gt(int, got, 0));
	return (size_t)got - n_pad;
}

static void check_assertion(const char *assertion, EVP_PKEY *key)
{
	unsigned char header[512], claims[1024], signature[1024];
	const char *dot = strchr(assertion, '.'), *second = dot ? strchr(dot + 1, '.') : NULL;
	cr_assert(second != NULL);
	size_t n_header = decode(assertion, (size_t)(dot - assertion), header);
	size_t n_claims = decode(dot + 1, (size_t)(second - dot - 1), claims);
	size_t n = decode(second + 1, strcspn(second + 1, "&\r\n"), signature);
	cleanup_json json_t *head = json_loadb((char *)header, n_header, 0, NULL);
	cleanup_json json_t *body = json_loadb((char *)claims, n_claims, 0, NULL);
	cleanup_json json_t *wanted_head =
		json_pack("{s:s, s:s, s:s}", "alg", "RS256", "typ", "JWT", "kid", "kid1");
	cleanup_json json_t *wanted = json_pack(
		"{s:s, s:s, s:s, s:I, s:I}", "iss", "robot@x.iam.gserviceaccount.com", "scope",
		GOOGLE_SCOPE_STORAGE, "aud", "https://oauth2.googleapis.com/token", "iat",
		(json_int_t)(test.now_ns / 1000000000), "exp", (json_int_t)(test.now_ns / 1000000000 + 3600));
	cr_assert(json_equal(head, wanted_head));
	cr_assert(json_equal(body, wanted));
	EVP_MD_CTX *digest = EVP_MD_CTX_new();
	cr_assert(eq(int, EVP_DigestVerifyInit(digest, NULL, EVP_sha256(), NULL, key), 1));
	cr_assert(eq(int,
		     EVP_DigestVerify(digest, signature, n, (const unsigned char *)assertion,
				      (size_t)(second - assertion)),
		     1));
	EVP_MD_CTX_free(digest);
}

Test(google, a_service_account_signs_an_assertion)
{
	EVP_PKEY *key;
	cleanup_free char *pem = make_key(&key);
	put_service_account(pem);
	PEER_SET({"POST", "/token ", 200, NULL, TOKEN("S")});
	OPEN_AS("key.json");
	check_token("S");
	static const char start[] =
		"\r\n\r\ngrant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
	const char *found = strstr(peer_asked(0), start);
	cr_assert(found != NULL, "%s", peer_asked(0));
	check_assertion(found + strlen(start), key);
	EVP_PKEY_free(key);
}

Test(google, a_key_that_is_none_is_named)
{
	put_service_account("\"hidden\"");
	OPEN_AS("key.json");
	check_fault(EINVAL, "key.json");
	EVP_PKEY *other = EVP_EC_gen("P-256");
	BIO *bio = BIO_new(BIO_s_mem());
	char *pem;
	PEM_write_bio_PrivateKey(bio, other, NULL, NULL, 0, NULL, NULL);
	long n = BIO_get_mem_data(bio, &pem);
	cleanup_json json_t *text = json_stringn(pem, (size_t)n);
	cleanup_free char *quoted = json_dumps(text, JSON_ENCODE_ANY);
	put_service_account(quoted);
	test.now_ns += minute;
	check_fault(EINVAL, "no RSA key");
	BIO_free(bio);
	EVP_PKEY_free(other);
}

/* ---- the metadata server ---- */

static char *metadata_host(void)
{
	char *text;
	cr_assert(zero(int, str_format(&text, "GCE_METADATA_HOST=%s", peer_url() + strlen("http://"))));
	return text;
}

Test(google, the_metadata_server_gives_tokens)
{
	cleanup_free char *host = metadata_host();
	PEER_SET({"GET", "/computeMetadata/v1/instance/service-accounts/default/token?scopes=", 200,
		  "Metadata-Flavor: Google\r\n", TOKEN("M")});
	OPEN_AS(NULL, host);
	test.bearer.scopes = "a b";
	check_token("M");
	cr_assert(peer_has(0, "token?scopes=a%2Cb HTTP"), "%s", peer_asked(0));
	cr_assert(peer_has(0, "Metadata-Flavor: Google\r\n"));
	cr_assert(http_headers_get(&test.headers, "x-goog-user-project") == NULL);
}

Test(google, the_metadata_server_is_not_asked_through_a_proxy)
{
	cleanup_free char *host = metadata_host();
	cr_assert(zero(int, setenv("http_proxy", "http://127.0.0.1:1", 1)));
	PEER_SET({"GET", "/computeMetadata/v1/instance/service-accounts/default/token?scopes=", 200,
		  "Metadata-Flavor: Google\r\n", TOKEN("M")});
	OPEN_AS(NULL, host);
	check_token("M");
}

Test(google, what_only_looks_like_a_metadata_server_is_not_believed)
{
	cleanup_free char *host = metadata_host();
	PEER_SET({"GET", "/", 200, NULL, TOKEN("M")});
	OPEN_AS(NULL, host);
	check_fault(EACCES, "`gcloud auth application-default login`");
	OPEN_AS(NULL, host, "NO_GCE_CHECK=true");
	check_fault(EACCES, "`gcloud auth application-default login`");
	cr_assert(eq(int, peer_n_asked(), 1));
}

/* ---- impersonation, workload identity ---- */

#define IMPERSONATION \
	"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/x:generateAccessToken"

Test(google, an_impersonated_account_is_asked_with_the_own_token)
{
	put("i.json", "{\"type\":\"impersonated_service_account\",\"source_credentials\":" USER
		      ",\"service_account_impersonation_url\":\"" IMPERSONATION "\",\"delegates\":[\"d\"]}");
	PEER_SET({"POST", "/token ", 200, NULL, TOKEN("OWN")},
		 {"POST", "/v1/projects/-/serviceAccounts/x:generateAccessToken ", 200, NULL,
		  "{\"accessToken\":\"OTHER\",\"expireTime\":\"2026-11-21T13:00:00Z\"}"});
	OPEN_AS("i.json");
	test.bearer.scopes = "a b";
	check_token("OTHER");
	cr_assert(peer_has(1, "Authorization: Bearer OWN\r\n"));
	cr_assert(peer_has(1, "\"scope\":[\"a\",\"b\"]"), "%s", peer_asked(1));
	cr_assert(peer_has(1, "\"delegates\":[\"d\"]"));
}

Test(google, a_workload_exchanges_its_token)
{
	cleanup_free char *file = NULL;
	cr_assert(zero(
		int,
		str_format(&file,
			   "{\"type\":\"external_account\",\"audience\":\"//iam/x\",\"subject_token_type\":"
			   "\"urn:ietf:params:oauth:token-type:jwt\",\"token_url\":"
			   "\"https://sts.googleapis.com/v1/token\",\"credential_source\":{\"file\":\"%s/"
			   "subject\"}}",
			   scratch_path)));
	put("w.json", file);
	OPEN_AS("w.json");
	check_fault(EACCES, "/subject");
	put("subject", "hidden-subject\n");
	PEER_SET({"POST", "/v1/token ", 200, NULL, TOKEN("STS")});
	test.now_ns += minute;
	check_token("STS");
	cr_assert(peer_has(0, "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&audience="
			      "%2F%2Fiam%2Fx"));
	cr_assert(peer_has(0, "&subject_token=hidden-subject&"), "%s", peer_asked(0));
}

Test(google, a_workloads_token_may_come_from_a_url)
{
	cleanup_free char *file = NULL;
	cr_assert(zero(
		int,
		str_format(&file,
			   "{\"type\":\"external_account\",\"audience\":\"a\",\"subject_token_type\":\"t\","
			   "\"service_account_impersonation_url\":\"" IMPERSONATION
			   "\",\"credential_source\":{\"url\":\"%s/id\",\"headers\":{\"X-Key\":\"hidden-k\"},"
			   "\"format\":{\"type\":\"json\",\"subject_token_field_name\":\"value\"}}}",
			   peer_url())));
	put("w.json", file);
	OPEN_AS("w.json");
	PEER_SET({"GET", "/id ", 200, NULL, "{\"value\":\"hidden-subject\"}"},
		 {"POST", "/v1/token ", 200, NULL, TOKEN("STS")},
		 {"POST", "/v1/projects/", 200, NULL,
		  "{\"accessToken\":\"END\",\"expireTime\":\"2026-11-21T13:00:00Z\"}"});
	check_token("END");
	cr_assert(peer_has(0, "X-Key: hidden-k\r\n"));
	cr_assert(peer_has(1, "cloud-platform"));
	cr_assert(peer_has(2, "Authorization: Bearer STS\r\n"));
}

/* ---- files ---- */

Test(google, files_that_cannot_be_used_are_named)
{
	static const struct {
		const char *json, *part;
	} row[] = {
		{"{", "no JSON object"},
		{"[]", "no JSON object"},
		{"{}", "\"type\" is missing"},
		{"{\"type\":\"gdch_service_account\"}", "not supported"},
		{"{\"type\":\"authorized_user\",\"client_id\":\"c\",\"client_secret\":\"hidden\"}",
		 "\"refresh_token\""},
		{"{\"type\":\"service_account\",\"client_email\":\"e\",\"private_key\":\"hidden\",\"token_"
		 "uri\":"
		 "\"http://evil.example/\"}",
		 "\"token_uri\": an https URL"},
		{"{\"type\":\"impersonated_service_account\",\"service_account_impersonation_url\":\"https://"
		 "x/\"}",
		 "\"source_credentials\""},
		{"{\"type\":\"external_account\",\"audience\":\"a\",\"subject_token_type\":\"t\","
		 "\"credential_source\":{"
		 "\"executable\":{\"command\":\"rm\"}}}",
		 "only \"file\" and \"url\""},
		{"{\"type\":\"external_account\",\"audience\":\"a\",\"subject_token_type\":\"t\","
		 "\"credential_source\":{"
		 "\"url\":\"http://evil.example/\"}}",
		 "an https URL"},
	};
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		struct google_source *source = NULL;
		struct fault fault = {0};
		int r = google_source_parse(row[i].json, strlen(row[i].json), "f.json", &source, &fault);
		cr_assert(eq(int, r, -EINVAL), "row %zu", i);
		cr_assert(strstr(fault.text, row[i].part) != NULL, "%s", fault.text);
		cr_assert(str_has_prefix(fault.text, "f.json"), "%s", fault.text);
		cr_assert(strstr(fault.text, "hidden") == NULL);
	}
}

Test(google, a_file_that_is_named_must_be_there)
{
	put("application_default_credentials.json", USER);
	OPEN_AS(NULL, "GOOGLE_APPLICATION_CREDENTIALS=/nonexistent.json");
	check_fault(EACCES, "named by GOOGLE_APPLICATION_CREDENTIALS");
	OPEN_AS("none.json");
	check_fault(EACCES, "named by the remote's options");
	cr_assert(zero(int, peer_n_asked()));
}

/* ---- project, endpoint, description ---- */

static void check_project(const char *wanted)
{
	cleanup_free char *project = NULL;
	int r = google_credentials_project(test.credentials, &project, &test.fault);
	cr_assert(eq(str, r < 0 ? "none" : project, (char *)wanted));
}

Test(google, the_project_is_found_in_order)
{
	cleanup_free char *host = metadata_host();
	PEER_SET({"GET", "/computeMetadata/v1/project/project-id", 200, "Metadata-Flavor: Google\r\n",
		  "of-machine"});
	OPEN_AS(NULL, host);
	check_project("of-machine");
	cr_assert(zero(int, file_make_dirs(scratch_fd, "configurations", 0700)));
	cleanup_close int dir = file_open_dir(scratch_fd, "configurations");
	static const char config[] = "[core]\naccount = me\nproject = of-gcloud\n";
	cr_assert(zero(int, file_write_atomic(dir, "config_work", config, strlen(config), 0600)));
	check_project("of-machine");
	put("active_config", "work");
	check_project("of-gcloud");
	put_service_account("\"k\"");
	OPEN_AS("key.json");
	check_project("its-project");
	OPEN_AS("key.json", "GCLOUD_PROJECT=of-env");
	check_project("of-env");
	OPEN_AS("key.json", "GCLOUD_PROJECT=of-env", "GOOGLE_CLOUD_PROJECT=of-new-env");
	check_project("of-new-env");
}

static void check_endpoint(const char *service, const char *wanted, bool wanted_custom)
{
	cleanup_free char *url = NULL;
	bool is_custom = !wanted_custom;
	cr_assert(zero(
		int, google_credentials_endpoint(test.credentials, service, &url, &is_custom, &test.fault)));
	cr_assert(eq(str, url, (char *)wanted));
	cr_assert(eq(int, is_custom, wanted_custom));
}

Test(google, endpoints_are_found_in_order)
{
	OPEN_AS(NULL);
	check_endpoint("storage", "https://storage.googleapis.com", false);
	check_endpoint("sts", peer_url(), true);
	OPEN_AS(NULL, "STORAGE_EMULATOR_HOST=localhost:4443/");
	check_endpoint("storage", "http://localhost:4443", true);
	check_endpoint("logging", "https://logging.googleapis.com", false);
}

static void collect(void *arg, bool is_ok, const char *line)
{
	str_printf(arg, "%s %s\n", is_ok ? "ok" : "wrong", line);
}

Test(google, a_description_shows_what_is_used_and_no_secret)
{
	cleanup_str struct str text = {0};
	cleanup_free char *wanted = NULL;
	put("application_default_credentials.json", USER);
	PEER_SET({"POST", "/token ", 200, NULL, TOKEN("hidden-T")});
	OPEN_AS(NULL);
	google_credentials_describe(test.credentials, GOOGLE_SCOPE_ALL, test.now_ns, collect, &text);
	cr_assert(zero(int, str_format(&wanted,
				       "ok credentials: the user's login in "
				       "%s/application_default_credentials.json, a token "
				       "good until 2026-11-21T12:59:59.000Z (59 min), billed to payer\nwrong "
				       "no Google Cloud "
				       "project is set: give the remote `project: NAME`, set "
				       "GOOGLE_CLOUD_PROJECT, or `gcloud "
				       "config set project NAME`\n",
				       scratch_path)));
	cr_assert(eq(str, text.data, wanted));
}
