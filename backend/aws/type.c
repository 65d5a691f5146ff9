/* SPDX-License-Identifier: MIT */
/*
 * Amazon Web Services. Reading order: call.c (one call, sent where its bucket is), parse.c and errors.c (what S3
 * answers), buckets.c and objects.c (what the tree asks for), upload.c with leftover.c (objects in parts).
 */
#include <errno.h>
#include <libxml/parser.h>
#include <string.h>

#include "aws/aws.h"
#include "base/check.h"
#include "base/options.h"
#include "clock.h"

/* The fields of config.yaml; texts are borrowed from it. */
struct aws_fields {
	const char *profile, *region, *bucket, *role, *endpoint;
	const json_t *endpoints;
};

static int aws_fields_parse(const json_t *options, struct aws_fields *ret, struct fault *reterr)
{
	const struct option_text text[] = {{"profile", &ret->profile},
					   {"region", &ret->region},
					   {"bucket", &ret->bucket},
					   {"role", &ret->role},
					   {"endpoint", &ret->endpoint}};
	int r = options_parse(options, "an aws remote", text, sizeof(text) / sizeof(*text), &ret->endpoints,
			      reterr);
	if (r < 0)
		return r;
	if (ret->region && !aws_is_region(ret->region))
		return fault_set(reterr, EINVAL, "region: \"%s\" is no region's name, as us-east-1",
				 ret->region);
	if (ret->bucket && !aws_is_bucket_name(ret->bucket))
		return fault_set(reterr, EINVAL, "bucket: \"%s\" is no bucket's name", ret->bucket);
	return 0;
}

static void aws_close(struct backend *be)
{
	if (!be)
		return;
	struct aws *aws = aws_of(be);
	aws_credentials_free(aws->credentials);
	http_client_free(aws->client);
	http_free(aws->http);
	json_decref(aws->regions);
	json_decref(aws->places);
	free(aws->region);
	free(aws->bucket);
	free(aws->role);
	free(aws->state_dir);
	pthread_mutex_destroy(&aws->lock);
	free(aws);
}

static int aws_copy_fields(struct aws *aws, const struct aws_fields *fields, const char *state_dir)
{
	aws->regions = json_object();
	aws->places = json_object();
	if (!aws->regions || !aws->places)
		return -ENOMEM;
	return str_dup(fields->bucket, &aws->bucket)
		       ?: str_dup(fields->role, &aws->role)
		       ?: str_dup(state_dir, &aws->state_dir);
}

static int aws_init(struct aws *aws, const struct backend_conf *conf, struct fault *reterr)
{
	struct aws_fields fields = {0};
	int r = aws_fields_parse(conf->options, &fields, reterr);
	if (r < 0)
		return r;
	r = aws_copy_fields(aws, &fields, conf->state_dir);
	if (r < 0)
		return fault_set(reterr, -r, "aws: open: %s", strerror(-r));
	r = http_new(&aws->http, reterr);
	if (r < 0)
		return r;
	r = http_client_new(aws->http, conf->name, &aws->client);
	if (r < 0)
		return fault_set(reterr, -r, "aws: open: %s", strerror(-r));
	const struct aws_options options = {
		.client = aws->client,
		.profile = fields.profile,
		.region = fields.region,
		.endpoint = fields.endpoint,
		.endpoints = fields.endpoints,
	};
	return aws_credentials_new(&options, &aws->credentials, reterr);
}

static int aws_open(const struct backend_conf *conf, struct backend **ret, struct fault *reterr)
{
	struct aws *aws = calloc(1, sizeof(*aws));
	if (!aws)
		return fault_set(reterr, ENOMEM, "aws: open: %s", strerror(ENOMEM));
	aws->base.type = &aws_type;
	pthread_mutex_init(&aws->lock, NULL);
	xmlInitParser();
	int r = aws_init(aws, conf, reterr);
	if (r < 0) {
		aws_close(&aws->base);
		return r;
	}
	*ret = &aws->base;
	return 0;
}

/* ---- trainfs check ---- */

/* Beginning an upload and ending it changes nothing, and asks for the right to write. */
static int aws_check_write(struct aws *aws, const char *bucket, struct fault *reterr)
{
	cleanup_free char *id = NULL;
	int r = aws_upload_create(aws, bucket, ".trainfs-check", NULL, &id, reterr);
	return r < 0 ? r : aws_abort(aws, bucket, ".trainfs-check", id, reterr);
}

static void aws_check_bucket(struct aws *aws, check_sink sink, void *arg)
{
	struct object_page page;
	struct fault fault = {0};
	cleanup_free char *subject = NULL;
	if (str_format(&subject, "bucket %s", aws->bucket) < 0)
		return;
	int r = aws_bucket_ops.objects(&aws->base, aws->bucket, "", false, "", 1, check_pass_object, NULL,
				       &page, &fault);
	check_tell(sink, arg, r, &fault, subject, "may be listed", "cannot be listed");
	if (r < 0)
		return;
	r = aws_check_write(aws, aws->bucket, &fault);
	check_tell(sink, arg, r, &fault, subject, "may be written to", "cannot be written to");
}

static void aws_check(struct backend *be, check_sink sink, void *arg)
{
	struct aws *aws = aws_of(be);
	struct fault fault = {0};
	cleanup_free char *seen = NULL;
	unsigned n = 0;
	aws_credentials_describe(aws->credentials, clock_wall_ns(), sink, arg);
	int r = aws_bucket_ops.list(be, check_count_name, &n, &fault);
	if (str_format(&seen, "%u to be seen", n) == 0)
		check_tell(sink, arg, r, &fault, "buckets", seen, "cannot be listed");
	if (aws->bucket)
		aws_check_bucket(aws, sink, arg);
}

static void aws_numbers(struct backend *be, number_sink sink, void *arg)
{
	http_client_numbers(aws_of(be)->client, sink, arg);
}

const struct backend_type aws_type = {
	.name = "aws",
	.open = aws_open,
	.close = aws_close,
	.check = aws_check,
	.numbers = aws_numbers,
	.buckets = &aws_bucket_ops,
};
