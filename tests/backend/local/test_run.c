/* SPDX-License-Identifier: MIT */
/* Command lines and environments. */
#include "local/run.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "file.h"
#include "local/scope.h"
#include "str.h"

static char run_dir[] = "/tmp/trainfs-run.XXXXXX";

static void touch(const char *name, mode_t mode)
{
	cleanup_free char *path = NULL;
	cr_assert_eq(str_format(&path, "%s/%s", run_dir, name), 0);
	cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, mode);
	cr_assert_geq(fd, 0);
}

static void setup(void)
{
	cr_assert(mkdtemp(run_dir));
	touch("run", 0755);
	touch("plain", 0644);
	touch("train.py", 0644);
	touch("train.sh", 0644);
	touch("marked.sh", 0755);
	touch("data", 0644);
}

static void teardown(void)
{
	(void)tree_remove(AT_FDCWD, run_dir);
}

TestSuite(run, .init = setup, .fini = teardown);

static json_t *parse(const char *spec)
{
	cleanup_free char *text = strdup(spec);
	for (char *c = text; *c; c++)
		if (*c == '\'')
			*c = '"';
	json_t *object = json_loads(text, 0, NULL);
	cr_assert(object, "%s", text);
	return object;
}

static char *inherited[] = {"PATH=/usr/bin:/bin", "HOME=/home/u", "TRAINFS_CONFIG=/x", "PYTHONPATH=/lib/mine",
			    NULL};

static int plan(const char *spec_text, struct run_plan *ret, struct fault *reterr)
{
	cleanup_json json_t *spec = parse(spec_text);
	struct secret secret = {"TOKEN", "hush"};
	struct run_input input = {
		.spec = spec,
		.id = "j1",
		.run_dir = run_dir,
		.output_dir = "/out",
		.python = "/usr/bin/python3",
		.key = "k",
		.secret = &secret,
		.n_secrets = 1,
		.environ = inherited,
	};
	return run_plan_make(&input, ret, reterr);
}

static char *join(char *const *argv)
{
	struct str text = {0};
	for (; *argv; argv++)
		str_printf(&text, "%s%s", text.len ? "|" : "", *argv);
	char *ret = NULL;
	cr_assert_eq(str_steal(&text, &ret), 0);
	return ret;
}

static void assert_argv(const char *spec, const char *expected)
{
	struct run_plan p = {0};
	struct fault fault = {0};
	cr_assert_eq(plan(spec, &p, &fault), 0, "%s", fault.text);
	cleanup_free char *argv = join(p.argv);
	cr_assert_str_eq(argv, expected);
	run_plan_release(&p);
}

static const char *env_of(const struct run_plan *p, const char *name)
{
	size_t n = strlen(name);
	for (char **e = p->envp; *e; e++)
		if (!strncmp(*e, name, n) && (*e)[n] == '=')
			return *e + n + 1;
	return "(none)";
}

Test(run, builds_a_command_line_for_each_kind)
{
	assert_argv("{'entry': 'pkg.task', 'args': ['--epochs=5']}",
		    "/usr/bin/python3|-m|pkg.task|--epochs=5");
	assert_argv("{'entry': 'train.py', 'args': [5, 0.5, true]}", "/usr/bin/python3|train.py|5|0.5|true");
	assert_argv("{'entry': 'train.py'}", "/usr/bin/python3|train.py");
	assert_argv("{'command': ['bash', '-c', 'echo $OUTPUT']}", "bash|-c|echo /out");
	assert_argv("{'entry': 'task'}", "/usr/bin/python3|-m|task");
}

Test(run, runs_files_of_the_package)
{
	cleanup_free char *shell = NULL, *marked = NULL, *file = NULL;
	cr_assert_eq(str_format(&shell, "sh|%s/train.sh", run_dir), 0);
	cr_assert_eq(str_format(&marked, "%s/marked.sh", run_dir), 0);
	cr_assert_eq(str_format(&file, "%s/run|x", run_dir), 0);
	assert_argv("{'entry': 'train.sh'}", shell);
	assert_argv("{'entry': 'marked.sh'}", marked);
	assert_argv("{'entry': 'run', 'args': ['x']}", file);
	struct run_plan p = {0};
	struct fault fault = {0};
	cr_assert_eq(plan("{'entry': 'plain'}", &p, &fault), -EBADMSG);
	cr_assert(strstr(fault.text, "chmod"));
}

