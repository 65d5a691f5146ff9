/* SPDX-License-Identifier: MIT */
/* AWS credentials from services that answer as the real ones do: what is asked, what is used, what is said. */
#include "auth/auth.h"

#include "auth/profile.h"
#include "cleanup.h"
#include "clock.h"
#include "file.h"
#include "peer.h"
#include "scratch.h"
#include "str.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <string.h>

static const int64_t minute = 60000000000;

static struct {
	struct http *http;
	struct http_client *client;
	struct aws_credentials *credentials;
	struct aws_signing signing;
	struct http_headers headers;
	struct fault fault;
	int64_t now_ns;
} test;

static void set_up(void)
{
	cr_assert(ge(int, scratch_open(), 0));
	peer_start();
	cr_assert(zero(int, http_new(&test.http, NULL)));
	cr_assert(zero(int, http_client_new(test.http, "test", &test.client)));
	cr_assert(zero(int, clock_parse("2026-11-21T12:00:00Z", &test.now_ns)));
}

static void tear_down(void)
{
	http_headers_release(&test.headers);
	aws_credentials_free(test.credentials);
	http_client_free(test.client);
	http_free(test.http);
	peer_stop();
	scratch_close();
}

TestSuite(aws, .init = set_up, .fini = tear_down, .timeout = 60);

static void put(const char *name, const char *text)
{
	cr_assert(zero(int, file_write_atomic(scratch_fd, name, text, strlen(text), 0600)));
}

/* Credentials for this environment; the files are config and credentials of the scratch directory. */
static void open_as(const char *profile, const char *const *pairs)
{
	struct profile_env env = {0};
	cleanup_free char *config = NULL, *credentials = NULL, *home = NULL;
	const char *all[20] = {"AWS_REGION=eu-west-1"};
	cr_assert(zero(int, str_format(&config, "AWS_CONFIG_FILE=%s/config", scratch_path)));
	cr_assert(zero(int,
		       str_format(&credentials, "AWS_SHARED_CREDENTIALS_FILE=%s/credentials", scratch_path)));
	cr_assert(zero(int, str_format(&home, "HOME=%s", scratch_path)));
	all[1] = config;
	all[2] = credentials;
	all[3] = home;
	for (size_t i = 0; pairs[i]; i++)
		all[4 + i] = pairs[i];
	cr_assert(zero(int, profile_env_from(all, &env)));
	aws_credentials_free(test.credentials);
	const struct aws_options options = {.client = test.client, .profile = profile, .env = &env};
	cr_assert(zero(int, aws_credentials_new(&options, &test.credentials, &test.fault)), "%s",
		  test.fault.text);
	profile_env_release(&env);
	test.signing =
		(struct aws_signing){.credentials = test.credentials, .service = "s3", .region = "eu-west-1"};
}
#define OPEN_AS(profile, ...) open_as(profile, (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

/* "NAME=URL of the peer + path"; the caller frees. */
static char *at_peer(const char *name, const char *path)
{
	char *text;
	cr_assert(zero(int, str_format(&text, "%s=%s%s", name, peer_url(), path)));
	return text;
}

static int authorize(bool is_refused)
{
	const struct http_request request = {.method = "GET",
					     .url = "https://b.s3.eu-west-1.amazonaws.com/k"};
	http_headers_release(&test.headers);
	test.fault = (struct fault){0};
	int r = aws_authorize(&test.signing, &request, test.now_ns, is_refused, &test.headers, &test.fault);
	cr_assert(strstr(test.fault.text, "hidden") == NULL, "%s", test.fault.text);
	return r;
}

static void check_signed_by(const char *id, const char *token)
{
	cleanup_free char *part = NULL;
	int r = authorize(false);
	cr_assert(zero(int, r), "%s", test.fault.text);
	cr_assert(zero(int, str_format(&part, "Credential=%s/", id)));
	cr_assert(strstr(http_headers_get(&test.headers, "Authorization"), part) != NULL, "%s",
		  http_headers_get(&test.headers, "Authorization"));
	const char *found = http_headers_get(&test.headers, "X-Amz-Security-Token");
	cr_assert(eq(str, (char *)(found ?: ""), (char *)(token ?: "")));
}

static void check_fault(int err, const char *part)
{
	cr_assert(eq(int, authorize(false), -err), "%s", test.fault.text);
	cr_assert(strstr(test.fault.text, part) != NULL, "%s", test.fault.text);
}

