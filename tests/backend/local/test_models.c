/* SPDX-License-Identifier: MIT */
/* Models, versions, aliases, buckets. */
#include "local/models.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "file.h"
#include "local/local.h"
#include "str.h"
#include "world.h"

static struct world world;
static const struct model_ops *ops;

static void setup(void)
{
	world_open(&world, NULL);
	ops = local_type.models;
}

static void teardown(void)
{
	world_close(&world);
}

TestSuite(models, .init = setup, .fini = teardown, .timeout = 120);

static char *artifact(const char *version, const char *name)
{
	int fd = -1;
	char *text = NULL;
	cr_assert_eq(ops->artifacts_dir(world.be, "m", version, &fd, NULL), 0);
	if (file_read_all(fd, name, 65536, &text, NULL) < 0)
		text = strdup("(none)");
	close(fd);
	return text;
}

Test(models, makes_a_version_of_a_job_that_outlives_it)
{
	world_run_shell(&world, "j",
			"mkdir $OUTPUT/model; echo w > $OUTPUT/model/weights; echo x > $OUTPUT/rest", NULL);
	cr_assert_eq(world_wait_end(&world, "j"), JOB_SUCCEEDED);
	cr_assert_eq(ops->version_create(world.be, "m", "v1", "j", NULL, NULL), 0);
	cr_assert_eq(ops->version_create(world.be, "m", "v1", "j", NULL, NULL), -EEXIST);
	struct job_detail job = {0};
	cr_assert_eq(local_type.jobs->get(world.be, "j", &job, NULL), 0);
	cr_assert_str_eq(job.version, "m/v1");
	job_detail_release(&job);
	cr_assert_eq(local_type.jobs->remove(world.be, "j", NULL), 0);
	cleanup_free char *weights = artifact("v1", "weights");
	cr_assert_str_eq(weights, "w\n");
	struct model_detail detail = {0};
	cr_assert_eq(ops->get(world.be, "m", &detail, NULL), 0);
	cr_assert_eq(detail.n_versions, 1);
	cr_assert_eq(detail.version[0].state, VERSION_READY);
	cr_assert_str_eq(detail.version[0].job, "j");
	cr_assert_eq(detail.n_aliases, 1);
	cr_assert_str_eq(detail.alias[0].name, "default");
	cr_assert_str_eq(detail.alias[0].version, "v1");
	model_detail_release(&detail);
}

Test(models, takes_the_whole_output_where_there_is_no_model_in_it)
{
	world_run_shell(&world, "j", "mkdir $OUTPUT/model; echo x > $OUTPUT/rest", NULL);
	world_run_shell(&world, "empty", "true", NULL);
	world_run_shell(&world, "bad", "exit 1", NULL);
	cr_assert_eq(world_wait_end(&world, "bad"), JOB_FAILED);
	cr_assert_eq(ops->version_create(world.be, "m", "v1", "j", NULL, NULL), 0);
	cleanup_free char *rest = artifact("v1", "rest");
	cr_assert_str_eq(rest, "x\n");
	struct fault fault = {0};
	cr_assert_eq(ops->version_create(world.be, "m", "v2", "empty", NULL, &fault), -EBADMSG);
	cr_assert_str_eq(fault.text, "job empty wrote nothing to $OUTPUT");
	cr_assert_eq(ops->version_create(world.be, "m", "v2", "bad", NULL, &fault), -EBUSY);
	cr_assert_eq(ops->version_create(world.be, "m", "v2", "nobody", NULL, &fault), -ENOENT);
	cr_assert_eq(ops->version_create(world.be, "m", "v/2", "j", NULL, &fault), -EINVAL);
}

static void make_version(const char *version, const char *text)
{
	world_write(&world, version, "weights", text);
	cleanup_free char *dir = NULL;
	struct fault fault = {0};
	cr_assert_eq(str_format(&dir, "%s/packages/%s", world.dir, version), 0);
	cr_assert_eq(ops->version_create(world.be, "m", version, NULL, dir, &fault), 0, "%s", fault.text);
}

