/* SPDX-License-Identifier: MIT */
/*
 * Backends and what they stand on without memory: nothing may crash or leak (the sanitizers look), and what fails says
 * -ENOMEM.
 */
#include "allocation.h"
#include "backend.h"
#include "scratch.h"
#include "str.h"

static int dir;

static void set_up(void)
{
	dir = scratch_open();
	cr_assert(file_make_dirs(dir, "tree/sub", 0755) == 0);
	cr_assert(file_write_atomic(dir, "tree/sub/file", "content", 7, 0644) == 0);
}

static void tear_down(void)
{
	scratch_close();
}

TestSuite(allocation, .init = set_up, .fini = tear_down, .timeout = 100);

static int use_str(void)
{
	cleanup_str struct str s = {0};
	cleanup_free char *text = NULL, *name = NULL;

	str_append(&s, "a");
	for (int i = 0; i < 100; i++)
		str_printf(&s, "%d and so on", i);
	str_append_tsv(&s, "a\tb");
	int r = str_steal(&s, &text);
	return r < 0 ? r : str_make_plain_name("x y", &name);
}

Test(allocation, of_text)
{
	fail_each(use_str);
}

static int use_files(void)
{
	cleanup_free char *text = NULL;

	int r = file_read_all(dir, "tree/sub/file", 100, &text, NULL);
	if (r == 0)
		r = file_write_atomic(dir, "tree/other", "x", 1, 0600);
	if (r == 0)
		r = file_make_dirs(dir, "tree/a/b", 0700);
	if (r == 0)
		r = tree_copy(dir, "tree", dir, "copy", NULL);
	int removed = tree_remove(dir, "copy");
	return r < 0 ? r : removed;
}

Test(allocation, of_files)
{
	fail_each(use_files);
}

static int ignore_row(void *arg, const struct job_entry *job)
{
	return 0;
}

static int ignore_bytes(void *arg, const char *bytes, size_t n)
{
	return 0;
}

static int ignore_name(void *arg, const char *name)
{
	return 0;
}

static json_t *options, *spec;

static int use_jobs(struct backend *be)
{
	static const char *const path[] = {"sub", "sub/file"};
	char source[300];
	struct job_page page;
	struct job_detail detail;

	snprintf(source, sizeof(source), "%s/tree", scratch_path);
	const struct package package = {.dir = source, .path = path, .n_paths = 2};
	const struct job_request request = {
		.id = "a", .model = "m", .spec = spec, .package = &package, .git = "{}"};
	int r = backend_job_submit(be, &request, NULL);
	if (r == 0)
		r = backend_job_list(be, "", ignore_row, NULL, &page, NULL);
	if (r == 0)
		r = backend_job_get(be, "a", &detail, NULL);
	if (r < 0)
		return r;
	job_detail_release(&detail);
	return backend_job_log_fetch(be, "a", "", ignore_bytes, NULL, &page, NULL);
}

static int use_models(struct backend *be)
{
	struct model_detail detail;
	int fd = -1;

	int r = backend_model_version_create(be, "m", "v1", "a", NULL, NULL);
	if (r == 0)
		r = backend_model_alias_set(be, "m", "newest", "v1", NULL);
	if (r == 0)
		r = backend_model_list(be, ignore_name, NULL, NULL);
	if (r == 0)
		r = backend_model_get(be, "m", &detail, NULL);
	if (r < 0)
		return r;
	model_detail_release(&detail);
	r = backend_model_artifacts_dir(be, "m", "v1", &fd, NULL);
	if (r == 0)
		close(fd);
	return r;
}

static int use_mem(void)
{
	struct backend *be = NULL;
	char state_dir[300];

	snprintf(state_dir, sizeof(state_dir), "%s/state", scratch_path);
	const struct backend_conf conf = {.name = "remote", .state_dir = state_dir, .options = options};
	int r = mkdirat(dir, "state", 0700) < 0 ? -errno : backend_open("mem", &conf, &be, NULL);
	if (r == 0)
		r = use_jobs(be);
	if (r == 0)
		r = use_models(be);
	backend_close(be);
	unsigned long rest = n_left;
	n_left = 0;
	cr_assert(zero(int, tree_remove(dir, "state")));
	n_left = rest;
	return r;
}

Test(allocation, of_a_backend)
{
	options = json_pack("{s:b}", "auto", 1);
	spec = json_pack("{s:s}", "entry", "train.py");
	fail_each(use_mem);
	json_decref(options);
	json_decref(spec);
}