#define STS_ANSWER(action, id, expiration)                                                                 \
	"<" action "Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><" action                 \
	"Result><AssumedRoleUser>"                                                                         \
	"<Arn>arn:aws:sts::1:assumed-role/R/s</Arn></AssumedRoleUser><Credentials><AccessKeyId>" id        \
	"</AccessKeyId><SecretAccessKey>hidden&#43;</SecretAccessKey><SessionToken>token-" id              \
	"</SessionToken><Expiration>" expiration "</Expiration></Credentials></" action "Result></" action \
	"Response>"

#define KEYS_ANSWER(id)                                           \
	"{\"Code\":\"Success\",\"AccessKeyId\":\"" id             \
	"\",\"SecretAccessKey\":\"hidden\",\"Token\":\"token-" id \
	"\",\"Expiration\":\"2026-11-21T13:00:00Z\"}"

/* ---- keys ---- */

Test(aws, keys_of_a_file_are_read_again_when_they_are_refused)
{
	put("credentials", "[default]\naws_access_key_id=OLD\naws_secret_access_key=hidden\n");
	OPEN_AS(NULL);
	check_signed_by("OLD", NULL);
	cr_assert(eq(int, authorize(true), -EACCES));
	cr_assert(strstr(test.fault.text, "credentials") != NULL, "%s", test.fault.text);
	put("credentials",
	    "[default]\naws_access_key_id=NEW\naws_secret_access_key=hidden\naws_session_token=t\n");
	test.now_ns += minute;
	cr_assert(zero(int, authorize(true)), "%s", test.fault.text);
	check_signed_by("NEW", "t");
	cr_assert(zero(int, peer_n_asked()));
}

Test(aws, keys_that_have_ended_are_not_used)
{
	OPEN_AS(NULL, "AWS_ACCESS_KEY_ID=A", "AWS_SECRET_ACCESS_KEY=hidden",
		"AWS_CREDENTIAL_EXPIRATION=2026-11-21T11:59:59Z");
	check_fault(EACCES, "expired");
}

Test(aws, anonymous_requests_are_not_signed)
{
	const struct aws_options options = {.client = test.client, .is_anonymous = true};
	cr_assert(zero(int, aws_credentials_new(&options, &test.credentials, NULL)));
	test.signing = (struct aws_signing){.credentials = test.credentials, .service = "s3", .region = "r"};
	cr_assert(zero(int, authorize(false)));
	cr_assert(zero(sz, test.headers.n));
	cr_assert(eq(int, authorize(true), -EACCES));
}

Test(aws, big_bodies_to_s3_where_nobody_is_between_are_left_unsigned)
{
	OPEN_AS(NULL, "AWS_ACCESS_KEY_ID=A", "AWS_SECRET_ACCESS_KEY=hidden");
	cleanup_free char *body = calloc(1, 100000);
	struct http_request request = {.method = "PUT", .url = "https://b/k", .body = body, .body_n = 100000};
	static const struct {
		const char *url, *service;
		bool is_unsigned;
	} row[] = {{"https://b/k", "s3", true},          {"http://b/k", "s3", false},
		   {"https://b/k", "sts", false},        {"http://127.0.0.1:9000/b/k", "s3", true},
		   {"http://localhost/b/k", "s3", true}, {"http://127.0.0.1.b/k", "s3", false}};
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		request.url = row[i].url;
		test.signing.service = row[i].service;
		http_headers_release(&test.headers);
		cr_assert(zero(int, aws_authorize(&test.signing, &request, test.now_ns, false, &test.headers,
						  NULL)));
		const char *hash = http_headers_get(&test.headers, "x-amz-content-sha256") ?: "none";
		cr_assert(eq(int, !strcmp(hash, "UNSIGNED-PAYLOAD"), row[i].is_unsigned), "%s", hash);
	}
}

/* ---- roles ---- */

#define ROLES                                                                                  \
	"[profile top]\nrole_arn=arn:aws:iam::1:role/Top\nsource_profile=base\nexternal_id=e " \
	"x\nduration_seconds=3600\n"                                                           \
	"[profile base]\naws_access_key_id=BASE\naws_secret_access_key=hidden\n"

