/* SPDX-License-Identifier: MIT */
/*
 * The only way into a backend, with buckets.c: each wrapper asserts what the caller owes, answers for an operation that
 * is missing, makes sure that a failure carries its sentence, and logs at debug.
 */
#include "answer.h"

#include "cleanup.h"
#include "log.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

static void explain(struct fault *fault, int err, const struct backend *be, const char *op, const char *what)
{
	if (fault->err == 0 || !fault->text[0])
		(void)fault_set(fault, err, "%s: %s %s: %s", be->type->name, op, what,
				strerrordesc_np(err) ?: "failed");
	fault->err = err;
}

static pthread_mutex_t count_lock =
	PTHREAD_MUTEX_INITIALIZER; /* of every backend's counts: held for a moment */

static void count(struct backend *be, const char *op, bool has_failed)
{
	LOCK_SCOPE(&count_lock);
	for (int i = 0; i < BACKEND_COUNTS_MAX; i++) {
		struct backend_count *at = &be->count[i];
		if (at->op && strcmp(at->op, op) != 0)
			continue;
		at->op = op;
		at->n_calls++;
		at->n_failures += has_failed;
		return;
	}
}

void backend_counts(const struct backend *be, struct backend_count ret[static BACKEND_COUNTS_MAX])
{
	LOCK_SCOPE(&count_lock);
	memcpy(ret, be->count, sizeof(be->count));
}

int backend_answer(struct backend *be, const char *op, const char *what, int r, struct fault *fault,
		   struct fault *reterr)
{
	assert(r <= 0);
	count(be, op, r < 0);
	if (r == 0) {
		log_debug("%s: %s %s: ok", be->type->name, op, what);
		return 0;
	}
	explain(fault, -r, be, op, what);
	log_debug("%s: %s %s: %s: %s", be->type->name, op, what, fault_name(-r), fault->text);
	if (reterr)
		*reterr = *fault;
	return r;
}

int backend_missing(const struct backend *be, const char *op, const char *what, struct fault *reterr)
{
	return fault_set(reterr, EOPNOTSUPP, "%s: a remote of type %s cannot do this (%s)", what,
			 be->type->name, op);
}

int backend_answer_fd(struct backend *be, const char *op, const char *what, int r, int fd, int *ret_fd,
		      struct fault *fault, struct fault *reterr)
{
	assert(r < 0 || fd >= 0);
	if (r == 0)
		*ret_fd = fd;
	return backend_answer(be, op, what, r, fault, reterr);
}

/* ---- instances ---- */

int backend_open(const char *type, const struct backend_conf *conf, struct backend **ret,
		 struct fault *reterr)
{
	struct backend *be = NULL;
	struct fault fault = {0};

	assert(type && conf && conf->name && conf->state_dir && ret);
	assert(json_is_object(conf->options));
	const struct backend_type *found = backend_type_find(type);
	if (!found)
		return fault_set(reterr, EINVAL, "%s: there is no remote type '%s' in this build", conf->name,
				 type);
	int r = found->open(conf, &be, &fault);
	if (r < 0)
		return backend_answer(&(struct backend){.type = found}, "open", conf->name, r, &fault,
				      reterr);
	assert(r == 0 && be && be->type);
	assert(!be->type->jobs || !be->type->jobs->log_file != !be->type->jobs->log_fetch);
	*ret = be;
	return 0;
}

int backend_defaults(const char *type, const json_t *options, json_t **ret, struct fault *reterr)
{
	assert(type && json_is_object(options) && ret);
	const struct backend_type *found = backend_type_find(type);
	if (!found)
		return fault_set(reterr, EINVAL, "there is no remote type '%s' in this build", type);
	if (found->defaults)
		return found->defaults(options, ret, reterr);
	*ret = json_object();
	return *ret ? 0 : -ENOMEM;
}

void backend_close(struct backend *be)
{
	if (be)
		be->type->close(be);
}

void backend_check(struct backend *be, check_sink sink, void *arg)
{
	assert(be && sink);
	if (be->type->check)
		be->type->check(be, sink, arg);
}

void backend_numbers(struct backend *be, number_sink sink, void *arg)
{
	if (be->type->numbers)
		be->type->numbers(be, sink, arg);
}

int64_t backend_space_used(struct backend *be)
{
	assert(be);
	return be->type->space_used ? be->type->space_used(be) : -1;
}

/* ---- jobs ---- */

int backend_job_list(struct backend *be, const char *cursor, job_sink sink, void *arg, struct job_page *ret,
		     struct fault *reterr)
{
	struct fault fault = {0};
	struct job_page page = {0};

