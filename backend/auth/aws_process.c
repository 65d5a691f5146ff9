/* SPDX-License-Identifier: MIT */
/*
 * credential_process: a program of the user's that prints keys.
 * https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html
 */
#include "auth/aws.h"

#include <errno.h>
#include <string.h>

#include "auth/command.h"
#include "cleanup.h"
#include "clock.h"

static void cleanup_argv(char ***argv)
{
	command_free(*argv);
}

int aws_keys_from_json(json_t *json, const char *token_name, struct auth_keys *ret)
{
	const char *id = json_string_value(json_object_get(json, "AccessKeyId"));
	const json_t *expiration = json_object_get(json, "Expiration");
	if (!id ||
	    (json_is_string(expiration) && clock_parse(json_string_value(expiration), &ret->expires_ns) < 0))
		return -EBADMSG;
	ret->id = strdup(id);
	int r = ret->id ? secret_take_json(&ret->secret, json, "SecretAccessKey") : -ENOMEM;
	if (r == -ENOENT)
		return -EBADMSG;
	if (r == 0)
		r = secret_take_json(&ret->token, json, token_name);
	return r == -ENOENT ? 0 : r;
}

static int run(const struct aws_context *context, const struct aws_source *source, struct str *ret,
	       struct fault *reterr)
{
	__attribute__((cleanup(cleanup_argv))) char **argv = NULL;
	int status = 0;
	int r = command_split(source->command, &argv);
	if (r == -EINVAL)
		return fault_set(reterr, EINVAL, "%s: the command cannot be split into words", source->from);
	if (r == 0)
		r = command_run(argv, COMMAND_LIMIT_MS, context->cancel, ret, &status);
	if (r == 0 || r == -EINTR || r == -ENOMEM)
		return r;
	if (r == -ECHILD)
		return fault_set(reterr, EACCES, "%s ended with status %d: run it by hand to see why",
				 source->from, status);
	if (r == -ETIMEDOUT)
		return fault_set(reterr, ETIMEDOUT, "%s took longer than %d s, and was stopped", source->from,
				 COMMAND_LIMIT_MS / 1000);
	if (r == -EFBIG)
		return fault_set(reterr, EBADMSG, "%s printed more than %d bytes", source->from,
				 COMMAND_OUTPUT_MAX);
	return fault_set(reterr, EACCES, "%s cannot be started: %s", source->from, strerrordesc_np(-r));
}

int aws_process_fetch(const struct aws_context *context, const struct aws_source *source,
		      struct auth_keys *ret, struct fault *reterr)
{
	cleanup_secret_str struct str output = {0};
	int r = run(context, source, &output, reterr);
	if (r < 0)
		return r;
	cleanup_json json_t *json = json_loadb(output.data ?: "", output.len, 0, NULL);
	r = json_integer_value(json_object_get(json, "Version")) == 1
		    ? aws_keys_from_json(json, "SessionToken", ret)
		    : -EBADMSG;
	if (r == -EBADMSG)
		return fault_set(
			reterr, EBADMSG,
			"%s did not print {\"Version\": 1, \"AccessKeyId\", \"SecretAccessKey\", ...}",
			source->from);
	return r;
}
