/* SPDX-License-Identifier: MIT */
/* What the tests of fs/ share: fixtures from files, packages made on the spot. Include it in one .c a program. */
#pragma once

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fault.h"
#include "file.h"
#include "str.h"

/* Calls `check` for each fixture in FIXTURES/`dir` that has an .expect; `text` is that, without its last newline. */
typedef void (*fixture_check)(const char *dir, const char *name, bool is_ok, const char *text);

static inline char *fixture_text(const char *path)
{
	char *text = NULL;
	int r = file_read_all(AT_FDCWD, path, 1 << 20, &text, NULL);
	cr_assert(r == 0, "%s: %s", path, fault_name(-r));
	size_t n = strlen(text);
	if (n > 0 && text[n - 1] == '\n')
		text[n - 1] = '\0';
	return text;
}

static inline int fixture_is_one(const struct dirent *entry)
{
	return str_has_suffix(entry->d_name, ".expect");
}

static inline void fixtures_each(const char *kind, fixture_check check)
{
	char dir[512], path[1024], name[256];
	struct dirent **entry;
	snprintf(dir, sizeof(dir), "%s/%s", FIXTURES, kind);
	int n = scandir(dir, &entry, fixture_is_one, alphasort);
	cr_assert(n > 0, "no fixtures in %s", dir);
	for (int i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, entry[i]->d_name);
		snprintf(name, sizeof(name), "%.*s", (int)strlen(entry[i]->d_name) - 7, entry[i]->d_name);
		char *text = fixture_text(path);
		check(dir, name, str_has_prefix(name, "ok-"), text);
		free(text);
		free(entry[i]);
	}
	free(entry);
}

/* A directory for one test; its name is in `scratch`, and it goes away at the end of the test. */
static char scratch[64];

static inline void scratch_make(void)
{
	snprintf(scratch, sizeof(scratch), "/tmp/trainfs-test-XXXXXX");
	cr_assert(mkdtemp(scratch) != NULL);
}

static inline void scratch_remove(void)
{
	if (scratch[0])
		(void)tree_remove(AT_FDCWD, scratch);
}

/* A path in the scratch directory, in a buffer of its own for the last four calls. */
static inline const char *in_scratch(const char *name)
{
	static char path[4][4096];
	static unsigned int next;
	char *into = path[next++ % 4];
	snprintf(into, sizeof(path[0]), "%s/%s", scratch, name);
	return into;
}

static inline void put_bytes(const char *name, const void *bytes, size_t n)
{
	const char *path = in_scratch(name);
	char dir[4096];
	snprintf(dir, sizeof(dir), "%s", path);
	*strrchr(dir, '/') = '\0';
	cr_assert(file_make_dirs(AT_FDCWD, dir, 0700) == 0);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	cr_assert(fd >= 0);
	cr_assert(file_write_fd(fd, bytes, n) == 0);
	close(fd);
}

static inline void put(const char *name, const char *text)
{
	put_bytes(name, text, strlen(text));
}

/* Files with nothing in them; the names end with NULL. */
static inline void put_empty(const char *name, ...)
{
	va_list ap;
	va_start(ap, name);
	for (; name; name = va_arg(ap, const char *))
		put(name, "");
	va_end(ap);
}

/* The fault holds these words and no control byte. */
#define says(fault, words)                                                               \
	cr_assert(strstr((fault).text, (words)) && !strpbrk((fault).text, "\n\r\t\x1b"), \
		  "\"%s\" does not say \"%s\"", (fault).text, (words))
