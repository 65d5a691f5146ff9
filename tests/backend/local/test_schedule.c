/* SPDX-License-Identifier: MIT */
/* The queue: its order, slots and GPUs. */
#include "local/schedule.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "helper.h"
#include "local/local.h"
#include "world.h"

static struct world world;

static void teardown(void)
{
	if (world.be)
		world_close(&world);
}

TestSuite(schedule, .fini = teardown, .timeout = 120);

Test(schedule, leases_the_lowest_free_gpus)
{
	cleanup_free char *one = NULL, *two = NULL, *none = NULL, *more = NULL;
	cr_assert_eq(schedule_parse_gpus("0,2,63"), UINT64_C(1) | UINT64_C(4) | UINT64_C(1) << 63);
	cr_assert_eq(schedule_parse_gpus(NULL), 0);
	cr_assert_eq(schedule_lease_gpus(4, 0, 1, &one), 0);
	cr_assert_str_eq(one, "0");
	cr_assert_eq(schedule_lease_gpus(4, 5, 2, &two), 0);
	cr_assert_str_eq(two, "1,3");
	cr_assert_eq(schedule_lease_gpus(4, 0, 0, &none), 0);
	cr_assert_str_eq(none, "");
	cr_assert_eq(schedule_lease_gpus(4, 5, 3, &more), -EAGAIN);
}

/* Lets a job that waits for it go on. */
static void release(const char *id)
{
	cleanup_free char *rest = NULL;
	cr_assert_geq(asprintf(&rest, "buckets/outputs/m/%s/go", id), 0);
	cleanup_free char *path = world_path(&world, rest);
	cleanup_close int fd = open(path, O_WRONLY | O_CREAT, 0600);
	cr_assert_geq(fd, 0);
}

static const char waiting[] =
	"echo gpus=$CUDA_VISIBLE_DEVICES.; while ! test -e $OUTPUT/go; do sleep 0.02; done";

Test(schedule, runs_in_the_order_of_submission_and_tells_the_place)
{
	world_open(&world, NULL);
	world_run_shell(&world, "c", waiting, NULL);
	world_run_shell(&world, "b", waiting, NULL);
	world_run_shell(&world, "a", waiting, NULL);
	cr_assert_eq(world_wait_state(&world, "c", JOB_RUNNING), JOB_RUNNING);
	cleanup_free char *first = world_why(&world, "b");
	cleanup_free char *second = world_why(&world, "a");
	cr_assert_str_eq(first, "1st in the queue, 1 of 1 slots busy");
	cr_assert_str_eq(second, "2nd in the queue, 1 of 1 slots busy");
	release("c");
	cr_assert_eq(world_wait_state(&world, "b", JOB_RUNNING), JOB_RUNNING);
	cr_assert_eq(world_state(&world, "a"), JOB_QUEUED);
	cr_assert_eq(local_type.jobs->cancel(world.be, "a", NULL), 0);
	cr_assert_eq(world_state(&world, "a"), JOB_CANCELLED);
	release("b");
	cr_assert_eq(world_wait_end(&world, "b"), JOB_SUCCEEDED);
}

Test(schedule, leases_gpus_to_jobs)
{
	world_open(&world, "{\"slots\": 4, \"gpus\": 3}");
	world_run_shell(&world, "two", waiting, "{'resources': {'accelerators': 2}}");
	world_run_shell(&world, "none", waiting, NULL);
	world_run_shell(&world, "wants", waiting, "{'resources': {'accelerators': 2}}");
	world_run_shell(&world, "behind", waiting, NULL);
	world_wait_log(&world, "two", "gpus=0,1.");
	world_wait_log(&world, "none", "gpus=.");
	cr_assert_eq(world_state(&world, "wants"), JOB_QUEUED);
	cr_assert_eq(world_state(&world, "behind"), JOB_QUEUED, "it must not overtake");
	cleanup_free char *why = world_why(&world, "wants");
	cr_assert_str_eq(why, "1st in the queue, 2 of 4 slots busy; it needs 2 of 3 GPUs, 1 are free");
	release("two");
	world_wait_log(&world, "wants", "gpus=0,1.");
	world_wait_log(&world, "behind", "gpus=.");
	release("none");
	release("wants");
	release("behind");
	cr_assert_eq(world_wait_end(&world, "two"), JOB_SUCCEEDED);
	cr_assert_eq(world_wait_end(&world, "none"), JOB_SUCCEEDED);
	cr_assert_eq(world_wait_end(&world, "wants"), JOB_SUCCEEDED);
	cr_assert_eq(world_wait_end(&world, "behind"), JOB_SUCCEEDED);
}

