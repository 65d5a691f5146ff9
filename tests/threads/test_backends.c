/* SPDX-License-Identifier: MIT */
/*
 * Every operation of a backend from several threads at once, for ThreadSanitizer to watch. Criterion cannot run under
 * it, so this is a plain program: argv[1] is the type; 0, or a line on stderr and 1.
 */
#include "backend.h"
#include "cleanup.h"
#include "clock.h"
#include "file.h"
#include "helper.h"
#include "str.h"
#include "threads.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

enum { N_WORKERS = 4, N_JOBS = 6, DEADLINE_MS = 60000 };

static struct {
	/* immutable once threads run */
	struct backend *be;
	char dir[128];
	char package_dir[160];
	/* atomic */
	_Atomic bool is_over;
	_Atomic unsigned n_ended;
} test;

static int count_bytes(void *arg, const char *bytes, size_t n)
{
	*(size_t *)arg += n;
	return 0;
}

static int count_ended(void *arg, const struct job_entry *job)
{
	*(unsigned *)arg += !job->is_gone && job_state_is_ended(job->state);
	return 0;
}

static int count_name(void *arg, const char *name)
{
	*(unsigned *)arg += strlen(name) > 0;
	return 0;
}

static void submit(const char *id)
{
	static const char *const path[] = {"run.sh"};
	const struct package package = {.dir = test.package_dir, .path = path, .n_paths = 1, .size_bytes = 8};
	cleanup_json json_t *spec =
		json_pack("{s:i, s:[s, s], s:s}", "trainfs", 1, "command", "sh", "run.sh", "model", "m");
	const struct job_request request = {.id = id, .model = "m", .spec = spec, .package = &package};
	struct fault fault = {0};

	must(spec);
	must(backend_job_check(test.be, &request, NULL) == 0);
	int r = backend_job_submit(test.be, &request, &fault);
	if (r < 0)
		fprintf(stderr, "%s\n", fault.text);
	must(r == 0);
	must(backend_job_submit(test.be, &request, NULL) == -EEXIST);
}

static void look_at(const char *id)
{
	struct job_detail detail;
	struct job_page page = {0};
	size_t n_bytes = 0;
	int fd = -1;

	must(backend_job_get(test.be, id, &detail, NULL) == 0);
	job_detail_release(&detail);
	must(backend_job_package_dir(test.be, id, &fd, NULL) == 0);
	close(fd);
	if (backend_job_log_is_file(test.be)) {
		int r = backend_job_log_file(test.be, id, &fd, NULL);
		must(r == 0 || r == -ENOENT);
		if (r == 0)
			close(fd);
	} else {
		must(backend_job_log_fetch(test.be, id, "", count_bytes, &n_bytes, &page, NULL) == 0);
	}
}

static void make_models(const char *version)
{
	struct model_detail detail;
	unsigned n = 0;
	int fd = -1;

	must(backend_model_version_create(test.be, "shared", version, NULL, test.package_dir, NULL) == 0);
	must(backend_model_alias_set(test.be, "shared", "newest", version, NULL) == 0);
	must(backend_model_get(test.be, "shared", &detail, NULL) == 0);
	must(detail.n_versions > 0);
	model_detail_release(&detail);
	must(backend_model_list(test.be, count_name, &n, NULL) == 0 && n > 0);
	must(backend_model_artifacts_dir(test.be, "shared", version, &fd, NULL) == 0);
	close(fd);
}

static void *work(void *arg)
{
	size_t worker = (size_t)arg;
	char name[64];

	for (int i = 0; i < N_JOBS; i++) {
		(void)snprintf(name, sizeof(name), "w%zu-%d", worker, i);
		submit(name);
		look_at(name);
		if (i % 2) {
			int r = backend_job_cancel(test.be, name, NULL);
			must(r == 0 || r == -EBUSY);
		}
		make_models(name);
		must(backend_bucket_create(test.be, name, NULL) == 0);
		must(backend_bucket_remove(test.be, name, NULL) == 0);
	}
	return NULL;
}

static void list_all(void)
{
	struct job_page page = {0};
	unsigned n_ended = 0;

	do {
		char cursor[256];
		memcpy(cursor, page.cursor, sizeof(cursor));
		must(backend_job_list(test.be, cursor, count_ended, &n_ended, &page, NULL) == 0);
	} while (page.has_more);
	atomic_store(&test.n_ended, n_ended);
}

static void *watch(void *arg)
{
	while (!atomic_load(&test.is_over)) {
		list_all();
		must(backend_job_watch(test.be, 1000) == 0);
		(void)backend_space_used(test.be);
	}
	return NULL;
}

static void set_up(const char *type)
{
	cleanup_json json_t *options = json_object();
	struct fault fault = {0};
	char state_dir[160];

	(void)snprintf(test.dir, sizeof(test.dir), "/tmp/trainfs-threads.XXXXXX");
	must(mkdtemp(test.dir));
	(void)snprintf(state_dir, sizeof(state_dir), "%s/state", test.dir);
	(void)snprintf(test.package_dir, sizeof(test.package_dir), "%s/package", test.dir);
	must(mkdir(state_dir, 0700) == 0 && mkdir(test.package_dir, 0755) == 0);
	cleanup_close int dirfd = file_open_dir(AT_FDCWD, test.package_dir);
	must(file_write_atomic(dirfd, "run.sh", "echo hi\n", 8, 0755) == 0);
	if (strcmp(type, "mem") == 0)
		must(json_object_set_new(options, "auto", json_true()) == 0);
	else
		must(json_object_set_new(options, "slots", json_integer(4)) == 0);
	const struct backend_conf conf = {.name = type, .state_dir = state_dir, .options = options};
	int r = backend_open(type, &conf, &test.be, &fault);
	if (r < 0)
		fprintf(stderr, "%s\n", fault.text);
	must(r == 0);
}

int main(int argc, char **argv)
{
	pthread_t worker[N_WORKERS], watcher;

	if (argc > 1 && strcmp(argv[0], HELPER_ARGV0) == 0) {
		const struct helper *helper = helper_find(argv[1]);
		return helper ? helper->main(argc - 1, argv + 1) : 2;
	}
	must(argc == 2);
	set_up(argv[1]);
	must(pthread_create(&watcher, NULL, watch, NULL) == 0);
	threads_start(worker, N_WORKERS, work);
	threads_join(worker, N_WORKERS);
	int64_t end_ms = clock_mono_ms() + DEADLINE_MS;
	atomic_store(&test.is_over, true);
	backend_job_wake(test.be);
	pthread_join(watcher, NULL);
	for (list_all(); atomic_load(&test.n_ended) < N_WORKERS * N_JOBS; list_all()) {
		must(clock_mono_ms() < end_ms);
		must(backend_job_watch(test.be, 1000) == 0);
	}
	backend_close(test.be);
	must(tree_remove(AT_FDCWD, test.dir) == 0);
	return 0;
}
