/* SPDX-License-Identifier: MIT */
/* The last words of a log, and what a full disk does to it. */
#include "local/joblog.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#include "cleanup.h"
#include "file.h"

static char path[] = "/tmp/trainfs-joblog.XXXXXX";
static struct joblog log_;

static void setup(void)
{
	close(mkstemp(path));
	cr_assert_eq(joblog_open(&log_, path), 0);
}

static void teardown(void)
{
	joblog_close(&log_);
	(void)unlink(path);
}

TestSuite(joblog, .init = setup, .fini = teardown);

static void assert_last(const char *text, const char *expected)
{
	int64_t from = log_.size;
	joblog_write(&log_, text, strlen(text));
	cleanup_free char *line = joblog_last_line(&log_, from, 20);
	if (expected)
		cr_assert_str_eq(line, expected);
	else
		cr_assert_null(line);
}

Test(joblog, finds_the_last_line_that_says_something)
{
	assert_last("a\nb\n\n  \n", "b");
	assert_last("one", "one");
	assert_last("\n\n", NULL);
	assert_last("said\n[trainfs: attempt 2 of 3]\n", "said");
	assert_last("10%\r50%\r100%\r\n", "100%");
	assert_last("0123456789012345678901234\n", "01234567890123456789");
	assert_last("a\tb\x1b[0m\xff\xc3\xa4\n", "a b?[0m?\xc3\xa4");
	assert_last("0123456789012345678\xc3\xa4\n", "0123456789012345678");
}

Test(joblog, notes_begin_on_a_line_of_their_own)
{
	joblog_write(&log_, "no newline", 10);
	joblog_note(&log_, "attempt %d of %d", 2, 3);
	joblog_note(&log_, "again");
	cleanup_free char *text = NULL;
	cr_assert_eq(file_read_all(AT_FDCWD, path, 4096, &text, NULL), 0);
	cr_assert_str_eq(text, "no newline\n[trainfs: attempt 2 of 3]\n[trainfs: again]\n");
}

/* A limit on the file's size stands in for the disk. */
static void limit(rlim_t bytes)
{
	signal(SIGXFSZ, SIG_IGN);
	struct rlimit rlimit = {bytes, RLIM_INFINITY};
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &rlimit), 0);
}

Test(joblog, holds_the_newest_and_tells_what_was_lost)
{
	static char block[100000];
	memset(block, 'x', sizeof(block));
	limit(150000);
	for (int i = 0; i < 50; i++)
		joblog_write(&log_, block, sizeof(block));
	cr_assert_not(joblog_flush(&log_));
	cr_assert_eq(log_.size, 150000);
	joblog_write(&log_, "end\n", 4);
	cr_assert_gt(log_.lost, 0);
	int64_t lost = log_.lost;
	limit(RLIM_INFINITY);
	cr_assert(joblog_flush(&log_));
	cr_assert_eq(log_.lost_total, lost);
	cleanup_free char *text = NULL;
	size_t len;
	cr_assert_eq(file_read_all(AT_FDCWD, path, 16 << 20, &text, &len), 0);
	const char *note = strstr(text, "\n[trainfs: ");
	cr_assert(note);
	cr_assert_eq(strtoll(note + 11, NULL, 10), lost);
	const char *rest = strstr(note, "full]\n") + 6;
	cr_assert_geq(strlen(rest), 1000000);
	cr_assert_eq(150000 + lost + (int64_t)strlen(rest), 5000004);
	cr_assert_str_eq(text + len - 4, "end\n");
}
