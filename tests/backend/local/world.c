/* SPDX-License-Identifier: MIT */
/* A remote of its own for one test. */
#include "world.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "clock.h"
#include "file.h"
#include "helper.h"
#include "local/local.h"
#include "str.h"

struct backend *world_open_backend(const struct world *world, const char *options)
{
	cleanup_json json_t *object = json_loads(options ? options : "{\"slots\": 1, \"gpus\": 0}", 0, NULL);
	struct backend_conf conf = {.name = "local",
				    .state_dir = world->state_dir,
				    .options = object,
				    .python = "/usr/bin/python3"};
	struct backend *be = NULL;
	struct fault fault = {0};
	cr_assert_eq(local_type.open(&conf, &be, &fault), 0, "%s", fault.text);
	return be;
}

void world_open(struct world *world, const char *options)
{
	char dir[] = "/tmp/trainfs-test.XXXXXX";
	*world = (struct world){0};
	cr_assert(mkdtemp(dir));
	world->dir = strdup(dir);
	cr_assert_eq(str_format(&world->state_dir, "%s/state", dir), 0);
	cr_assert_eq(mkdir(world->state_dir, 0700), 0);
	helper_set_program(TEST_HELPER);
	world->be = world_open_backend(world, options);
}

void world_reopen(struct world *world, const char *options)
{
	local_type.close(world->be);
	world->be = world_open_backend(world, options);
}

void world_close(struct world *world)
{
	local_type.close(world->be);
	(void)tree_remove(AT_FDCWD, world->dir);
	free(world->dir);
	free(world->state_dir);
	*world = (struct world){0};
}

void world_write(const struct world *world, const char *package, const char *path, const char *text)
{
	cleanup_free char *full = NULL;
	cr_assert_eq(str_format(&full, "%s/packages/%s/%s", world->dir, package, path), 0);
	char *slash = strrchr(full, '/');
	*slash = '\0';
	cr_assert_eq(file_make_dirs(AT_FDCWD, full, 0755), 0);
	*slash = '/';
	cleanup_close int fd = open(full, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
				    str_has_prefix(text, "#!") ? 0755 : 0644);
	cr_assert_geq(fd, 0);
	cr_assert_eq(file_write_fd(fd, text, strlen(text)), 0);
}

/* ---- submitting */

struct listing {
	char *path[1000];
	size_t n;
};