Test(run, replaces_what_every_engine_names)
{
	assert_argv(
		"{'command': ['x', '$OUTPUT/a', '${OUTPUT}b', '$OUTPUTS', '$TRAINFS_JOB_ID', '$ID', '$HOME'],"
		" 'args': ['TRAIN_PATH/ckpt', 'TRAIN_PATHS']}",
		"x|/out/a|/outb|$OUTPUTS|j1|j1|$HOME|/out/ckpt|/outS");
}

Test(run, gives_the_environment)
{
	struct run_plan p = {0};
	struct fault fault = {0};
	cr_assert_eq(plan("{'entry': 'train.py', 'env': {'A': 'in $OUTPUT', 'HOME': '/elsewhere', 'OUTPUT': "
			  "'mine'},"
			  " 'inputs': {'dataset': './data', 'other-one': '/etc/passwd'}}",
			  &p, &fault),
		     0, "%s", fault.text);
	cr_assert_str_eq(env_of(&p, "A"), "in /out");
	cr_assert_str_eq(env_of(&p, "HOME"), "/elsewhere");
	cr_assert_str_eq(env_of(&p, "OUTPUT"), "/out");
	cr_assert_str_eq(env_of(&p, "AIP_MODEL_DIR"), "/out/model");
	cr_assert_str_eq(env_of(&p, "SM_MODEL_DIR"), "/out/model");
	cr_assert_str_eq(env_of(&p, "SM_CHANNEL_OTHER_ONE"), "/etc/passwd");
	cr_assert_str_eq(env_of(&p, "TRAINFS_CONFIG"), "(none)");
	cr_assert_str_eq(env_of(&p, "TOKEN"), "hush");
	cr_assert_str_eq(env_of(&p, "PYTHONUNBUFFERED"), "1");
	cr_assert_str_eq(env_of(&p, "CUDA_VISIBLE_DEVICES"), "(none)");
	cleanup_free char *dataset = NULL, *python_path = NULL;
	cr_assert_eq(str_format(&dataset, "%s/data", run_dir), 0);
	cr_assert_eq(str_format(&python_path, "%s:/lib/mine", run_dir), 0);
	cr_assert_str_eq(env_of(&p, "DATASET"), dataset);
	cr_assert_str_eq(env_of(&p, "SM_CHANNEL_DATASET"), dataset);
	cr_assert_str_eq(env_of(&p, "PYTHONPATH"), python_path);
	run_plan_release(&p);
}

Test(run, refuses_an_input_that_is_not_there)
{
	struct run_plan p = {0};
	struct fault fault = {0};
	cr_assert_eq(plan("{'entry': 'train.py', 'inputs': {'dataset': '/no/such'}}", &p, &fault), -EBADMSG);
	cr_assert_str_eq(fault.text, "inputs.dataset: /no/such: No such file or directory");
}

Test(run, reads_limits)
{
	cleanup_json json_t *spec = parse("{'timeout': '3h', 'retries': 2}");
	cleanup_json json_t *bare = parse("{'timeout': 90}");
	cr_assert_eq(run_timeout_ms(spec), 3 * 3600 * 1000);
	cr_assert_eq(run_timeout_ms(bare), 90000);
	cr_assert_eq(run_retries(spec), 2);
	cr_assert_eq(run_retries(bare), 0);
}

Test(run, leaves_a_service_and_nothing_else)
{
	cr_assert(scope_is_needed("/user.slice/user-1000.slice/user@1000.service/app.slice/trainfs.service"));
	cr_assert(scope_is_needed("/system.slice/trainfs.service"));
	cr_assert_not(scope_is_needed("/user.slice/user-1000.slice/session-3.scope"));
	cr_assert_not(
		scope_is_needed("/user.slice/user-1000.slice/user@1000.service/app.slice/trainfs-j-7.scope"));
	cr_assert_not(scope_is_needed("/"));
}
