/* SPDX-License-Identifier: MIT */
/* What of a directory is listed, what stays out, and what is refused. */
#include "fixtures.h"

#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include "cleanup.h"
#include "fs/ignore.h"
#include "fs/package.h"
#include "fs/quote.h"

TestSuite(package, .timeout = 60, .init = scratch_make, .fini = scratch_remove);

/* The list as one text, a path a line; or the fault. */
static int list(int64_t max_bytes, char **ret, struct fault *fault)
{
	struct package_list listed = {0};
	struct str text = {0};
	cleanup_close int fd = open(scratch, O_RDONLY | O_DIRECTORY);
	int r = package_list_make(fd, max_bytes, &listed, fault);
	for (size_t i = 0; i < listed.n_paths; i++)
		str_printf(&text, "%s%s\n", listed.path[i], listed.is_dir[i] ? "/" : "");
	package_list_release(&listed);
	if (r == 0 && ret)
		cr_assert(str_steal(&text, ret) == 0);
	str_release(&text);
	return r;
}

static void lists(const char *expected)
{
	struct fault fault = {0};
	char *text = NULL;
	cr_assert(list(0, &text, &fault) == 0, "%s", fault.text);
	cr_expect_str_eq(text, expected);
	free(text);
}

static void refuses(const char *words)
{
	struct fault fault = {0};
	int r = list(0, NULL, &fault);
	cr_assert(r == -EBADMSG && fault.err == EBADMSG, "%d %s", r, fault.text);
	says(fault, words);
}

Test(package, parents_come_before_children_in_byte_order)
{
	put_empty("b", "a/z", "a/b/c", "a.c", "A", NULL);
	cr_assert(mkdir(in_scratch("empty"), 0700) == 0);
	lists("A\na/\na/b/\na/b/c\na/z\na.c\nb\nempty/\n");
}

Test(package, defaults_and_passing_names_stay_out)
{
	put_empty("main.py", "x.pyc", "__pycache__/m.pyc", ".venv/bin/python", ".git/HEAD", "sub/.git/HEAD",
		  NULL);
	put_empty(".main.py.swp", ".main.py.swx", "4913", "sedA1b2C3", ".main.py.a8Xk2Q", ".error", NULL);
	put_empty(".env", ".env.docker", "sedation.py", "sedentary", "49130", "sub/.error", "x.swp", ".swp",
		  NULL);
	lists(".env\n.env.docker\n.swp\n49130\nmain.py\nsedation.py\nsedentary\nsub/\nsub/.error\nx.swp\n");
}

Test(package, trainfsignore_has_the_syntax_of_gitignore)
{
	put(".trainfsignore",
	    "# data\n*.bin\n!keep.bin\n/data\nlogs/\na/**/z\nwith\\ blank\n!y.pyc\r\n[ab]?.txt\n");
	put_empty("a.bin", "keep.bin", "data/x", "sub/data/x", "sub/logs/x", "logs", NULL);
	put_empty("a/z", "a/b/c/z", "with blank", "y.pyc", "z.pyc", "a1.txt", "c1.txt", NULL);
	lists(".trainfsignore\na/\na/b/\na/b/c/\nc1.txt\nkeep.bin\nlogs\nsub/\nsub/data/\nsub/data/"
	      "x\ny.pyc\n");
}

Test(package, gitignore_and_nested_rules_mean_nothing)
{
	put(".gitignore", "*\n");
	put("sub/.trainfsignore", "*\n");
	put_empty("a", "sub/b", NULL);
	lists(".gitignore\na\nsub/\nsub/.trainfsignore\nsub/b\n");
}

Test(package, hostile_rules_are_refused_or_end_soon)
{
	char name[256];
	memset(name, 'a', 250);
	name[250] = '\0';
	put_empty(name, NULL);
	put(".trainfsignore", "*a*a*a*a*a*a*a*a*a*a*a*b\n**/a**/a**/a**/b\n[[[\n\\\n!\n/\n**\\\n");
	char expected[512];
	snprintf(expected, sizeof(expected), ".trainfsignore\n%s\n", name);
	lists(expected);
	put_bytes(".trainfsignore", "a\n\0b\n", 5);
	refuses(".trainfsignore:2: a NUL byte");
	char *large = malloc(100000);
	memset(large, 'x', 100000);
	put_bytes(".trainfsignore", large, 100000);
	refuses(".trainfsignore is larger than 64 KiB");
	memset(large, '\n', 3000);
	put_bytes(".trainfsignore", large, 3000);
	refuses(".trainfsignore has more than 2000 lines");
	free(large);
	cr_assert(unlink(in_scratch(".trainfsignore")) == 0 &&
		  symlink("/etc/passwd", in_scratch(".trainfsignore")) == 0);
	refuses(".trainfsignore cannot be read (ELOOP)");
	cr_assert(unlink(in_scratch(".trainfsignore")) == 0 &&
		  mkfifo(in_scratch(".trainfsignore"), 0600) == 0);
	refuses(".trainfsignore must be a plain file");
}