Test(schedule, has_a_slot_and_a_gpu_each_by_default)
{
	world_open(&world, "{\"gpus\": 2}");
	world_run_shell(&world, "a", waiting, NULL);
	world_run_shell(&world, "b", waiting, NULL);
	world_wait_log(&world, "a", "gpus=0.");
	world_wait_log(&world, "b", "gpus=1.");
	release("a");
	release("b");
	cr_assert_eq(world_wait_end(&world, "a"), JOB_SUCCEEDED);
	cr_assert_eq(world_wait_end(&world, "b"), JOB_SUCCEEDED);
}

Test(schedule, gives_a_job_up_whose_supervisor_never_starts)
{
	world_open(&world, NULL);
	setenv("TRAINFS_HELPER", "/bin/true", 1);

	helper_set_program(NULL);
	world_run_shell(&world, "j", "true", NULL);
	cr_assert_eq(world_wait_end(&world, "j"), JOB_FAILED);
	assert_text(world_why(&world, "j"), "its supervisor could not be started");
}

/* A row as a supervisor leaves it that is gone: nobody holds its lock. */
static void insert_lost(const char *boot)
{
	cleanup_transaction struct transaction t = {0};
	cr_assert_eq(transaction_write(&t, local_of(world.be)->writer), 0);
	cr_assert_eq(
		store_exec(&t,
			   "INSERT INTO job(id, model, state, revision, created, changed, spec, pid, boot)"
			   " VALUES('j', 'm', 3, 1, 1, 1, '{}', 77, ?)",
			   "s", boot),
		0);
	cr_assert_eq(transaction_commit(&t), 0);
}

Test(schedule, settles_after_a_restart_of_the_machine)
{
	world_open(&world, NULL);
	insert_lost("another boot");
	cr_assert_eq(world_wait_end(&world, "j"), JOB_FAILED);
	assert_text(world_why(&world, "j"), "the machine was restarted while it ran");
}

Test(schedule, settles_by_the_result_that_the_database_did_not_take)
{
	world_open(&world, NULL);
	cleanup_free char *dir = world_path(&world, "jobs/j");
	cleanup_free char *path = world_path(&world, "jobs/j/result");
	static const char result[] =
		"{\"state\":\"FAILED\",\"exit\":3,\"why\":\"exit code 3: x\",\"started\":5,\"ended\":6} ";
	cr_assert_eq(mkdir(dir, 0700), 0);
	cleanup_close int fd = open(path, O_WRONLY | O_CREAT, 0600);
	cr_assert_eq(write(fd, result, strlen(result)), (ssize_t)strlen(result));
	insert_lost("another boot");
	cr_assert_eq(world_wait_end(&world, "j"), JOB_FAILED);
	cr_assert_eq(world_exit(&world, "j"), 3);
	assert_text(world_why(&world, "j"), "exit code 3: x");
}

Test(schedule, hands_on_what_the_daemon_was_given)
{
	mode_t old = umask(027);
	world_open(&world, NULL);
	static const char show[] = "umask; ulimit -c; echo pid=$TRAINFS_JOB_KEY";
	world_run_shell(&world, "a", show, NULL);
	world_run_shell(&world, "b", show, NULL);
	world_run_shell(&world, "c", show, NULL);
	cr_assert_eq(world_wait_end(&world, "c"), JOB_SUCCEEDED);
	(void)umask(old);
	cleanup_free char *a = world_log(&world, "a");
	cleanup_free char *c = world_log(&world, "c");
	cr_assert_eq(strncmp(a, "0027\n", 5), 0, "%s", a);
	a[strcspn(a, "=")] = c[strcspn(c, "=")] = '\0';
	cr_assert_str_eq(a, c);
}
