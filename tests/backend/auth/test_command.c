/* SPDX-License-Identifier: MIT */
/* Programs that print a secret: how they are named, and how they end. */
#include "auth/command.h"

#include "auth/secret.h"
#include "cleanup.h"
#include "clock.h"
#include "scratch.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <signal.h>
#include <string.h>

static void check_split(const char *text, const char *wanted)
{
	char **argv = NULL;
	cleanup_str struct str found = {0};
	cr_assert(zero(int, command_split(text, &argv)), "%s", text);
	for (size_t i = 0; argv[i]; i++)
		str_printf(&found, "<%s>", argv[i]);
	cr_assert(eq(str, found.data, (char *)wanted));
	command_free(argv);
}

Test(command, is_split_as_a_shell_splits)
{
	check_split("  a  b\tc\n", "<a><b><c>");
	check_split("'a b' \"c d\" e\\ f", "<a b><c d><e f>");
	check_split("a'b'\"c\"d", "<abcd>");
	check_split("'' \"\"", "<><>");
	check_split("'a\\b' \"a\\b\\\"\\\\\" a\\\\b", "<a\\b><a\\b\"\\><a\\b>");
	check_split("$HOME `x` $(y) ; | *", "<$HOME><`x`><$(y)><;><|><*>");
}

Test(command, that_cannot_be_split_is_refused)
{
	char **argv = NULL;
	cleanup_str struct str many = {0};
	for (int i = 0; i <= COMMAND_ARGS_MAX; i++)
		str_append(&many, "a ");
	cr_assert(eq(int, command_split("", &argv), -EINVAL));
	cr_assert(eq(int, command_split("a 'b", &argv), -EINVAL));
	cr_assert(eq(int, command_split("a \"b", &argv), -EINVAL));
	cr_assert(eq(int, command_split(many.data, &argv), -EINVAL));
}

static int run(const char *script, int limit_ms, const struct http_cancel *cancel, struct str *ret,
	       int *ret_exit)
{
	char *const argv[] = {"sh", "-c", (char *)script, NULL};
	return command_run(argv, limit_ms, cancel, ret, ret_exit);
}

Test(command, gives_its_output_and_has_no_input)
{
	cleanup_secret_str struct str output = {0};
	int status = 0;
	cr_assert(zero(int, run("cat; echo out; echo err >&2", 30000, NULL, &output, &status)));
	cr_assert(eq(str, output.data, "out\n"));
}

Test(command, tells_how_it_failed)
{
	cleanup_secret_str struct str output = {0};
	int status = 0;
	cr_assert(eq(int, run("echo x; exit 3", 30000, NULL, &output, &status), -ECHILD));
	cr_assert(eq(int, status, 3));
	cr_assert(eq(int, run("kill -TERM $$", 30000, NULL, &output, &status), -ECHILD));
	cr_assert(eq(int, status, 128 + SIGTERM));
	char *const argv[] = {"/nonexistent/program", NULL};
	cr_assert(eq(int, command_run(argv, 30000, NULL, &output, &status), -ENOENT));
}

/* The fifo is opened for writing by both: when both are dead, its reader sees the end. */
static void check_nobody_is_left(const char *wanted_word, int limit_ms, const struct http_cancel *cancel,
				 int err)
{
	cleanup_secret_str struct str output = {0};
	cleanup_free char *script = NULL, *path = NULL;
	char byte;
	int status = 0;
	cr_assert(zero(int, str_format(&path, "%s/fifo", scratch_path)));
	cr_assert(zero(int, mkfifo(path, 0600)));
	cleanup_close int reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	cr_assert(ge(int, reader, 0));
	cr_assert(zero(int, str_format(&script, "exec 3>%s; sleep 1000 & %s", path, wanted_word)));
	cr_assert(eq(int, run(script, limit_ms, cancel, &output, &status), -err));
	cr_assert(zero(int, fcntl(reader, F_SETFL, 0)));
	cr_assert(zero(int, (int)read(reader, &byte, 1)), "the end, when the last writer is dead");
}

Test(command, that_takes_too_long_is_killed_with_its_children, .timeout = 30)
{
	scratch_open();
	check_nobody_is_left("wait", 200, NULL, ETIMEDOUT);
	scratch_close();
}

Test(command, that_writes_too_much_is_killed_with_its_children, .timeout = 30)
{
	scratch_open();
	check_nobody_is_left("cat /dev/zero", 30000, NULL, EFBIG);
	scratch_close();
}

Test(command, that_is_interrupted_is_killed_with_its_children, .timeout = 30)
{
	struct http_cancel cancel = {.is_set = true};
	cleanup_secret_str struct str output = {0};
	int status = 0;
	int64_t begun_ms = clock_mono_ms();
	cr_assert(eq(int, run("sleep 1000", 60000, &cancel, &output, &status), -EINTR));
	cr_assert(lt(i64, clock_mono_ms() - begun_ms, 20000));
}
