/* SPDX-License-Identifier: MIT */
/* Jobs from submission to their end, with real supervisors. */
#include "world.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "clock.h"
#include "file.h"
#include "local/local.h"
#include "str.h"

static struct world world;

static void setup(void)
{
	world_open(&world, NULL);
}

static void setup_short_grace(void)
{
	world_open(&world, "{\"slots\": 1, \"gpus\": 0, \"grace\": 1}");
}

static void teardown(void)
{
	if (world.be)
		world_close(&world);
}

TestSuite(supervise, .init = setup, .fini = teardown, .timeout = 120);
TestSuite(supervise_grace, .init = setup_short_grace, .fini = teardown, .timeout = 120);

Test(supervise, runs_a_shell_job_to_its_end)
{
	world_run_shell(&world, "j",
			"echo hello; echo wrong >&2; echo $TRAINFS_JOB_ID; echo 42 > $OUTPUT/result", NULL);
	cr_assert_eq(world_wait_end(&world, "j"), JOB_SUCCEEDED);
	cr_assert_eq(world_exit(&world, "j"), 0);
	assert_text(world_log(&world, "j"), "hello\nwrong\nj\n");
	assert_text(world_read(&world, "buckets/outputs/m/j/result"), "42\n");
	assert_text(world_why(&world, "j"), "");
}

Test(supervise, runs_in_a_private_copy_of_the_package)
{
	world_write(&world, "p", "data/x", "one");
	world_write(&world, "p", "train.sh", "pwd; cat data/x; echo two > data/x; touch new\n");
	cr_assert_eq(world_submit(&world, "p", "j", "{'trainfs': 1, 'entry': 'train.sh'}", NULL), 0);
	cr_assert_eq(world_wait_end(&world, "j"), JOB_SUCCEEDED);
	assert_text(world_read(&world, "jobs/j/package/data/x"), "one");
	assert_text(world_read(&world, "jobs/j/run/data/x"), "two\n");
	cleanup_free char *log = world_log(&world, "j");
	assert_has(log, "/jobs/j/run\none");
}

Test(supervise, runs_an_executable_without_an_interpreter_line_as_the_shell_does)
{
	cleanup_free char *path = NULL;
	cr_assert_eq(str_format(&path, "%s/packages/p/run", world.dir), 0);
	world_write(&world, "p", "run", "echo $1-$2\n");
	cr_assert_eq(chmod(path, 0755), 0);
	cr_assert_eq(world_submit(&world, "p", "j", "{'entry': 'run', 'args': ['a', 'b']}", NULL), 0);
	cr_assert_eq(world_wait_end(&world, "j"), JOB_SUCCEEDED);
	assert_text(world_log(&world, "j"), "a-b\n");
}

Test(supervise, calls_a_main_function_with_dataset_and_model_directory)
{
	world_write(&world, "p", "main.py",
		    "import sys\n"
		    "def main(dataset_dir, model_output_dir):\n"
		    "    print(open(dataset_dir + '/x').read(), sys.argv[1:])\n"
		    "    open(model_output_dir + '/weights', 'w').write('w')\n");
	world_write(&world, "p", "data/x", "rows");
	cr_assert_eq(world_submit(&world, "p", "j",
				  "{'trainfs': 1, 'entry': 'main.py:main', 'inputs': {'dataset': './data'}, "
				  "'args': ['--o=$OUTPUT']}",
				  NULL),
		     0);
	cr_assert_eq(world_wait_end(&world, "j"), JOB_SUCCEEDED);
	cleanup_free char *log = world_log(&world, "j");
	assert_has(log, "rows ['--o=/");
	assert_text(world_read(&world, "buckets/outputs/m/j/model/weights"), "w");
}

Test(supervise, tells_the_last_line_of_a_failure)
{
	world_write(&world, "p", "train.py", "print('start')\nraise ValueError('no such data')\n");
	cr_assert_eq(world_submit(&world, "p", "j", "{'trainfs': 1, 'entry': 'train.py'}", NULL), 0);
	cr_assert_eq(world_wait_end(&world, "j"), JOB_FAILED);
	cr_assert_eq(world_exit(&world, "j"), 1);
	assert_text(world_why(&world, "j"), "exit code 1: ValueError: no such data");
}

