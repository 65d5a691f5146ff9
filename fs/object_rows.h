/* SPDX-License-Identifier: MIT */
/*
 * What a listing of a directory of objects came to, compact: there may be a million rows. Sorted by the name that is
 * shown. Beside a directory foo, an object foo is shown as foo%object.
 */
#pragma once

#include "backend.h"

enum { OBJECT_ROW_DIR = 1u << 31, OBJECT_ROW_ASIDE = 1u << 30, OBJECT_ROW_TEXT = OBJECT_ROW_ASIDE - 1 };

struct object_row {
	uint32_t name;    /* where it is in text, and the flags */
	uint32_t version; /* where it is in text */
	int64_t size_bytes;
	int64_t changed_ns;
};

struct object_rows {
	struct object_row *row;
	size_t n, capacity;
	char *text;
	size_t text_len, text_capacity;
	bool is_unsorted;
};

void object_rows_release(struct object_rows *rows); /* leaves it empty */

/* Can this be a name of a file? What cannot is never shown, nor followed. */
bool object_name_is_good(const char *name);

/* At the end; to be sorted when all are there. `name` is the last part of the key, without the slash. */
int object_rows_add(struct object_rows *rows, const char *name, const struct object_entry *object);

/* Sorts, drops what is there twice, sets objects aside. hidden(arg, name): one that cannot be shown beside others. */
int object_rows_sort(struct object_rows *rows, void (*hidden)(void *arg, const char *name), void *arg);

static inline const char *object_row_name(const struct object_rows *rows, const struct object_row *row)
{
	return rows->text + (row->name & OBJECT_ROW_TEXT);
}

static inline bool object_row_is_dir(const struct object_row *row)
{
	return row->name & OBJECT_ROW_DIR;
}

static inline const char *object_row_version(const struct object_rows *rows, const struct object_row *row)
{
	return rows->text + row->version;
}

/* Sorted rows only. NULL: there is none. Valid until the next change. */
const struct object_row *object_rows_find(const struct object_rows *rows, const char *shown);
/* By the last part of the key. */
const struct object_row *object_rows_find_key(const struct object_rows *rows, const char *name, bool is_dir);
int object_rows_put(struct object_rows *rows, const char *name, const struct object_entry *object);
void object_rows_remove(struct object_rows *rows, const char *name, bool is_dir);

/* The last part of the key of a row that is no directory, into `ret`. */
void object_row_key(const struct object_rows *rows, const struct object_row *row, char ret[static 256]);

extern const char object_aside[]; /* "%object" */