Test(package, links_are_listed_and_not_followed)
{
	put_empty("main.py", NULL);
	cr_assert(symlink("/", in_scratch("root")) == 0 && symlink("loop", in_scratch("loop")) == 0);
	cr_assert(symlink("missing", in_scratch("gone")) == 0);
	lists("gone\nloop\nmain.py\nroot\n");
}

Test(package, odd_names_are_listed_as_they_are)
{
	char name[256];
	memset(name, 'n', 255);
	name[255] = '\0';
	put_empty("a\nb", "\xff\xfe", "tab\there", "-rf", " ", name, NULL);
	struct str expected = {0};
	str_printf(&expected, " \n-rf\na\nb\n%s\ntab\there\n\xff\xfe\n", name);
	lists(expected.data);
	str_release(&expected);
}

Test(package, pipes_sockets_and_devices_are_refused_by_name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	cr_assert(mkdir(in_scratch("d"), 0700) == 0 && mkfifo(in_scratch("d/a\nb"), 0600) == 0);
	refuses("`d/a\\nb` in the package is a named pipe");
	cr_assert(unlink(in_scratch("d/a\nb")) == 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", scratch);
	cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	cr_assert(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	refuses("`s` in the package is a socket");
	cr_assert(unlink(in_scratch("s")) == 0);
	if (mknod(in_scratch("null"), S_IFCHR | 0600, makedev(1, 3)) == 0) /* needs root */
		refuses("`null` in the package is a device");
	put(".trainfsignore", "null\nd\n");
	lists(".trainfsignore\n");
}

static void nest(const char *name, size_t levels)
{
	int fd = open(scratch, O_RDONLY | O_DIRECTORY);
	for (size_t i = 0; i < levels; i++) {
		cr_assert(mkdirat(fd, name, 0700) == 0);
		int next = openat(fd, name, O_RDONLY | O_DIRECTORY);
		close(fd);
		fd = next;
	}
	close(fd);
}

/* What is deeper than tree_remove goes. */
static void unnest(const char *name, size_t levels)
{
	int fd = open(scratch, O_RDONLY | O_DIRECTORY);
	for (size_t i = 1; i < levels; i++) {
		int next = openat(fd, name, O_RDONLY | O_DIRECTORY);
		close(fd);
		fd = next;
	}
	for (size_t i = levels; i > 0; i--) {
		cr_assert(unlinkat(fd, name, AT_REMOVEDIR) == 0);
		int up = openat(fd, "..", O_RDONLY | O_DIRECTORY);
		close(fd);
		fd = up;
	}
	close(fd);
}

Test(package, depth_and_length_have_an_end)
{
	nest("d", 256);
	struct fault fault = {0};
	cr_assert(list(0, NULL, &fault) == 0, "%s", fault.text);
	unnest("d", 256);
	nest("d", 257);
	refuses("is nested deeper than 256 directories");
	unnest("d", 257);
	char name[256];
	memset(name, 'n', 200);
	name[200] = '\0';
	nest(name, 30);
	refuses("has a path longer than 3840 bytes");
	unnest(name, 30);
}

Test(package, a_package_over_the_limit_is_refused_naming_its_largest_files)
{
	struct fault fault = {0};
	static char bytes[9000];
	put_bytes("small", bytes, 10);
	put_bytes("sub/largest", bytes, 9000);
	put_bytes("b\nin", bytes, 7000);
	put_bytes("c", bytes, 8000);
	put_bytes("d", bytes, 500);
	put_bytes("x.pyc", bytes, 9000);
	cr_assert(list(24510, NULL, &fault) == 0, "%s", fault.text);
	cr_assert(list(24509, NULL, &fault) == -EFBIG);
	says(fault, "the package holds 24.5 kB, more than max_package (24.5 kB); the largest files are "
		    "`sub/largest` "
		    "(9.0 kB), `c` (8.0 kB), `b\\nin` (7.0 kB)");
}

Test(package, empty_is_without_a_file_of_its_own)
{
	cleanup_close int fd = open(scratch, O_RDONLY | O_DIRECTORY);
	cr_assert(package_is_empty(fd));
	put_empty(".error", ".git/HEAD", "__pycache__/x", ".a.swp", NULL);
	cr_assert(mkdir(in_scratch("dir"), 0700) == 0);
	cr_assert(package_is_empty(fd));
	put_empty("dir/x", NULL);
	cr_assert(!package_is_empty(fd));
}

Test(package, names_in_sentences_are_harmless)
{
	char shown[QUOTE_MAX];
	cr_expect_str_eq(quote("a\nb\t\\\x1b[1m\x7f", shown), "a\\nb\\t\\\\\\x1B[1m\\x7F");
	cr_expect_str_eq(quote("\xc3\xa9 \xff \xc2\x9b \xed\xa0\x80", shown),
			 "\xc3\xa9 \\xFF \\xC2\\x9B \\xED\\xA0\\x80");
	char large[4096];
	memset(large, '\n', sizeof(large));
	quote_bytes(large, sizeof(large), shown);
	cr_expect(strlen(shown) < QUOTE_MAX && str_has_suffix(shown, "..."));
}