static void world_list_package(struct listing *list, int dirfd_root, const char *prefix)
{
	cleanup_close int fd = openat(dirfd_root, *prefix ? prefix : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_closedir DIR *dir = fd < 0 ? NULL : fdopendir(dup(fd));
	struct dirent *entry;
	while (dir && (entry = readdir(dir))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		char *path;
		cr_assert_eq(str_format(&path, "%s%s%s", prefix, *prefix ? "/" : "", entry->d_name), 0);
		list->path[list->n++] = path;
		struct stat st;
		if (fstatat(dirfd_root, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode))
			world_list_package(list, dirfd_root, path);
	}
}

static int world_request(struct world *world, const char *package_name, const char *id, const char *spec_text,
			 const struct secret *secret, bool is_check, struct fault *reterr)
{
	cleanup_free char *dir = NULL;
	cr_assert_eq(str_format(&dir, "%s/packages/%s", world->dir, package_name), 0);
	cr_assert_eq(file_make_dirs(AT_FDCWD, dir, 0755), 0);
	struct listing list = {0};
	cleanup_close int fd = file_open_dir(AT_FDCWD, dir);
	world_list_package(&list, fd, "");
	cleanup_free char *text = strdup(spec_text);
	for (char *c = text; *c; c++)
		if (*c == '\'')
			*c = '"';
	json_error_t error;
	cleanup_json json_t *spec = json_loads(text, 0, &error);
	cr_assert(spec, "%s: %s", text, error.text);
	struct package package = {dir, (const char *const *)list.path, list.n, 1000};
	struct job_request request = {.id = id,
				      .model = "m",
				      .spec = spec,
				      .package = &package,
				      .secret = secret,
				      .n_secrets = secret ? 1 : 0};
	int r = is_check ? local_type.jobs->check(world->be, &request, reterr)
			 : local_type.jobs->submit(world->be, &request, reterr);
	for (size_t i = 0; i < list.n; i++)
		free(list.path[i]);
	return r;
}

int world_submit(struct world *world, const char *package, const char *id, const char *spec,
		 struct fault *reterr)
{
	return world_request(world, package, id, spec, NULL, false, reterr);
}

int world_check(struct world *world, const char *package, const char *id, const char *spec,
		struct fault *reterr)
{
	return world_request(world, package, id, spec, NULL, true, reterr);
}

int world_submit_secret(struct world *world, const char *id, const char *spec, const char *name,
			const char *value)
{
	struct secret secret = {name, value};
	return world_request(world, "empty", id, spec, &secret, false, NULL);
}

void world_run_shell(struct world *world, const char *id, const char *command, const char *more_fields)
{
	cleanup_json json_t *spec =
		json_pack("{s:i, s:[s,s,s]}", "trainfs", 1, "command", "sh", "-c", command);
	if (more_fields) {
		cleanup_free char *text = strdup(more_fields);
		for (char *c = text; *c; c++)
			if (*c == '\'')
				*c = '"';
		cleanup_json json_t *more = json_loads(text, 0, NULL);
		cr_assert(more, "%s", text);
		json_object_update(spec, more);
	}
	struct fault fault = {0};
	cleanup_free char *dir = NULL;
	cr_assert_eq(str_format(&dir, "%s/packages/empty", world->dir), 0);
	cr_assert_eq(file_make_dirs(AT_FDCWD, dir, 0755), 0);
	struct package package = {dir, NULL, 0, 0};
	struct job_request request = {.id = id, .model = "m", .spec = spec, .package = &package};
	cr_assert_eq(local_type.jobs->submit(world->be, &request, &fault), 0, "%s", fault.text);
}

/* ---- looking */

struct found {
	const char *id;
	struct job_entry entry;
	bool is_found;
};

static int world_sink(void *arg, const struct job_entry *job)
{
	struct found *found = arg;
	if (!strcmp(job->id, found->id)) {
		found->entry = *job;
		found->entry.id = found->id;
		found->is_found = !job->is_gone;
	}
	return 0;
}

static struct found world_find(struct world *world, const char *id)
{
	struct found found = {.id = id};
	struct job_page page = {.has_more = true};
	char cursor[256] = "";
	while (page.has_more) {
		cr_assert_eq(local_type.jobs->list(world->be, cursor, world_sink, &found, &page, NULL), 0);
		memcpy(cursor, page.cursor, sizeof(cursor));
	}
	return found;
}

enum job_state world_state(struct world *world, const char *id)
{
	struct found found = world_find(world, id);
	return found.is_found ? found.entry.state : JOB_UNKNOWN;
}

int world_exit(struct world *world, const char *id)
{
	struct found found = world_find(world, id);
	cr_assert(found.is_found, "%s", id);
	return found.entry.exit;
}

enum job_state world_wait_state(struct world *world, const char *id, enum job_state state)
{
	int64_t end = clock_mono_ms() + WORLD_DEADLINE_MS;
	for (;;) {
		enum job_state now = world_state(world, id);
		if (now == state || job_state_is_ended(now))
			return now;
		cr_assert_lt(clock_mono_ms(), end, "%s is still %s", id, job_state_name(now));
		cr_assert_eq(local_type.jobs->watch(world->be, 1000), 0);
	}
}

enum job_state world_wait_end(struct world *world, const char *id)
{
	return world_wait_state(world, id, JOB_STATE_MAX);
}

void world_wait_log(struct world *world, const char *id, const char *text)
{
	for (int64_t end = clock_mono_ms() + WORLD_DEADLINE_MS;;) {
		cleanup_free char *log = world_log(world, id);
		if (strstr(log, text))
			return;
		cr_assert_lt(clock_mono_ms(), end, "no %s in the log:\n%s", text, log);
		cr_assert_eq(local_type.jobs->watch(world->be, 20), 0);
	}
}

char *world_path(const struct world *world, const char *path_below_state)
{
	char *path;
	cr_assert_eq(str_format(&path, "%s/%s", world->state_dir, path_below_state), 0);
	return path;
}

char *world_read(const struct world *world, const char *path_below_state)
{
	cleanup_free char *path = world_path(world, path_below_state);
	char *text = NULL;
	if (file_read_all(AT_FDCWD, path, 64 << 20, &text, NULL) < 0)
		return strdup("");
	return text;
}

char *world_log(struct world *world, const char *id)
{
	cleanup_free char *path = NULL;
	cr_assert_eq(str_format(&path, "jobs/%s/log", id), 0);
	return world_read(world, path);
}

char *world_why(struct world *world, const char *id)
{
	struct job_detail detail = {0};
	struct fault fault = {0};
	cr_assert_eq(local_type.jobs->get(world->be, id, &detail, &fault), 0, "%s", fault.text);
	char *why = strdup(detail.why ? detail.why : "");
	job_detail_release(&detail);
	return why;
}
