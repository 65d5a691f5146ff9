/* SPDX-License-Identifier: MIT */
/* Which credentials, which region, which endpoint: decided from files and environment, nobody is asked. */
#include "auth/aws.h"

#include "cleanup.h"
#include "file.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <string.h>

static struct {
	struct profile_env env;
	struct profile_files files;
	struct aws_source *source;
	struct fault fault;
} test;

static void set_up(void)
{
	cr_assert(ge(int, scratch_open(), 0));
}

static void tear_down(void)
{
	aws_source_free(test.source);
	profile_files_release(&test.files);
	profile_env_release(&test.env);
	scratch_close();
}

TestSuite(chain, .init = set_up, .fini = tear_down);

static void put(const char *name, const char *text)
{
	cr_assert(zero(int, file_write_atomic(scratch_fd, name, text, strlen(text), 0600)));
}

/* `pairs`: "A=1", ..., NULL. The files are config and credentials of the scratch directory. */
static void prepare(const char *const *pairs)
{
	char config[300], credentials[300];
	const char *all[20] = {config, credentials, "HOME=/nonexistent"};
	snprintf(config, sizeof(config), "AWS_CONFIG_FILE=%s/config", scratch_path);
	snprintf(credentials, sizeof(credentials), "AWS_SHARED_CREDENTIALS_FILE=%s/credentials",
		 scratch_path);
	for (size_t i = 0; pairs && pairs[i]; i++)
		all[3 + i] = pairs[i];
	profile_files_release(&test.files);
	profile_env_release(&test.env);
	cr_assert(zero(int, profile_env_from(all, &test.env)));
	cr_assert(zero(int, profile_files_read(&test.env, &test.files, &test.fault)), "%s", test.fault.text);
}
#define PREPARE(...) prepare((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

static int chain(const char *profile)
{
	aws_source_free(test.source);
	test.source = NULL;
	test.fault = (struct fault){0};
	return aws_chain(&test.env, &test.files, profile, &test.source, &test.fault);
}

static void check_kind(const char *profile, enum aws_kind kind)
{
	int r = chain(profile);
	cr_assert(zero(int, r), "%s", test.fault.text);
	cr_assert(eq(int, (int)test.source->kind, (int)kind), "%s", test.source->from);
}

static void check_key(const char *profile, const char *id)
{
	check_kind(profile, AWS_STATIC);
	cr_assert(eq(str, test.source->keys.id, (char *)id));
}

static void check_fault(const char *profile, int err, const char *part)
{
	cr_assert(eq(int, chain(profile), -err), "%s", test.fault.text);
	cr_assert(strstr(test.fault.text, part) != NULL, "%s", test.fault.text);
	cr_assert(strstr(test.fault.text, "hidden") == NULL, "%s", test.fault.text);
}

#define KEYS(id) "aws_access_key_id=" id "\naws_secret_access_key=hidden\n"

Test(chain, each_source_gives_way_to_the_one_before)
{
	static const struct {
		const char *config, *credentials, *key;
		enum aws_kind kind;
	} step[] = {
		{KEYS("IN_CONFIG"), "", "IN_CONFIG", AWS_STATIC},
		{"credential_process=p\n" KEYS("IN_CONFIG"), "", NULL, AWS_PROCESS},
		{"credential_process=p\n", KEYS("IN_CREDENTIALS"), "IN_CREDENTIALS", AWS_STATIC},
		{"sso_account_id=1\nsso_role_name=r\nsso_start_url=u\nsso_region=x\n", KEYS("IN_CREDENTIALS"),
		 NULL, AWS_SSO},
		{"role_arn=a\nweb_identity_token_file=f\nsso_account_id=1\nsso_role_name=r\n", "", NULL,
		 AWS_WEB},
		{"role_arn=a\nsource_profile=default\n", KEYS("IN_CREDENTIALS"), NULL, AWS_ROLE},
	};
	for (size_t i = 0; i < sizeof(step) / sizeof(step[0]); i++) {
		cleanup_free char *config = NULL, *credentials = NULL;
		cr_assert(zero(int, str_format(&config, "[default]\n%s", step[i].config)));
		cr_assert(zero(int, str_format(&credentials, "[default]\n%s", step[i].credentials)));
		put("config", config);
		put("credentials", credentials);
		PREPARE();
		check_kind(NULL, step[i].kind);
		if (step[i].key)
			cr_assert(eq(str, test.source->keys.id, (char *)step[i].key));
		PREPARE("AWS_ACCESS_KEY_ID=IN_ENV", "AWS_SECRET_ACCESS_KEY=hidden");
		check_key(NULL, "IN_ENV");
		check_kind("default", step[i].kind);
	}
}

