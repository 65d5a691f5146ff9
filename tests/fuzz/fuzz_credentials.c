/* SPDX-License-Identifier: MIT */
/* Files that hold credentials: the first byte says which kind. Refused with a sentence of one line, or read. */
#include <stdlib.h>
#include <string.h>

#include "auth/command.h"
#include "auth/google.h"
#include "auth/ini.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_fault(int r, const struct fault *fault)
{
	if (r == 0)
		return;
	if (fault->err != -r || !fault->text[0] || strchr(fault->text, '\n'))
		abort();
}

static void read_ini(const char *text, size_t n)
{
	struct ini ini = {0};
	struct fault fault = {0};
	int r = ini_parse(text, n, &ini, &fault);
	check_fault(r, &fault);
	for (size_t i = 0; i < ini.n; i++) {
		const struct ini_value *value = &ini.value[i];
		if (!*value->section || strlen(value->value) > INI_LINE_MAX || (value->sub && !*value->sub))
			abort();
	}
	ini_release(&ini);
}

static void read_google(const char *text, size_t n)
{
	struct google_source *source = NULL;
	struct fault fault = {0};
	int r = google_source_parse(text, n, "file", &source, &fault);
	check_fault(r, &fault);
	if (r == 0 && !source->from)
		abort();
	google_source_free(source);
}

static void split(const char *text, size_t n)
{
	char **argv = NULL;
	char *copy = NULL; /* not by strndup: strict_string_checks wants a NUL at the end of `text` */
	if (str_format(&copy, "%.*s", (int)n, text) == 0 && command_split(copy, &argv) == 0) {
		if (!argv[0])
			abort();
		command_free(argv);
	}
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	const char *text = (const char *)data + 1;
	if (*data == 'g')
		read_google(text, size - 1);
	else if (*data == 'c')
		split(text, size - 1);
	else
		read_ini(text, size - 1);
	return 0;
}