Test(aws, a_role_is_assumed_and_renewed)
{
	cleanup_free char *sts = at_peer("AWS_ENDPOINT_URL_STS", "/");
	put("config", ROLES);
	PEER_SET({"POST", "/ HTTP", 200, NULL, STS_ANSWER("AssumeRole", "ROLE1", "2026-11-21T13:00:00Z")});
	OPEN_AS("top", sts);
	check_signed_by("ROLE1", "token-ROLE1");
	check_signed_by("ROLE1", "token-ROLE1");
	cr_assert(eq(int, peer_n_asked(), 1));
	cr_assert(peer_has(
		0, "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2FTop"));
	cr_assert(peer_has(0, "&DurationSeconds=3600&ExternalId=e%20x"));
	cr_assert(peer_has(0, "/eu-west-1/sts/aws4_request"), "%s", peer_asked(0));
	cr_assert(peer_has(0, "Credential=BASE/"));
	test.now_ns += 46 * minute;
	PEER_SET({"POST", "/ HTTP", 200, NULL, STS_ANSWER("AssumeRole", "ROLE2", "2026-11-21T14:00:00Z")});
	check_signed_by("ROLE2", "token-ROLE2");
}

Test(aws, a_role_that_may_not_be_assumed_says_why)
{
	cleanup_free char *sts = at_peer("AWS_ENDPOINT_URL_STS", "");
	put("config", ROLES);
	PEER_SET({"POST", "/", 403, NULL,
		  "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not for "
		  "you</Message></Error></ErrorResponse>"});
	OPEN_AS("top", sts);
	check_fault(EPERM, "not for you");
	cr_assert(strstr(test.fault.text, "arn:aws:iam::1:role/Top") != NULL, "%s", test.fault.text);
	test.now_ns += minute;
	PEER_SET({"POST", "/", 403, NULL,
		  "<ErrorResponse><Error><Code>InvalidClientTokenId</Code><Message>which</Message></Error></"
		  "ErrorResponse>"});
	check_fault(EACCES, "keys of profile base");
	test.now_ns += minute;
	PEER_SET({"POST", "/", 200, NULL, "<AssumeRoleResponse><Credentials/></AssumeRoleResponse>"});
	check_fault(EBADMSG, "without credentials");
}

Test(aws, a_web_identity_is_read_at_each_renewal)
{
	cleanup_free char *sts = at_peer("AWS_ENDPOINT_URL", ""), *file = NULL;
	cr_assert(zero(int, str_format(&file, "AWS_WEB_IDENTITY_TOKEN_FILE=%s/token", scratch_path)));
	OPEN_AS(NULL, sts, file, "AWS_ROLE_ARN=arn:r", "AWS_ROLE_SESSION_NAME=pod");
	check_fault(EACCES, "/token");
	test.now_ns += minute;
	put("token", "first.hidden\n");
	PEER_SET({"POST", "/", 200, NULL,
		  STS_ANSWER("AssumeRoleWithWebIdentity", "W1", "2026-11-21T12:30:00Z")});
	check_signed_by("W1", "token-W1");
	cr_assert(peer_has(0, "WebIdentityToken=first.hidden"));
	cr_assert(peer_has(0, "RoleSessionName=pod"));
	cr_assert(zero(int, peer_has(0, "uthorization:")), "it is not signed");
	test.now_ns += 25 * minute;
	put("token", "second.hidden");
	PEER_SET({"POST", "/", 200, NULL,
		  STS_ANSWER("AssumeRoleWithWebIdentity", "W2", "2026-11-21T14:00:00Z")});
	check_signed_by("W2", "token-W2");
	cr_assert(peer_has(0, "WebIdentityToken=second.hidden"));
}

/* ---- single sign-on ---- */

#define SSO                                                                                       \
	"[profile s]\nsso_session=org\nsso_account_id=123456789012\nsso_role_name=Dev Ops\n"      \
	"[sso-session org]\nsso_start_url=https://x.awsapps.com/start\nsso_region=eu-central-1\n" \
	"[profile old]\nsso_start_url=https://x.awsapps.com/start\nsso_region=eu-central-1\n"     \
	"sso_account_id=123456789012\nsso_role_name=Dev\n"

/* As the CLI names its files: by the SHA-1 of the session's name, or of the start URL. */
static void put_login(const char *key, const char *json)
{
	cleanup_free char *command = NULL;
	cr_assert(zero(int, file_make_dirs(scratch_fd, ".aws/sso/cache", 0700)));
	put(".aws-login", json);
	cr_assert(zero(int, str_format(&command,
				       "cd %s && mv .aws-login .aws/sso/cache/$(printf %%s '%s' | sha1sum | "
				       "cut -c1-40).json",
				       scratch_path, key)));
	cr_assert(zero(int, system(command)));
}