Test(supervise, tells_death_by_signal)
{
	world_run_shell(&world, "j", "kill -SEGV $$", NULL);
	cr_assert_eq(world_wait_end(&world, "j"), JOB_FAILED);
	cr_assert_eq(world_exit(&world, "j"), 128 + SIGSEGV);
	assert_text(world_why(&world, "j"), "killed by signal 11 (SEGV)");
}

Test(supervise, tells_that_a_program_is_not_there)
{
	cr_assert_eq(
		world_submit(&world, "empty", "j", "{'trainfs': 1, 'command': ['no-such-program']}", NULL),
		0);
	cr_assert_eq(world_wait_end(&world, "j"), JOB_FAILED);
	assert_text(world_why(&world, "j"),
		    "no-such-program could not be started: No such file or directory");
}

Test(supervise, ends_a_job_at_its_timeout)
{
	world_run_shell(&world, "j", "echo begun; sleep 1000", "{'timeout': '1s'}");
	cr_assert_eq(world_wait_end(&world, "j"), JOB_FAILED);
	cr_assert_eq(world_exit(&world, "j"), 124);
	assert_text(world_why(&world, "j"), "ran longer than timeout 1s");
}

Test(supervise, retries_a_failure_and_tells_each_attempt)
{
	world_run_shell(&world, "j",
			"echo try; test -e two && exit 0; test -e one && touch two; touch one; exit 3",
			"{'retries': 5}");
	cr_assert_eq(world_wait_end(&world, "j"), JOB_SUCCEEDED);
	struct job_detail detail = {0};
	cr_assert_eq(local_type.jobs->get(world.be, "j", &detail, NULL), 0);
	cr_assert_eq(detail.n_attempts, 3);
	cr_assert_eq(detail.attempt[0].exit, 3);
	cr_assert_str_eq(detail.attempt[0].why, "exit code 3: try");
	cr_assert_eq(detail.attempt[2].exit, 0);
	cr_assert(detail.attempt[2].started_ns && detail.attempt[2].ended_ns >= detail.attempt[2].started_ns);
	job_detail_release(&detail);
	cleanup_free char *log = world_log(&world, "j");
	assert_has(log, "try\n[trainfs: attempt 2 of 6]\ntry\n[trainfs: attempt 3 of 6]\ntry\n");
}

Test(supervise, cancels_a_job_and_all_of_its_group)
{
	world_run_shell(&world, "j", "sleep 1000 & echo ready; wait", "{'retries': 3}");
	world_wait_log(&world, "j", "ready");
	cr_assert_eq(local_type.jobs->cancel(world.be, "j", NULL), 0);
	cr_assert_eq(world_wait_end(&world, "j"), JOB_CANCELLED);
	cr_assert_eq(world_exit(&world, "j"), 128 + SIGTERM);
	cr_assert_eq(local_type.jobs->cancel(world.be, "j", NULL), -EBUSY);
	struct job_detail detail = {0};
	cr_assert_eq(local_type.jobs->get(world.be, "j", &detail, NULL), 0);
	cr_assert_eq(detail.n_attempts, 1);
	static const enum job_state expected[] = {JOB_QUEUED, JOB_PREPARING, JOB_RUNNING, JOB_CANCELLING,
						  JOB_CANCELLED};
	cr_assert_eq(detail.n_events, 5);
	for (size_t i = 0; i < 5; i++)
		cr_assert_eq(detail.event[i].state, expected[i]);
	job_detail_release(&detail);
}

Test(supervise_grace, kills_what_ignores_a_cancel)
{
	world_run_shell(&world, "j", "trap '' TERM; echo ready; while :; do sleep 1; done", NULL);
	world_wait_log(&world, "j", "ready");
	cr_assert_eq(local_type.jobs->cancel(world.be, "j", NULL), 0);
	cr_assert_eq(world_wait_end(&world, "j"), JOB_CANCELLED);
	cr_assert_eq(world_exit(&world, "j"), 128 + SIGKILL);
}

