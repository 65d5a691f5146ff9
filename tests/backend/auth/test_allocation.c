/* SPDX-License-Identifier: MIT */
/*
 * Credentials and signing without memory: nothing may crash or leak (the sanitizers look), and what fails says -ENOMEM.
 */
#include "allocation.h"
#include "auth/auth.h"
#include "auth/aws.h"
#include "auth/command.h"
#include "auth/google.h"
#include "auth/ini.h"
#include "auth/sigv4.h"
#include "file.h"
#include "scratch.h"

static char config[300], home[300];

static void set_up(void)
{
	static const char text[] =
		"[default]\nrole_arn=a\nsource_profile=p\nexternal_id=e\nservices=s\n"
		"[profile "
		"p]\naws_access_key_id=A\naws_secret_access_key=B\naws_session_token=C\nca_bundle=~/c\n"
		"[profile web]\nrole_arn=a\nweb_identity_token_file=f\n[profile run]\ncredential_process=p\n"
		"[profile sso]\nsso_session=o\nsso_account_id=1\nsso_role_name=r\n"
		"[sso-session o]\nsso_start_url=u\nsso_region=r\n[services s]\ns3=\n  "
		"endpoint_url=http://x\n";
	scratch_open();
	cr_assert(zero(int, file_write_atomic(scratch_fd, "config", text, strlen(text), 0600)));
	snprintf(config, sizeof(config), "AWS_CONFIG_FILE=%s/config", scratch_path);
	snprintf(home, sizeof(home), "HOME=%s", scratch_path);
}

TestSuite(auth_allocation, .init = set_up, .fini = scratch_close);

static int resolve(const struct profile_env *env, const struct profile_files *files)
{
	static const char *const profile[] = {"default", "p", "web", "run", "sso"};
	struct auth_endpoints none = {0};
	bool is_custom;
	int r = 0;
	for (size_t i = 0; i < sizeof(profile) / sizeof(profile[0]) && r == 0; i++) {
		struct aws_source *source = NULL;
		struct fault fault;
		r = aws_chain(env, files, profile[i], &source, &fault);
		aws_source_free(source);
	}
	cleanup_free char *url = NULL;
	return r ?: aws_endpoint(&none, env, files, NULL, "s3", "r", &url, &is_custom, NULL);
}

static int chain(void)
{
	const char *const pairs[] = {config, home, NULL};
	struct profile_env env = {0};
	struct profile_files files = {0};
	struct fault fault;
	int r = profile_env_from(pairs, &env);
	if (r == 0)
		r = profile_files_read(&env, &files, &fault);
	if (r == 0)
		r = resolve(&env, &files);
	profile_files_release(&files);
	profile_env_release(&env);
	return r;
}

Test(auth_allocation, of_files_and_chain)
{
	fail_each(chain);
}

static struct http_client *client;

static int sign_with(struct aws_credentials *credentials)
{
	struct aws_signing signing = {.credentials = credentials, .service = "sts", .region = "r"};
	const struct http_request request = {.method = "GET", .url = "https://h/a/../b%20c?x&a=b"};
	struct http_headers headers = {0};
	int r = aws_authorize(&signing, &request, 1, false, &headers, NULL);
	http_headers_release(&headers);
	return r;
}

static int sign(void)
{
	const char *const pairs[] = {config, home, NULL};
	struct profile_env env = {0};
	struct aws_credentials *credentials = NULL;
	cleanup_free char *region = NULL;
	int r = profile_env_from(pairs, &env);
	const struct aws_options options = {
		.client = client, .profile = "p", .region = "r", .endpoint = "http://x", .env = &env};
	if (r == 0)
		r = aws_credentials_new(&options, &credentials, NULL);
	if (r == 0)
		r = sign_with(credentials);
	if (r == 0)
		r = aws_credentials_region(credentials, &region, NULL);
	aws_credentials_free(credentials);
	profile_env_release(&env);
	return r;
}

Test(auth_allocation, of_signatures)
{
	struct http *http;
	cr_assert(zero(int, http_new(&http, NULL)));
	cr_assert(zero(int, http_client_new(http, "test", &client)));
	fail_each(sign);
	http_client_free(client);
	http_free(http);
}

static int google(void)
{
	static const char text[] =
		"{\"type\":\"impersonated_service_account\",\"source_credentials\":{\"type\":\"external_"
		"account\","
		"\"audience\":\"a\",\"subject_token_type\":\"t\",\"credential_source\":{\"url\":\"https://x/"
		"\",\"headers\":"
		"{\"A\":\"b\"},\"format\":{\"type\":\"json\",\"subject_token_field_name\":\"f\"}}},"
		"\"service_account_impersonation_url\":\"https://x/\"}";
	static const char user[] =
		"{\"type\":\"authorized_user\",\"client_id\":\"c\",\"client_secret\":\"s\","
		"\"refresh_token\":\"r\",\"quota_project_id\":\"q\"}";
	struct google_source *source = NULL;
	struct fault fault;
	int r = google_source_parse(text, strlen(text), "f", &source, &fault);
	google_source_free(source);
	source = NULL;
	if (r == 0)
		r = google_source_parse(user, strlen(user), "f", &source, &fault);
	google_source_free(source);
	return r;
}

Test(auth_allocation, of_google_files)
{
	fail_each(google);
}

static int split(void)
{
	char **argv = NULL;
	int r = command_split("tool --a 'b c' \"d\"", &argv);
	if (r == 0)
		command_free(argv);
	return r;
}

Test(auth_allocation, of_commands)
{
	fail_each(split);
}