/* The only one there is. */
static json_t *get_login(void)
{
	cleanup_free char *command = NULL;
	cr_assert(zero(int, str_format(&command, "cat %s/.aws/sso/cache/*.json", scratch_path)));
	FILE *cat = popen(command, "re");
	cr_assert(cat != NULL);
	json_t *json = json_loadf(cat, 0, NULL);
	pclose(cat);
	cr_assert(json != NULL);
	return json;
}

static const char role_answer[] =
	"{\"roleCredentials\":{\"accessKeyId\":\"SSO\",\"secretAccessKey\":\"hidden\","
	"\"sessionToken\":\"token-SSO\",\"expiration\":1795266000000}}";

Test(aws, a_login_gives_keys)
{
	cleanup_free char *sso = at_peer("AWS_ENDPOINT_URL_SSO", "");
	put("config", SSO);
	OPEN_AS("s", sso);
	check_fault(EACCES, "aws sso login --profile s");
	put_login("org", "{\"accessToken\":\"hidden-a\",\"expiresAt\":\"2026-11-21T13:00:00Z\"}");
	PEER_SET({"GET", "/federation/credentials?", 200, NULL, role_answer});
	test.now_ns += minute;
	check_signed_by("SSO", "token-SSO");
	cr_assert(peer_has(0, "role_name=Dev%20Ops&account_id=123456789012"), "%s", peer_asked(0));
	cr_assert(peer_has(0, "x-amz-sso_bearer_token: hidden-a"), "%s", peer_asked(0));
	put_login("https://x.awsapps.com/start",
		  "{\"accessToken\":\"hidden-b\",\"expiresAt\":\"2026-11-21T13:00:00UTC\"}");
	OPEN_AS("old", sso);
	check_signed_by("SSO", "token-SSO");
	cr_assert(peer_has(1, "x-amz-sso_bearer_token: hidden-b"));
}

Test(aws, a_login_that_has_ended_says_how_to_renew_it)
{
	cleanup_free char *sso = at_peer("AWS_ENDPOINT_URL_SSO", "");
	put("config", SSO);
	put_login("org", "{\"accessToken\":\"hidden\",\"expiresAt\":\"2026-11-21T11:00:00Z\"}");
	OPEN_AS("s", sso);
	check_fault(EACCES, "aws sso login --profile s");
	cr_assert(zero(int, peer_n_asked()));
	put_login("org", "{\"accessToken\":\"hidden\",\"expiresAt\":\"2026-11-21T13:00:00Z\"}");
	PEER_SET({"GET", "/federation/credentials?", 401, NULL, "{\"message\":\"Session token not found\"}"});
	test.now_ns += minute;
	check_fault(EACCES, "aws sso login --profile s");
	PEER_SET({"GET", "/federation/credentials?", 403, NULL, "{\"message\":\"No access\"}"});
	test.now_ns += minute;
	check_fault(EPERM, "role Dev Ops of account 123456789012");
}

Test(aws, a_session_renews_its_login_and_writes_it_back)
{
	cleanup_free char *sso = at_peer("AWS_ENDPOINT_URL", "");
	put("config", SSO);
	put_login(
		"org",
		"{\"accessToken\":\"hidden\",\"expiresAt\":\"2026-11-21T11:00:00Z\",\"refreshToken\":\"r1\","
		"\"clientId\":\"c\",\"clientSecret\":\"hidden-c\",\"region\":\"eu-central-1\","
		"\"registrationExpiresAt\":\"2026-12-21T11:00:00Z\"}");
	PEER_SET({"POST", "/token", 200, NULL,
		  "{\"accessToken\":\"hidden-n\",\"expiresIn\":3600,\"refreshToken\":\"r2\"}"},
		 {"GET", "/federation/credentials?", 200, NULL, role_answer});
	OPEN_AS("s", sso);
	check_signed_by("SSO", "token-SSO");
	cr_assert(peer_has(0, "\"refreshToken\":\"r1\""), "%s", peer_asked(0));
	cr_assert(peer_has(1, "x-amz-sso_bearer_token: hidden-n"));
	cleanup_json json_t *json = get_login();
	cr_assert(eq(str, (char *)json_string_value(json_object_get(json, "refreshToken")), "r2"));
	cr_assert(eq(str, (char *)json_string_value(json_object_get(json, "expiresAt")),
		     "2026-11-21T13:00:00Z"));
	cr_assert(eq(str, (char *)json_string_value(json_object_get(json, "region")), "eu-central-1"));
}

