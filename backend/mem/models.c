/* SPDX-License-Identifier: MIT */
/*
 * Models of mem. A version is CREATING while its files are copied to models/M/V, then READY, or FAILED with the
 * reason; a FAILED one is begun anew by the next version_create.
 */
#include "mem/state.h"

#include "cleanup.h"
#include "clock.h"
#include "file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

void mem_models_release(struct mem *mem)
{
	while (mem->model) {
		struct mem_model *model = mem->model;
		mem->model = model->next;
		model_detail_release(&model->detail);
		free(model->name);
		free(model);
	}
}

static struct mem_model *model_find_locked(struct mem *mem, const char *name)
{
	struct mem_model *model = mem->model;

	while (model && strcmp(model->name, name) != 0)
		model = model->next;
	return model;
}

static int model_add_locked(struct mem *mem, const char *name, struct mem_model **ret)
{
	struct mem_model *model = calloc(1, sizeof(*model));
	if (!model)
		return -ENOMEM;
	model->name = strdup(name);
	if (!model->name) {
		free(model);
		return -ENOMEM;
	}
	model->next = mem->model;
	mem->model = model;
	mem_touch_locked(mem);
	*ret = model;
	return 0;
}

static struct version_entry *version_find(const struct mem_model *model, const char *name)
{
	for (size_t i = 0; i < model->detail.n_versions; i++) {
		if (strcmp(model->detail.version[i].name, name) == 0)
			return &model->detail.version[i];
	}
	return NULL;
}

static struct alias_entry *alias_find(const struct mem_model *model, const char *name)
{
	for (size_t i = 0; i < model->detail.n_aliases; i++) {
		if (strcmp(model->detail.alias[i].name, name) == 0)
			return &model->detail.alias[i];
	}
	return NULL;
}

static int no_model(const struct mem *mem, const char *name, struct fault *reterr)
{
	return fault_set(reterr, ENOENT, "%s: there is no model %s", mem->name, name);
}

static int no_version(const struct mem *mem, const char *model, const char *version, struct fault *reterr)
{
	return fault_set(reterr, ENOENT, "%s: model %s has no version %s", mem->name, model, version);
}

static int check_name(const struct mem *mem, const char *what, const char *name, struct fault *reterr)
{
	if (str_is_plain_name(name))
		return 0;
	return fault_set(reterr, EINVAL, "%s: '%s' cannot be the name of %s", mem->name, name, what);
}

/* ---- models ---- */

static int copy_names_locked(struct mem *mem, char ***ret, size_t *ret_n)
{
	size_t n = 0, i = 0;

	for (struct mem_model *model = mem->model; model; model = model->next)
		n++;
	char **name = calloc(n + 1, sizeof(*name));
	if (!name)
		return -ENOMEM;
	*ret = name;
	*ret_n = n;
	for (struct mem_model *model = mem->model; model; model = model->next) {
		name[i] = strdup(model->name);
		if (!name[i++])
			return -ENOMEM;
	}
	return 0;
}

static int list_models(struct backend *be, name_sink sink, void *arg, struct fault *reterr)
{
	struct mem *mem = mem_of(be);
	char **name = NULL;
	size_t n = 0;

	int r = mem_enter(mem, MEM_MODEL_LIST, reterr);
	if (r < 0)
		return r;
	{
		LOCK_SCOPE(&mem->lock);
		r = copy_names_locked(mem, &name, &n);
	}
	for (size_t i = 0; i < n; i++) {
		if (r == 0)
			r = sink(arg, name[i]);
		free(name[i]);
	}
	free(name);
	return mem_leave(mem, MEM_MODEL_LIST, r, reterr);
}

