/* SPDX-License-Identifier: MIT */
/*
 * The walk of a parsed text by a table of fields (yaml.h): every value is checked where it stands, and comes out as
 * JSON with sorted keys. Depth is bounded by the parser, so plain recursion is safe here.
 */
#include "yaml.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "cleanup.h"
#include "quote.h"
#include "str.h"

enum { NAME_MAX_COMPARED = 32 };

/* ---- scalars of YAML 1.2 (core schema) */

static bool is_one_of(const char *text, const char *const words[])
{
	for (size_t i = 0; words[i]; i++)
		if (strcmp(text, words[i]) == 0)
			return true;
	return false;
}

static const char *const null_words[] = {"", "~", "null", "Null", "NULL", NULL};
static const char *const true_words[] = {"true", "True", "TRUE", NULL};
static const char *const false_words[] = {"false", "False", "FALSE", NULL};
static const char *const odd_floats[] = {".inf",  ".Inf",  ".INF", "+.inf", "+.Inf", "+.INF", "-.inf",
					 "-.Inf", "-.INF", ".nan", ".NaN",  ".NAN",  NULL};

bool yaml_is_null(const struct yaml_node *node)
{
	return node->kind == YAML_SCALAR && node->is_plain && is_one_of(node->text, null_words);
}

static bool is_all(const char *text, const char *set)
{
	return *text && text[strspn(text, set)] == '\0';
}

static bool is_integer(const char *text)
{
	if (str_has_prefix(text, "0x"))
		return is_all(text + 2, "0123456789abcdefABCDEF");
	if (str_has_prefix(text, "0o"))
		return is_all(text + 2, "01234567");
	return is_all(text + (*text == '-' || *text == '+'), "0123456789");
}

static bool is_float(const char *text)
{
	const char *s = text + (*text == '-' || *text == '+');
	size_t whole = strspn(s, "0123456789"), part = 0;
	s += whole;
	if (*s == '.') {
		part = strspn(s + 1, "0123456789");
		s += 1 + part;
	}
	if (whole + part == 0)
		return false;
	if (*s == 'e' || *s == 'E') {
		s += 1 + (s[1] == '-' || s[1] == '+');
		return is_all(s, "0123456789");
	}
	return *s == '\0';
}

/* `text` is_integer; -ERANGE beyond 64 bits. */
static int parse_integer(const char *text, int64_t *ret)
{
	int base = str_has_prefix(text, "0x") ? 16 : str_has_prefix(text, "0o") ? 8 : 10;
	errno = 0;
	long long value = strtoll(base == 10 ? text : text + 2, NULL, base);
	if (errno == ERANGE)
		return -ERANGE;
	*ret = value;
	return 0;
}

static int scalar_to_json(const struct yaml *yaml, const struct yaml_node *node, json_t **ret,
			  struct fault *reterr)
{
	const char *text = node->text;
	char shown[QUOTE_MAX];
	if (!node->is_plain) {
		*ret = json_string(text);
	} else if (is_one_of(text, null_words)) {
		*ret = json_null();
	} else if (is_one_of(text, true_words) || is_one_of(text, false_words)) {
		*ret = json_boolean(is_one_of(text, true_words));
	} else if (is_integer(text)) {
		int64_t value;
		if (parse_integer(text, &value) < 0)
			return yaml_fault(yaml, node, reterr,
					  "the number %s is too large; quote it if it is a text",
					  quote(text, shown));
		*ret = json_integer(value);
	} else if (is_one_of(text, odd_floats) || is_float(text)) {
		double value = is_one_of(text, odd_floats) ? INFINITY : strtod(text, NULL);
		if (!isfinite(value))
			return yaml_fault(yaml, node, reterr,
					  "the number %s is not finite; quote it if it is a text",
					  quote(text, shown));
		*ret = json_real(value);
	} else {
		*ret = json_string(text);
	}
	return *ret ? 0 : -ENOMEM;
}