Test(aws, a_session_whose_renewal_is_refused_wants_a_login)
{
	cleanup_free char *sso = at_peer("AWS_ENDPOINT_URL", "");
	put("config", SSO);
	put_login(
		"org",
		"{\"accessToken\":\"hidden\",\"expiresAt\":\"2026-11-21T11:00:00Z\",\"refreshToken\":\"r1\","
		"\"clientId\":\"c\",\"clientSecret\":\"hidden-c\","
		"\"registrationExpiresAt\":\"2026-12-21T11:00:00Z\"}");
	PEER_SET({"POST", "/token", 400, NULL,
		  "{\"error\":\"invalid_grant\",\"error_description\":\"gone\"}"});
	OPEN_AS("s", sso);
	check_fault(EACCES, "aws sso login --profile s");
}

/* ---- processes ---- */

Test(aws, a_process_gives_keys_without_a_shell)
{
	put("config",
	    "[profile p]\ncredential_process = /bin/sh -c 'printf %s \"$1\"' x "
	    "\"{\\\"Version\\\":1,\\\"AccessKeyId\\\":\\\"P\\\",\\\"SecretAccessKey\\\":\\\"$HOME\\\"}\"\n"
	    "[profile fails]\ncredential_process = /bin/false\n"
	    "[profile gone]\ncredential_process = /nonexistent/tool\n"
	    "[profile open]\ncredential_process = tool 'x\n"
	    "[profile silent]\ncredential_process = /bin/echo {}\n"
	    "[profile loud]\ncredential_process = head -c 100000 /dev/zero\n");
	OPEN_AS("p");
	check_signed_by("P", NULL);
	OPEN_AS("fails");
	check_fault(EACCES, "status 1");
	OPEN_AS("gone");
	check_fault(EACCES, "cannot be started");
	OPEN_AS("open");
	check_fault(EINVAL, "split");
	OPEN_AS("silent");
	check_fault(EBADMSG, "did not print");
	OPEN_AS("loud");
	check_fault(EBADMSG, "more than 65536 bytes");
}

/* ---- containers ---- */