static int copy_detail(const struct model_detail *from, struct model_detail *ret)
{
	ret->version = calloc(from->n_versions + 1, sizeof(*ret->version));
	ret->alias = calloc(from->n_aliases + 1, sizeof(*ret->alias));
	if (!ret->version || !ret->alias)
		return -ENOMEM;
	for (size_t i = 0; i < from->n_versions; i++) {
		const struct version_entry *v = &from->version[i];
		struct version_entry *copy = &ret->version[ret->n_versions++];
		copy->state = v->state;
		copy->created_ns = v->created_ns;
		if (!mem_copy_text(v->name, &copy->name) || !mem_copy_text(v->why, &copy->why) ||
		    !mem_copy_text(v->job, &copy->job) || !mem_copy_text(v->api, &copy->api))
			return -ENOMEM;
	}
	for (size_t i = 0; i < from->n_aliases; i++) {
		struct alias_entry *copy = &ret->alias[ret->n_aliases++];
		if (!mem_copy_text(from->alias[i].name, &copy->name) ||
		    !mem_copy_text(from->alias[i].version, &copy->version))
			return -ENOMEM;
	}
	return 0;
}

static int model_copy(struct mem *mem, const char *name, struct model_detail *ret, struct fault *reterr)
{
	LOCK_SCOPE(&mem->lock);
	struct mem_model *model = model_find_locked(mem, name);

	return model ? copy_detail(&model->detail, ret) : no_model(mem, name, reterr);
}

static int get_model(struct backend *be, const char *name, struct model_detail *ret, struct fault *reterr)
{
	struct mem *mem = mem_of(be);
	int r = mem_enter(mem, MEM_MODEL_GET, reterr);
	if (r == 0)
		r = model_copy(mem, name, ret, reterr);
	return mem_leave(mem, MEM_MODEL_GET, r, reterr);
}

static int model_add(struct mem *mem, const char *name, struct fault *reterr)
{
	struct mem_model *model;

	LOCK_SCOPE(&mem->lock);
	if (model_find_locked(mem, name))
		return fault_set(reterr, EEXIST, "%s: there is a model %s already", mem->name, name);
	return model_add_locked(mem, name, &model);
}

static int create_model(struct backend *be, const char *name, struct fault *reterr)
{
	struct mem *mem = mem_of(be);
	int r = mem_enter(mem, MEM_MODEL_CREATE, reterr);
	if (r == 0)
		r = check_name(mem, "a model", name, reterr);
	if (r == 0)
		r = model_add(mem, name, reterr);
	return mem_leave(mem, MEM_MODEL_CREATE, r, reterr);
}

static int model_delete(struct mem *mem, const char *name, struct fault *reterr)
{
	LOCK_SCOPE(&mem->lock);
	struct mem_model **at = &mem->model;

	while (*at && strcmp((*at)->name, name) != 0)
		at = &(*at)->next;
	struct mem_model *model = *at;
	if (!model)
		return no_model(mem, name, reterr);
	if (model->detail.n_versions > 0)
		return fault_set(reterr, EBUSY, "%s: model %s has versions: delete them first", mem->name,
				 name);
	*at = model->next;
	model_detail_release(&model->detail);
	free(model->name);
	free(model);
	mem_touch_locked(mem);
	return 0;
}

static int remove_model(struct backend *be, const char *name, struct fault *reterr)
{
	struct mem *mem = mem_of(be);
	int r = mem_enter(mem, MEM_MODEL_REMOVE, reterr);
	if (r == 0)
		r = model_delete(mem, name, reterr);
	return mem_leave(mem, MEM_MODEL_REMOVE, r, reterr);
}

/* ---- versions ---- */

static int check_version(struct backend *be, const char *model, const char *version, struct fault *reterr)
{
	struct mem *mem = mem_of(be);
	int r = mem_enter(mem, MEM_MODEL_CHECK, reterr);
	if (r == 0)
		r = check_name(mem, "a model", model, reterr);
	if (r == 0)
		r = check_name(mem, "a version", version, reterr);
	return mem_leave(mem, MEM_MODEL_CHECK, r, reterr);
}

