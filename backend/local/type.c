/* SPDX-License-Identifier: MIT */
/*
 * The remote of this machine. Reading order: store.c (what is on disk), submit.c, jobs.c and remove.c (what the tree
 * asks for), schedule.c and launch.c (the queue), supervise.c with process.c, run.c, environment.c and joblog.c (a job
 * while it runs), then models.c and buckets.c.
 */
#include "local/local.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/statvfs.h>

#include "helper.h"
#include "local/buckets.h"
#include "local/jobs.h"
#include "local/models.h"
#include "local/options.h"
#include "local/run.h"
#include "local/schedule.h"
#include "local/submit.h"
#include "local/supervise.h"
#include "str.h"

int local_fault(struct fault *fault, int r, const char *what)
{
	if (r == -EAGAIN)
		return fault_set(fault, EAGAIN, "local: %s: the database is busy", what);
	return fault_set(fault, -r, "local: %s: %s", what, strerror(-r));
}

int local_check_name(const char *what, const char *name, struct fault *reterr)
{
	if (str_is_plain_name(name))
		return 0;
	return fault_set(reterr, EINVAL,
			 "%s \"%s\": a name begins with a letter or digit, and has letters, digits, '.', '_' "
			 "and '-' only "
			 "(at most 128)",
			 what, name);
}

/* Writes to the store by anybody, ends of supervisors, and buckets made or removed. */
static int local_watch_init(struct local *local)
{
	static const struct {
		const char *name;
		uint32_t mask;
	} watched[] = {
		{"changes", IN_MODIFY},
		{"locks", IN_CLOSE_WRITE},
		{"buckets", IN_CREATE | IN_DELETE | IN_MOVE},
	};
	local->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	local->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (local->inotify_fd < 0 || local->wake_fd < 0)
		return -errno;
	for (size_t i = 0; i < sizeof(watched) / sizeof(*watched); i++) {
		cleanup_free char *path = store_path(local->writer, "%s", watched[i].name);
		if (!path)
			return -ENOMEM;
		if (inotify_add_watch(local->inotify_fd, path, watched[i].mask) < 0)
			return -errno;
	}
	return 0;
}

static void local_close(struct backend *be)
{
	if (!be)
		return;
	struct local *local = local_of(be);
	store_close(local->reader);
	store_close(local->writer);
	if (local->inotify_fd >= 0)
		close(local->inotify_fd);
	if (local->wake_fd >= 0)
		close(local->wake_fd);
	free(local->python);
	free(local);
}

static int local_save_settings(struct local *local, const struct settings *settings)
{
	cleanup_transaction struct transaction t = {0};
	int r = transaction_write(&t, local->writer);
	if (r == 0)
		r = settings_save(&t, settings);
	return r < 0 ? r : transaction_commit(&t);
}

static int local_init(struct local *local, const struct backend_conf *conf, struct fault *reterr)
{
	struct settings settings;
	int r = local_options_parse(conf->options, &settings, &local->python, reterr);
	if (r < 0)
		return r;
	local->gpus = settings.gpus;
	if (!local->python && conf->python) {
		local->python = strdup(conf->python);
		if (!local->python)
			return local_fault(reterr, -ENOMEM, "open");
	}
	r = store_open(conf->state_dir, &local->writer, reterr);
	if (r == 0)
		r = store_open(conf->state_dir, &local->reader, reterr);
	if (r < 0)
		return r;
	r = local_save_settings(local, &settings);
	if (r == 0)
		r = local_watch_init(local);
	return r < 0 ? local_fault(reterr, r, "open") : 0;
}

static int local_open(const struct backend_conf *conf, struct backend **ret, struct fault *reterr)
{
	struct local *local = calloc(1, sizeof(*local));
	if (!local)
		return local_fault(reterr, -ENOMEM, "open");
	local->base.type = &local_type;
	local->inotify_fd = local->wake_fd = -1;
	int r = local_init(local, conf, reterr);
	if (r < 0) {
		local_close(&local->base);
		return r;
	}
	store_sweep(local->writer);
	jobs_sweep(local->writer);
	models_settle(local->writer);
	/* what fails here is tried again at every change */
	(void)schedule_run(local->writer);
	(void)jobs_keep(local->writer);
	*ret = &local->base;
	return 0;
}

static void local_check_python(const struct local *local, check_sink sink, void *arg)
{
	cleanup_free char *path = NULL;
	cleanup_free char *line = NULL;
	bool is_ok = local->python && run_find_program(local->python, NULL, &path) == 0;
	if (str_format(&line,
		       is_ok ? "python: %s" : "python: %s not found; apt install python3, or set `python:`",
		       is_ok           ? path
		       : local->python ? local->python
				       : "python3") == 0)
		sink(arg, is_ok, line);
	if (!is_ok)
		return;
	if (submit_python_has(path, "has('venv') and has('ensurepip')"))
		sink(arg, true, "requirements.txt: virtual environments can be made");
	else
		sink(arg, false, "requirements.txt: no virtual environments; apt install python3-venv");
	/* not wrong: only notebooks need it */
	sink(arg, true,
	     submit_python_has(path, "has('nbconvert') and has('ipykernel')")
		     ? "notebooks: run by jupyter nbconvert"
		     : "notebooks: none without jupyter; apt install jupyter-nbconvert python3-ipykernel");
}

static void local_check(struct backend *be, check_sink sink, void *arg)
{
	struct local *local = local_of(be);
	cleanup_free char *line = NULL;
	cleanup_free char *room = NULL;
	struct settings settings = {0};
	{
		cleanup_transaction struct transaction t = {0};
		int r = transaction_read(&t, local->reader);
		if (r == 0)
			r = settings_load(&t, &settings);
		bool is_ok = r == 0;
		if (str_format(&line, "state: %s%s%s", local->reader->state_dir, is_ok ? "" : ": ",
			       is_ok ? "" : strerror(-r)) == 0)
			sink(arg, is_ok, line);
	}
	struct statvfs fs;
	if (statvfs(local->reader->state_dir, &fs) == 0) {
		double gb = (double)fs.f_bavail * (double)fs.f_frsize / 1e9;
		if (str_format(&room, "room: %.1f GB free%s", gb,
			       gb < 1 ? "; `keep:` bounds what ended jobs hold" : "") == 0)
			sink(arg, gb >= 1, room);
	}
	local_check_python(local, sink, arg);
	cleanup_free char *slots = NULL;
	if (str_format(&slots, "slots: %lld job%s at once, %lld GPU%s", (long long)settings.slots,
		       settings.slots == 1 ? "" : "s", (long long)settings.gpus,
		       settings.gpus == 1 ? "" : "s") == 0)
		sink(arg, true, slots);
}

static int64_t local_space_used(struct backend *be)
{
	cleanup_transaction struct transaction t = {0};
	int64_t bytes;
	int r = transaction_read(&t, local_of(be)->reader);
	if (r == 0)
		r = store_get_int(&t, &bytes, "SELECT value FROM counter WHERE name = 'space'", "");
	return r < 0 || bytes < 0 ? -1 : bytes;
}

static const struct helper local_supervise = {"supervise", local_supervise_main};

const struct backend_type local_type = {
	.name = "local",
	.open = local_open,
	.defaults = local_options_defaults,
	.close = local_close,
	.check = local_check,
	.space_used = local_space_used,
	.helper = &local_supervise,
	.jobs = &local_job_ops,
	.models = &local_model_ops,
	.buckets = &local_bucket_ops,
};