	assert(be && cursor && sink && ret);
	if (!OP(be, jobs, list))
		return backend_missing(be, "list jobs", "jobs", reterr);
	int r = be->type->jobs->list(be, cursor, sink, arg, &page, &fault);
	if (r == 0)
		*ret = page;
	return backend_answer(be, "list jobs", cursor, r, &fault, reterr);
}

int backend_job_get(struct backend *be, const char *id, struct job_detail *ret, struct fault *reterr)
{
	struct fault fault = {0};
	struct job_detail detail = {0};

	assert(be && id && ret);
	if (!OP(be, jobs, get))
		return backend_missing(be, "look at a job", id, reterr);
	int r = be->type->jobs->get(be, id, &detail, &fault);
	if (r == 0)
		*ret = detail;
	else
		job_detail_release(&detail);
	return backend_answer(be, "get job", id, r, &fault, reterr);
}

static void assert_request(const struct job_request *request)
{
	assert(request && request->id && request->model && json_is_object(request->spec));
	assert(request->package && request->package->dir && request->package->dir[0] == '/');
	assert(request->n_secrets == 0 || request->secret);
}

int backend_job_check(struct backend *be, const struct job_request *request, struct fault *reterr)
{
	struct fault fault = {0};

	assert(be);
	assert_request(request);
	if (!OP(be, jobs, submit))
		return backend_missing(be, "submit a job", request->id, reterr);
	if (!be->type->jobs->check)
		return 0;
	int r = be->type->jobs->check(be, request, &fault);
	return backend_answer(be, "check job", request->id, r, &fault, reterr);
}

int backend_job_submit(struct backend *be, const struct job_request *request, struct fault *reterr)
{
	struct fault fault = {0};

	assert(be);
	assert_request(request);
	if (!OP(be, jobs, submit))
		return backend_missing(be, "submit a job", request->id, reterr);
	int r = be->type->jobs->submit(be, request, &fault);
	return backend_answer(be, "submit job", request->id, r, &fault, reterr);
}

int backend_job_cancel(struct backend *be, const char *id, struct fault *reterr)
{
	struct fault fault = {0};

	assert(be && id);
	if (!OP(be, jobs, cancel))
		return backend_missing(be, "cancel a job", id, reterr);
	int r = be->type->jobs->cancel(be, id, &fault);
	return backend_answer(be, "cancel job", id, r, &fault, reterr);
}

int backend_job_remove(struct backend *be, const char *id, struct fault *reterr)
{
	struct fault fault = {0};

	assert(be && id);
	if (!OP(be, jobs, remove))
		return backend_missing(be, "delete a job", id, reterr);
	int r = be->type->jobs->remove(be, id, &fault);
	return backend_answer(be, "remove job", id, r, &fault, reterr);
}

bool backend_job_log_is_file(const struct backend *be)
{
	assert(be);
	return OP(be, jobs, log_file);
}

int backend_job_log_file(struct backend *be, const char *id, int *ret_fd, struct fault *reterr)
{
	struct fault fault = {0};
	int fd = -1;

	assert(be && id && ret_fd);
	if (!OP(be, jobs, log_file))
		return backend_missing(be, "open a log", id, reterr);
	int r = be->type->jobs->log_file(be, id, &fd, &fault);
	return backend_answer_fd(be, "log of job", id, r, fd, ret_fd, &fault, reterr);
}

int backend_job_log_fetch(struct backend *be, const char *id, const char *cursor, log_sink sink, void *arg,
			  struct job_page *ret, struct fault *reterr)
{
	struct fault fault = {0};
	struct job_page page = {0};

	assert(be && id && cursor && sink && ret);
	if (!OP(be, jobs, log_fetch))
		return backend_missing(be, "fetch a log", id, reterr);
	int r = be->type->jobs->log_fetch(be, id, cursor, sink, arg, &page, &fault);
	if (r == 0)
		*ret = page;
	return backend_answer(be, "fetch log of job", id, r, &fault, reterr);
}

int backend_job_package_dir(struct backend *be, const char *id, int *ret_fd, struct fault *reterr)
{
	struct fault fault = {0};
	int fd = -1;

	assert(be && id && ret_fd);
	if (!OP(be, jobs, package_dir))
		return backend_missing(be, "open a package", id, reterr);
	int r = be->type->jobs->package_dir(be, id, &fd, &fault);
	return backend_answer_fd(be, "package of job", id, r, fd, ret_fd, &fault, reterr);
}

bool backend_job_can_watch(const struct backend *be)
{
	assert(be);
	return OP(be, jobs, watch);
}

int backend_job_watch(struct backend *be, int timeout_ms)
{
	assert(be && timeout_ms >= 0);
	if (!OP(be, jobs, watch))
		return -EOPNOTSUPP;
	return be->type->jobs->watch(be, timeout_ms);
}

