/* SPDX-License-Identifier: MIT */
/* Whom AWS's own settings trust: a token service whose certificate nobody else knows. */
#include "auth/auth.h"

#include "auth/profile.h"
#include "cleanup.h"
#include "clock.h"
#include "str.h"
#include "tls_peer.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct {
	struct http *http;
	struct http_client *client;
	struct aws_credentials *credentials;
	struct fault fault;
	int64_t now_ns;
} test;

/* What STS answers to AssumeRoleWithWebIdentity. */
static const char answer[] =
	"printf %s '<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>"
	"<AccessKeyId>W</AccessKeyId><SecretAccessKey>hidden</SecretAccessKey><SessionToken>t</SessionToken>"
	"<Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>"
	"</AssumeRoleWithWebIdentityResponse>' >index.html; echo token >token";

static void open_trust(void)
{
	tls_peer_open();
	tls_peer_run(answer);
	tls_peer_start(TLS_PEER_PYTHON);
	*strstr(tls_peer_url(), "/index.html") = '\0';
	test.now_ns = clock_wall_ns();
	cr_assert(zero(int, http_new(&test.http, NULL)));
	cr_assert(zero(int, http_client_new(test.http, "test", &test.client)));
}

static void close_trust(void)
{
	aws_credentials_free(test.credentials);
	http_client_free(test.client);
	http_free(test.http);
	tls_peer_close();
}

TestSuite(trust, .init = open_trust, .fini = close_trust, .timeout = 60);

/* The files of the peer's directory, and `pair`. */
static void open_with(const char *pair)
{
	static const char *const part[][2] = {
		{"HOME=", ""}, {"AWS_CONFIG_FILE=", "/config"}, {"AWS_WEB_IDENTITY_TOKEN_FILE=", "/token"}};
	char text[4][128];
	const char *pairs[] = {
		text[0], text[1], text[2], text[3], "AWS_ROLE_ARN=arn:r", "AWS_REGION=eu-west-1", pair, NULL};
	struct profile_env env = {0};
	for (size_t i = 0; i < 3; i++)
		(void)snprintf(text[i], sizeof(text[i]), "%s%s%s", part[i][0], tls_peer_dir(), part[i][1]);
	(void)snprintf(text[3], sizeof(text[3]), "AWS_ENDPOINT_URL_STS=%s", tls_peer_url());
	cr_assert(zero(int, profile_env_from(pairs, &env)));
	const struct aws_options options = {.client = test.client, .env = &env};
	cr_assert(zero(int, aws_credentials_new(&options, &test.credentials, NULL)));
	profile_env_release(&env);
}

/* Until the peer listens. */
static int authorize(void)
{
	const struct http_request request = {.method = "GET",
					     .url = "https://b.s3.eu-west-1.amazonaws.com/k"};
	struct aws_signing signing = {
		.credentials = test.credentials, .service = "s3", .region = "eu-west-1"};
	int64_t until_ms = clock_mono_ms() + 20000;
	int r;
	do {
		cleanup_http_headers struct http_headers headers = {0};
		test.now_ns += 60000000000; /* what has failed is not tried again at once */
		r = aws_authorize(&signing, &request, test.now_ns, false, &headers, &test.fault);
	} while (r < 0 && strstr(test.fault.text, "connect to") && clock_mono_ms() < until_ms);
	return r;
}

Test(trust, nobody_knows_the_certificate)
{
	open_with("AWS_X=");
	cr_expect(eq(int, authorize(), -EHOSTUNREACH));
	cr_expect(strstr(test.fault.text, "self-signed certificate") != NULL, "%s", test.fault.text);
}

Test(trust, AWS_CA_BUNDLE_does)
{
	char bundle[128];
	(void)snprintf(bundle, sizeof(bundle), "AWS_CA_BUNDLE=%s", tls_peer_cert());
	tls_peer_run("printf '[default]\\nca_bundle=/nonexistent' >config");
	open_with(bundle);
	cr_expect(eq(int, authorize(), 0), "%s", test.fault.text);
}

Test(trust, a_profile_does_and_may_say_so_later)
{
	open_with("AWS_X=");
	cr_expect(eq(int, authorize(), -EHOSTUNREACH));
	tls_peer_run("printf '[default]\\nca_bundle=~/cert.pem' >config");
	cr_expect(eq(int, authorize(), 0), "%s", test.fault.text);
}

/* It is the first that every request to a service needs. */
Test(trust, endpoints_need_no_credentials_to_be_trusted)
{
	char bundle[128];
	cleanup_free char *url = NULL;
	bool is_custom;
	(void)snprintf(bundle, sizeof(bundle), "AWS_CA_BUNDLE=%s", tls_peer_cert());
	open_with(bundle);
	cr_assert(zero(int, aws_credentials_endpoint(test.credentials, "sts", "eu-west-1", &url, &is_custom,
						     &test.fault)));
	const struct http_request request = {.method = "GET", .url = url};
	int64_t until_ms = clock_mono_ms() + 20000;
	int r;
	do {
		cleanup_http_reply struct http_reply reply = {0};
		r = http_perform(test.client, &request, &reply, &test.fault);
	} while (r < 0 && strstr(test.fault.text, "connect to") && clock_mono_ms() < until_ms);
	cr_expect(eq(int, r, 0), "%s", test.fault.text);
}
