/* SPDX-License-Identifier: MIT */
/* Reads line by line; what an indented line belongs to depends on the line before it. */
#include "auth/ini.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "auth/secret.h"
#include "cleanup.h"
#include "str.h"

struct reader {
	struct ini ini;
	size_t capacity;
	char *section;  /* the one that lines belong to; NULL: none yet */
	size_t indent;  /* of the last key */
	bool has_key;   /* there is one in this section */
	bool is_nested; /* its value is empty: indented lines are keys below it */
	char *key;      /* the last key that is not nested */
	struct fault *fault;
	int line;
};

struct span {
	const char *at;
	size_t n;
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
}

static struct span trim(struct span s)
{
	while (s.n > 0 && is_blank(s.at[0])) {
		s.at++;
		s.n--;
	}
	while (s.n > 0 && is_blank(s.at[s.n - 1]))
		s.n--;
	return s;
}

static char *copy(struct span s, bool is_lower)
{
	char *text = NULL; /* `s` is in the middle of what may have no NUL at all */
	if (str_format(&text, "%.*s", (int)s.n, s.at) < 0)
		return NULL;
	for (char *p = text; is_lower && *p; p++)
		*p = (char)tolower((unsigned char)*p);
	return text;
}

static void value_release(struct ini_value *value)
{
	free(value->section);
	free(value->key);
	free(value->sub);
	secret_free(value->value);
	*value = (struct ini_value){0};
}

void ini_release(struct ini *ini)
{
	for (size_t i = 0; i < ini->n; i++)
		value_release(&ini->value[i]);
	free(ini->value);
	*ini = (struct ini){0};
}

static int refuse(const struct reader *reader, const char *what)
{
	return fault_set(reader->fault, EINVAL, "line %d: %s", reader->line, what);
}

/* Takes ownership of what `value` points to. */
static int reader_push(struct reader *reader, struct ini_value *value)
{
	struct ini *ini = &reader->ini;
	int r = value->section && value->key && value->value ? 0 : -ENOMEM;
	if (r == 0 && ini->n == INI_VALUES_MAX)
		r = fault_set(reader->fault, EFBIG, "more than %d values", INI_VALUES_MAX);
	if (r == 0 && ini->n == reader->capacity) {
		size_t capacity = reader->capacity ? 2 * reader->capacity : 32;
		struct ini_value *more = reallocarray(ini->value, capacity, sizeof(*more));
		r = more ? 0 : -ENOMEM;
		if (more) {
			ini->value = more;
			reader->capacity = capacity;
		}
	}
	if (r < 0)
		value_release(value);
	else
		ini->value[ini->n++] = *value;
	return r;
}

/* [NAME], then nothing or a comment. */
static int read_section(struct reader *reader, struct span line)
{
	const char *end = memchr(line.at, ']', line.n);
	if (!end)
		return refuse(reader, "a section that does not end with ]");
	struct span name = trim((struct span){line.at + 1, (size_t)(end - line.at - 1)});
	struct span rest = trim((struct span){end + 1, line.n - (size_t)(end + 1 - line.at)});
	if (name.n == 0)
		return refuse(reader, "a section without a name");
	if (rest.n > 0 && rest.at[0] != '#' && rest.at[0] != ';')
		return refuse(reader, "text after a section's ]");
	free(reader->section);
	reader->section = copy(name, false);
	reader->has_key = false;
	struct ini_value header = {.section = copy(name, false), .key = strdup(""), .value = strdup("")};
	if (reader->section)
		return reader_push(reader, &header);
	value_release(&header);
	return -ENOMEM;
}

static int split_pair(const struct reader *reader, struct span line, struct span *ret_key,
		      struct span *ret_value)
{
	size_t n = 0;
	while (n < line.n && line.at[n] != '=' && line.at[n] != ':')
		n++;
	if (n == line.n)
		return refuse(reader, "neither a section nor `key = value`");
	*ret_key = trim((struct span){line.at, n});
	*ret_value = trim((struct span){line.at + n + 1, line.n - n - 1});
	return ret_key->n > 0 ? 0 : refuse(reader, "a value without a key");
}

static int read_pair(struct reader *reader, struct span line, size_t indent)
{
	struct span key, text;
	if (!reader->section)
		return refuse(reader, "a key before any [section]");
	int r = split_pair(reader, line, &key, &text);
	if (r < 0)
		return r;
	free(reader->key);
	reader->key = copy(key, true);
	if (!reader->key)
		return -ENOMEM;
	reader->indent = indent;
	reader->has_key = true;
	reader->is_nested = text.n == 0;
	struct ini_value value = {.section = strdup(reader->section), .key = copy(key, true)};
	value.value = copy(text, false);
	return reader_push(reader, &value);
}

static int read_nested(struct reader *reader, struct span line)
{
	struct span key, text;
	int r = split_pair(reader, line, &key, &text);
	if (r < 0)
		return r;
	struct ini_value value = {.section = strdup(reader->section), .key = strdup(reader->key)};
	value.sub = copy(key, true);
	value.value = value.sub ? copy(text, false) : NULL;
	return reader_push(reader, &value);
}

/* The next line of the last value. */
static int read_more(struct reader *reader, struct span line)
{
	struct ini_value *last = &reader->ini.value[reader->ini.n - 1];
	size_t n = strlen(last->value);
	if (n + line.n + 1 > INI_LINE_MAX)
		return fault_set(reader->fault, EFBIG, "line %d: a value of more than %d bytes", reader->line,
				 INI_LINE_MAX);
	char *text = malloc(n + line.n + 2);
	if (!text)
		return -ENOMEM;
	memcpy(text, last->value, n);
	text[n] = '\n';
	memcpy(text + n + 1, line.at, line.n);
	text[n + 1 + line.n] = '\0';
	secret_free(last->value);
	last->value = text;
	return 0;
}

static int read_line(struct reader *reader, struct span line)
{
	struct span text = trim(line);
	size_t indent = (size_t)(text.at - line.at);
	reader->line++;
	if (line.n > INI_LINE_MAX)
		return fault_set(reader->fault, EFBIG, "line %d: more than %d bytes", reader->line,
				 INI_LINE_MAX);
	if (memchr(line.at, '\0', line.n))
		return refuse(reader, "a byte 0");
	if (text.n == 0 || text.at[0] == '#' || text.at[0] == ';')
		return 0;
	if (reader->has_key && indent > reader->indent)
		return reader->is_nested ? read_nested(reader, text) : read_more(reader, text);
	if (text.at[0] == '[')
		return read_section(reader, text);
	return read_pair(reader, text, indent);
}

int ini_parse(const char *bytes, size_t n, struct ini *ret, struct fault *reterr)
{
	struct reader reader = {.fault = reterr};
	int r = n <= INI_SIZE_MAX ? 0 : fault_set(reterr, EFBIG, "more than %d bytes", INI_SIZE_MAX);
	const char *end = bytes + n;
	if (n >= 3 && !memcmp(bytes, "\xEF\xBB\xBF", 3))
		bytes += 3; /* some editors of Windows leave one */
	while (bytes < end && r == 0) {
		const char *stop = memchr(bytes, '\n', (size_t)(end - bytes)) ?: end;
		r = read_line(&reader, (struct span){bytes, (size_t)(stop - bytes)});
		bytes = stop + 1;
	}
	free(reader.section);
	free(reader.key);
	if (r < 0)
		ini_release(&reader.ini);
	else
		*ret = reader.ini;
	return r;
}
