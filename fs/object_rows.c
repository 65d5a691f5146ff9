/* SPDX-License-Identifier: MIT */
/* Rows of a listing: an array of fixed size a row, and one text that holds all names and versions. */
#include "object_rows.h"

#include "str.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

const char object_aside[] = "%object";

void object_rows_release(struct object_rows *rows)
{
	free(rows->row);
	free(rows->text);
	*rows = (struct object_rows){0};
}

bool object_name_is_good(const char *name)
{
	size_t len = strlen(name);
	return len > 0 && len <= NAME_MAX && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
	       !strchr(name, '/');
}

static int grow(void **array, size_t *capacity, size_t needed, size_t item)
{
	if (needed <= *capacity)
		return 0;
	size_t n = *capacity ? *capacity : 64;
	while (n < needed)
		n += n / 2;
	void *bigger = realloc(*array, n * item);
	if (!bigger)
		return -ENOMEM;
	*array = bigger;
	*capacity = n;
	return 0;
}

static int add_text(struct object_rows *rows, const char *a, const char *b, uint32_t *ret)
{
	size_t n = strlen(a), m = strlen(b) + 1;
	if (rows->text_len + n + m > OBJECT_ROW_TEXT)
		return -EFBIG;
	int r = grow((void **)&rows->text, &rows->text_capacity, rows->text_len + n + m, 1);
	if (r < 0)
		return r;
	memcpy(rows->text + rows->text_len, a, n);
	memcpy(rows->text + rows->text_len + n, b, m);
	*ret = rows->text_len;
	rows->text_len += n + m;
	return 0;
}

static int make_row(struct object_rows *rows, const char *name, const char *suffix,
		    const struct object_entry *object, struct object_row *ret)
{
	*ret = (struct object_row){.size_bytes = object->size_bytes, .changed_ns = object->changed_ns};
	int r = add_text(rows, name, suffix, &ret->name);
	if (r == 0)
		r = add_text(rows, object->version, "", &ret->version);
	ret->name |= object->is_prefix ? OBJECT_ROW_DIR : suffix[0] ? OBJECT_ROW_ASIDE : 0;
	return r;
}

/* By name; of equal ones the directory first, then what was set aside. */
static int compare(const char *text, const struct object_row *a, const struct object_row *b)
{
	int order = strcmp(text + (a->name & OBJECT_ROW_TEXT), text + (b->name & OBJECT_ROW_TEXT));
	unsigned x = a->name & ~(unsigned)OBJECT_ROW_TEXT, y = b->name & ~(unsigned)OBJECT_ROW_TEXT;
	return order ? order : (x < y) - (x > y);
}

static int by_name(const void *a, const void *b, void *text)
{
	return compare(text, a, b);
}

int object_rows_add(struct object_rows *rows, const char *name, const struct object_entry *object)
{
	int r = grow((void **)&rows->row, &rows->capacity, rows->n + 1, sizeof(*rows->row));
	if (r == 0)
		r = make_row(rows, name, "", object, &rows->row[rows->n]);
	if (r < 0)
		return r;
	rows->n++;
	if (rows->n > 1 && compare(rows->text, &rows->row[rows->n - 2], &rows->row[rows->n - 1]) >= 0)
		rows->is_unsorted = true;
	return 0;
}

/* A directory is there of that name: the object gets another. False: it would be too long. */
static int set_aside(struct object_rows *rows, struct object_row *row)
{
	char name[NAME_MAX + 1];
	snprintf(name, sizeof(name), "%s", object_row_name(rows, row));
	if (strlen(name) + strlen(object_aside) > NAME_MAX)
		return 0;
	uint32_t at;
	int r = add_text(rows, name, object_aside, &at);
	row->name = at | OBJECT_ROW_ASIDE;
	return r < 0 ? r : 1;
}

static bool same_name(const struct object_rows *rows, const struct object_row *a, const struct object_row *b)
{
	return strcmp(object_row_name(rows, a), object_row_name(rows, b)) == 0;
}

