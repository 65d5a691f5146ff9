/* SPDX-License-Identifier: MIT */
/* The type `mem`: its options, and what is made at open. */
#include "mem/mem.h"
#include "mem/state.h"

#include "cleanup.h"
#include "clock.h"
#include "file.h"
#include "types.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>

struct mem *mem_of(struct backend *be)
{
	struct mem *mem = (struct mem *)be;

	assert(be && be->type == &mem->type);
	return mem;
}

static void mem_free(struct mem *mem)
{
	if (!mem)
		return;
	mem_jobs_release(mem);
	mem_models_release(mem);
	mem_objects_release(mem);
	for (size_t i = 0; i < mem->n_done; i++)
		free(mem->done[i]);
	free(mem->done);
	free(mem->control_path);
	free(mem->name);
	cleanup_close_(&mem->objects_fd);
	cleanup_close_(&mem->data_fd);
	cleanup_close_(&mem->state_fd);
	pthread_cond_destroy(&mem->changed);
	pthread_mutex_destroy(&mem->lock);
	pthread_mutex_destroy(&mem->control_lock);
	pthread_mutex_destroy(&mem->submit_lock);
	free(mem);
}

static void cleanup_mem_(struct mem **mem)
{
	mem_free(*mem);
}

static int mem_new(struct mem **ret)
{
	struct mem *mem = calloc(1, sizeof(*mem));
	if (!mem)
		return -ENOMEM;
	mem->state_fd = mem->objects_fd = mem->data_fd = -1;
	mem->max_block_ms = 60000;
	mem->page_rows = 100;
	mem->object_rows = 1000;
	mem->page_bytes = 8 << 20;
	mem->job_end = &mem->job;
	pthread_mutex_init(&mem->control_lock, NULL);
	pthread_mutex_init(&mem->submit_lock, NULL);
	pthread_mutex_init(&mem->lock, NULL);
	clock_condition_init(&mem->changed);
	*ret = mem;
	return 0;
}

static int wrong(const struct backend_conf *conf, const char *field, const char *want, struct fault *reterr)
{
	return fault_set(reterr, EINVAL, "%s: %s must be %s", conf->name, field, want);
}

static int set_number(struct mem *mem, const char *field, json_int_t value)
{
	if (strcmp(field, "max_block_ms") == 0 && value >= 0 && value <= 3600000)
		mem->max_block_ms = (int)value;
	else if (strcmp(field, "page") == 0 && value >= 1 && value <= 8192)
		mem->page_bytes = (mem->page_rows = mem->object_rows = (size_t)value) << 10;
	else
		return -EINVAL;
	return 0;
}

static int set_flag(struct mem *mem, const char *field, bool value)
{
	if (strcmp(field, "auto") == 0) {
		mem->is_auto = value;
	} else if (strcmp(field, "watch") == 0) {
		mem->job_ops.watch = value ? mem->job_ops.watch : NULL;
		mem->job_ops.wake = value ? mem->job_ops.wake : NULL;
	} else if (strcmp(field, "remove") == 0) {
		mem->job_ops.remove = value ? mem->job_ops.remove : NULL;
	} else if (strcmp(field, "models") == 0) {
		mem->type.models = value ? mem->type.models : NULL;
	} else if (strcmp(field, "buckets") == 0) {
		mem->type.buckets = value ? mem->type.buckets : NULL;
	} else if (strcmp(field, "objects") == 0) {
		mem->type.buckets = value ? &mem_object_ops : mem->type.buckets;
	} else {
		return -EINVAL;
	}
	return 0;
}

static int set_option(struct mem *mem, const struct backend_conf *conf, const char *field, json_t *value,
		      struct fault *reterr)
{
	static const char *const flags[] = {"auto", "watch", "remove", "models", "buckets", "objects"};

	if (strcmp(field, "control") == 0) {
		const char *path = json_string_value(value);
		if (!path || path[0] != '/')
			return wrong(conf, field, "an absolute path", reterr);
		mem->control_path = strdup(path);
		return mem->control_path ? 0 : -ENOMEM;
	}
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		if (strcmp(field, flags[i]) != 0)
			continue;
		if (!json_is_boolean(value))
			return wrong(conf, field, "true or false", reterr);
		return set_flag(mem, field, json_is_true(value));
	}
	if (strcmp(field, "max_block_ms") == 0 || strcmp(field, "page") == 0) {
		if (!json_is_integer(value) || set_number(mem, field, json_integer_value(value)) < 0)
			return wrong(conf, field, "a number in its bounds", reterr);
		return 0;
	}
	return fault_set(reterr, EINVAL, "%s: a remote of type mem has no field '%s'", conf->name, field);
}

static int open_state(struct mem *mem, const struct backend_conf *conf, struct fault *reterr)
{
	static const char *const dirs[] = {"packages", "buckets", "buckets/outputs", "models"};

	mem->state_fd = file_open_dir(AT_FDCWD, conf->state_dir);
	if (mem->state_fd < 0)
		return fault_set(reterr, -mem->state_fd, "%s: %s cannot be opened", conf->name,
				 conf->state_dir);
	int r = tree_remove(mem->state_fd, "models"); /* of a former process, whose models are forgotten */
	for (size_t i = 0; r == 0 && i < sizeof(dirs) / sizeof(dirs[0]); i++)
		r = file_make_dirs(mem->state_fd, dirs[i], 0755);
	return r < 0 ? fault_set(reterr, -r, "%s: %s cannot be made ready", conf->name, conf->state_dir) : 0;
}

static int mem_open(const struct backend_conf *conf, struct backend **ret, struct fault *reterr)
{
	__attribute__((cleanup(cleanup_mem_))) struct mem *mem = NULL;
	const char *field;
	json_t *value;

	int r = mem_new(&mem);
	if (r < 0)
		return r;
	mem->job_ops = mem_job_ops;
	mem->type = mem_type;
	mem->type.jobs = &mem->job_ops;
	mem->base.type = &mem->type;
	json_object_foreach ((json_t *)conf->options, field, value) {
		r = set_option(mem, conf, field, value, reterr);
		if (r < 0)
			return r;
	}
	mem->name = strdup(conf->name);
	if (!mem->name)
		return -ENOMEM;
	if (getrandom(&mem->epoch, sizeof(mem->epoch), 0) != sizeof(mem->epoch))
		return -EIO;
	r = open_state(mem, conf, reterr);
	if (r == 0)
		r = mem_jobs_load(mem, reterr);
	if (r == 0 && mem->type.buckets == &mem_object_ops)
		r = mem_log_open(mem, reterr);
	if (r < 0)
		return r;
	*ret = &STEAL(mem)->base;
	return 0;
}

static void mem_close(struct backend *be)
{
	if (be)
		mem_free(mem_of(be));
}

static void mem_check(struct backend *be, check_sink sink, void *arg)
{
	sink(arg, true, "a remote in memory: nothing to look at");
}

const struct backend_type mem_type = {
	.name = "mem",
	.open = mem_open,
	.close = mem_close,
	.check = mem_check,
	.jobs = &mem_job_ops,
	.models = &mem_model_ops,
	.buckets = &mem_bucket_ops,
};