/* A new entry in its place; its fields but the name are empty. */
static int version_insert(struct mem_model *model, const char *name, struct version_entry **ret)
{
	struct model_detail *detail = &model->detail;
	struct version_entry *grown = realloc(detail->version, (detail->n_versions + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	detail->version = grown;
	char *copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	size_t at = 0;
	while (at < detail->n_versions && strcmp(grown[at].name, name) < 0)
		at++;
	memmove(&grown[at + 1], &grown[at], (detail->n_versions - at) * sizeof(*grown));
	detail->n_versions++;
	grown[at] = (struct version_entry){.name = copy};
	*ret = &grown[at];
	return 0;
}

static void version_delete(struct mem_model *model, struct version_entry *v)
{
	struct model_detail *detail = &model->detail;
	size_t at = (size_t)(v - detail->version);

	free(v->name);
	free(v->why);
	free(v->job);
	free(v->api);
	detail->n_versions--;
	memmove(v, v + 1, (detail->n_versions - at) * sizeof(*v));
}

static int alias_put(struct mem_model *model, const char *name, const char *version)
{
	struct model_detail *detail = &model->detail;
	struct alias_entry *alias = alias_find(model, name);
	char *version_copy = strdup(version);
	if (!version_copy)
		return -ENOMEM;
	if (alias) {
		free(alias->version);
		alias->version = version_copy;
		return 0;
	}
	struct alias_entry *grown = realloc(detail->alias, (detail->n_aliases + 1) * sizeof(*grown));
	char *name_copy = strdup(name);
	if (grown)
		detail->alias = grown;
	if (!grown || !name_copy) {
		free(name_copy);
		free(version_copy);
		return -ENOMEM;
	}
	size_t at = 0;
	while (at < detail->n_aliases && strcmp(grown[at].name, name) < 0)
		at++;
	memmove(&grown[at + 1], &grown[at], (detail->n_aliases - at) * sizeof(*grown));
	grown[at] = (struct alias_entry){.name = name_copy, .version = version_copy};
	detail->n_aliases++;
	return 0;
}

/* The entry in state CREATING, and the job's model, which its output lies under. */
static int begin_version_locked(struct mem *mem, const char *model_name, const char *version,
				const char *job_id, char **ret_job_model, struct fault *reterr)
{
	struct mem_job *job = job_id ? mem_job_find_locked(mem, job_id) : NULL;
	struct mem_model *model = model_find_locked(mem, model_name);
	struct version_entry *v = model ? version_find(model, version) : NULL;

	if (v && v->state == VERSION_READY)
		return fault_set(reterr, EEXIST, "%s: version %s of %s is there already", mem->name, version,
				 model_name);
	if (v && v->state != VERSION_FAILED)
		return fault_set(reterr, EBUSY, "%s: version %s of %s is being made", mem->name, version,
				 model_name);
	if (model && alias_find(model, version))
		return fault_set(reterr, EEXIST, "%s: %s is an alias of %s", mem->name, version, model_name);
	if (job_id && !job)
		return fault_set(reterr, ENOENT, "%s: there is no job %s", mem->name, job_id);
	if (job && job->state != JOB_SUCCEEDED)
		return fault_set(reterr, EBUSY, "%s: job %s is %s: a version is made of one that succeeded",
				 mem->name, job_id, job_state_name(job->state));
	int r = 0;
	if (job && !mem_copy_text(job->model, ret_job_model))
		return -ENOMEM;
	if (!model)
		r = model_add_locked(mem, model_name, &model);
	if (r == 0 && v)
		version_delete(model, v);
	if (r == 0)
		r = version_insert(model, version, &v);
	if (r == 0 && !mem_copy_text(job_id, &v->job))
		r = -ENOMEM;
	if (r < 0)
		return r;
	v->state = VERSION_CREATING;
	v->created_ns = clock_wall_ns();
	mem_touch_locked(mem);
	return 0;
}

static bool is_empty(int dirfd, const char *path)
{
	cleanup_closedir DIR *dir = NULL;
	int fd = file_open_dir(dirfd, path);
	if (fd < 0)
		return true;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return true;
	}
	size_t n = 0;
	while (readdir(dir))
		n++;
	return n <= 2;
}

static int copy_artifacts(struct mem *mem, const char *model, const char *version, const char *job,
			  const char *job_model, const char *dir, struct fault *reterr)
{
	cleanup_free char *parent = NULL, *to = NULL, *output = NULL, *output_model = NULL;

	int r = str_format(&parent, "models/%s", model);
	if (r == 0)
		r = str_format(&to, "models/%s/%s", model, version);
	if (r == 0 && job)
		r = str_format(&output, "buckets/outputs/%s/%s", job_model, job);
	if (r == 0 && job)
		r = str_format(&output_model, "%s/model", output);
	if (r == 0)
		r = file_make_dirs(mem->state_fd, parent, 0755);
	if (r == 0)
		r = tree_remove(mem->state_fd, to);
	if (r < 0)
		return r;
	if (dir)
		return tree_copy(AT_FDCWD, dir, mem->state_fd, to, reterr);
	return tree_copy(mem->state_fd, is_empty(mem->state_fd, output_model) ? output : output_model,
			 mem->state_fd, to, reterr);
}

/* READY, the first one as default; or FAILED. */
static int end_version_locked(struct mem *mem, const char *model_name, const char *version, int r,
			      const struct fault *fault)
{
	struct mem_model *model = model_find_locked(mem, model_name);
	struct version_entry *v = model ? version_find(model, version) : NULL;

	assert(v); /* nothing deletes a version that is CREATING */
	if (r == 0 && !alias_find(model, "default"))
		r = alias_put(model, "default", version);
	v->state = r == 0 ? VERSION_READY : VERSION_FAILED;
	if (r < 0)
		(void)mem_copy_text(fault->text[0] ? fault->text : fault_name(-r),
				    &v->why); /* none, without memory */
	struct mem_job *job = v->job && r == 0 ? mem_job_find_locked(mem, v->job) : NULL;
	if (job && !job->version)
		r = str_format(&job->version, "%s/%s", model_name, version);
	mem_touch_locked(mem);
	return r;
}

static int create_version(struct backend *be, const char *model, const char *version, const char *job,
			  const char *dir, struct fault *reterr)
{
	struct mem *mem = mem_of(be);
	cleanup_free char *job_model = NULL;
	struct fault fault = {0};

	int r = check_name(mem, "a model", model, reterr);
	if (r == 0)
		r = check_name(mem, "a version", version, reterr);
	if (r < 0)
		return r;
	{
		LOCK_SCOPE(&mem->lock);
		r = begin_version_locked(mem, model, version, job, &job_model, reterr);
		if (r < 0)
			return r;
	}
	r = mem_enter(mem, MEM_VERSION_CREATE, &fault); /* here, so that a slow one is seen CREATING */
	if (r == 0)
		r = copy_artifacts(mem, model, version, job, job_model, dir, &fault);
	{
		LOCK_SCOPE(&mem->lock);
		r = end_version_locked(mem, model, version, r, &fault);
	}
	if (r < 0 && reterr && fault.err)
		*reterr = fault;
	return mem_leave(mem, MEM_VERSION_CREATE, r, reterr);
}

static int version_drop(struct mem *mem, const char *model_name, const char *version, struct fault *reterr)
{
	LOCK_SCOPE(&mem->lock);
	struct mem_model *model = model_find_locked(mem, model_name);
	if (!model)
		return no_model(mem, model_name, reterr);
	struct version_entry *v = version_find(model, version);
	if (!v)
		return no_version(mem, model_name, version, reterr);
	for (size_t i = 0; i < model->detail.n_aliases; i++) {
		if (strcmp(model->detail.alias[i].version, version) == 0)
			return fault_set(reterr, EBUSY, "%s: version %s of %s is in use as %s", mem->name,
					 version, model_name, model->detail.alias[i].name);
	}
	if (v->state == VERSION_CREATING)
		return fault_set(reterr, EBUSY, "%s: version %s of %s is being made", mem->name, version,
				 model_name);
	version_delete(model, v);
	mem_touch_locked(mem);
	cleanup_free char *path = NULL;
	int r = str_format(&path, "models/%s/%s", model_name, version);
	return r < 0 ? r : tree_remove(mem->state_fd, path);
}

static int remove_version(struct backend *be, const char *model, const char *version, struct fault *reterr)
{
	struct mem *mem = mem_of(be);
	int r = mem_enter(mem, MEM_VERSION_REMOVE, reterr);
	if (r == 0)
		r = version_drop(mem, model, version, reterr);
	return mem_leave(mem, MEM_VERSION_REMOVE, r, reterr);
}

static int artifacts_dir(struct backend *be, const char *model_name, const char *version, int *ret_fd,
			 struct fault *reterr)
{
	struct mem *mem = mem_of(be);
	cleanup_free char *path = NULL;

	int r = mem_enter(mem, MEM_ARTIFACTS, reterr);
	if (r < 0)
		return r;
	{
		LOCK_SCOPE(&mem->lock);
		struct mem_model *model = model_find_locked(mem, model_name);
		struct version_entry *v = model ? version_find(model, version) : NULL;
		if (!v || v->state != VERSION_READY)
			return no_version(mem, model_name, version, reterr);
		r = str_format(&path, "models/%s/%s", model_name, version);
		if (r < 0)
			return r;
	}
	cleanup_close int fd = file_open_dir(mem->state_fd, path);
	if (fd < 0)
		return fd;
	r = mem_leave(mem, MEM_ARTIFACTS, 0, reterr);
	if (r == 0)
		*ret_fd = STEAL_FD(fd);
	return r;
}

/* ---- aliases ---- */

static int alias_set(struct mem *mem, const char *model_name, const char *alias, const char *version,
		     struct fault *reterr)
{
	LOCK_SCOPE(&mem->lock);
	struct mem_model *model = model_find_locked(mem, model_name);
	if (!model)
		return no_model(mem, model_name, reterr);
	struct version_entry *v = version_find(model, version);
	if (!v)
		return no_version(mem, model_name, version, reterr);
	if (v->state != VERSION_READY)
		return fault_set(reterr, EBUSY, "%s: version %s of %s is %s, not READY", mem->name, version,
				 model_name, version_state_name(v->state));
	if (version_find(model, alias))
		return fault_set(reterr, EEXIST, "%s: %s is a version of %s", mem->name, alias, model_name);
	int r = alias_put(model, alias, version);
	mem_touch_locked(mem);
	return r;
}

static int set_alias(struct backend *be, const char *model, const char *alias, const char *version,
		     struct fault *reterr)
{
	struct mem *mem = mem_of(be);
	int r = mem_enter(mem, MEM_ALIAS_SET, reterr);
	if (r == 0)
		r = check_name(mem, "an alias", alias, reterr);
	if (r == 0)
		r = alias_set(mem, model, alias, version, reterr);
	return mem_leave(mem, MEM_ALIAS_SET, r, reterr);
}

static int alias_delete(struct mem *mem, const char *model_name, const char *name, struct fault *reterr)
{
	LOCK_SCOPE(&mem->lock);
	struct mem_model *model = model_find_locked(mem, model_name);
	if (!model)
		return no_model(mem, model_name, reterr);
	struct alias_entry *alias = alias_find(model, name);
	if (!alias)
		return fault_set(reterr, ENOENT, "%s: model %s has no alias %s", mem->name, model_name, name);
	size_t at = (size_t)(alias - model->detail.alias);
	free(alias->name);
	free(alias->version);
	model->detail.n_aliases--;
	memmove(alias, alias + 1, (model->detail.n_aliases - at) * sizeof(*alias));
	mem_touch_locked(mem);
	return 0;
}

static int remove_alias(struct backend *be, const char *model, const char *alias, struct fault *reterr)
{
	struct mem *mem = mem_of(be);
	int r = mem_enter(mem, MEM_ALIAS_REMOVE, reterr);
	if (r == 0)
		r = alias_delete(mem, model, alias, reterr);
	return mem_leave(mem, MEM_ALIAS_REMOVE, r, reterr);
}

const struct model_ops mem_model_ops = {
	.list = list_models,
	.get = get_model,
	.create = create_model,
	.remove = remove_model,
	.check = check_version,
	.version_create = create_version,
	.version_remove = remove_version,
	.artifacts_dir = artifacts_dir,
	.alias_set = set_alias,
	.alias_remove = remove_alias,
};