/* The pid that a job has written to its output. */
static pid_t read_pid(const char *path)
{
	cleanup_free char *text = world_read(&world, path);
	return (pid_t)strtol(text, NULL, 10);
}

Test(supervise_grace, leaves_no_process_behind)
{
	world_run_shell(
		&world, "j",
		"(trap '' TERM; exec setsid sleep 1000) & echo $! > $OUTPUT/pid; sleep 1000 & echo started",
		NULL);
	cr_assert_eq(world_wait_end(&world, "j"), JOB_SUCCEEDED);
	pid_t pid = read_pid("buckets/outputs/m/j/pid");
	cr_assert_gt(pid, 0);
	cr_assert(kill(pid, 0) < 0 && errno == ESRCH, "%d lives", (int)pid);
	cleanup_free char *log = world_log(&world, "j");
	assert_has(log, "it had left behind");
}

Test(supervise, keeps_a_log_without_newline_and_in_full)
{
	world_run_shell(&world, "j", "head -c 300000000 /dev/zero | tr '\\0' x", NULL);
	cr_assert_eq(world_wait_end(&world, "j"), JOB_SUCCEEDED);
	int fd;
	struct stat st;
	cr_assert_eq(local_type.jobs->log_file(world.be, "j", &fd, NULL), 0);
	cr_assert_eq(fstat(fd, &st), 0);
	close(fd);
	cr_assert_eq(st.st_size, 300000000);
}

Test(supervise, settles_a_job_whose_supervisor_was_killed)
{
	world_run_shell(&world, "j", "setsid sleep 1000 & echo $! > $OUTPUT/pid; echo ready; sleep 1000",
			NULL);
	world_run_shell(&world, "next", "true", NULL);
	world_wait_log(&world, "j", "ready");
	struct job_detail detail = {0};
	cr_assert_eq(world_wait_state(&world, "j", JOB_RUNNING), JOB_RUNNING);
	cr_assert_eq(local_type.jobs->get(world.be, "j", &detail, NULL), 0);
	cleanup_json json_t *api = json_loads(detail.api, 0, NULL);
	job_detail_release(&detail);
	pid_t pid = (pid_t)json_integer_value(json_object_get(api, "pid"));
	cr_assert_gt(pid, 1);
	pid_t left = read_pid("buckets/outputs/m/j/pid");
	cr_assert_gt(left, 1);
	cr_assert_eq(kill(pid, SIGKILL), 0);
	cr_assert_eq(world_wait_end(&world, "j"), JOB_FAILED);
	assert_text(world_why(&world, "j"), "its supervisor was killed");
	cr_assert_eq(world_wait_end(&world, "next"), JOB_SUCCEEDED);
	/* killed, and reaped by whoever is its parent now, soon */
	for (int64_t end = clock_mono_ms() + 10000; kill(left, 0) == 0 && clock_mono_ms() < end;)
		(void)local_type.jobs->watch(world.be, 20);
	cleanup_free char *status = NULL;
	cleanup_free char *path = NULL;
	cr_assert_eq(str_format(&path, "/proc/%d/status", (int)left), 0);
	if (file_read_all(AT_FDCWD, path, 65536, &status, NULL) == 0)
		assert_has(status, "State:\tZ");
}

Test(supervise, ends_its_job_when_the_system_ends_it)
{
	world_run_shell(&world, "j", "echo ready; sleep 1000", "{'retries': 2}");
	world_wait_log(&world, "j", "ready");
	cr_assert_eq(world_wait_state(&world, "j", JOB_RUNNING), JOB_RUNNING);
	struct job_detail detail = {0};
	cr_assert_eq(local_type.jobs->get(world.be, "j", &detail, NULL), 0);
	cleanup_json json_t *api = json_loads(detail.api, 0, NULL);
	job_detail_release(&detail);
	cr_assert_eq(kill((pid_t)json_integer_value(json_object_get(api, "pid")), SIGTERM), 0);
	cr_assert_eq(world_wait_end(&world, "j"), JOB_FAILED);
	assert_text(world_why(&world, "j"), "ended by the system (SIGTERM): a shutdown or logout");
}