int object_rows_sort(struct object_rows *rows, void (*hidden)(void *arg, const char *name), void *arg)
{
	while (rows->is_unsorted) {
		size_t n = 0;
		qsort_r(rows->row, rows->n, sizeof(*rows->row), by_name, rows->text);
		rows->is_unsorted = false;
		for (size_t i = 0; i < rows->n; i++) {
			struct object_row row = rows->row[i];
			const struct object_row *last = n > 0 ? &rows->row[n - 1] : NULL;
			bool is_double = last && same_name(rows, last, &row);
			if (is_double && object_row_is_dir(last) && !object_row_is_dir(&row) &&
			    !(row.name & OBJECT_ROW_ASIDE)) {
				int r = set_aside(rows, &row);
				if (r < 0)
					return r;
				if (r == 0) {
					hidden(arg, object_row_name(rows, &row));
					continue;
				}
				rows->is_unsorted = true;
				is_double = false;
			}
			if (is_double && last->name >> 30 != row.name >> 30)
				hidden(arg, object_row_name(rows, &row));
			if (!is_double)
				rows->row[n++] = row;
		}
		rows->n = n;
	}
	return 0;
}

static size_t place_of(const struct object_rows *rows, const char *shown)
{
	size_t from = 0, to = rows->n;
	while (from < to) {
		size_t middle = from + (to - from) / 2;
		if (strcmp(object_row_name(rows, &rows->row[middle]), shown) < 0)
			from = middle + 1;
		else
			to = middle;
	}
	return from;
}

const struct object_row *object_rows_find(const struct object_rows *rows, const char *shown)
{
	size_t i = place_of(rows, shown);
	return i < rows->n && strcmp(object_row_name(rows, &rows->row[i]), shown) == 0 ? &rows->row[i] : NULL;
}

const struct object_row *object_rows_find_key(const struct object_rows *rows, const char *name, bool is_dir)
{
	char aside[2 * (NAME_MAX + 1)];
	const struct object_row *row = object_rows_find(rows, name);
	if (row && object_row_is_dir(row) == is_dir && !(row->name & OBJECT_ROW_ASIDE))
		return row;
	if (is_dir)
		return NULL;
	snprintf(aside, sizeof(aside), "%s%s", name, object_aside);
	row = object_rows_find(rows, aside);
	return row && row->name & OBJECT_ROW_ASIDE ? row : NULL;
}

int object_rows_put(struct object_rows *rows, const char *name, const struct object_entry *object)
{
	struct object_row row;
	const struct object_row *old = object_rows_find_key(rows, name, object->is_prefix);
	const struct object_row *dir = object_rows_find_key(rows, name, true);
	const char *suffix = dir && !object->is_prefix ? object_aside : "";
	int r = grow((void **)&rows->row, &rows->capacity, rows->n + 1, sizeof(*rows->row));
	if (old)
		old = object_rows_find_key(rows, name, object->is_prefix); /* it may have moved */
	if (r == 0)
		r = make_row(rows, name, suffix, object, &row);
	if (r < 0)
		return r;
	if (old) {
		rows->row[old - rows->row] = row;
		return 0;
	}
	size_t at = place_of(rows, object_row_name(rows, &row));
	memmove(&rows->row[at + 1], &rows->row[at], (rows->n - at) * sizeof(row));
	rows->row[at] = row;
	rows->n++;
	return 0;
}

void object_rows_remove(struct object_rows *rows, const char *name, bool is_dir)
{
	const struct object_row *row = object_rows_find_key(rows, name, is_dir);
	if (!row)
		return;
	size_t at = row - rows->row;
	rows->n--;
	memmove(&rows->row[at], &rows->row[at + 1], (rows->n - at) * sizeof(*row));
}

void object_row_key(const struct object_rows *rows, const struct object_row *row, char ret[static 256])
{
	snprintf(ret, 256, "%s", object_row_name(rows, row));
	if (row->name & OBJECT_ROW_ASIDE)
		ret[strlen(ret) - strlen(object_aside)] = '\0';
}