Test(models, switches_aliases)
{
	make_version("v1", "1");
	make_version("v2", "2");
	cr_assert_eq(ops->alias_set(world.be, "m", "default", "v2", NULL), 0);
	cr_assert_eq(ops->alias_set(world.be, "m", "stable", "v1", NULL), 0);
	cr_assert_eq(ops->alias_set(world.be, "m", "v1", "v2", NULL), -EEXIST);
	cr_assert_eq(ops->alias_set(world.be, "m", "stable", "v9", NULL), -ENOENT);
	cr_assert_eq(ops->version_remove(world.be, "m", "v1", NULL), -EBUSY);
	cr_assert_eq(ops->remove(world.be, "m", NULL), -EBUSY);
	cr_assert_eq(ops->alias_remove(world.be, "m", "stable", NULL), 0);
	cr_assert_eq(ops->alias_remove(world.be, "m", "stable", NULL), -ENOENT);
	cr_assert_eq(ops->version_remove(world.be, "m", "v1", NULL), 0);
	cr_assert_eq(ops->version_remove(world.be, "m", "v1", NULL), -ENOENT);
	int fd;
	cr_assert_eq(ops->artifacts_dir(world.be, "m", "v1", &fd, NULL), -ENOENT);
}

Test(models, makes_and_removes_an_empty_model)
{
	cr_assert_eq(ops->create(world.be, "e", NULL), 0);
	cr_assert_eq(ops->create(world.be, "e", NULL), -EEXIST);
	cr_assert_eq(ops->create(world.be, ".e", NULL), -EINVAL);
	cr_assert_eq(ops->remove(world.be, "e", NULL), 0);
	cr_assert_eq(ops->remove(world.be, "e", NULL), -ENOENT);
}

Test(models, tells_of_an_interrupted_version_and_makes_it_again)
{
	{
		cleanup_transaction struct transaction t = {0};
		cr_assert_eq(transaction_write(&t, local_of(world.be)->writer), 0);
		cr_assert_eq(store_exec(&t, "INSERT INTO model VALUES('m', 1)", ""), 0);
		cr_assert_eq(store_exec(&t,
					"INSERT INTO version VALUES('m', 'v1', 0, 1, NULL, NULL, '/x', 0)",
					""),
			     0);
		cr_assert_eq(store_exec(&t,
					"INSERT INTO version VALUES('m', 'v2', 3, 1, NULL, NULL, '/x', 0)",
					""),
			     0);
		cr_assert_eq(transaction_commit(&t), 0);
	}
	cleanup_free char *half = world_path(&world, "models/m/.v1.tmp/weights");
	cr_assert_eq(file_make_dirs(AT_FDCWD, half, 0700), 0);
	world_reopen(&world, NULL);
	struct model_detail detail = {0};
	cr_assert_eq(ops->get(world.be, "m", &detail, NULL), 0);
	cr_assert_eq(detail.n_versions, 1);
	cr_assert_eq(detail.version[0].state, VERSION_FAILED);
	model_detail_release(&detail);
	make_version("v1", "whole");
	cleanup_free char *weights = artifact("v1", "weights");
	cr_assert_str_eq(weights, "whole");
}

static int append_sink(void *arg, const char *name)
{
	struct str *text = arg;
	return str_printf(text, "%s ", name);
}

Test(models, buckets_are_directories)
{
	const struct bucket_ops *buckets = local_type.buckets;
	cr_assert_eq(buckets->create(world.be, "b", NULL), 0);
	cr_assert_eq(buckets->create(world.be, "b", NULL), -EEXIST);
	cr_assert_eq(buckets->create(world.be, "../b", NULL), -EINVAL);
	cr_assert_eq(buckets->remove(world.be, "outputs", NULL), -EBUSY);
	int fd;
	cr_assert_eq(buckets->dir(world.be, "b", &fd, NULL), 0);
	close(openat(fd, "x", O_WRONLY | O_CREAT, 0600));
	cr_assert_eq(buckets->remove(world.be, "b", NULL), -ENOTEMPTY);
	cr_assert_eq(unlinkat(fd, "x", 0), 0);
	close(fd);
	struct str text = {0};
	cr_assert_eq(buckets->list(world.be, append_sink, &text, NULL), 0);
	cr_assert(!strcmp(text.data, "b outputs ") || !strcmp(text.data, "outputs b "), "%s", text.data);
	str_release(&text);
	cr_assert_eq(buckets->remove(world.be, "b", NULL), 0);
	cr_assert_eq(buckets->dir(world.be, "b", &fd, NULL), -ENOENT);
}
