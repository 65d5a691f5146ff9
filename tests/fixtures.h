/* SPDX-License-Identifier: MIT */
/* Answers kept as files below FIXTURES: each "ok-KIND..." is taken, each "bad-KIND..." refused. */
#pragma once

#include "cleanup.h"
#include "fault.h"
#include "file.h"
#include "str.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

static struct fault fault; /* of the parser */

/* What the text told goes to `told`; `kind` is how its name goes on behind "ok-". 0 or -errno, with `fault`. */
typedef int (*fixture_parser)(const char *kind, const char *text, size_t n, struct str *told);

/* The caller's. */
static inline char *fixture(const char *name, size_t *ret_n)
{
	cleanup_free char *path = NULL;
	char *text = NULL;

	cr_assert(zero(int, str_format(&path, "%s/%s", FIXTURES, name)));
	cr_assert(zero(int, file_read_all(AT_FDCWD, path, 1 << 20, &text, ret_n)), "%s", path);
	return text;
}

static inline void fixtures_judged(const char *suffix, fixture_parser parse, unsigned ok_min,
				   unsigned bad_min)
{
	cleanup_closedir DIR *dir = opendir(FIXTURES);
	unsigned n_ok = 0, n_bad = 0;

	cr_assert(ne(ptr, dir, NULL));
	for (struct dirent *entry; (entry = readdir(dir));) {
		if (!str_has_suffix(entry->d_name, suffix))
			continue;
		size_t n = 0;
		cleanup_free char *text = fixture(entry->d_name, &n);
		cleanup_str struct str told = {0};
		bool is_ok = str_has_prefix(entry->d_name, "ok-");
		fault = (struct fault){0};
		int r = parse(entry->d_name + (is_ok ? 3 : 4), text, n, &told);
		cr_expect(eq(int, r, is_ok ? 0 : -EIO), "%s", entry->d_name);
		cr_expect(eq(int, fault.err, is_ok ? 0 : EIO), "%s", entry->d_name);
		*(is_ok ? &n_ok : &n_bad) += 1;
	}
	cr_expect(ge(uint, n_ok, ok_min));
	cr_expect(ge(uint, n_bad, bad_min));
}

/* Every beginning of it that lacks more than `end` bytes is refused, and nothing is read beyond it. */
static inline void fixture_cut(const char *name, fixture_parser parse, size_t end)
{
	size_t n = 0;
	cleanup_free char *text = fixture(name, &n);

	for (size_t cut = 0; cut + end < n; cut++) {
		cleanup_free char *part = malloc(cut + 1);
		cleanup_str struct str told = {0};
		memcpy(part, text, cut);
		cr_expect(eq(int, parse(name + 3, part, cut, &told), -EIO), "%s cut at %zu", name, cut);
	}
}
