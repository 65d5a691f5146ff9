/* SPDX-License-Identifier: MIT */
/*
 * Which region, and which host for a service of it.
 * https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
 */
#include "auth/aws.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "str.h"

struct service {
	const char *id;      /* as in AWS_ENDPOINT_URL_ID, in lower case */
	const char *signing; /* its name in signatures */
	const char *host;    /* in front of ".REGION.amazonaws.com" */
};

static const struct service services[] = {
	{"s3", "s3", "s3"},
	{"sts", "sts", "sts"},
	{"sagemaker", "sagemaker", "api.sagemaker"},
	{"sagemaker_runtime", "sagemaker_runtime", "runtime.sagemaker"},
	{"cloudwatch_logs", "logs", "logs"},
	{"cloudwatch", "monitoring", "monitoring"},
	{"ecr", "ecr", "api.ecr"},
	{"iam", "iam", NULL},
	{"sso", "sso", "portal.sso"},
	{"sso_oidc", "sso_oidc", "oidc"},
};

const char *aws_region(const struct profile_env *env, const struct profile_files *files, const char *profile,
		       const char **ret_from)
{
	const char *unused;
	const char **from = ret_from ?: &unused;
	*from = "AWS_REGION";
	const char *region = profile_env_get(env, *from);
	if (!region) {
		*from = "AWS_DEFAULT_REGION";
		region = profile_env_get(env, *from);
	}
	if (!region) {
		*from = "the profile";
		region = profile_get(files, aws_profile_name(env, profile), "region");
	}
	return region;
}

/* ---- what a person has set up ---- */

static const char *env_endpoint(const struct profile_env *env, const struct service *service)
{
	char name[64] = "AWS_ENDPOINT_URL_";
	size_t n = strlen(name);
	for (const char *p = service->id; *p && n < sizeof(name) - 1; p++)
		name[n++] = (char)toupper((unsigned char)*p);
	return profile_env_get(env, name) ?: profile_env_get(env, "AWS_ENDPOINT_URL");
}

static const char *profile_endpoint(const struct profile_files *files, const char *profile,
				    const struct service *service)
{
	const char *group = profile_get(files, profile, "services");
	const char *url =
		group ? profile_get_config(files, PROFILE_SERVICES, group, service->id, "endpoint_url")
		      : NULL;
	return url ?: profile_get(files, profile, "endpoint_url");
}

static const char *configured_endpoint(const struct profile_env *env, const struct profile_files *files,
				       const char *profile, const struct service *service)
{
	const char *ignored = profile_get(files, profile, "ignore_configured_endpoint_urls");
	if (profile_env_is_true(env, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") ||
	    (ignored && !strcasecmp(ignored, "true")))
		return NULL;
	return env_endpoint(env, service) ?: profile_endpoint(files, profile, service);
}

/* ---- AWS's own hosts ---- */

static const char *region_suffix(const char *region)
{
	static const struct {
		const char *prefix, *suffix;
	} partition[] = {{"cn-", "amazonaws.com.cn"},    {"us-iso-", "c2s.ic.gov"},
			 {"us-isob-", "sc2s.sgov.gov"},  {"eu-isoe-", "cloud.adc-e.uk"},
			 {"us-isof-", "csp.hci.ic.gov"}, {"eusc-", "amazonaws.eu"}};
	for (size_t i = 0; i < sizeof(partition) / sizeof(partition[0]); i++) {
		if (str_has_prefix(region, partition[i].prefix))
			return partition[i].suffix;
	}
	return "amazonaws.com";
}

static int own_endpoint(const struct service *service, const char *region, char **ret)
{
	if (service->host)
		return str_format(ret, "https://%s.%s.%s", service->host, region, region_suffix(region));
	const char *where = str_has_prefix(region, "cn-")       ? ".cn-north-1"
			    : str_has_prefix(region, "us-gov-") ? ".us-gov"
								: "";
	return str_format(ret, "https://iam%s.%s", where, region_suffix(region));
}

static bool is_region(const char *region)
{
	size_t n = strspn(region, "abcdefghijklmnopqrstuvwxyz0123456789-");
	return n > 0 && n < 64 && region[n] == '\0';
}

int aws_endpoint(const struct auth_endpoints *endpoints, const struct profile_env *env,
		 const struct profile_files *files, const char *profile, const char *name, const char *region,
		 char **ret, bool *ret_is_custom, struct fault *reterr)
{
	const struct service *service = NULL;
	for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++) {
		if (!strcmp(services[i].id, name))
			service = &services[i];
	}
	if (!service)
		return fault_set(reterr, EINVAL, "%s: no such service of AWS", name);
	const char *url = auth_endpoints_get(endpoints, service->id, service->signing);
	if (!url)
		url = configured_endpoint(env, files, aws_profile_name(env, profile), service);
	if (url && !auth_is_http_url(url))
		return fault_set(reterr, EINVAL, "the endpoint of %s that is set up is no http or https URL",
				 name);
	if (!url && !is_region(region))
		return fault_set(reterr, EINVAL, "%s: no such region", region);
	int r = url ? auth_base_url(url, ret) : own_endpoint(service, region, ret);
	if (r == 0)
		*ret_is_custom = url;
	return r;
}
