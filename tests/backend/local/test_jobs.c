/* SPDX-License-Identifier: MIT */
/* Listing, checking, submitting, deleting, keeping. */
#include "local/jobs.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "clock.h"
#include "file.h"
#include "local/local.h"
#include "str.h"
#include "world.h"

static struct world world;

static void setup(void)
{
	world_open(&world, NULL);
}

static void teardown(void)
{
	world_close(&world);
}

TestSuite(jobs, .init = setup, .fini = teardown, .timeout = 120);

/* ---- listing */

struct seen {
	int n;
	int n_gone;
	char last[200];
};

static int count_sink(void *arg, const struct job_entry *job)
{
	struct seen *seen = arg;
	seen->n++;
	seen->n_gone += job->is_gone;
	snprintf(seen->last, sizeof(seen->last), "%s", job->id);
	return 0;
}

static struct seen list_from(char cursor[256])
{
	struct seen seen = {0};
	struct job_page page = {.has_more = true};
	while (page.has_more) {
		cr_assert_eq(local_type.jobs->list(world.be, cursor, count_sink, &seen, &page, NULL), 0);
		memcpy(cursor, page.cursor, sizeof(page.cursor));
	}
	return seen;
}

static void insert_many(int n)
{
	struct local *local = local_of(world.be);
	cleanup_transaction struct transaction t = {0};
	cr_assert_eq(transaction_write(&t, local->writer), 0);
	cr_assert_eq(store_exec(&t,
				"WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < ?)"
				" INSERT INTO job(id, model, state, revision, created, changed, spec)"
				" SELECT 'job' || i, 'm', 4, i, i, i, '{}' FROM c",
				"i", (int64_t)n),
		     0);
	int64_t revision;
	cr_assert_eq(store_count(&t, "revision", n, &revision), 0);
	cr_assert_eq(transaction_commit(&t), 0);
}

Test(jobs, lists_a_hundred_thousand_page_by_page_and_then_changes_only)
{
	insert_many(100000);
	char cursor[256] = "";
	int64_t start = clock_mono_ms();
	cr_assert_eq(list_from(cursor).n, 100000);
	cr_assert_lt(clock_mono_ms() - start, 10000);
	cr_assert_eq(list_from(cursor).n, 0);
	cr_assert_eq(local_type.jobs->remove(world.be, "job77", NULL), 0);
	world_run_shell(&world, "new", "true", NULL);
	cr_assert_eq(world_wait_end(&world, "new"), JOB_SUCCEEDED);
	struct seen seen = list_from(cursor);
	cr_assert_eq(seen.n, 2);
	cr_assert_eq(seen.n_gone, 1);
	cr_assert_str_eq(seen.last, "new");
}

Test(jobs, refuses_a_cursor_of_another_store)
{
	struct seen seen = {0};
	struct job_page page;
	cr_assert_eq(local_type.jobs->list(world.be, "0123456789abcdef:5", count_sink, &seen, &page, NULL),
		     -ESTALE);
	cr_assert_eq(local_type.jobs->list(world.be, "nonsense", count_sink, &seen, &page, NULL), -ESTALE);
}

/* ---- checking */

static void assert_refused(const char *spec, int err, const char *part)
{
	struct fault fault = {0};
	cr_assert_eq(world_check(&world, "p", "j", spec, &fault), -err, "%s: %s", spec, fault.text);
	assert_has(fault.text, part);
	fault = (struct fault){0};
	cr_assert_eq(world_submit(&world, "p", "j", spec, &fault), -err, "%s", spec);
}

Test(jobs, check_refuses_what_cannot_run_here)
{
	world_write(&world, "p", "train.py", "pass");
	world_write(&world, "p", "n.ipynb", "{}");
	assert_refused("{'entry': 'train.py', 'inputs': {'dataset': 'gs://b/x'}}", EBADMSG,
		       "gs://b/x is not on this machine");
	assert_refused("{'entry': 'train.py', 'inputs': {'dataset': './data'}}", EBADMSG,
		       "./data is not in the package");
	assert_refused("{'entry': 'train.py', 'output': 's3://b/x'}", EBADMSG, "buckets/outputs/m/j");
	assert_refused("{'entry': 'train.py', 'resources': {'workers': 4}}", EBADMSG, "workers");
	assert_refused("{'entry': 'train.py', 'resources': {'parameter_servers': 1}}", EBADMSG,
		       "parameter_servers");
	assert_refused("{'entry': 'train.py', 'resources': {'accelerators': 2}}", EBADMSG,
		       "this machine has 0");
	assert_refused("{'entry': 'train.py', 'resume': 'nobody'}", EBADMSG, "there is no job nobody");
	assert_refused("{'entry': 'other.py'}", EBADMSG, "other.py is not in the package");
	assert_refused("{'entry': 'train.py', 'python': 'python9'}", EBADMSG, "python9");
	assert_refused("{'entry': 'n.ipynb', 'python': '/bin/false'}", EBADMSG, "jupyter");
	cr_assert_eq(world_check(&world, "p", "bad/id", "{'entry': 'train.py'}", NULL), -EINVAL);
	cr_assert_eq(world_check(&world, "p", "j",
				 "{'entry': 'train.py', 'google': {'x': 1}, 'slurm': {}, 'spot': true, "
				 "'inputs': {'a': '/etc'}}",
				 NULL),
		     0);
}