void backend_job_wake(struct backend *be)
{
	assert(be);
	if (OP(be, jobs, wake))
		be->type->jobs->wake(be);
}

/* ---- models ---- */

int backend_model_list(struct backend *be, name_sink sink, void *arg, struct fault *reterr)
{
	struct fault fault = {0};

	assert(be && sink);
	if (!OP(be, models, list))
		return backend_missing(be, "list models", "models", reterr);
	int r = be->type->models->list(be, sink, arg, &fault);
	return backend_answer(be, "list models", "", r, &fault, reterr);
}

int backend_model_get(struct backend *be, const char *model, struct model_detail *ret, struct fault *reterr)
{
	struct fault fault = {0};
	struct model_detail detail = {0};

	assert(be && model && ret);
	if (!OP(be, models, get))
		return backend_missing(be, "look at a model", model, reterr);
	int r = be->type->models->get(be, model, &detail, &fault);
	if (r == 0)
		*ret = detail;
	else
		model_detail_release(&detail);
	return backend_answer(be, "get model", model, r, &fault, reterr);
}

int backend_model_create(struct backend *be, const char *model, struct fault *reterr)
{
	struct fault fault = {0};

	assert(be && model);
	if (!OP(be, models, create))
		return backend_missing(be, "make a model", model, reterr);
	int r = be->type->models->create(be, model, &fault);
	return backend_answer(be, "create model", model, r, &fault, reterr);
}

int backend_model_remove(struct backend *be, const char *model, struct fault *reterr)
{
	struct fault fault = {0};

	assert(be && model);
	if (!OP(be, models, remove))
		return backend_missing(be, "delete a model", model, reterr);
	int r = be->type->models->remove(be, model, &fault);
	return backend_answer(be, "remove model", model, r, &fault, reterr);
}

int backend_model_check(struct backend *be, const char *model, const char *version, struct fault *reterr)
{
	struct fault fault = {0};

	assert(be && model && version);
	if (!OP(be, models, version_create))
		return backend_missing(be, "make a version", version, reterr);
	if (!be->type->models->check)
		return 0;
	int r = be->type->models->check(be, model, version, &fault);
	return backend_answer(be, "check version", version, r, &fault, reterr);
}

int backend_model_version_create(struct backend *be, const char *model, const char *version, const char *job,
				 const char *dir, struct fault *reterr)
{
	struct fault fault = {0};

	assert(be && model && version);
	assert(!job != !dir && (!dir || dir[0] == '/'));
	if (!OP(be, models, version_create))
		return backend_missing(be, "make a version", version, reterr);
	int r = be->type->models->version_create(be, model, version, job, dir, &fault);
	return backend_answer(be, "create version", version, r, &fault, reterr);
}

int backend_model_version_remove(struct backend *be, const char *model, const char *version,
				 struct fault *reterr)
{
	struct fault fault = {0};

	assert(be && model && version);
	if (!OP(be, models, version_remove))
		return backend_missing(be, "delete a version", version, reterr);
	int r = be->type->models->version_remove(be, model, version, &fault);
	return backend_answer(be, "remove version", version, r, &fault, reterr);
}

int backend_model_artifacts_dir(struct backend *be, const char *model, const char *version, int *ret_fd,
				struct fault *reterr)
{
	struct fault fault = {0};
	int fd = -1;

	assert(be && model && version && ret_fd);
	if (!OP(be, models, artifacts_dir))
		return backend_missing(be, "open artifacts", version, reterr);
	int r = be->type->models->artifacts_dir(be, model, version, &fd, &fault);
	return backend_answer_fd(be, "artifacts of version", version, r, fd, ret_fd, &fault, reterr);
}

int backend_model_alias_set(struct backend *be, const char *model, const char *alias, const char *version,
			    struct fault *reterr)
{
	struct fault fault = {0};

	assert(be && model && alias && version);
	if (!OP(be, models, alias_set))
		return backend_missing(be, "set an alias", alias, reterr);
	int r = be->type->models->alias_set(be, model, alias, version, &fault);
	return backend_answer(be, "set alias", alias, r, &fault, reterr);
}

int backend_model_alias_remove(struct backend *be, const char *model, const char *alias, struct fault *reterr)
{
	struct fault fault = {0};

	assert(be && model && alias);
	if (!OP(be, models, alias_remove))
		return backend_missing(be, "delete an alias", alias, reterr);
	int r = be->type->models->alias_remove(be, model, alias, &fault);
	return backend_answer(be, "remove alias", alias, r, &fault, reterr);
}
