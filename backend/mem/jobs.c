/* SPDX-License-Identifier: MIT */
/* Jobs of mem: what they go through, how they are kept, and what is done to them. */
#include "mem/state.h"

#include "base/package.h"
#include "cleanup.h"
#include "clock.h"
#include "file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { ACCEPTED_MAX = 64 << 20 };

static void job_free(struct mem_job *job)
{
	if (!job)
		return;
	free(job->id);
	free(job->model);
	free(job->spec);
	free(job->git);
	free(job->resumed_from);
	free(job->why);
	free(job->version);
	free(job->event);
	str_release(&job->log);
	free(job);
}

static void cleanup_job_(struct mem_job **job)
{
	job_free(*job);
}
#define cleanup_job __attribute__((cleanup(cleanup_job_)))

void mem_jobs_release(struct mem *mem)
{
	while (mem->job) {
		struct mem_job *job = mem->job;
		mem->job = job->next;
		job_free(job);
	}
}

struct mem_job *mem_job_find_locked(struct mem *mem, const char *id)
{
	for (struct mem_job *job = mem->job; job; job = job->next) {
		if (!job->is_gone && strcmp(job->id, id) == 0)
			return job;
	}
	return NULL;
}

void mem_touch_locked(struct mem *mem)
{
	mem->n_events++;
	pthread_cond_broadcast(&mem->changed);
}

static void job_touch_locked(struct mem *mem, struct mem_job *job)
{
	job->changed = ++mem->n_changes;
	mem_touch_locked(mem);
}

int mem_no_job(const struct mem *mem, const char *id, struct fault *reterr)
{
	return fault_set(reterr, ENOENT, "%s: there is no job %s", mem->name, id);
}

/* ---- what a job goes through ---- */

static int job_set_state_locked(struct mem *mem, struct mem_job *job, enum job_state state, int exit)
{
	struct job_event *event = realloc(job->event, (job->n_events + 1) * sizeof(*event));
	if (!event)
		return -ENOMEM;
	job->event = event;
	/* Two changes in one tick of the clock stay in order. */
	int64_t now_ns = clock_wall_ns();
	if (now_ns <= job->changed_ns)
		now_ns = job->changed_ns + 1;
	job->event[job->n_events++] = (struct job_event){.state = state, .at_ns = now_ns};
	job->state = state;
	job->changed_ns = now_ns;
	if (state == JOB_RUNNING && !job->started_ns)
		job->started_ns = now_ns;
	if (job_state_is_ended(state)) {
		job->ended_ns = now_ns;
		job->exit = exit != JOB_EXIT_UNKNOWN || state == JOB_CANCELLED ? exit : state == JOB_FAILED;
	}
	job_touch_locked(mem, job);
	return 0;
}

/* What a job that succeeds leaves behind. */
static int write_output(struct mem *mem, const char *id, const char *model)
{
	cleanup_free char *dir = NULL, *file = NULL, *text = NULL;

	int r = str_format(&dir, "buckets/outputs/%s/%s/model", model, id);
	if (r == 0)
		r = str_format(&file, "%s/model.txt", dir);
	if (r == 0)
		r = str_format(&text, "model of %s\n", id);
	if (r == 0)
		r = file_make_dirs(mem->state_fd, dir, 0755);
	if (r == 0 && faccessat(mem->state_fd, file, F_OK, 0) < 0)
		r = file_write_atomic(mem->state_fd, file, text, strlen(text), 0644);
	return r;
}

static int job_new(struct mem *mem, const char *id, const char *model, struct mem_job **ret)
{
	cleanup_job struct mem_job *job = calloc(1, sizeof(*job));
	if (!job)
		return -ENOMEM;
	job->id = strdup(id);
	job->model = strdup(model);
	job->exit = JOB_EXIT_UNKNOWN;
	job->created_ns = clock_wall_ns();
	if (!job->id || !job->model)
		return -ENOMEM;
	*ret = STEAL(job);
	return 0;
}