Test(jobs, check_names_a_device_file)
{
	world_write(&world, "p", "train.py", "pass");
	cleanup_free char *path = NULL;
	cr_assert_eq(str_format(&path, "%s/packages/p/pipe", world.dir), 0);
	cr_assert_eq(mkfifo(path, 0600), 0);
	assert_refused("{'entry': 'train.py'}", EBADMSG, "pipe is a fifo");
}

/* ---- submitting */

Test(jobs, keeps_the_package_as_it_was_submitted)
{
	world_write(&world, "p", "train.sh", "#!/bin/sh\necho $0\n");
	world_write(&world, "p", "sub/dir/name\nwith newline", "x");
	cleanup_free char *link = NULL, *file = NULL;
	cr_assert_eq(str_format(&link, "%s/packages/p/sub/out", world.dir), 0);
	cr_assert_eq(str_format(&file, "%s/packages/p/train.sh", world.dir), 0);
	cr_assert_eq(symlink("/etc/passwd", link), 0);
	struct timespec times[2] = {{1000, 0}, {2000, 0}};
	cr_assert_eq(utimensat(AT_FDCWD, file, times, 0), 0);
	cr_assert_eq(world_submit(&world, "p", "j", "{'trainfs': 1, 'entry': 'train.sh'}", NULL), 0);
	(void)unlink(file);
	cr_assert_eq(world_submit(&world, "p", "j", "{'trainfs': 1, 'entry': 'train.sh'}", NULL), -EEXIST);
	int fd;
	cr_assert_eq(local_type.jobs->package_dir(world.be, "j", &fd, NULL), 0);
	struct stat st;
	cr_assert_eq(fstatat(fd, "train.sh", &st, 0), 0);
	cr_assert_eq(st.st_mode & 0777, 0755);
	cr_assert_eq(st.st_mtime, 2000);
	cr_assert_eq(fstatat(fd, "sub/dir/name\nwith newline", &st, 0), 0);
	char target[100] = "";
	cr_assert_eq(readlinkat(fd, "sub/out", target, sizeof(target)), (ssize_t)strlen("/etc/passwd"));
	close(fd);
	cr_assert_eq(world_wait_end(&world, "j"), JOB_SUCCEEDED);
	struct job_detail detail = {0};
	cr_assert_eq(local_type.jobs->get(world.be, "j", &detail, NULL), 0);
	cr_assert_str_eq(detail.spec, "{\"trainfs\":1,\"entry\":\"train.sh\"}");
	cr_assert_str_eq(detail.output, "outputs/m/j");
	assert_has(detail.api, "\"state\": \"SUCCEEDED\"");
	job_detail_release(&detail);
}

Test(jobs, replaces_what_a_crash_left_behind)
{
	/* moved to jobs/, never entered */
	cleanup_free char *left = world_path(&world, "jobs/j/package/old");
	cr_assert_eq(file_make_dirs(AT_FDCWD, left, 0755), 0);
	cleanup_free char *incoming = world_path(&world, "incoming/j.abcdef/package");
	cr_assert_eq(file_make_dirs(AT_FDCWD, incoming, 0755), 0);
	world_reopen(&world, NULL);
	cr_assert_lt(access(incoming, F_OK), 0);
	world_run_shell(&world, "j", "true", NULL);
	cr_assert_lt(access(left, F_OK), 0);
	cr_assert_eq(world_wait_end(&world, "j"), JOB_SUCCEEDED);
}

static void *submit_twenty(void *arg)
{
	for (int i = 0; i < 20; i++) {
		char id[32];
		snprintf(id, sizeof(id), "%s%d", (const char *)arg, i);
		world_run_shell(&world, id, "true", NULL);
	}
	return NULL;
}

