/* SPDX-License-Identifier: MIT */
/*
 * The only way into a backend: each wrapper asserts what the caller owes, answers for an operation that is missing,
 * makes sure that a failure carries its sentence, and logs at debug.
 */
#include "backend.h"

#include "cleanup.h"
#include "log.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum { OBJECT_NAME_MAX = 200 };

#define OP(be, table, op) ((be)->type->table ? (be)->type->table->op : NULL)

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

/* What an operation came to, on its way to the caller. `what` is the thing it was about. */
static int answer(struct backend *be, const char *op, const char *what, int r, struct fault *fault,
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

static int missing(const struct backend *be, const char *op, const char *what, struct fault *reterr)
{
	return fault_set(reterr, EOPNOTSUPP, "%s: a remote of type %s cannot do this (%s)", what,
			 be->type->name, op);
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
		return answer(&(struct backend){.type = found}, "open", conf->name, r, &fault, reterr);
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
		return missing(be, "list jobs", "jobs", reterr);
	int r = be->type->jobs->list(be, cursor, sink, arg, &page, &fault);
	if (r == 0)
		*ret = page;
	return answer(be, "list jobs", cursor, r, &fault, reterr);
}

int backend_job_get(struct backend *be, const char *id, struct job_detail *ret, struct fault *reterr)
{
	struct fault fault = {0};
	struct job_detail detail = {0};

	assert(be && id && ret);
	if (!OP(be, jobs, get))
		return missing(be, "look at a job", id, reterr);
	int r = be->type->jobs->get(be, id, &detail, &fault);
	if (r == 0)
		*ret = detail;
	else
		job_detail_release(&detail);
	return answer(be, "get job", id, r, &fault, reterr);
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
		return missing(be, "submit a job", request->id, reterr);
	if (!be->type->jobs->check)
		return 0;
	int r = be->type->jobs->check(be, request, &fault);
	return answer(be, "check job", request->id, r, &fault, reterr);
}

int backend_job_submit(struct backend *be, const struct job_request *request, struct fault *reterr)
{
	struct fault fault = {0};

	assert(be);
	assert_request(request);
	if (!OP(be, jobs, submit))
		return missing(be, "submit a job", request->id, reterr);
	int r = be->type->jobs->submit(be, request, &fault);
	return answer(be, "submit job", request->id, r, &fault, reterr);
}

int backend_job_cancel(struct backend *be, const char *id, struct fault *reterr)
{
	struct fault fault = {0};

	assert(be && id);
	if (!OP(be, jobs, cancel))
		return missing(be, "cancel a job", id, reterr);
	int r = be->type->jobs->cancel(be, id, &fault);
	return answer(be, "cancel job", id, r, &fault, reterr);
}

int backend_job_remove(struct backend *be, const char *id, struct fault *reterr)
{
	struct fault fault = {0};

	assert(be && id);
	if (!OP(be, jobs, remove))
		return missing(be, "delete a job", id, reterr);
	int r = be->type->jobs->remove(be, id, &fault);
	return answer(be, "remove job", id, r, &fault, reterr);
}

bool backend_job_log_is_file(const struct backend *be)
{
	assert(be);
	return OP(be, jobs, log_file);
}

/* The descriptor of an operation that gives one. */
static int answer_fd(struct backend *be, const char *op, const char *what, int r, int fd, int *ret_fd,
		     struct fault *fault, struct fault *reterr)
{
	assert(r < 0 || fd >= 0);
	if (r == 0)
		*ret_fd = fd;
	return answer(be, op, what, r, fault, reterr);
}

int backend_job_log_file(struct backend *be, const char *id, int *ret_fd, struct fault *reterr)
{
	struct fault fault = {0};
	int fd = -1;

	assert(be && id && ret_fd);
	if (!OP(be, jobs, log_file))
		return missing(be, "open a log", id, reterr);
	int r = be->type->jobs->log_file(be, id, &fd, &fault);
	return answer_fd(be, "log of job", id, r, fd, ret_fd, &fault, reterr);
}

int backend_job_log_fetch(struct backend *be, const char *id, const char *cursor, log_sink sink, void *arg,
			  struct job_page *ret, struct fault *reterr)
{
	struct fault fault = {0};
	struct job_page page = {0};

	assert(be && id && cursor && sink && ret);
	if (!OP(be, jobs, log_fetch))
		return missing(be, "fetch a log", id, reterr);
	int r = be->type->jobs->log_fetch(be, id, cursor, sink, arg, &page, &fault);
	if (r == 0)
		*ret = page;
	return answer(be, "fetch log of job", id, r, &fault, reterr);
}

int backend_job_package_dir(struct backend *be, const char *id, int *ret_fd, struct fault *reterr)
{
	struct fault fault = {0};
	int fd = -1;

	assert(be && id && ret_fd);
	if (!OP(be, jobs, package_dir))
		return missing(be, "open a package", id, reterr);
	int r = be->type->jobs->package_dir(be, id, &fd, &fault);
	return answer_fd(be, "package of job", id, r, fd, ret_fd, &fault, reterr);
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
		return missing(be, "list models", "models", reterr);
	int r = be->type->models->list(be, sink, arg, &fault);
	return answer(be, "list models", "", r, &fault, reterr);
}

int backend_model_get(struct backend *be, const char *model, struct model_detail *ret, struct fault *reterr)
{
	struct fault fault = {0};
	struct model_detail detail = {0};

	assert(be && model && ret);
	if (!OP(be, models, get))
		return missing(be, "look at a model", model, reterr);
	int r = be->type->models->get(be, model, &detail, &fault);
	if (r == 0)
		*ret = detail;
	else
		model_detail_release(&detail);
	return answer(be, "get model", model, r, &fault, reterr);
}

int backend_model_create(struct backend *be, const char *model, struct fault *reterr)
{
	struct fault fault = {0};

	assert(be && model);
	if (!OP(be, models, create))
		return missing(be, "make a model", model, reterr);
	int r = be->type->models->create(be, model, &fault);
	return answer(be, "create model", model, r, &fault, reterr);
}

int backend_model_remove(struct backend *be, const char *model, struct fault *reterr)
{
	struct fault fault = {0};

	assert(be && model);
	if (!OP(be, models, remove))
		return missing(be, "delete a model", model, reterr);
	int r = be->type->models->remove(be, model, &fault);
	return answer(be, "remove model", model, r, &fault, reterr);
}

int backend_model_check(struct backend *be, const char *model, const char *version, struct fault *reterr)
{
	struct fault fault = {0};

	assert(be && model && version);
	if (!OP(be, models, version_create))
		return missing(be, "make a version", version, reterr);
	if (!be->type->models->check)
		return 0;
	int r = be->type->models->check(be, model, version, &fault);
	return answer(be, "check version", version, r, &fault, reterr);
}

int backend_model_version_create(struct backend *be, const char *model, const char *version, const char *job,
				 const char *dir, struct fault *reterr)
{
	struct fault fault = {0};

	assert(be && model && version);
	assert(!job != !dir && (!dir || dir[0] == '/'));
	if (!OP(be, models, version_create))
		return missing(be, "make a version", version, reterr);
	int r = be->type->models->version_create(be, model, version, job, dir, &fault);
	return answer(be, "create version", version, r, &fault, reterr);
}

int backend_model_version_remove(struct backend *be, const char *model, const char *version,
				 struct fault *reterr)
{
	struct fault fault = {0};

	assert(be && model && version);
	if (!OP(be, models, version_remove))
		return missing(be, "delete a version", version, reterr);
	int r = be->type->models->version_remove(be, model, version, &fault);
	return answer(be, "remove version", version, r, &fault, reterr);
}

int backend_model_artifacts_dir(struct backend *be, const char *model, const char *version, int *ret_fd,
				struct fault *reterr)
{
	struct fault fault = {0};
	int fd = -1;

	assert(be && model && version && ret_fd);
	if (!OP(be, models, artifacts_dir))
		return missing(be, "open artifacts", version, reterr);
	int r = be->type->models->artifacts_dir(be, model, version, &fd, &fault);
	return answer_fd(be, "artifacts of version", version, r, fd, ret_fd, &fault, reterr);
}

int backend_model_alias_set(struct backend *be, const char *model, const char *alias, const char *version,
			    struct fault *reterr)
{
	struct fault fault = {0};

	assert(be && model && alias && version);
	if (!OP(be, models, alias_set))
		return missing(be, "set an alias", alias, reterr);
	int r = be->type->models->alias_set(be, model, alias, version, &fault);
	return answer(be, "set alias", alias, r, &fault, reterr);
}

int backend_model_alias_remove(struct backend *be, const char *model, const char *alias, struct fault *reterr)
{
	struct fault fault = {0};

	assert(be && model && alias);
	if (!OP(be, models, alias_remove))
		return missing(be, "delete an alias", alias, reterr);
	int r = be->type->models->alias_remove(be, model, alias, &fault);
	return answer(be, "remove alias", alias, r, &fault, reterr);
}

/* ---- buckets ---- */

int backend_bucket_list(struct backend *be, name_sink sink, void *arg, struct fault *reterr)
{
	struct fault fault = {0};

	assert(be && sink);
	if (!OP(be, buckets, list))
		return missing(be, "list buckets", "buckets", reterr);
	int r = be->type->buckets->list(be, sink, arg, &fault);
	return answer(be, "list buckets", "", r, &fault, reterr);
}

int backend_bucket_create(struct backend *be, const char *bucket, struct fault *reterr)
{
	struct fault fault = {0};

	assert(be && bucket);
	if (!OP(be, buckets, create))
		return missing(be, "make a bucket", bucket, reterr);
	int r = be->type->buckets->create(be, bucket, &fault);
	return answer(be, "create bucket", bucket, r, &fault, reterr);
}

int backend_bucket_remove(struct backend *be, const char *bucket, struct fault *reterr)
{
	struct fault fault = {0};

	assert(be && bucket);
	if (!OP(be, buckets, remove))
		return missing(be, "delete a bucket", bucket, reterr);
	int r = be->type->buckets->remove(be, bucket, &fault);
	return answer(be, "remove bucket", bucket, r, &fault, reterr);
}

int backend_bucket_dir(struct backend *be, const char *bucket, int *ret_fd, struct fault *reterr)
{
	struct fault fault = {0};
	int fd = -1;

	assert(be && bucket && ret_fd);
	if (!OP(be, buckets, dir))
		return missing(be, "open a bucket", bucket, reterr);
	int r = be->type->buckets->dir(be, bucket, &fd, &fault);
	return answer_fd(be, "directory of bucket", bucket, r, fd, ret_fd, &fault, reterr);
}

bool backend_bucket_is_dir(const struct backend *be)
{
	assert(be);
	return OP(be, buckets, dir);
}

const char *backend_bucket_version_name(const struct backend *be)
{
	assert(be && be->type->buckets && be->type->buckets->version_name);
	return be->type->buckets->version_name;
}

/* "bucket/key", for messages; cut where it is too long. */
static const char *object_name(const char *bucket, const char *key, char ret[static OBJECT_NAME_MAX])
{
	(void)snprintf(ret, OBJECT_NAME_MAX, "%.99s/%.99s", bucket, key);
	return ret;
}

static void assert_key(const char *key)
{
	size_t len = strlen(key);
	assert(len > 0 && len <= OBJECT_KEY_MAX);
}

int backend_objects(struct backend *be, const char *bucket, const char *prefix, const char *cursor,
		    unsigned max_rows, object_sink sink, void *arg, struct object_page *ret,
		    struct fault *reterr)
{
	struct fault fault = {0};
	struct object_page page = {0};
	char name[OBJECT_NAME_MAX];

	assert(be && bucket && prefix && cursor && sink && ret);
	assert(max_rows >= 1 && max_rows <= 1000);
	object_name(bucket, prefix, name);
	if (!OP(be, buckets, objects))
		return missing(be, "list objects", name, reterr);
	int r = be->type->buckets->objects(be, bucket, prefix, false, cursor, max_rows, sink, arg, &page,
					   &fault);
	assert(r < 0 || !page.has_more || page.cursor[0]);
	if (r == 0)
		*ret = page;
	return answer(be, "list objects", name, r, &fault, reterr);
}

int backend_objects_below(struct backend *be, const char *bucket, const char *prefix, unsigned max_rows,
			  object_sink sink, void *arg, bool *ret_more, struct fault *reterr)
{
	struct fault fault = {0};
	struct object_page page = {0};
	char name[OBJECT_NAME_MAX];

	assert(be && bucket && prefix && sink && ret_more);
	assert(prefix[0] && prefix[strlen(prefix) - 1] == '/');
	assert(max_rows >= 1 && max_rows <= 1000);
	object_name(bucket, prefix, name);
	if (!OP(be, buckets, objects))
		return missing(be, "list objects", name, reterr);
	int r = be->type->buckets->objects(be, bucket, prefix, true, "", max_rows, sink, arg, &page, &fault);
	if (r == 0)
		*ret_more = page.has_more;
	return answer(be, "list objects", name, r, &fault, reterr);
}

/* The detail of an operation that gives one. */
static int answer_detail(struct backend *be, const char *op, const char *what, int r,
			 struct object_detail *detail, struct object_detail *ret, struct fault *fault,
			 struct fault *reterr)
{
	assert(r < 0 || (detail->version && detail->version[0]));
	assert(r < 0 || strlen(detail->version) <= OBJECT_VERSION_MAX);
	if (r == 0)
		*ret = *detail;
	else
		object_detail_release(detail);
	return answer(be, op, what, r, fault, reterr);
}

int backend_object_get(struct backend *be, const char *bucket, const char *key, struct object_detail *ret,
		       struct fault *reterr)
{
	struct fault fault = {0};
	struct object_detail detail = {0};
	char name[OBJECT_NAME_MAX];

	assert(be && bucket && key && ret);
	assert_key(key);
	object_name(bucket, key, name);
	if (!OP(be, buckets, object_get))
		return missing(be, "look at an object", name, reterr);
	int r = be->type->buckets->object_get(be, bucket, key, &detail, &fault);
	return answer_detail(be, "get object", name, r, &detail, ret, &fault, reterr);
}

int backend_object_read(struct backend *be, const char *bucket, const char *key, const char *version,
			int64_t at, int64_t n, bytes_sink sink, void *arg, struct fault *reterr)
{
	struct fault fault = {0};
	char name[OBJECT_NAME_MAX];

	assert(be && bucket && key && version && version[0] && at >= 0 && n >= 0 && sink);
	assert_key(key);
	object_name(bucket, key, name);
	if (!OP(be, buckets, object_read))
		return missing(be, "read an object", name, reterr);
	int r = be->type->buckets->object_read(be, bucket, key, version, at, n, sink, arg, &fault);
	return answer(be, "read object", name, r, &fault, reterr);
}

int backend_object_put_source(struct backend *be, const char *bucket, const char *key,
			      const struct object_source *source, const char *if_version,
			      struct object_upload **upload, struct object_detail *ret, struct fault *reterr)
{
	struct fault fault = {0};
	struct object_detail detail = {0};
	char name[OBJECT_NAME_MAX];

	assert(be && bucket && key && source && upload && ret && source->n >= 0);
	assert(source->fd >= 0 || (source->n == 0 && !source->wait));
	assert_key(key);
	object_name(bucket, key, name);
	if (!OP(be, buckets, object_put))
		return missing(be, "write an object", name, reterr);
	int r = be->type->buckets->object_put(be, bucket, key, source, if_version, upload, &detail, &fault);
	assert(r < 0 || !*upload);
	return answer_detail(be, "put object", name, r, &detail, ret, &fault, reterr);
}

void backend_object_put_drop(struct backend *be, struct object_upload *upload)
{
	if (upload)
		be->type->buckets->object_put_drop(be, upload);
}

int backend_object_put(struct backend *be, const char *bucket, const char *key, int fd, int64_t n,
		       const char *if_version, struct object_detail *ret, struct fault *reterr)
{
	const struct object_source source = {.fd = fd, .n = n};
	struct object_upload *upload = NULL;
	int r = backend_object_put_source(be, bucket, key, &source, if_version, &upload, ret, reterr);
	backend_object_put_drop(be, upload);
	return r;
}

int backend_object_copy(struct backend *be, const char *bucket, const char *key, const char *version,
			const char *to_bucket, const char *to_key, const char *if_version,
			struct object_detail *ret, struct fault *reterr)
{
	struct fault fault = {0};
	struct object_detail detail = {0};
	char name[OBJECT_NAME_MAX];

	assert(be && bucket && key && to_bucket && to_key && ret);
	assert_key(key);
	assert_key(to_key);
	object_name(bucket, key, name);
	if (!OP(be, buckets, object_copy))
		return missing(be, "copy an object", name, reterr);
	int r = be->type->buckets->object_copy(be, bucket, key, version, to_bucket, to_key, if_version,
					       &detail, &fault);
	return answer_detail(be, "copy object", name, r, &detail, ret, &fault, reterr);
}

int backend_object_remove(struct backend *be, const char *bucket, const char *key, const char *if_version,
			  struct fault *reterr)
{
	struct fault fault = {0};
	char name[OBJECT_NAME_MAX];

	assert(be && bucket && key);
	assert_key(key);
	object_name(bucket, key, name);
	if (!OP(be, buckets, object_remove))
		return missing(be, "delete an object", name, reterr);
	int r = be->type->buckets->object_remove(be, bucket, key, if_version, &fault);
	return answer(be, "remove object", name, r, &fault, reterr);
}