Test(supervise, goes_on_and_records_its_end_while_nobody_looks)
{
	world_run_shell(&world, "a", "echo ready; while ! test -e $OUTPUT/go; do sleep 0.05; done; exit 7",
			NULL);
	world_run_shell(&world, "b", "echo second", NULL);
	world_wait_log(&world, "a", "ready");
	local_type.close(world.be);
	world.be = NULL;
	cleanup_free char *go = world_path(&world, "buckets/outputs/m/a/go");
	close(open(go, O_WRONLY | O_CREAT, 0600));
	/* the end of b, which a's supervisor has started, is seen in its log alone */
	for (int64_t end = clock_mono_ms() + WORLD_DEADLINE_MS;;) {
		cleanup_free char *log = world_log(&world, "b");
		if (strstr(log, "second"))
			break;
		cr_assert_lt(clock_mono_ms(), end);
		sched_yield();
	}
	world.be = world_open_backend(&world, NULL);
	cr_assert_eq(world_wait_end(&world, "a"), JOB_FAILED);
	cr_assert_eq(world_wait_end(&world, "b"), JOB_SUCCEEDED);
	cr_assert_eq(world_exit(&world, "a"), 7);
}

Test(supervise, gives_secrets_to_the_program_and_to_nothing_else)
{
	cr_assert_eq(world_submit_secret(&world, "j",
					 "{'trainfs': 1, 'command': ['sh', '-c', 'test ${#TOKEN} = 9']}",
					 "TOKEN", "hush-hush"),
		     0);
	cr_assert_eq(world_wait_end(&world, "j"), JOB_SUCCEEDED);
	struct job_detail detail = {0};
	cr_assert_eq(local_type.jobs->get(world.be, "j", &detail, NULL), 0);
	assert_lacks(detail.api, "hush-hush");
	assert_lacks(detail.spec, "hush-hush");
	job_detail_release(&detail);
	cleanup_free char *path = world_path(&world, "jobs/j/secrets");
	cr_assert_lt(access(path, F_OK), 0);
}

Test(supervise, resumes_with_the_old_output)
{
	world_run_shell(&world, "a", "echo 1 > $OUTPUT/checkpoint; exit 1", NULL);
	cr_assert_eq(world_wait_end(&world, "a"), JOB_FAILED);
	world_run_shell(&world, "b", "cat $OUTPUT/checkpoint; echo 2 > $OUTPUT/checkpoint",
			"{'resume': 'a'}");
	cr_assert_eq(world_wait_end(&world, "b"), JOB_SUCCEEDED);
	assert_text(world_log(&world, "b"), "1\n");
	assert_text(world_read(&world, "buckets/outputs/m/a/checkpoint"), "1\n");
}

Test(supervise, makes_an_environment_and_tells_why_it_cannot)
{
	world_write(&world, "p", "requirements.txt", "# nothing that is not here\nnumpy\n");
	world_write(&world, "p", "train.py", "import sys, numpy\nprint(sys.prefix)\n");
	cr_assert_eq(world_submit(&world, "p", "j", "{'trainfs': 1, 'entry': 'train.py'}", NULL), 0);
	cr_assert_eq(world_wait_end(&world, "j"), JOB_SUCCEEDED);
	cleanup_free char *log = world_log(&world, "j");
	assert_has(log, "/environments/");
	world_write(&world, "bad", "requirements.txt", "--no-index\nno-such-package-at-all==9.9\n");
	world_write(&world, "bad", "train.py", "pass\n");
	cr_assert_eq(world_submit(&world, "bad", "k", "{'trainfs': 1, 'entry': 'train.py'}", NULL), 0);
	cr_assert_eq(world_wait_end(&world, "k"), JOB_FAILED);
	cleanup_free char *why = world_why(&world, "k");
	assert_has(why, "no-such-package-at-all==9.9");
	assert_has(why, "requirements: ");
}