/* Takes ownership of the job, also on failure. */
static int job_add_locked(struct mem *mem, struct mem_job *given)
{
	cleanup_job struct mem_job *job = given;
	int r = job_set_state_locked(mem, job, JOB_QUEUED, JOB_EXIT_UNKNOWN);
	if (r < 0)
		return r;
	job->created_ns = job->changed_ns;
	*mem->job_end = job;
	mem->job_end = &STEAL(job)->next;
	return 0;
}

int mem_job_drive(struct mem *mem, const char *id, enum job_state state, int exit, struct fault *reterr)
{
	cleanup_job struct mem_job *added = NULL;
	cleanup_free char *model = NULL;

	if (!str_is_plain_name(id))
		return fault_set(reterr, EINVAL, "%s: '%s' cannot be a job's name", mem->name, id);
	int r = job_new(mem, id, "elsewhere", &added); /* in case there is none */
	if (r < 0)
		return r;
	{
		LOCK_SCOPE(&mem->lock);
		struct mem_job *job = mem_job_find_locked(mem, id);
		model = strdup(job ? job->model : added->model);
		if (!job) {
			r = job_add_locked(mem, STEAL(added));
			if (r < 0)
				return r;
		}
	}
	if (!model)
		return -ENOMEM;
	if (state == JOB_SUCCEEDED) {
		r = write_output(mem, id, model);
		if (r < 0)
			return fault_set(reterr, -r, "%s: the output of %s cannot be made", mem->name, id);
	}
	LOCK_SCOPE(&mem->lock);
	struct mem_job *job = mem_job_find_locked(mem, id);
	if (!job)
		return mem_no_job(mem, id, reterr);
	if (job->state == state)
		return 0;
	if (job_state_is_ended(job->state))
		return fault_set(reterr, EBUSY, "%s: job %s has ended: it is %s", mem->name, id,
				 job_state_name(job->state));
	return job_set_state_locked(mem, job, state, exit);
}

int mem_job_log(struct mem *mem, const char *id, const char *text, struct fault *reterr)
{
	LOCK_SCOPE(&mem->lock);
	struct mem_job *job = mem_job_find_locked(mem, id);
	if (!job)
		return mem_no_job(mem, id, reterr);
	int r = str_append(&job->log, text);
	mem_touch_locked(mem);
	return r;
}

int mem_job_why(struct mem *mem, const char *id, const char *text, struct fault *reterr)
{
	char *copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	LOCK_SCOPE(&mem->lock);
	struct mem_job *job = mem_job_find_locked(mem, id);
	if (!job) {
		free(copy);
		return mem_no_job(mem, id, reterr);
	}
	free(job->why);
	job->why = copy;
	job_touch_locked(mem, job);
	return 0;
}

/* ---- accepted.jsonl ---- */

