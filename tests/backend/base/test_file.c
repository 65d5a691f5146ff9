/* SPDX-License-Identifier: MIT */
/* File of base/, held to what its header promises. */
#include "file.h"

#include "cleanup.h"
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

TestSuite(file, .init = set_up, .fini = tear_down);

static void write_text(const char *name, const char *text)
{
	cr_assert(eq(int, file_write_atomic(dir, name, text, strlen(text), 0644), 0));
}

static char *read_text(const char *name)
{
	char *text = NULL;

	cr_assert(eq(int, file_read_all(dir, name, 1 << 20, &text, NULL), 0));
	return text;
}

Test(file, what_is_written_is_read)
{
	cleanup_free char *text = NULL;
	size_t len = 0;

	cr_assert(eq(int, file_write_atomic(dir, "a", "x\0y", 3, 0604), 0));
	cr_assert(eq(int, file_read_all(dir, "a", 3, &text, &len), 0));
	cr_assert(eq(sz, len, 3));
	cr_assert(zero(int, memcmp(text, "x\0y", 4)));
	struct stat st;
	cr_assert(zero(int, fstatat(dir, "a", &st, 0)));
	cr_assert(eq(int, st.st_mode & 07777, 0604));
}

Test(file, over_the_maximum_is_refused)
{
	char *text = NULL;

	write_text("a", "1234");
	cr_assert(eq(int, file_read_all(dir, "a", 3, &text, NULL), -EFBIG));
	cr_assert(zero(ptr, text));
}

Test(file, a_file_without_a_size_is_read)
{
	cleanup_free char *text = NULL;
	size_t len = 0;

	cr_assert(eq(int, file_read_all(AT_FDCWD, "/proc/self/status", 1 << 20, &text, &len), 0));
	cr_assert(gt(sz, len, 100));
	char *none = NULL;
	cr_assert(eq(int, file_read_all(AT_FDCWD, "/proc/self/status", 50, &none, NULL), -EFBIG));
}

Test(file, only_regular_files_are_read)
{
	char *text = NULL;

	write_text("a", "x");
	cr_assert(zero(int, symlinkat("a", dir, "link")));
	cr_assert(zero(int, mkfifoat(dir, "fifo", 0600)));
	cr_assert(zero(int, mkdirat(dir, "dir", 0700)));
	cr_expect(eq(int, file_read_all(dir, "link", 10, &text, NULL), -ELOOP));
	cr_expect(eq(int, file_read_all(dir, "fifo", 10, &text, NULL), -EINVAL));
	cr_expect(eq(int, file_read_all(dir, "dir", 10, &text, NULL), -EISDIR));
	cr_expect(eq(int, file_read_all(dir, "none", 10, &text, NULL), -ENOENT));
}

Test(file, replacing_leaves_no_litter)
{
	write_text("a", "old");
	write_text("a", "new");
	cleanup_free char *text = read_text("a");
	cr_assert(eq(str, text, "new"));
	cr_assert(zero(int, mkdirat(dir, "sub", 0700)));
	write_text("sub/b", "b");
	cr_assert(eq(int, file_write_atomic(dir, "sub", "x", 1, 0600), -EISDIR));
	cr_assert(eq(int, scratch_count(dir), 2));
	cr_assert(eq(int, file_write_atomic(dir, "none/b", "x", 1, 0600), -ENOENT));
}

Test(file, a_path_below_follows_no_link)
{
	cr_assert(zero(int, file_make_dirs(dir, "a/b", 0700)));
	write_text("a/b/c", "c");
	cr_assert(zero(int, symlinkat("a", dir, "la")));
	cr_assert(zero(int, symlinkat("c", dir, "a/b/lc")));
	cleanup_close int fd = file_open_below(dir, "a/b/c", O_RDONLY, 0);
	cr_expect(ge(int, fd, 0));
	cleanup_close int slashes = file_open_below(dir, "a//b/", O_RDONLY | O_DIRECTORY, 0);
	cr_expect(ge(int, slashes, 0));
	cr_expect(eq(int, file_open_below(dir, "la/b/c", O_RDONLY, 0), -ELOOP));
	cr_expect(eq(int, file_open_below(dir, "a/b/lc", O_RDONLY, 0), -ELOOP));
	cr_expect(eq(int, file_open_below(dir, "a/../a/b/c", O_RDONLY, 0), -EINVAL));
	cr_expect(eq(int, file_open_below(dir, "a/b/..", O_RDONLY, 0), -EINVAL));
	cr_expect(eq(int, file_open_below(dir, "/etc/passwd", O_RDONLY, 0), -EINVAL));
	cr_expect(eq(int, file_open_below(dir, "", O_RDONLY, 0), -EINVAL));
	cr_expect(eq(int, file_open_below(dir, "a/none/c", O_RDONLY, 0), -ENOENT));
	cr_expect(eq(int, file_open_below(dir, "a/b/c/d", O_RDONLY, 0), -ENOTDIR));
}

