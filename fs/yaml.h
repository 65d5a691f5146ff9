/* SPDX-License-Identifier: MIT */
/*
 * YAML and JSON that people write, read safely: a tree of nodes that know their line and column, and a walk of such a
 * tree by a table of fields. Refused: text over 1 MiB, nesting over 32, more than 20000 values, anchors, aliases,
 * tags, merge keys, duplicate keys, a second document, NUL and other control bytes, what is not UTF-8.
 * Scalars are those of YAML 1.2: `yes` and `3h` are text, quoted is text.
 */
#pragma once

#include "fault.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { YAML_SIZE_MAX = 1 << 20, YAML_DEPTH_MAX = 32, YAML_NODES_MAX = 20000 };

enum yaml_kind { YAML_SCALAR, YAML_LIST, YAML_MAP };

/* All borrowed from its document. */
struct yaml_node {
	enum yaml_kind kind;
	int line, column; /* from 1 */
	bool is_plain;    /* a scalar without quotes: may be a number, a boolean, nothing */
	char *text;       /* of a scalar; no NUL in it */
	size_t n_children;
	struct yaml_node *key;   /* of a child of a map; a scalar */
	struct yaml_node *child; /* first of a list or map */
	struct yaml_node *next;
	struct yaml_node *last;  /* child, while building */
	struct yaml_node *owned; /* chain of all nodes of the document */
};

struct yaml {
	char *name;             /* as faults show it */
	int err;                /* positive errno of its faults */
	struct yaml_node *root; /* NULL: the text is empty */
	struct yaml_node *owned;
	size_t n_nodes;
};

void yaml_release(struct yaml *yaml); /* takes a zeroed one; leaves it zeroed */

static inline void cleanup_yaml_(struct yaml *yaml)
{
	yaml_release(yaml);
}
#define cleanup_yaml __attribute__((cleanup(cleanup_yaml_)))

/*
 * Parses `n` bytes of `text`; faults begin with "NAME:LINE:COLUMN: ". With `is_json` nothing but strict JSON is
 * taken. `err` is the errno of every complaint about the text.
 */
int yaml_parse(const char *name, const char *text, size_t n, bool is_json, int err, struct yaml *ret,
	       struct fault *reterr);

/* The whole of a file up to YAML_SIZE_MAX, with a NUL behind it; -EFBIG beyond, or the errno of reading. */
int yaml_read(int fd, char **ret, size_t *ret_n);

/* Child of a map by name; NULL if there is none, or `map` is NULL or no map. */
const struct yaml_node *yaml_get(const struct yaml_node *map, const char *name);

/* Is there nothing: an empty plain scalar, `~`, `null`? */
bool yaml_is_null(const struct yaml_node *node);

/* The node as JSON, keys sorted. **new**. A number that JSON or 64 bits cannot hold is a fault. */
int yaml_to_json(const struct yaml *yaml, const struct yaml_node *node, json_t **ret, struct fault *reterr);

/* Fills the fault with the place and a sentence, returns -yaml->err. `node` NULL: the beginning. */
int yaml_fault(const struct yaml *yaml, const struct yaml_node *node, struct fault *reterr,
	       const char *format, ...) __attribute__((format(printf, 4, 5)));

enum yaml_type {
	YAML_FIELD_TEXT, /* any scalar, as written; `check` and `expects` */
	YAML_FIELD_INT,  /* min, max */
	YAML_FIELD_BOOL,
	YAML_FIELD_TEXT_LIST, /* list of scalars, as written; `check` is for each, `min` how many at least */
	YAML_FIELD_TEXT_MAP,  /* map of scalars, as written; `check_key`, `check` are for each */
	YAML_FIELD_ANY_MAP,   /* a map of anything */
	YAML_FIELD_ANY,
	YAML_FIELD_STRUCT, /* a map by the table `fields` */
};

/* A table ends with a NULL name. A field with nothing behind it (null) counts as not given. */
struct yaml_field {
	const char *name;
	enum yaml_type type;
	int64_t min, max;
	bool (*check)(const char *text);
	bool (*check_key)(const char *text);
	const char *expects; /* "a name": what `check` wants, in "must be ..." */
	const char *expects_key;
	const struct yaml_field *fields;
};

/*
 * The map as a JSON object by the table, keys sorted. **new**. `node` NULL or null gives {}.
 * With `ret_rest` fields that are not in the table go into that object (**new**, as written); else they are faults.
 */
int yaml_walk(const struct yaml *yaml, const struct yaml_node *node, const struct yaml_field *table,
	      json_t **ret, json_t **ret_rest, struct fault *reterr);

/* A copy with the keys of every object in it in order. **new**, or NULL. At most some 100 levels. */
json_t *yaml_json_sorted(const json_t *json);