/* One line, whole, on disk. Needs submit_lock. */
static int accepted_add_locked(struct mem *mem, json_t *record)
{
	cleanup_free char *line = json_dumps(record, JSON_COMPACT);
	if (!line)
		return -ENOMEM;
	size_t len = strlen(line);
	line[len++] = '\n'; /* in the place of the NUL: lengths count from here */
	cleanup_close int fd =
		openat(mem->state_fd, "accepted.jsonl", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	int r = file_write_fd(fd, line, len);
	if (r < 0)
		return r;
	return fdatasync(fd) < 0 ? -errno : 0;
}

static int run_at_once(struct mem *mem, const char *id)
{
	cleanup_free char *text = NULL;
	int r = str_format(&text, "hello from %s\n", id);
	if (r == 0)
		r = mem_job_drive(mem, id, JOB_RUNNING, JOB_EXIT_UNKNOWN, NULL);
	if (r == 0)
		r = mem_job_log(mem, id, text, NULL);
	if (r == 0)
		r = mem_job_drive(mem, id, JOB_SUCCEEDED, 0, NULL);
	return r == -EBUSY || r == -ENOENT ? 0 : r; /* cancelled or removed by somebody quicker */
}

/* Text of a record's field: new memory, NULL without one. */
static char *record_text(const json_t *record, const char *field)
{
	const char *text = json_string_value(json_object_get(record, field));

	return text ? strdup(text) : NULL;
}

static int job_of_record(struct mem *mem, const json_t *record, struct mem_job **ret)
{
	cleanup_job struct mem_job *job = NULL;
	const char *id = json_string_value(json_object_get(record, "id"));
	const char *model = json_string_value(json_object_get(record, "model"));
	if (!id || !model || !str_is_plain_name(id) || !str_is_plain_name(model))
		return -EBADMSG;
	int r = job_new(mem, id, model, &job);
	if (r < 0)
		return r;
	job->spec = json_dumps(json_object_get(record, "spec"), JSON_INDENT(2));
	job->git = record_text(record, "git");
	job->resumed_from = record_text(json_object_get(record, "spec"), "resume");
	job->has_package = true;
	if (!job->spec)
		return -ENOMEM;
	*ret = STEAL(job);
	return 0;
}

static int load_record(struct mem *mem, const char *line, size_t len)
{
	cleanup_json json_t *record = json_loadb(line, len, 0, NULL);
	struct mem_job *job;

	if (!record)
		return -EBADMSG;
	if (json_is_true(json_object_get(record, "removed"))) {
		LOCK_SCOPE(&mem->lock);
		job = mem_job_find_locked(mem, json_string_value(json_object_get(record, "id")) ?: "");
		if (job)
			job->is_gone = true;
		return 0;
	}
	int r = job_of_record(mem, record, &job);
	if (r < 0)
		return r;
	LOCK_SCOPE(&mem->lock);
	return job_add_locked(mem, job);
}

static int cut_off(struct mem *mem, off_t len)
{
	cleanup_close int fd = openat(mem->state_fd, "accepted.jsonl", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return ftruncate(fd, len) < 0 ? -errno : 0;
}

int mem_jobs_load(struct mem *mem, struct fault *reterr)
{
	cleanup_free char *text = NULL;
	int r = file_read_all(mem->state_fd, "accepted.jsonl", ACCEPTED_MAX, &text, NULL);
	if (r == -ENOENT)
		return 0;
	for (char *line = text; r == 0 && *line;) {
		size_t len = strcspn(line, "\n");
		/* Without a newline: of a process that was killed. Never accepted, and nothing shall be added to it. */
		if (line[len])
			r = load_record(mem, line, len);
		else
			r = cut_off(mem, line - text);
		line += len + (line[len] == '\n');
	}
	if (r < 0)
		return fault_set(reterr, -r, "%s: accepted.jsonl cannot be read", mem->name);
	for (struct mem_job *job = mem->job; mem->is_auto && job; job = job->next) {
		r = job->is_gone ? 0 : run_at_once(mem, job->id);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- operations ---- */

static int detail_locked(const struct mem *mem, const struct mem_job *job, struct job_detail *ret)
{
	if (!mem_copy_text(job->why, &ret->why) || !mem_copy_text(job->spec, &ret->spec) ||
	    !mem_copy_text(job->git, &ret->git) || !mem_copy_text(job->version, &ret->version) ||
	    !mem_copy_text(job->resumed_from, &ret->resumed_from))
		return -ENOMEM;
	int r = str_format(&ret->output, "outputs/%s/%s", job->model, job->id);
	if (r == 0)
		r = str_format(&ret->api, "{\"id\":\"%s\",\"state\":\"%s\",\"changes\":%zu}", job->id,
			       job_state_name(job->state), job->n_events);
	if (r < 0)
		return r;
	ret->event = calloc(job->n_events, sizeof(*ret->event));
	ret->attempt = calloc(1, sizeof(*ret->attempt));
	if (!ret->event || !ret->attempt)
		return -ENOMEM;
	memcpy(ret->event, job->event, job->n_events * sizeof(*ret->event));
	ret->n_events = job->n_events;
	if (job->started_ns) {
		ret->attempt[0] = (struct job_attempt){
			.started_ns = job->started_ns, .ended_ns = job->ended_ns, .exit = job->exit};
		ret->n_attempts = 1;
	}
	return 0;
}

static int job_detail(struct mem *mem, const char *id, struct job_detail *ret, struct fault *reterr)
{
	LOCK_SCOPE(&mem->lock);
	struct mem_job *job = mem_job_find_locked(mem, id);

	return job ? detail_locked(mem, job, ret) : mem_no_job(mem, id, reterr);
}

static int mem_get_job(struct backend *be, const char *id, struct job_detail *ret, struct fault *reterr)
{
	struct mem *mem = mem_of(be);
	int r = mem_enter(mem, MEM_GET, reterr);
	if (r == 0)
		r = job_detail(mem, id, ret, reterr);
	return mem_leave(mem, MEM_GET, r, reterr);
}

static int check_request(const struct mem *mem, const struct job_request *request, struct fault *reterr)
{
	if (!str_is_plain_name(request->id))
		return fault_set(reterr, EINVAL, "%s: '%s' cannot be a job's name", mem->name, request->id);
	if (!str_is_plain_name(request->model))
		return fault_set(reterr, EINVAL, "%s: '%s' cannot be a model's name", mem->name,
				 request->model);
	if (!json_object_get(request->spec, "entry") && !json_object_get(request->spec, "command"))
		return fault_set(reterr, EBADMSG, "%s: job %s has neither entry nor command", mem->name,
				 request->id);
	return 0;
}

static int mem_check_job(struct backend *be, const struct job_request *request, struct fault *reterr)
{
	struct mem *mem = mem_of(be);
	int r = mem_enter(mem, MEM_CHECK, reterr);
	if (r == 0)
		r = check_request(mem, request, reterr);
	return mem_leave(mem, MEM_CHECK, r, reterr);
}

static int make_record(const struct job_request *request, json_t **ret)
{
	json_t *record = json_pack("{s:s, s:s, s:O, s:s*}", "id", request->id, "model", request->model,
				   "spec", request->spec, "git", request->git);
	if (!record)
		return -ENOMEM;
	*ret = record;
	return 0;
}

/* The package first, then the line that makes the job: what a crash leaves between is swept by the next attempt. */
static int keep(struct mem *mem, const struct job_request *request, json_t *record, struct fault *reterr)
{
	cleanup_close int packages = file_open_dir(mem->state_fd, "packages");
	if (packages < 0)
		return packages;
	cleanup_free char *output = NULL;
	int r = str_format(&output, "buckets/outputs/%s/%s", request->model, request->id);
	if (r == 0)
		r = tree_remove(packages, request->id);
	if (r == 0)
		r = package_copy(request->package, packages, request->id, reterr);
	if (r == 0)
		r = tree_sync(packages, request->id);
	if (r == 0)
		r = file_make_dirs(mem->state_fd, output, 0755);
	if (r == 0)
		r = accepted_add_locked(mem, record);
	if (r < 0)
		(void)tree_remove(packages, request->id); /* not ours to keep; r says why */
	return r;
}

static int submit_locked(struct mem *mem, const struct job_request *request, struct fault *reterr)
{
	cleanup_json json_t *record = NULL;
	cleanup_job struct mem_job *job = NULL;

	{
		LOCK_SCOPE(&mem->lock);
		if (mem_job_find_locked(mem, request->id))
			return fault_set(reterr, EEXIST, "%s: there is a job %s already", mem->name,
					 request->id);
	}
	int r = make_record(request, &record);
	if (r == 0)
		r = job_of_record(mem, record, &job);
	if (r == 0)
		r = keep(mem, request, record, reterr);
	if (r < 0)
		return r;
	LOCK_SCOPE(&mem->lock);
	return job_add_locked(mem, STEAL(job));
}

static int mem_submit_job(struct backend *be, const struct job_request *request, struct fault *reterr)
{
	struct mem *mem = mem_of(be);
	int r = mem_enter(mem, MEM_SUBMIT, reterr);
	if (r == 0)
		r = check_request(mem, request, reterr);
	if (r < 0)
		return r;
	{
		LOCK_SCOPE(&mem->submit_lock);
		r = submit_locked(mem, request, reterr);
	}
	if (r == 0 && mem->is_auto)
		r = run_at_once(mem, request->id);
	return mem_leave(mem, MEM_SUBMIT, r, reterr);
}

static int job_cancel(struct mem *mem, const char *id, struct fault *reterr)
{
	LOCK_SCOPE(&mem->lock);
	struct mem_job *job = mem_job_find_locked(mem, id);
	if (!job)
		return mem_no_job(mem, id, reterr);
	if (job_state_is_ended(job->state))
		return fault_set(reterr, EBUSY, "%s: job %s has ended: it is %s", mem->name, id,
				 job_state_name(job->state));
	int r = job_set_state_locked(mem, job, JOB_CANCELLING, JOB_EXIT_UNKNOWN);
	return r < 0 ? r : job_set_state_locked(mem, job, JOB_CANCELLED, JOB_EXIT_UNKNOWN);
}

static int mem_cancel_job(struct backend *be, const char *id, struct fault *reterr)
{
	struct mem *mem = mem_of(be);
	int r = mem_enter(mem, MEM_CANCEL, reterr);
	if (r == 0)
		r = job_cancel(mem, id, reterr);
	return mem_leave(mem, MEM_CANCEL, r, reterr);
}

/* The record, then the stone, then the files. */
int mem_job_remove(struct mem *mem, const char *id, struct fault *reterr)
{
	cleanup_free char *output = NULL, *package = NULL;
	cleanup_json json_t *record = json_pack("{s:s, s:b}", "id", id, "removed", 1);

	LOCK_SCOPE(&mem->submit_lock);
	{
		LOCK_SCOPE(&mem->lock);
		struct mem_job *job = mem_job_find_locked(mem, id);
		if (!job)
			return mem_no_job(mem, id, reterr);
		if (!job_state_is_ended(job->state))
			return fault_set(reterr, EBUSY, "%s: job %s is %s: cancel it first", mem->name, id,
					 job_state_name(job->state));
		int r = str_format(&output, "buckets/outputs/%s/%s", job->model, id);
		if (r == 0)
			r = str_format(&package, "packages/%s", id);
		if (r < 0)
			return r;
	}
	int r = record ? accepted_add_locked(mem, record) : -ENOMEM;
	if (r < 0)
		return r;
	{
		LOCK_SCOPE(&mem->lock);
		struct mem_job *job = mem_job_find_locked(mem, id);
		assert(job); /* only this function takes one away, under submit_lock */
		job->is_gone = true;
		job_touch_locked(mem, job);
	}
	r = tree_remove(mem->state_fd, output);
	return r < 0 ? r : tree_remove(mem->state_fd, package);
}

static int mem_remove_job(struct backend *be, const char *id, struct fault *reterr)
{
	struct mem *mem = mem_of(be);
	int r = mem_enter(mem, MEM_REMOVE, reterr);
	if (r == 0)
		r = mem_job_remove(mem, id, reterr);
	return mem_leave(mem, MEM_REMOVE, r, reterr);
}

static int mem_package_dir(struct backend *be, const char *id, int *ret_fd, struct fault *reterr)
{
	struct mem *mem = mem_of(be);
	cleanup_free char *path = NULL;

	int r = mem_enter(mem, MEM_PACKAGE, reterr);
	if (r < 0)
		return r;
	{
		LOCK_SCOPE(&mem->lock);
		struct mem_job *job = mem_job_find_locked(mem, id);
		if (!job)
			return mem_no_job(mem, id, reterr);
		if (!job->has_package)
			return fault_set(reterr, ENOENT, "%s: job %s was made elsewhere, without a package",
					 mem->name, id);
		r = str_format(&path, "packages/%s", id);
		if (r < 0)
			return r;
	}
	cleanup_close int fd = file_open_dir(mem->state_fd, path);
	if (fd < 0)
		return fd;
	r = mem_leave(mem, MEM_PACKAGE, 0, reterr);
	if (r == 0)
		*ret_fd = STEAL_FD(fd);
	return r;
}

const struct job_ops mem_job_ops = {
	.list = mem_list_jobs,
	.get = mem_get_job,
	.check = mem_check_job,
	.submit = mem_submit_job,
	.cancel = mem_cancel_job,
	.remove = mem_remove_job,
	.log_fetch = mem_log_fetch,
	.package_dir = mem_package_dir,
	.watch = mem_watch,
	.wake = mem_wake,
};