static int children_to_json(const struct yaml *yaml, const struct yaml_node *node, json_t *into,
			    struct fault *reterr)
{
	for (const struct yaml_node *child = node->child; child; child = child->next) {
		json_t *value;
		int r = yaml_to_json(yaml, child, &value, reterr);
		if (r < 0)
			return r;
		if (node->kind == YAML_MAP)
			r = json_object_set_new(into, child->key->text, value);
		else
			r = json_array_append_new(into, value);
		if (r < 0)
			return -ENOMEM;
	}
	return 0;
}

int yaml_to_json(const struct yaml *yaml, const struct yaml_node *node, json_t **ret, struct fault *reterr)
{
	if (node->kind == YAML_SCALAR)
		return scalar_to_json(yaml, node, ret, reterr);
	cleanup_json json_t *json = node->kind == YAML_MAP ? json_object() : json_array();
	if (!json)
		return -ENOMEM;
	int r = children_to_json(yaml, node, json, reterr);
	if (r < 0)
		return r;
	*ret = node->kind == YAML_MAP ? yaml_json_sorted(json) : STEAL(json);
	return *ret ? 0 : -ENOMEM;
}

/* ---- sorted copies */

static int compare_keys(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static json_t *json_sorted_object(const json_t *json)
{
	size_t n = json_object_size(json), i = 0;
	cleanup_free const char **keys = calloc(n + 1, sizeof(*keys));
	cleanup_json json_t *copy = json_object();
	if (!keys || !copy)
		return NULL;
	const char *key;
	json_t *value;
	json_object_foreach ((json_t *)json, key, value)
		keys[i++] = key;
	qsort(keys, n, sizeof(*keys), compare_keys);
	for (i = 0; i < n; i++)
		if (json_object_set_new(copy, keys[i], yaml_json_sorted(json_object_get(json, keys[i]))) < 0)
			return NULL;
	return STEAL(copy);
}

json_t *yaml_json_sorted(const json_t *json)
{
	if (json_is_object(json))
		return json_sorted_object(json);
	if (!json_is_array(json))
		return json_incref((json_t *)json);
	cleanup_json json_t *copy = json_array();
	size_t i;
	json_t *value;
	if (!copy)
		return NULL;
	json_array_foreach (json, i, value)
		if (json_array_append_new(copy, yaml_json_sorted(value)) < 0)
			return NULL;
	return STEAL(copy);
}

/* ---- names close to each other */

static size_t min3(size_t a, size_t b, size_t c)
{
	size_t ab = a < b ? a : b;
	return ab < c ? ab : c;
}

/* How many letters must change to make `b` of `a`. */
static size_t name_distance(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b), row[NAME_MAX_COMPARED + 1];
	if (n > NAME_MAX_COMPARED || m > NAME_MAX_COMPARED)
		return SIZE_MAX;
	for (size_t j = 0; j <= m; j++)
		row[j] = j;
	for (size_t i = 1; i <= n; i++) {
		size_t diagonal = row[0];
		row[0] = i;
		for (size_t j = 1; j <= m; j++) {
			size_t above = row[j];
			row[j] = min3(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
			diagonal = above;
		}
	}
	return row[m];
}

static const char *nearest_field(const struct yaml_field *table, const char *name)
{
	const char *best = NULL;
	size_t best_distance = strlen(name) < 4 ? 2 : 3; /* less than this */
	for (const struct yaml_field *field = table; field->name; field++) {
		size_t distance = name_distance(name, field->name);
		bool is_longer = str_has_prefix(name, field->name) || str_has_prefix(field->name, name);
		if (is_longer && strlen(name) >= 3)
			distance = 1;
		if (distance < best_distance) {
			best = field->name;
			best_distance = distance;
		}
	}
	return best;
}

/* ---- the walk */

struct walk {
	const struct yaml *yaml;
	struct fault *reterr;
};

static const char *node_shown(const struct yaml_node *node, char shown[static QUOTE_MAX + 2])
{
	if (node->kind == YAML_LIST)
		return "a list";
	if (node->kind == YAML_MAP)
		return "a mapping";
	if (yaml_is_null(node))
		return "nothing";
	if (node->text[0] == '\0')
		return "an empty text";
	shown[0] = '`';
	quote(node->text, shown + 1);
	memcpy(shown + strlen(shown), "`", 2);
	return shown;
}

static int walk_fault(const struct walk *walk, const struct yaml_node *node, const char *name,
		      const char *expects)
{
	char shown[QUOTE_MAX + 2];
	bool is_quoted = node->kind == YAML_SCALAR && !node->is_plain && node->text[0] != '\0';
	return yaml_fault(walk->yaml, node, walk->reterr, "`%s` must be %s, not %s%s", name, expects,
			  is_quoted ? "the text " : "", node_shown(node, shown));
}

/* `node` is the field itself, an item of it (`key` NULL) or its member `key`. */
static int walk_text_fault(const struct walk *walk, const struct yaml_field *field, const char *key,
			   const struct yaml_node *node)
{
	char shown[QUOTE_MAX + 2], quoted[QUOTE_MAX];
	const char *expects = field->expects ? field->expects : "a text";
	if (field->type == YAML_FIELD_TEXT)
		return yaml_fault(walk->yaml, node, walk->reterr, "`%s` must be %s, not %s", field->name,
				  expects, node_shown(node, shown));
	if (!key)
		return yaml_fault(walk->yaml, node, walk->reterr, "an item of `%s` must be %s, not %s",
				  field->name, expects, node_shown(node, shown));
	return yaml_fault(walk->yaml, node, walk->reterr, "`%s` in `%s` must be %s, not %s",
			  quote(key, quoted), field->name, expects, node_shown(node, shown));
}

static int walk_text(const struct walk *walk, const struct yaml_field *field, const char *key,
		     const struct yaml_node *node, json_t **ret)
{
	if (node->kind != YAML_SCALAR || yaml_is_null(node) || (field->check && !field->check(node->text)))
		return walk_text_fault(walk, field, key, node);
	*ret = json_string(node->text);
	return *ret ? 0 : -ENOMEM;
}

static int walk_int(const struct walk *walk, const struct yaml_field *field, const struct yaml_node *node,
		    json_t **ret)
{
	char expects[96];
	int64_t value;
	snprintf(expects, sizeof(expects), "a whole number from %lld to %lld", (long long)field->min,
		 (long long)field->max);
	if (field->min == field->max)
		snprintf(expects, sizeof(expects), "%lld", (long long)field->min);
	if (node->kind != YAML_SCALAR || !node->is_plain || !is_integer(node->text) ||
	    parse_integer(node->text, &value) < 0 || value < field->min || value > field->max)
		return walk_fault(walk, node, field->name, expects);
	*ret = json_integer(value);
	return *ret ? 0 : -ENOMEM;
}

static int walk_bool(const struct walk *walk, const struct yaml_field *field, const struct yaml_node *node,
		     json_t **ret)
{
	bool is_true = node->kind == YAML_SCALAR && node->is_plain && is_one_of(node->text, true_words);
	bool is_false = node->kind == YAML_SCALAR && node->is_plain && is_one_of(node->text, false_words);
	if (!is_true && !is_false)
		return walk_fault(walk, node, field->name, "true or false");
	*ret = json_boolean(is_true);
	return 0;
}

static int walk_text_list(const struct walk *walk, const struct yaml_field *field,
			  const struct yaml_node *node, json_t **ret)
{
	if (node->kind != YAML_LIST)
		return walk_fault(walk, node, field->name, "a list, such as [a, b]");
	if ((int64_t)node->n_children < field->min)
		return yaml_fault(walk->yaml, node, walk->reterr, "`%s` is an empty list", field->name);
	cleanup_json json_t *list = json_array();
	for (const struct yaml_node *child = node->child; child; child = child->next) {
		json_t *value = NULL;
		int r = walk_text(walk, field, NULL, child, &value);
		if (r < 0)
			return r;
		if (json_array_append_new(list, value) < 0)
			return -ENOMEM;
	}
	*ret = STEAL(list);
	return *ret ? 0 : -ENOMEM;
}

static int walk_text_map(const struct walk *walk, const struct yaml_field *field,
			 const struct yaml_node *node, json_t **ret)
{
	char shown[QUOTE_MAX];
	if (node->kind != YAML_MAP)
		return walk_fault(walk, node, field->name, "a mapping, such as {name: text}");
	cleanup_json json_t *map = json_object();
	for (const struct yaml_node *child = node->child; child; child = child->next) {
		json_t *value = NULL;
		const char *key = child->key->text;
		if (field->check_key && !field->check_key(key))
			return yaml_fault(walk->yaml, child->key, walk->reterr, "`%s` in `%s` must be %s",
					  quote(key, shown), field->name, field->expects_key);
		int r = walk_text(walk, field, key, child, &value);
		if (r < 0)
			return r;
		if (json_object_set_new(map, key, value) < 0)
			return -ENOMEM;
	}
	*ret = yaml_json_sorted(map);
	return *ret ? 0 : -ENOMEM;
}

static int walk_field(const struct walk *walk, const struct yaml_field *field, const struct yaml_node *node,
		      json_t **ret)
{
	switch (field->type) {
	case YAML_FIELD_TEXT:
		return walk_text(walk, field, NULL, node, ret);
	case YAML_FIELD_INT:
		return walk_int(walk, field, node, ret);
	case YAML_FIELD_BOOL:
		return walk_bool(walk, field, node, ret);
	case YAML_FIELD_TEXT_LIST:
		return walk_text_list(walk, field, node, ret);
	case YAML_FIELD_TEXT_MAP:
		return walk_text_map(walk, field, node, ret);
	case YAML_FIELD_ANY_MAP:
		if (node->kind != YAML_MAP)
			return walk_fault(walk, node, field->name, "a mapping, such as {name: value}");
		return yaml_to_json(walk->yaml, node, ret, walk->reterr);
	case YAML_FIELD_STRUCT:
		if (node->kind != YAML_MAP)
			return walk_fault(walk, node, field->name, "a mapping, such as {name: value}");
		return yaml_walk(walk->yaml, node, field->fields, ret, NULL, walk->reterr);
	case YAML_FIELD_ANY:
		break;
	}
	return yaml_to_json(walk->yaml, node, ret, walk->reterr);
}

static int walk_unknown(const struct walk *walk, const struct yaml_field *table,
			const struct yaml_node *child)
{
	char shown[QUOTE_MAX];
	const char *nearest = nearest_field(table, child->key->text);
	quote(child->key->text, shown);
	if (nearest)
		return yaml_fault(walk->yaml, child->key, walk->reterr,
				  "unknown field `%s` (did you mean `%s`?)", shown, nearest);
	return yaml_fault(walk->yaml, child->key, walk->reterr, "unknown field `%s`", shown);
}

static int walk_child(const struct walk *walk, const struct yaml_field *table, const struct yaml_node *child,
		      json_t *object, json_t *rest)
{
	const struct yaml_field *field = table;
	json_t *value;
	while (field->name && strcmp(field->name, child->key->text) != 0)
		field++;
	if (!field->name && !rest)
		return walk_unknown(walk, table, child);
	if (field->name && yaml_is_null(child))
		return 0;
	int r = field->name ? walk_field(walk, field, child, &value)
			    : yaml_to_json(walk->yaml, child, &value, walk->reterr);
	if (r < 0)
		return r;
	return json_object_set_new(field->name ? object : rest, child->key->text, value) < 0 ? -ENOMEM : 0;
}

int yaml_walk(const struct yaml *yaml, const struct yaml_node *node, const struct yaml_field *table,
	      json_t **ret, json_t **ret_rest, struct fault *reterr)
{
	struct walk walk = {yaml, reterr};
	cleanup_json json_t *object = json_object();
	cleanup_json json_t *rest = ret_rest ? json_object() : NULL;
	if (!object || (ret_rest && !rest))
		return -ENOMEM;
	if (node && !yaml_is_null(node) && node->kind != YAML_MAP)
		return yaml_fault(yaml, node, reterr, "fields are expected here, such as `%s: ...`",
				  table->name);
	for (const struct yaml_node *child = node ? node->child : NULL; child; child = child->next) {
		int r = walk_child(&walk, table, child, object, rest);
		if (r < 0)
			return r;
	}
	cleanup_json json_t *sorted = yaml_json_sorted(object);
	if (!sorted)
		return -ENOMEM;
	if (ret_rest)
		*ret_rest = STEAL(rest);
	*ret = STEAL(sorted);
	return 0;
}
