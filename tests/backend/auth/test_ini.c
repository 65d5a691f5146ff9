/* SPDX-License-Identifier: MIT */
/* The files beside: ok-*.ini are read as their .tsv says, bad-*.ini are refused without a word of what is in them. */
#include "auth/ini.h"

#include "cleanup.h"
#include "file.h"
#include "str.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

static void each(const char *prefix, void (*look)(int dirfd, const char *name, const char *text, size_t n))
{
	int n_found = 0;
	cleanup_closedir DIR *dir = opendir(FIXTURES);
	cr_assert(dir != NULL);
	for (struct dirent *entry; (entry = readdir(dir));) {
		cleanup_free char *text = NULL;
		size_t n;
		if (!str_has_prefix(entry->d_name, prefix) || !str_has_suffix(entry->d_name, ".ini"))
			continue;
		cr_assert(zero(int, file_read_all(dirfd(dir), entry->d_name, INI_SIZE_MAX, &text, &n)));
		look(dirfd(dir), entry->d_name, text, n);
		n_found++;
	}
	cr_assert(gt(int, n_found, 3));
}

static void look_at_good(int dirfd, const char *name, const char *text, size_t n)
{
	struct ini ini = {0};
	struct fault fault = {0};
	cleanup_str struct str found = {0};
	cleanup_free char *wanted = NULL;
	char expected[128];
	snprintf(expected, sizeof(expected), "%.*s.tsv", (int)(strlen(name) - strlen(".ini")), name);
	cr_assert(zero(int, file_read_all(dirfd, expected, INI_SIZE_MAX, &wanted, NULL)));
	cr_assert(zero(int, ini_parse(text, n, &ini, &fault)), "%s: %s", name, fault.text);
	for (size_t i = 0; i < ini.n; i++) {
		const struct ini_value *value = &ini.value[i];
		str_append_tsv(&found, value->section);
		str_append(&found, "\t");
		str_append_tsv(&found, value->key);
		str_append(&found, "\t");
		str_append_tsv(&found, value->sub ?: "");
		str_append(&found, "\t");
		str_append_tsv(&found, value->value);
		str_append(&found, "\n");
	}
	cr_assert(eq(str, found.data ?: "", wanted), "%s", name);
	ini_release(&ini);
}

Test(ini, good_files_are_read)
{
	each("ok-", look_at_good);
}

static void look_at_bad(int dirfd, const char *name, const char *text, size_t n)
{
	struct ini ini = {0};
	struct fault fault = {0};
	int r = ini_parse(text, n, &ini, &fault);
	cr_assert(r == -EINVAL || r == -EFBIG, "%s gives %d", name, r);
	cr_assert(str_has_prefix(fault.text, "line "), "%s: %s", name, fault.text);
	cr_assert(strstr(fault.text, "AKIA") == NULL);
	cr_assert(zero(sz, ini.n));
}

Test(ini, bad_files_are_refused_by_line)
{
	each("bad-", look_at_bad);
}

Test(ini, sizes_are_bounded)
{
	struct ini ini = {0};
	struct fault fault = {0};
	cleanup_str struct str text = {0};
	str_append(&text, "[a]\n");
	for (int i = 0; i < INI_VALUES_MAX; i++)
		str_append(&text, "k=v\n");
	cr_assert(zero(int, text.err));
	cr_assert(eq(int, ini_parse(text.data, text.len, &ini, &fault), -EFBIG), "the section counts too");
	cr_assert(zero(int, ini_parse(text.data, text.len - 4, &ini, &fault)));
	ini_release(&ini);
	cleanup_free char *big = calloc(1, INI_SIZE_MAX + 1);
	cr_assert(eq(int, ini_parse(big, INI_SIZE_MAX + 1, &ini, &fault), -EFBIG));
	str_clear(&text);
	str_append(&text, "[a]\nk=v\n");
	for (int i = 0; i < 2 * INI_LINE_MAX / 100; i++)
		str_printf(&text, " %099d\n", 0);
	cr_assert(eq(int, ini_parse(text.data, text.len, &ini, &fault), -EFBIG), "one value of many lines");
}
