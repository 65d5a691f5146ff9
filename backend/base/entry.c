/* SPDX-License-Identifier: MIT */
/* Names of states, and the release of what a backend's `get` fills. */
#include "entry.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const job_state_names[JOB_STATE_MAX] = {
	[JOB_SUBMITTING] = "SUBMITTING", [JOB_QUEUED] = "QUEUED",       [JOB_PREPARING] = "PREPARING",
	[JOB_RUNNING] = "RUNNING",       [JOB_SUCCEEDED] = "SUCCEEDED", [JOB_FAILED] = "FAILED",
	[JOB_CANCELLING] = "CANCELLING", [JOB_CANCELLED] = "CANCELLED", [JOB_UNKNOWN] = "UNKNOWN",
};

static const char *const version_state_names[VERSION_STATE_MAX] = {
	[VERSION_CREATING] = "CREATING",
	[VERSION_READY] = "READY",
	[VERSION_FAILED] = "FAILED",
	[VERSION_DELETING] = "DELETING",
};

static int name_find(const char *const *names, int n, const char *name)
{
	for (int i = 0; i < n; i++) {
		if (strcmp(names[i], name) == 0)
			return i;
	}
	return -EINVAL;
}

const char *job_state_name(enum job_state state)
{
	assert((int)state >= 0 && state < JOB_STATE_MAX);
	return job_state_names[state];
}

int job_state_parse(const char *name, enum job_state *ret)
{
	int r = name_find(job_state_names, JOB_STATE_MAX, name);
	if (r < 0)
		return r;
	*ret = (enum job_state)r;
	return 0;
}

bool job_state_is_ended(enum job_state state)
{
	return state == JOB_SUCCEEDED || state == JOB_FAILED || state == JOB_CANCELLED;
}

void job_detail_release(struct job_detail *detail)
{
	if (!detail)
		return;
	free(detail->why);
	free(detail->spec);
	free(detail->api);
	free(detail->url);
	free(detail->git);
	free(detail->output);
	free(detail->resumed_from);
	free(detail->version);
	for (size_t i = 0; i < detail->n_attempts; i++)
		free(detail->attempt[i].why);
	free(detail->attempt);
	free(detail->event);
	*detail = (struct job_detail){0};
}

const char *version_state_name(enum version_state state)
{
	assert((int)state >= 0 && state < VERSION_STATE_MAX);
	return version_state_names[state];
}

int version_state_parse(const char *name, enum version_state *ret)
{
	int r = name_find(version_state_names, VERSION_STATE_MAX, name);
	if (r < 0)
		return r;
	*ret = (enum version_state)r;
	return 0;
}

void model_detail_release(struct model_detail *detail)
{
	if (!detail)
		return;
	for (size_t i = 0; i < detail->n_versions; i++) {
		free(detail->version[i].name);
		free(detail->version[i].why);
		free(detail->version[i].job);
		free(detail->version[i].api);
	}
	free(detail->version);
	for (size_t i = 0; i < detail->n_aliases; i++) {
		free(detail->alias[i].name);
		free(detail->alias[i].version);
	}
	free(detail->alias);
	*detail = (struct model_detail){0};
}

void object_detail_release(struct object_detail *detail)
{
	if (!detail)
		return;
	free(detail->version);
	free(detail->content_type);
	free(detail->storage_class);
	free(detail->metadata);
	*detail = (struct object_detail){0};
}