Test(jobs, takes_submissions_of_many_threads_at_once)
{
	pthread_t thread[4];
	static const char *const name[] = {"a", "b", "c", "d"};
	for (int i = 0; i < 4; i++)
		cr_assert_eq(pthread_create(&thread[i], NULL, submit_twenty, (void *)name[i]), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	for (int i = 0; i < 4; i++) {
		for (int k = 0; k < 20; k++) {
			char id[32];
			snprintf(id, sizeof(id), "%s%d", name[i], k);
			cr_assert_eq(world_wait_end(&world, id), JOB_SUCCEEDED);
		}
	}
}

Test(jobs, two_mounts_share_one_state)
{
	struct backend *other = world_open_backend(&world, NULL);
	world_run_shell(&world, "j", "echo ready; sleep 1000", NULL);
	world_wait_log(&world, "j", "ready");
	cr_assert_eq(local_type.jobs->cancel(other, "j", NULL), 0);
	cr_assert_eq(world_wait_end(&world, "j"), JOB_CANCELLED);
	cr_assert_eq(local_type.jobs->remove(other, "j", NULL), 0);
	cr_assert_eq(world_state(&world, "j"), JOB_UNKNOWN);
	local_type.close(other);
}

/* ---- deleting */

Test(jobs, deletes_an_ended_job_and_its_files_and_lets_its_id_be_used_again)
{
	world_run_shell(&world, "j",
			"echo 1 > $OUTPUT/x; echo ready; while ! test -e $OUTPUT/go; do sleep 0.02; done",
			NULL);
	world_wait_log(&world, "j", "ready");
	cr_assert_eq(local_type.jobs->remove(world.be, "j", NULL), -EBUSY);
	cleanup_free char *go = world_path(&world, "buckets/outputs/m/j/go");
	close(open(go, O_WRONLY | O_CREAT, 0600));
	cr_assert_eq(world_wait_end(&world, "j"), JOB_SUCCEEDED);
	cr_assert_gt(local_type.space_used(world.be), 0);
	cr_assert_eq(local_type.jobs->remove(world.be, "j", NULL), 0);
	cr_assert_eq(local_type.space_used(world.be), 0);
	cr_assert_eq(local_type.jobs->remove(world.be, "j", NULL), -ENOENT);
	int fd;
	cr_assert_eq(local_type.jobs->log_file(world.be, "j", &fd, NULL), -ENOENT);
	cr_assert_lt(access(go, F_OK), 0);
	world_run_shell(&world, "j", "echo again", NULL);
	cr_assert_eq(world_wait_end(&world, "j"), JOB_SUCCEEDED);
	assert_text(world_log(&world, "j"), "again\n");
}

Test(jobs, keeps_no_more_than_it_was_told)
{
	world_run_shell(&world, "old", "head -c 3000000 /dev/zero > $OUTPUT/x", NULL);
	cr_assert_eq(world_wait_end(&world, "old"), JOB_SUCCEEDED);
	world_run_shell(&world, "new", "head -c 3000000 /dev/zero > $OUTPUT/x", NULL);
	cr_assert_eq(world_wait_end(&world, "new"), JOB_SUCCEEDED);
	world_reopen(&world, "{\"slots\": 1, \"gpus\": 0, \"keep\": [\"30d\", \"5MB\"]}");
	cr_assert_eq(world_state(&world, "old"), JOB_UNKNOWN);
	cr_assert_eq(world_state(&world, "new"), JOB_SUCCEEDED);
}

Test(jobs, options_are_checked)
{
	static const struct {
		const char *options, *part;
	} bad[] = {
		{"{\"slotz\": 1}", "slotz"},        {"{\"slots\": 0}", "slots"},
		{"{\"keep\": \"plenty\"}", "keep"}, {"{\"grace\": \"x\"}", "grace"},
		{"{\"gpus\": -1}", "gpus"},         {"{\"keep\": 30}", "keep"},
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		cleanup_json json_t *options = json_loads(bad[i].options, 0, NULL);
		struct backend_conf conf = {
			.name = "local", .state_dir = world.state_dir, .options = options};
		struct backend *be = NULL;
		struct fault fault = {0};
		cr_assert_eq(local_type.open(&conf, &be, &fault), -EINVAL, "%s", bad[i].options);
		assert_has(fault.text, bad[i].part);
	}
}

static void *wake_soon(void *arg)
{
	local_type.jobs->wake(arg);
	return NULL;
}

Test(jobs, watch_is_woken)
{
	pthread_t thread;
	int64_t start = clock_mono_ms();
	(void)local_type.jobs->watch(world.be, 0); /* its own changes of the start */
	cr_assert_eq(pthread_create(&thread, NULL, wake_soon, world.be), 0);
	cr_assert_eq(local_type.jobs->watch(world.be, 60000), 0);
	pthread_join(thread, NULL);
	cr_assert_lt(clock_mono_ms() - start, 30000);
}