/* ---- a full disk */

static bool mount_small(const char *path, const char *size)
{
	cleanup_free char *options = NULL;
	cr_assert_eq(str_format(&options, "size=%s,mode=0700", size), 0);
	return mount("tmpfs", path, "tmpfs", 0, options) == 0;
}

/* A world whose state is a small file system; false (and an ordinary world) where that cannot be made. */
static bool open_small_world(const char *size)
{
	world_close(&world);
	char dir[] = "/tmp/trainfs-test.XXXXXX";
	cr_assert(mkdtemp(dir));
	world = (struct world){.dir = strdup(dir)};
	cr_assert_eq(str_format(&world.state_dir, "%s/state", dir), 0);
	cr_assert_eq(mkdir(world.state_dir, 0700), 0);
	bool is_small = mount_small(world.state_dir, size);
	world.be = world_open_backend(&world, NULL);
	return is_small;
}

static void skip_small_world(void)
{
	world_close(&world); /* Criterion runs no teardown of a skipped test */
	cr_skip_test("mounting needs root");
}

static void close_small_world(void)
{
	local_type.close(world.be);
	cr_assert_eq(umount2(world.state_dir, MNT_DETACH), 0);
	world.be = world_open_backend(&world, NULL);
}

Test(supervise, records_its_end_on_a_full_disk)
{
	if (!open_small_world("4m"))
		skip_small_world();
	world_run_shell(&world, "j", "cat /dev/zero > $OUTPUT/fill; echo filled; exit 3", NULL);
	/* the end is in the database, or in the file whose blocks were reserved */
	for (int64_t end = clock_mono_ms() + WORLD_DEADLINE_MS;;) {
		cleanup_free char *result = world_read(&world, "jobs/j/result");
		if (result[0] == '{' || job_state_is_ended(world_state(&world, "j")))
			break;
		cr_assert_lt(clock_mono_ms(), end);
		sched_yield();
	}
	cleanup_free char *fill = world_path(&world, "buckets/outputs/m/j/fill");
	cr_assert_eq(unlink(fill), 0);
	cr_assert_eq(world_wait_end(&world, "j"), JOB_FAILED);
	cr_assert_eq(world_exit(&world, "j"), 3);
	close_small_world();
}

Test(supervise, survives_a_full_disk_and_tells_what_is_missing)
{
	if (!open_small_world("8m"))
		skip_small_world();
	world_run_shell(&world, "j",
			"head -c 20000000 /dev/zero | tr '\\0' x; echo; echo full; touch $OUTPUT/printed; "
			"while ! test -e go; do sleep 0.05; done; echo after",
			NULL);
	cleanup_free char *printed = world_path(&world, "buckets/outputs/m/j/printed");
	for (int64_t end = clock_mono_ms() + WORLD_DEADLINE_MS; access(printed, F_OK) < 0;) {
		cr_assert_lt(clock_mono_ms(), end);
		sched_yield();
	}
	/* room: more than the log can take */
	cleanup_free char *options = strdup("size=64m");
	cr_assert_eq(mount("tmpfs", world.state_dir, "tmpfs", MS_REMOUNT, options), 0);
	cleanup_free char *go = world_path(&world, "jobs/j/run/go");
	for (int64_t end = clock_mono_ms() + WORLD_DEADLINE_MS;;) {
		int fd = open(go, O_WRONLY | O_CREAT, 0600);
		if (fd >= 0) {
			close(fd);
			break;
		}
		cr_assert_lt(clock_mono_ms(), end);
	}
	cr_assert_eq(world_wait_end(&world, "j"), JOB_SUCCEEDED);
	cleanup_free char *log = world_log(&world, "j");
	const char *note = strstr(log, "\n[trainfs: ");
	cr_assert(note);
	cr_assert(strstr(note, "bytes of log were lost: disk full]\nxxx"));
	cr_assert(str_has_suffix(note, "x\nfull\nafter\n"));
	cleanup_free char *why = world_why(&world, "j");
	assert_has(why, "bytes of log were lost: disk full");
	close_small_world();
}
