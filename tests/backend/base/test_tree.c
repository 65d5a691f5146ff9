/* SPDX-License-Identifier: MIT */
/* Tree of base/, held to what its header promises. */
#include "file.h"

#include "scratch.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static int dir = -1;

static void set_up(void)
{
	dir = scratch_open();
}

static void tear_down(void)
{
	scratch_close();
}

TestSuite(tree, .init = set_up, .fini = tear_down);

static void write_text(const char *name, const char *text)
{
	cr_assert(eq(int, file_write_atomic(dir, name, text, strlen(text), 0644), 0));
}

static void make_sample(void)
{
	cr_assert(zero(int, file_make_dirs(dir, "src/a/b", 0755)));
	write_text("src/one", "1");
	write_text("src/a/two", "22");
	write_text("src/a/b/new\nline", "333");
	cr_assert(zero(int, symlinkat("/etc/passwd", dir, "src/out")));
	cr_assert(zero(int, symlinkat("nowhere", dir, "src/a/dangling")));
}

static bool has_text(const char *name, const char *want)
{
	cleanup_free char *text = NULL;

	return file_read_all(dir, name, 100, &text, NULL) == 0 && strcmp(text, want) == 0;
}

Test(tree, a_copy_is_the_same)
{
	struct fault fault = {0};
	struct stat st;
	char target[100] = "";

	make_sample();
	cr_assert(zero(int, fchmodat(dir, "src/a", 0500, 0)));
	const struct timespec times[2] = {{.tv_sec = 5}, {.tv_sec = 1000}};
	cr_assert(zero(int, utimensat(dir, "src/a", times, 0)));
	cr_assert(zero(int, tree_copy(dir, "src", dir, "dst", &fault)), "%s", fault.text);
	cr_expect(has_text("dst/one", "1"));
	cr_expect(has_text("dst/a/two", "22"));
	cr_expect(has_text("dst/a/b/new\nline", "333"));
	cr_expect(eq(int, (int)readlinkat(dir, "dst/out", target, sizeof(target)), 11));
	cr_expect(eq(str, target, "/etc/passwd"));
	cr_assert(zero(int, fstatat(dir, "dst/a", &st, 0)));
	cr_expect(eq(int, st.st_mode & 07777, 0500));
	cr_expect(eq(long, st.st_mtim.tv_sec, 1000));
}

Test(tree, what_is_there_is_not_written_into)
{
	make_sample();
	cr_assert(zero(int, mkdirat(dir, "dst", 0700)));
	struct fault fault = {0};
	cr_assert(eq(int, tree_copy(dir, "src", dir, "dst", &fault), -EEXIST));
	cr_assert(ne(str, fault.text, ""));
	cr_assert(eq(int, tree_copy(dir, "none", dir, "other", NULL), -ENOENT));
}

Test(tree, a_fifo_is_refused_by_name)
{
	struct fault fault = {0};

	make_sample();
	cr_assert(zero(int, mkfifoat(dir, "src/a/b/pipe", 0600)));
	cr_assert(eq(int, tree_copy(dir, "src", dir, "dst", &fault), -EINVAL));
	cr_assert(ne(ptr, strstr(fault.text, "a/b/pipe"), NULL), "%s", fault.text);
}

Test(tree, a_copy_into_itself_ends)
{
	make_sample();
	cr_assert(zero(int, tree_copy(dir, "src", dir, "src/a/copy", NULL)));
	cr_assert(has_text("src/a/copy/one", "1"));
	cr_assert(ne(int, faccessat(dir, "src/a/copy/a/copy", F_OK, 0), 0));
}

/* Deeper than any path can say; `mode` is that of all but the lowest. */
static void make_deep(const char *name, int levels, mode_t mode)
{
	cr_assert(zero(int, mkdirat(dir, name, 0700)));
	int at = file_open_dir(dir, name);
	for (int i = 0; i < levels; i++) {
		cr_assert(zero(int, mkdirat(at, "d", 0700)));
		int next = file_open_dir(at, "d");
		cr_assert(zero(int, fchmod(at, mode)));
		close(at);
		at = next;
	}
	close(at);
}

Test(tree, too_deep_is_refused_but_removed)
{
	struct fault fault = {0};

	make_deep("deep", 1500, 0700);
	cr_expect(eq(int, tree_copy(dir, "deep", dir, "dst", &fault), -EINVAL));
	cr_expect(eq(int, tree_sync(dir, "deep"), -ELOOP));
	cr_expect(zero(int, tree_remove(dir, "deep")));
	cr_expect(zero(int, tree_remove(dir, "dst")));
	cr_expect(eq(int, scratch_count(dir), 0));
}

/* The superuser needs none anyway: this tells when an ordinary user runs it. */
Test(tree, removing_what_is_deep_needs_no_permissions)
{
	make_deep("deep", 200, 0500);
	cr_expect(zero(int, tree_remove(dir, "deep")));
	cr_expect(eq(int, scratch_count(dir), 0));
}

Test(tree, removing_needs_no_permissions_and_follows_nothing)
{
	make_sample();
	cr_assert(zero(int, mkdirat(dir, "outside", 0700)));
	write_text("outside/keep", "k");
	cr_assert(zero(int, symlinkat("../outside", dir, "src/link")));
	cr_assert(zero(int, fchmodat(dir, "src/a/b", 0, 0)));
	cr_assert(zero(int, fchmodat(dir, "src/a", 0500, 0)));
	cr_assert(zero(int, tree_remove(dir, "src")));
	cr_assert(has_text("outside/keep", "k"));
	cr_assert(eq(int, scratch_count(dir), 1));
	cr_assert(zero(int, tree_remove(dir, "src")), "gone already");
	cr_assert(zero(int, tree_remove(dir, "outside/keep")), "a file is a small tree");
}

Test(tree, sync_and_size_see_everything)
{
	int64_t before = 0, after = 0;
	char block[8192];

	make_sample();
	memset(block, 'x', sizeof(block));
	cr_assert(zero(int, tree_sync(dir, "src")));
	cr_assert(zero(int, tree_size(dir, "src", &before)));
	cr_assert(zero(int, file_write_atomic(dir, "src/a/b/big", block, sizeof(block), 0600)));
	cr_assert(zero(int, tree_sync(dir, "src")));
	cr_assert(zero(int, tree_size(dir, "src", &after)));
	cr_assert(ge(i64, after - before, 4096));
	cr_assert(eq(int, tree_size(dir, "none", &after), -ENOENT));
}