Test(file, directories_are_made_with_their_parents)
{
	cr_expect(zero(int, file_make_dirs(dir, "a/b//c/", 0700)));
	cr_expect(zero(int, file_make_dirs(dir, "a/b/c", 0700)));
	write_text("a/f", "x");
	cr_expect(eq(int, file_make_dirs(dir, "a/f", 0700), -ENOTDIR));
	cr_expect(eq(int, file_make_dirs(dir, "a/f/g", 0700), -ENOTDIR));
}

Test(file, a_copy_keeps_mode_and_time)
{
	struct stat st;

	write_text("a", "content");
	cr_assert(zero(int, fchmodat(dir, "a", 0751, 0)));
	const struct timespec times[2] = {{.tv_sec = 5}, {.tv_sec = 1000, .tv_nsec = 42}};
	cr_assert(zero(int, utimensat(dir, "a", times, 0)));
	cr_assert(zero(int, file_copy(dir, "a", dir, "b")));
	cleanup_free char *text = read_text("b");
	cr_assert(eq(str, text, "content"));
	cr_assert(zero(int, fstatat(dir, "b", &st, 0)));
	cr_assert(eq(int, st.st_mode & 07777, 0751));
	cr_assert(eq(long, st.st_mtim.tv_sec, 1000));
	cr_assert(eq(long, st.st_mtim.tv_nsec, 42));
	cr_assert(eq(int, file_copy(dir, "a", dir, "b"), -EEXIST));
}

Test(file, a_big_copy_is_whole)
{
	enum { SIZE = 3 << 20 };
	cleanup_free char *data = malloc(SIZE), *again = NULL;
	size_t len = 0;

	for (size_t i = 0; i < SIZE; i++)
		data[i] = (char)(i * 7 + i / 4096);
	cr_assert(zero(int, file_write_atomic(dir, "a", data, SIZE, 0600)));
	cr_assert(zero(int, file_copy(dir, "a", dir, "b")));
	cr_assert(zero(int, file_read_all(dir, "b", SIZE, &again, &len)));
	cr_assert(eq(sz, len, SIZE));
	cr_assert(zero(int, memcmp(data, again, SIZE)));
}

Test(file, a_file_of_another_kind_of_file_system_is_copied)
{
	cleanup_free char *text = NULL;

	cr_assert(zero(int, file_copy(AT_FDCWD, "/proc/self/status", dir, "status")));
	text = read_text("status");
	cr_assert(gt(sz, strlen(text), 100));
}

Test(file, only_files_are_copied)
{
	cr_assert(zero(int, mkfifoat(dir, "fifo", 0600)));
	cr_assert(zero(int, symlinkat("fifo", dir, "link")));
	cr_expect(eq(int, file_copy(dir, "fifo", dir, "x"), -EINVAL));
	cr_expect(eq(int, file_copy(dir, "link", dir, "x"), -ELOOP));
	cr_expect(eq(int, file_copy(dir, "none", dir, "x"), -ENOENT));
	cr_expect(eq(int, scratch_count(dir), 2));
}

struct blocks {
	int64_t n, most;
	bool is_right;
};

static int look_at(void *arg, const void *bytes, size_t n)
{
	struct blocks *blocks = arg;
	const unsigned char *byte = bytes;
	for (size_t i = 0; i < n; i++)
		blocks->is_right &= byte[i] == (unsigned char)((blocks->n + (int64_t)i) % 251);
	blocks->n += (int64_t)n;
	return blocks->n >= blocks->most ? -EINTR : 0;
}

Test(file, each_block_of_a_part_is_given_in_order)
{
	enum { SIZE = 251 * 4000, AT = 251 * 3 };
	static unsigned char bytes[SIZE];
	struct blocks all = {.most = INT64_MAX, .is_right = true}, some = {.most = 1, .is_right = true};
	for (size_t i = 0; i < SIZE; i++)
		bytes[i] = (unsigned char)(i % 251);
	cr_assert(eq(int, file_write_atomic(dir, "f", bytes, SIZE, 0600), 0));
	cleanup_close int fd = openat(dir, "f", O_RDONLY | O_CLOEXEC);
	cr_expect(eq(int, file_each_block(fd, AT, SIZE - AT - 9, look_at, &all), 0));
	cr_expect(all.is_right && all.n == SIZE - AT - 9);
	cr_expect(eq(int, file_each_block(fd, 0, SIZE, look_at, &some), -EINTR));
	cr_expect(some.is_right && some.n < SIZE);
	cr_expect(eq(int, file_each_block(fd, AT, SIZE, look_at, &all), -EIO));
	cr_expect(eq(int, file_each_block(-1, 0, 1, look_at, &all), -EBADF));
	cr_expect(eq(int, file_each_block(-1, 0, 0, look_at, &all), 0));
}