Test(chain, without_a_profile_the_platform_is_asked)
{
	PREPARE("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/x");
	check_kind(NULL, AWS_CONTAINER);
	PREPARE();
	check_kind(NULL, AWS_INSTANCE);
	PREPARE("AWS_EC2_METADATA_DISABLED=True");
	check_fault(NULL, EACCES, "aws configure");
	PREPARE("AWS_WEB_IDENTITY_TOKEN_FILE=/t", "AWS_ROLE_ARN=arn", "AWS_ROLE_SESSION_NAME=s");
	check_kind(NULL, AWS_WEB);
	cr_assert(eq(str, test.source->session_name, "s"));
	check_kind("default", AWS_INSTANCE);
}

Test(chain, keys_of_the_environment_are_whole)
{
	PREPARE("AWS_ACCESS_KEY_ID=A");
	check_fault(NULL, EACCES, "AWS_SECRET_ACCESS_KEY");
	PREPARE("AWS_ACCESS_KEY_ID=A", "AWS_SECRET_ACCESS_KEY=hidden", "AWS_SECURITY_TOKEN=t",
		"AWS_CREDENTIAL_EXPIRATION=2030-01-01T00:00:00Z");
	check_key(NULL, "A");
	cr_assert(eq(str, test.source->keys.token.text, "t"));
	cr_assert(eq(i64, test.source->keys.expires_ns, 1893456000000000000));
	PREPARE("AWS_ACCESS_KEY_ID=A", "AWS_SECRET_ACCESS_KEY=hidden", "AWS_CREDENTIAL_EXPIRATION=soon");
	check_fault(NULL, EINVAL, "AWS_CREDENTIAL_EXPIRATION");
}

Test(chain, the_profile_is_named_by_options_then_environment)
{
	put("config",
	    "[profile a]\n" KEYS("A") "[profile 'b b']\n" KEYS("B") "[profile \"c\\\"\"]\n" KEYS("C"));
	put("credentials", "[d]\n" KEYS("D"));
	PREPARE("AWS_PROFILE=a");
	check_key(NULL, "A");
	check_key("b b", "B");
	check_key("c\"", "C");
	check_key("d", "D");
	PREPARE("AWS_PROFILE=a", "AWS_DEFAULT_PROFILE=d");
	check_key(NULL, "D");
	PREPARE("AWS_PROFILE=none");
	check_fault(NULL, EACCES, "profile none is in neither");
	check_fault("a b", EACCES, "aws configure --profile a b");
}

Test(chain, half_a_key_is_a_fault)
{
	put("credentials", "[default]\naws_access_key_id=A\n");
	PREPARE();
	check_fault(NULL, EACCES, "aws_secret_access_key");
}

Test(chain, the_credentials_file_wins)
{
	put("config", "[default]\nregion=from-config\n" KEYS("CONFIG"));
	put("credentials", "[default]\nregion=from-credentials\n" KEYS("CREDENTIALS"));
	PREPARE();
	check_key(NULL, "CREDENTIALS");
	cr_assert(eq(str, (char *)profile_get(&test.files, "default", "region"), "from-credentials"));
}

Test(chain, roles_follow_their_source)
{
	put("config",
	    "[profile top]\nrole_arn=arn:top\nsource_profile=middle\nexternal_id=e\nduration_seconds=900\n"
	    "[profile middle]\nrole_arn=arn:middle\nsource_profile=base\n"
	    "[profile base]\n" KEYS("BASE") "[profile self]\nrole_arn=arn:self\nsource_profile=self\n" KEYS(
		    "SELF") "[profile mixed]\nrole_arn=arn:mixed\nsource_profile=self\n"
			    "[profile process]\nrole_arn=arn:p\nsource_profile=tool\n"
			    "[profile tool]\ncredential_process=p\n");
	PREPARE();
	check_kind("top", AWS_ROLE);
	cr_assert(eq(str, test.source->role_arn, "arn:top"));
	cr_assert(eq(str, test.source->external_id, "e"));
	cr_assert(eq(i64, test.source->duration_s, 900));
	cr_assert(eq(str, test.source->source->role_arn, "arn:middle"));
	cr_assert(eq(str, test.source->source->source->keys.id, "BASE"));
	check_kind("self", AWS_ROLE);
	cr_assert(eq(str, test.source->source->keys.id, "SELF"));
	check_kind("mixed", AWS_ROLE);
	cr_assert(eq(int, (int)test.source->source->kind, AWS_STATIC),
		  "keys of a source come before its role");
	check_kind("process", AWS_ROLE);
	cr_assert(eq(int, (int)test.source->source->kind, AWS_PROCESS));
}

