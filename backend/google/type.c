/* SPDX-License-Identifier: MIT */
/*
 * Google Cloud. Reading order: address.c and call.c (one call), parse.c and errors.c (what Cloud Storage answers),
 * buckets.c and objects.c (what the tree asks for), upload.c (objects that are sent in chunks).
 */
#include <errno.h>
#include <string.h>

#include "auth/profile.h"
#include "base/check.h"
#include "base/options.h"
#include "clock.h"
#include "google/google.h"

/* The fields of config.yaml; texts are borrowed from it. */
struct google_fields {
	const char *project, *region, *bucket, *endpoint;
	const json_t *endpoints;
};

static int google_fields_parse(const json_t *options, struct google_fields *ret, struct fault *reterr)
{
	const struct option_text text[] = {{"project", &ret->project},
					   {"region", &ret->region},
					   {"bucket", &ret->bucket},
					   {"endpoint", &ret->endpoint}};
	int r = options_parse(options, "a google remote", text, sizeof(text) / sizeof(*text), &ret->endpoints,
			      reterr);
	if (r < 0)
		return r;
	if (ret->bucket && !google_is_bucket_name(ret->bucket))
		return fault_set(reterr, EINVAL, "bucket: \"%s\" is no bucket's name", ret->bucket);
	return 0;
}

static void google_close(struct backend *be)
{
	if (!be)
		return;
	struct google *google = google_of(be);
	google_credentials_free(google->credentials);
	http_client_free(google->client);
	http_free(google->http);
	free(google->bucket);
	free(google->region);
	free(google->storage);
	free(google);
}

/* An emulator that the environment names has no accounts; one that the options name may. */
static int google_is_emulated(const struct google_fields *fields, bool *ret)
{
	struct profile_env env = {0};
	int r = profile_env_read(&env);
	if (r < 0)
		return r;
	*ret = !fields->endpoint && !json_object_get(fields->endpoints, "storage") &&
	       profile_env_get(&env, "STORAGE_EMULATOR_HOST");
	profile_env_release(&env);
	return 0;
}

static int google_init(struct google *google, const struct backend_conf *conf, struct fault *reterr)
{
	struct google_fields fields = {0};
	bool is_emulated = false, is_custom;
	int r = google_fields_parse(conf->options, &fields, reterr);
	if (r < 0)
		return r;
	r = http_new(&google->http, reterr);
	if (r < 0)
		return r;
	r = str_dup(fields.bucket, &google->bucket) ?: str_dup(fields.region, &google->region);
	if (r == 0)
		r = google_is_emulated(&fields, &is_emulated);
	if (r == 0)
		r = http_client_new(google->http, conf->name, &google->client);
	if (r < 0)
		return r;
	const struct google_options options = {
		.client = google->client,
		.project = fields.project,
		.endpoint = fields.endpoint,
		.endpoints = fields.endpoints,
		.is_anonymous = is_emulated,
	};
	r = google_credentials_new(&options, &google->credentials, reterr);
	if (r < 0)
		return r;
	return google_credentials_endpoint(google->credentials, "storage", &google->storage, &is_custom,
					   reterr);
}

static int google_open(const struct backend_conf *conf, struct backend **ret, struct fault *reterr)
{
	struct google *google = calloc(1, sizeof(*google));
	if (!google)
		return -ENOMEM;
	google->base.type = &google_type;
	int r = google_init(google, conf, reterr);
	if (r < 0) {
		google_close(&google->base);
		return r;
	}
	*ret = &google->base;
	return 0;
}

/* ---- trainfs check ---- */

static void google_check_bucket(struct google *google, check_sink sink, void *arg)
{
	struct object_page page;
	struct fault fault = {0};
	cleanup_free char *subject = NULL;
	if (str_format(&subject, "bucket %s", google->bucket) < 0)
		return;
	int r = google_bucket_ops.objects(&google->base, google->bucket, "", false, "", 1, check_pass_object,
					  NULL, &page, &fault);
	if (r == -ENOENT)
		r = fault_set(&fault, ENOENT,
			      "there is no such bucket; make it: gcloud storage buckets create gs://%s",
			      google->bucket);
	check_tell(sink, arg, r, &fault, subject, "may be listed", "cannot be listed");
	if (r < 0)
		return;
	r = google_upload_try(google, google->bucket, ".trainfs-check", &fault);
	check_tell(sink, arg, r, &fault, subject, "may be written to", "cannot be written to");
}

static void google_check(struct backend *be, check_sink sink, void *arg)
{
	struct google *google = google_of(be);
	struct fault fault = {0};
	cleanup_free char *place = NULL;
	char seen[64];
	unsigned n = 0;
	if (str_format(&place, "Cloud Storage: %s", google->storage) == 0)
		sink(arg, true, place);
	google_credentials_describe(google->credentials, GOOGLE_SCOPE_ALL, clock_wall_ns(), sink, arg);
	int r = google_bucket_ops.list(be, check_count_name, &n, &fault);
	snprintf(seen, sizeof(seen), "%u to be seen", n);
	check_tell(sink, arg, r, &fault, "buckets", seen, "cannot be listed");
	if (google->bucket)
		google_check_bucket(google, sink, arg);
}

static void google_numbers(struct backend *be, number_sink sink, void *arg)
{
	http_client_numbers(google_of(be)->client, sink, arg);
}

const struct backend_type google_type = {
	.name = "google",
	.open = google_open,
	.close = google_close,
	.check = google_check,
	.numbers = google_numbers,
	.buckets = &google_bucket_ops,
};