Test(aws, a_container_is_asked_with_its_token)
{
	cleanup_free char *full = at_peer("AWS_CONTAINER_CREDENTIALS_FULL_URI", "/v1/keys?x=1"), *file = NULL;
	cr_assert(zero(int,
		       str_format(&file, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=%s/token", scratch_path)));
	PEER_SET({"GET", "/v1/keys?x=1", 200, NULL, KEYS_ANSWER("C")});
	OPEN_AS(NULL, full, "AWS_CONTAINER_AUTHORIZATION_TOKEN=Basic hidden");
	check_signed_by("C", "token-C");
	cr_assert(peer_has(0, "Authorization: Basic hidden\r\n"));
	put("token", "from file\n");
	OPEN_AS(NULL, full, "AWS_CONTAINER_AUTHORIZATION_TOKEN=Basic hidden", file);
	check_signed_by("C", "token-C");
	cr_assert(peer_has(1, "Authorization: from file\r\n"));
	OPEN_AS(NULL, full, "AWS_CONTAINER_AUTHORIZATION_TOKEN=hidden\r\nX: y");
	check_fault(EINVAL, "header");
}

/* Whoever knows the path may ask for the keys: it is no better than a secret. */
Test(aws, a_container_that_gives_nothing_is_told_without_its_path)
{
	cleanup_free char *full = at_peer("AWS_CONTAINER_CREDENTIALS_FULL_URI", "/hidden-path");
	OPEN_AS(NULL, full);
	PEER_SET({"GET", "/hidden-path", 403, NULL, "{\"message\":\"hidden\"}"});
	check_fault(EPERM, "the container's role cannot be had: answered 403");
	PEER_SET({"GET", "/hidden-path", 200, NULL, "{}"});
	test.now_ns += minute;
	check_fault(EBADMSG, "the answer holds no keys");
	PEER_SET({"GET", "/hidden-path", 200, NULL, "[]"});
	test.now_ns += minute;
	check_fault(EBADMSG, "the answer holds no keys");
}

Test(aws, a_container_asks_no_strange_host)
{
	static const char *const url[] = {"http://example.com/x",    "http://169.254.169.254/x",
					  "http://127.0.0.1.evil/x", "http://1270.0.0.1/",
					  "ftp://127.0.0.1/x",       "nonsense"};
	for (size_t i = 0; i < sizeof(url) / sizeof(url[0]); i++) {
		cleanup_free char *pair = NULL;
		cr_assert(zero(int, str_format(&pair, "AWS_CONTAINER_CREDENTIALS_FULL_URI=%s", url[i])));
		OPEN_AS(NULL, pair);
		check_fault(EINVAL, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
	}
}

Test(aws, a_container_is_not_asked_through_a_proxy)
{
	cleanup_free char *full = at_peer("AWS_CONTAINER_CREDENTIALS_FULL_URI", "/");
	cr_assert(zero(int, setenv("http_proxy", "http://127.0.0.1:1", 1)));
	PEER_SET({"GET", "/", 200, NULL, KEYS_ANSWER("C")});
	OPEN_AS(NULL, full);
	check_signed_by("C", "token-C");
}

/* ---- instances ---- */

Test(aws, an_instance_is_asked_by_version_2)
{
	cleanup_free char *imds = at_peer("AWS_EC2_METADATA_SERVICE_ENDPOINT", "/");
	PEER_SET({"PUT", "/latest/api/token ", 200, NULL, "session"},
		 {"GET", "/latest/meta-data/iam/security-credentials/ ", 200, NULL, "my role"},
		 {"GET", "/latest/meta-data/iam/security-credentials/my%20role ", 200, NULL,
		  KEYS_ANSWER("I")});
	OPEN_AS(NULL, imds);
	check_signed_by("I", "token-I");
	cr_assert(peer_has(0, "X-aws-ec2-metadata-token-ttl-seconds: 21600\r\n"));
	cr_assert(peer_has(1, "X-aws-ec2-metadata-token: session\r\n"));
	cr_assert(peer_has(2, "X-aws-ec2-metadata-token: session\r\n"));
	cr_assert(eq(int, peer_n_asked(), 3));
}

Test(aws, an_instance_is_not_asked_through_a_proxy)
{
	cleanup_free char *imds = at_peer("AWS_EC2_METADATA_SERVICE_ENDPOINT", "");
	cr_assert(zero(int, setenv("http_proxy", "http://127.0.0.1:1", 1)));
	PEER_SET({"PUT", "/latest/api/token", 200, NULL, "session"},
		 {"GET", "/latest/meta-data/iam/security-credentials/ ", 200, NULL, "r"},
		 {"GET", "/latest/meta-data/iam/security-credentials/r ", 200, NULL, KEYS_ANSWER("I")});
	OPEN_AS(NULL, imds);
	check_signed_by("I", "token-I");
}

Test(aws, an_instance_of_version_1_is_asked_unless_that_is_disabled)
{
	cleanup_free char *imds = at_peer("AWS_EC2_METADATA_SERVICE_ENDPOINT", "");
	PEER_SET({"PUT", "/latest/api/token", 405, NULL, ""},
		 {"GET", "/latest/meta-data/iam/security-credentials/ ", 200, NULL, "r\n"},
		 {"GET", "/latest/meta-data/iam/security-credentials/r ", 200, NULL, KEYS_ANSWER("V1")});
	OPEN_AS(NULL, imds);
	check_signed_by("V1", "token-V1");
	OPEN_AS(NULL, imds, "AWS_EC2_METADATA_V1_DISABLED=true");
	check_fault(EACCES, "aws configure");
	PEER_SET({"PUT", "/latest/api/token", 400, NULL, ""},
		 {"GET", "/latest/meta-data/iam/security-credentials/ ", 200, NULL, "r"});
	OPEN_AS(NULL, imds);
	check_fault(EACCES, "aws configure");
	cr_assert(eq(int, peer_n_asked(), 1));
}

Test(aws, an_instance_without_a_role_says_so)
{
	cleanup_free char *imds = at_peer("AWS_EC2_METADATA_SERVICE_ENDPOINT", "");
	PEER_SET({"PUT", "/latest/api/token", 200, NULL, "session"});
	OPEN_AS(NULL, imds);
	check_fault(EACCES, "has no role");
	PEER_SET({"PUT", "/latest/api/token", 200, NULL, "session"},
		 {"GET", "/latest/meta-data/iam/security-credentials/ ", 200, NULL, "r"},
		 {"GET", "/latest/meta-data/iam/security-credentials/r", 200, NULL,
		  "{\"Code\":\"AssumeRoleUnauthorizedAccess\"}"});
	test.now_ns += minute;
	check_fault(EACCES, "AssumeRoleUnauthorizedAccess");
}

Test(aws, the_region_of_an_instance_is_asked_once)
{
	cleanup_free char *imds = at_peer("AWS_EC2_METADATA_SERVICE_ENDPOINT", ""), *region = NULL,
			  *again = NULL;
	PEER_SET({"PUT", "/latest/api/token", 200, NULL, "session"},
		 {"GET", "/latest/meta-data/placement/region", 200, NULL, "ap-south-1"});
	struct profile_env env = {0};
	const char *pairs[] = {imds, "HOME=/nonexistent", NULL};
	cr_assert(zero(int, profile_env_from(pairs, &env)));
	const struct aws_options options = {.client = test.client, .env = &env};
	cr_assert(zero(int, aws_credentials_new(&options, &test.credentials, NULL)));
	profile_env_release(&env);
	cr_assert(zero(int, aws_credentials_region(test.credentials, &region, &test.fault)), "%s",
		  test.fault.text);
	cr_assert(zero(int, aws_credentials_region(test.credentials, &again, &test.fault)));
	cr_assert(eq(str, region, "ap-south-1"));
	cr_assert(eq(str, again, "ap-south-1"));
	cr_assert(eq(int, peer_n_asked(), 2));
}

/* ---- description ---- */

static void collect(void *arg, bool is_ok, const char *line)
{
	str_printf(arg, "%s %s\n", is_ok ? "ok" : "wrong", line);
}

static void describe(struct str *ret)
{
	str_clear(ret);
	aws_credentials_describe(test.credentials, test.now_ns, collect, ret);
	cr_assert(strstr(ret->data, "hidden") == NULL, "%s", ret->data);
}

Test(aws, a_description_shows_what_is_used_and_no_secret)
{
	cleanup_str struct str text = {0};
	cleanup_free char *sts = at_peer("AWS_ENDPOINT_URL_STS", "");
	OPEN_AS(NULL, sts, "AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY=hidden",
		"AWS_CREDENTIAL_EXPIRATION=2026-11-21T13:00:00Z");
	PEER_SET({"POST", "/ ", 200, NULL,
		  "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::1:user/me</Arn>"
		  "</GetCallerIdentityResult></GetCallerIdentityResponse>"});
	describe(&text);
	cr_assert(eq(str, text.data,
		     "ok credentials: AWS_ACCESS_KEY_ID in the environment, key AKIA...MPLE, good until "
		     "2026-11-21T13:00:00.000Z (60 min)\nok identity: arn:aws:iam::1:user/me\n"
		     "ok region: eu-west-1, by AWS_REGION\n"));
	cr_assert(peer_has(0, "\r\n\r\nAction=GetCallerIdentity&Version=2011-06-15"));
}

Test(aws, a_description_says_what_is_wrong_and_how_to_mend_it)
{
	cleanup_str struct str text = {0};
	cleanup_free char *sts = at_peer("AWS_ENDPOINT_URL_STS", "");
	OPEN_AS(NULL, sts, "AWS_ACCESS_KEY_ID=A", "AWS_SECRET_ACCESS_KEY=hidden");
	PEER_SET({"POST", "/ ", 501, NULL, "no STS here"});
	describe(&text);
	cr_assert(strstr(text.data, "wrong") == NULL, "%s", text.data);
	PEER_SET({"POST", "/ ", 403, NULL,
		  "<ErrorResponse><Error><Code>SignatureDoesNotMatch</Code><Message>who?</Message></Error></"
		  "ErrorResponse>"});
	describe(&text);
	cr_assert(strstr(text.data, "wrong credentials: refused by STS") != NULL, "%s", text.data);
	cr_assert(strstr(text.data, "who?") != NULL, "%s", text.data);
	put("config", "[profile x]\nsso_account_id=1\nsso_role_name=r\nsso_start_url=u\nsso_region=r-1\n");
	OPEN_AS("x", sts);
	describe(&text);
	cr_assert(str_has_prefix(text.data, "wrong single sign-on of profile x in "), "%s", text.data);
	cr_assert(strstr(text.data, "`aws sso login --profile x`") != NULL, "%s", text.data);
}