Test(chain, roles_that_go_in_circles_are_refused)
{
	cleanup_str struct str deep = {0};
	for (int i = 0; i < 12; i++)
		str_printf(&deep, "[profile p%d]\nrole_arn=a\nsource_profile=p%d\n", i, i + 1);
	str_append(&deep, "[profile p12]\n" KEYS("END"));
	str_append(&deep,
		   "[profile x]\nrole_arn=a\nsource_profile=x\n"
		   "[profile y]\nrole_arn=a\nsource_profile=z\n[profile z]\nrole_arn=a\nsource_profile=y\n"
		   "[profile lost]\nrole_arn=a\nsource_profile=nobody\n"
		   "[profile empty]\nregion=r\n[profile hollow]\nrole_arn=a\nsource_profile=empty\n");
	put("config", deep.data);
	PREPARE();
	check_fault("x", EINVAL, "leads back");
	check_fault("y", EINVAL, "leads back");
	check_fault("p0", EINVAL, "more than 8 roles");
	check_kind("p5", AWS_ROLE);
	check_fault("lost", EINVAL, "nobody does not exist");
	check_fault("hollow", EACCES, "empty has no credentials");
}

Test(chain, a_role_has_one_source)
{
	put("config",
	    "[profile both]\nrole_arn=a\nsource_profile=x\ncredential_source=Environment\n"
	    "[profile none]\nrole_arn=a\n"
	    "[profile mfa]\nrole_arn=a\nsource_profile=x\nmfa_serial=m\n"
	    "[profile short]\nrole_arn=a\nsource_profile=x\nduration_seconds=899\n"
	    "[profile x]\n" KEYS("X") "[profile env]\nrole_arn=a\ncredential_source=Environment\n"
				      "[profile ec2]\nrole_arn=a\ncredential_source=Ec2InstanceMetadata\n"
				      "[profile ecs]\nrole_arn=a\ncredential_source=EcsContainer\n"
				      "[profile odd]\nrole_arn=a\ncredential_source=Cloud\n");
	PREPARE();
	check_fault("both", EINVAL, "one is wanted");
	check_fault("none", EINVAL, "neither source_profile nor credential_source");
	check_fault("mfa", EACCES, "export-credentials");
	check_fault("short", EINVAL, "900 to 43200");
	check_fault("env", EACCES, "no credentials are there");
	check_fault("ecs", EACCES, "no credentials are there");
	check_fault("odd", EINVAL, "EcsContainer is wanted");
	check_kind("ec2", AWS_ROLE);
	cr_assert(eq(int, (int)test.source->source->kind, AWS_INSTANCE));
	PREPARE("AWS_ACCESS_KEY_ID=E", "AWS_SECRET_ACCESS_KEY=hidden",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1/");
	check_kind("env", AWS_ROLE);
	cr_assert(eq(str, test.source->source->keys.id, "E"));
	check_kind("ecs", AWS_ROLE);
}

Test(chain, single_sign_on_is_whole)
{
	put("config", "[profile s]\nsso_session=my org\nsso_account_id=1\nsso_role_name=r\n"
		      "[sso-session my org]\nsso_start_url=u\nsso_region=eu-west-1\n"
		      "[profile half]\nsso_session=gone\nsso_account_id=1\nsso_role_name=r\n"
		      "[profile login]\nlogin_session=x\n");
	PREPARE();
	check_kind("s", AWS_SSO);
	cr_assert(test.source->is_sso_session);
	cr_assert(eq(str, test.source->sso_cache_key, "my org"));
	cr_assert(eq(str, test.source->sso_region, "eu-west-1"));
	check_fault("half", EINVAL, "aws configure sso --profile half");
	check_fault("login", EACCES, "export-credentials");
}

Test(chain, a_file_that_cannot_be_read_is_named)
{
	put("config", "[default]\nhidden\n");
	const char *pairs[] = {"HOME=/nonexistent", NULL, NULL};
	char config[300];
	snprintf(config, sizeof(config), "AWS_CONFIG_FILE=%s/config", scratch_path);
	pairs[1] = config;
	cr_assert(zero(int, profile_env_from(pairs, &test.env)));
	cr_assert(eq(int, profile_files_read(&test.env, &test.files, &test.fault), -EINVAL));
	cr_assert(strstr(test.fault.text, "/config, line 2: ") != NULL, "%s", test.fault.text);
	cr_assert(strstr(test.fault.text, "hidden") == NULL);
}

Test(chain, the_null_device_stands_for_no_file)
{
	const char *pairs[] = {"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", NULL};
	cr_assert(zero(int, profile_env_from(pairs, &test.env)));
	cr_assert(zero(int, profile_files_read(&test.env, &test.files, &test.fault)), "%s", test.fault.text);
}

/* ---- region, endpoint ---- */

static void check_region(const char *wanted)
{
	const char *from, *found = aws_region(&test.env, &test.files, NULL, &from);
	cr_assert(eq(str, (char *)(found ?: "none"), (char *)wanted), "by %s", from);
}

Test(chain, the_region_is_found_in_order)
{
	put("config", "[default]\nregion=profile-1\n[profile bare]\noutput=json\n");
	PREPARE();
	check_region("profile-1");
	PREPARE("AWS_PROFILE=bare");
	check_region("none");
	PREPARE("AWS_DEFAULT_REGION=default-1");
	check_region("default-1");
	PREPARE("AWS_DEFAULT_REGION=default-1", "AWS_REGION=region-1");
	check_region("region-1");
}

static void check_endpoint(const struct auth_endpoints *endpoints, const char *service, const char *region,
			   const char *wanted)
{
	cleanup_free char *url = NULL;
	bool is_custom = false;
	int r = aws_endpoint(endpoints, &test.env, &test.files, NULL, service, region, &url, &is_custom,
			     &test.fault);
	cr_assert(zero(int, r), "%s", test.fault.text);
	cr_assert(eq(str, url, (char *)wanted));
	cr_assert(eq(int, is_custom, strstr(wanted, "amazonaws") == NULL));
}

Test(chain, endpoints_are_found_in_order)
{
	struct auth_endpoints none = {0}, all = {0}, single = {0};
	cleanup_json json_t *object =
		json_pack("{s:s, s:s}", "s3", "http://single/", "logs", "http://single-logs");
	cr_assert(zero(int, auth_endpoints_init("http://all", NULL, &all, NULL)));
	cr_assert(zero(int, auth_endpoints_init("http://all", object, &single, NULL)));
	put("config", "[default]\nservices=mine\nendpoint_url=http://profile\n"
		      "[services mine]\ns3=\n  endpoint_url=http://service/\n");
	PREPARE();
	check_endpoint(&none, "s3", "us-east-1", "http://service");
	check_endpoint(&none, "sts", "us-east-1", "http://profile");
	PREPARE("AWS_ENDPOINT_URL=http://env");
	check_endpoint(&none, "s3", "us-east-1", "http://env");
	PREPARE("AWS_ENDPOINT_URL=http://env", "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS=http://env-logs:80/x//");
	check_endpoint(&none, "cloudwatch_logs", "us-east-1", "http://env-logs:80/x");
	check_endpoint(&none, "s3", "us-east-1", "http://env");
	check_endpoint(&all, "s3", "us-east-1", "http://all");
	check_endpoint(&single, "s3", "us-east-1", "http://single");
	check_endpoint(&single, "cloudwatch_logs", "us-east-1", "http://single-logs");
	check_endpoint(&single, "sts", "us-east-1", "http://all");
	PREPARE("AWS_ENDPOINT_URL=http://env", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true");
	check_endpoint(&none, "s3", "eu-west-1", "https://s3.eu-west-1.amazonaws.com");
	check_endpoint(&none, "sagemaker", "cn-north-1", "https://api.sagemaker.cn-north-1.amazonaws.com.cn");
	check_endpoint(&none, "iam", "us-gov-west-1", "https://iam.us-gov.amazonaws.com");
	check_endpoint(&none, "iam", "eu-west-1", "https://iam.amazonaws.com");
	auth_endpoints_release(&all);
	auth_endpoints_release(&single);
}

Test(chain, what_is_no_endpoint_is_refused)
{
	struct auth_endpoints endpoints = {0};
	cleanup_json json_t *object = json_pack("{s:s}", "s3", "ftp://x");
	char *url = NULL;
	bool is_custom;
	cr_assert(eq(int, auth_endpoints_init("127.0.0.1:9000", NULL, &endpoints, &test.fault), -EINVAL));
	cr_assert(eq(int, auth_endpoints_init(NULL, object, &endpoints, &test.fault), -EINVAL));
	cr_assert(strstr(test.fault.text, "s3") != NULL);
	PREPARE("AWS_ENDPOINT_URL_S3=nonsense");
	cr_assert(
		eq(int,
		   aws_endpoint(&endpoints, &test.env, &test.files, NULL, "s3", "r", &url, &is_custom, NULL),
		   -EINVAL));
	cr_assert(eq(int,
		     aws_endpoint(&endpoints, &test.env, &test.files, NULL, "sts", "evil.com/", &url,
				  &is_custom, NULL),
		     -EINVAL));
}
