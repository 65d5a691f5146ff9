/* SPDX-License-Identifier: MIT */
/*
 * From hostile text to a bounded tree of nodes: libfyaml is asked for events only, so that nothing is ever resolved,
 * included or expanded, and this file keeps the limits. The walk by tables is in schema.c.
 */
#include "yaml.h"

#include <errno.h>
#include <libfyaml.h>
#include <stdarg.h>
#include <string.h>

#include "cleanup.h"
#include "quote.h"
#include "str.h"

/* A list or map that is open. */
struct frame {
	struct yaml_node *node;
	struct yaml_node *key; /* of a map: read, its value not yet */
	json_t *seen;          /* of a map: its keys */
};

struct builder {
	struct yaml *yaml;
	const char *text; /* all of it */
	size_t n;
	bool is_json;
	bool has_document;
	int line, column; /* of the last event that had a place */
	struct frame frame[YAML_DEPTH_MAX];
	size_t depth;
	struct fault *reterr;
};

static void builder_release(struct builder *builder)
{
	while (builder->depth > 0)
		json_decref(builder->frame[--builder->depth].seen);
}
#define cleanup_builder __attribute__((cleanup(builder_release)))

static void fy_diag_free(struct fy_diag **diag)
{
	if (*diag)
		fy_diag_destroy(*diag);
}

static void fy_parser_free(struct fy_parser **parser)
{
	if (*parser)
		fy_parser_destroy(*parser);
}

void yaml_release(struct yaml *yaml)
{
	struct yaml_node *node = yaml->owned;
	while (node) {
		struct yaml_node *next = node->owned;
		free(node->text);
		free(node);
		node = next;
	}
	free(yaml->name);
	memset(yaml, 0, sizeof(*yaml));
}

static int yaml_fault_at(const struct yaml *yaml, int line, int column, struct fault *reterr,
			 const char *text)
{
	char name[QUOTE_MAX];
	return fault_set(reterr, yaml->err, "%s:%d:%d: %s", quote(yaml->name, name), line, column, text);
}

int yaml_fault(const struct yaml *yaml, const struct yaml_node *node, struct fault *reterr,
	       const char *format, ...)
{
	char text[FAULT_TEXT_MAX];
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	return yaml_fault_at(yaml, node ? node->line : 1, node ? node->column : 1, reterr, text);
}

int yaml_read(int fd, char **ret, size_t *ret_n)
{
	cleanup_free char *text = malloc(YAML_SIZE_MAX + 2);
	if (!text)
		return -ENOMEM;
	size_t n = 0;
	while (n <= YAML_SIZE_MAX) {
		ssize_t got = read(fd, text + n, YAML_SIZE_MAX + 1 - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		n += (size_t)got;
	}
	if (n > YAML_SIZE_MAX)
		return -EFBIG;
	text[n] = '\0';
	*ret = STEAL(text);
	*ret_n = n;
	return 0;
}

const struct yaml_node *yaml_get(const struct yaml_node *map, const char *name)
{
	if (!map || map->kind != YAML_MAP)
		return NULL;
	for (const struct yaml_node *child = map->child; child; child = child->next)
		if (strcmp(child->key->text, name) == 0)
			return child;
	return NULL;
}

/* The first byte that no text file has: control bytes, a NUL, what is not UTF-8. */
static int yaml_check_bytes(const struct yaml *yaml, const char *text, size_t n, struct fault *reterr)
{
	int line = 1, column = 1;
	for (size_t i = 0; i < n;) {
		const unsigned char *s = (const unsigned char *)text + i;
		size_t len = quote_utf8_length(s, n - i);
		char what[64];
		if (len == 0) {
			snprintf(what, sizeof(what), "the byte 0x%02X is not UTF-8", s[0]);
			return yaml_fault_at(yaml, line, column, reterr, what);
		}
		bool is_break = s[0] == '\n' || (s[0] == '\r' && !(i + 1 < n && s[1] == '\n'));
		if ((s[0] < 0x20 && s[0] != '\t' && s[0] != '\n' && s[0] != '\r') || s[0] == 0x7f) {
			snprintf(what, sizeof(what), "the control byte 0x%02X cannot stand here", s[0]);
			return yaml_fault_at(yaml, line, column, reterr, what);
		}
		line += is_break;
		column = is_break ? 1 : column + 1;
		i += len;
	}
	return 0;
}

static int builder_fault(struct builder *builder, const char *text)
{
	return yaml_fault_at(builder->yaml, builder->line, builder->column, builder->reterr, text);
}

static int builder_new_node(struct builder *builder, enum yaml_kind kind, struct yaml_node **ret)
{
	if (builder->yaml->n_nodes >= YAML_NODES_MAX)
		return builder_fault(builder, "there are more than 20000 values up to here");
	struct yaml_node *node = calloc(1, sizeof(*node));
	if (!node)
		return -ENOMEM;
	node->kind = kind;
	node->line = builder->line;
	node->column = builder->column;
	node->owned = builder->yaml->owned;
	builder->yaml->owned = node;
	builder->yaml->n_nodes++;
	*ret = node;
	return 0;
}

static int builder_key(struct builder *builder, struct frame *frame, struct yaml_node *node)
{
	char name[QUOTE_MAX], text[QUOTE_MAX + 64];
	if (node->kind != YAML_SCALAR)
		return builder_fault(builder, "a list or a mapping cannot be a key");
	if (strcmp(node->text, "<<") == 0 && node->is_plain)
		return builder_fault(builder, "merge keys (`<<`) are not taken; write the fields out");
	if (json_object_get(frame->seen, node->text)) {
		snprintf(text, sizeof(text), "`%s` is given twice", quote(node->text, name));
		return builder_fault(builder, text);
	}
	if (json_object_set_new(frame->seen, node->text, json_true()) < 0)
		return -ENOMEM;
	frame->key = node;
	return 0;
}

/* Puts a finished scalar, or a list or map that begins, where it belongs. */
static int builder_add(struct builder *builder, struct yaml_node *node)
{
	if (builder->depth == 0) {
		builder->yaml->root = node;
		return 0;
	}
	struct frame *frame = &builder->frame[builder->depth - 1];
	struct yaml_node *parent = frame->node;
	if (parent->kind == YAML_MAP && !frame->key)
		return builder_key(builder, frame, node);
	node->key = STEAL(frame->key);
	if (parent->last)
		parent->last->next = node;
	else
		parent->child = node;
	parent->last = node;
	parent->n_children++;
	return 0;
}

static int builder_open(struct builder *builder, enum yaml_kind kind)
{
	struct yaml_node *node;
	if (builder->depth == YAML_DEPTH_MAX)
		return builder_fault(builder, "nested deeper than 32");
	int r = builder_new_node(builder, kind, &node);
	if (r < 0)
		return r;
	r = builder_add(builder, node);
	if (r < 0)
		return r;
	struct frame frame = {.node = node, .seen = kind == YAML_MAP ? json_object() : NULL};
	if (kind == YAML_MAP && !frame.seen)
		return -ENOMEM;
	builder->frame[builder->depth++] = frame;
	return 0;
}

static void builder_close(struct builder *builder)
{
	json_decref(builder->frame[--builder->depth].seen);
}

/* At a line break in a quoted text: blanks around go, one break becomes a space, of more one is dropped. */
static size_t unfold(const char *text, size_t n, size_t i, struct str *into)
{
	size_t n_breaks = 0;
	while (into->len > 0 && (into->data[into->len - 1] == ' ' || into->data[into->len - 1] == '\t'))
		into->data[--into->len] = '\0';
	for (; i < n && strchr(" \t\r\n", text[i]); i++)
		n_breaks += text[i] == '\n' || (text[i] == '\r' && !(i + 1 < n && text[i + 1] == '\n'));
	if (n_breaks == 1)
		(void)str_append(into, " "); /* its error is sticky */
	for (; n_breaks > 1; n_breaks--)
		(void)str_append(into, "\n");
	return i;
}

/* libfyaml 0.7 gives `''''` wrong, and leaks: between single quotes the text is read here. */
static int unquote_single(const char *text, size_t n, struct str *into)
{
	(void)str_append(into, ""); /* its error is sticky */
	for (size_t i = 0; i < n;) {
		if (text[i] == '\n' || text[i] == '\r') {
			i = unfold(text, n, i, into);
			continue;
		}
		(void)str_append_n(into, text + i, 1);
		i += text[i] == '\'' ? 2 : 1;
	}
	return into->err;
}

/* The text of a scalar, borrowed from the token or from `buffer`. */
static int scalar_text(const struct builder *builder, struct fy_event *event, struct str *buffer,
		       const char **ret, size_t *ret_n)
{
	struct fy_token *token = event->scalar.value;
	const struct fy_mark *start = fy_event_start_mark(event), *end = fy_event_end_mark(event);
	*ret = "";
	*ret_n = 0;
	if (!token)
		return 0;
	if (fy_token_scalar_style(token) == FYSS_SINGLE_QUOTED && start && end &&
	    start->input_pos <= end->input_pos && end->input_pos <= builder->n) {
		int r = unquote_single(builder->text + start->input_pos, end->input_pos - start->input_pos,
				       buffer);
		*ret = buffer->data;
		*ret_n = buffer->len;
		return r;
	}
	*ret = fy_token_get_text(token, ret_n);
	return *ret ? 0 : -ENOMEM;
}

static int builder_scalar(struct builder *builder, struct fy_event *event)
{
	cleanup_str struct str buffer = {0};
	struct fy_token *token = event->scalar.value;
	struct yaml_node *node;
	const char *text;
	size_t n;
	int r = scalar_text(builder, event, &buffer, &text, &n);
	if (r < 0)
		return r;
	if (memchr(text, '\0', n))
		return builder_fault(builder, "a NUL character cannot stand in a text");
	for (size_t i = 0, len; i < n; i += len) {
		len = quote_utf8_length((const unsigned char *)text + i, n - i);
		if (len == 0)
			return builder_fault(builder, "an escape in this text is not a character");
	}
	r = builder_new_node(builder, YAML_SCALAR, &node);
	if (r < 0)
		return r;
	node->is_plain = !token || fy_token_scalar_style(token) == FYSS_PLAIN;
	node->text = malloc(n + 1);
	if (!node->text)
		return -ENOMEM;
	memcpy(node->text, text, n); /* no NUL in it, and none behind it */
	node->text[n] = '\0';
	return builder_add(builder, node);
}

static bool is_quoted(struct fy_token *token)
{
	enum fy_scalar_style style = token ? fy_token_scalar_style(token) : FYSS_PLAIN;
	return style == FYSS_SINGLE_QUOTED || style == FYSS_DOUBLE_QUOTED;
}

static void builder_move(struct builder *builder, struct fy_event *event)
{
	const struct fy_mark *mark = fy_event_start_mark(event);
	if (!mark)
		return;
	builder->line = mark->line + 1;
	builder->column = mark->column + 1;
	if (event->type == FYET_SCALAR && is_quoted(event->scalar.value))
		builder->column -= builder->column > 1; /* the mark is behind the quote */
}

static int builder_event(struct builder *builder, struct fy_event *event)
{
	builder_move(builder, event);
	switch (event->type) {
	case FYET_DOCUMENT_START:
		if (builder->has_document)
			return builder_fault(builder, "a second document begins here; one is taken");
		builder->has_document = true;
		return 0;
	case FYET_ALIAS:
		return builder_fault(builder, "aliases (`*name`) are not taken; write the value out");
	case FYET_SCALAR:
	case FYET_MAPPING_START:
	case FYET_SEQUENCE_START:
		if (fy_event_get_anchor_token(event))
			return builder_fault(builder, "anchors (`&name`) are not taken");
		if (fy_event_get_tag_token(event))
			return builder_fault(
				builder, "tags (`!name`) are not taken; quote a text that begins with `!`");
		if (event->type == FYET_SCALAR)
			return builder_scalar(builder, event);
		return builder_open(builder, event->type == FYET_MAPPING_START ? YAML_MAP : YAML_LIST);
	case FYET_MAPPING_END:
	case FYET_SEQUENCE_END:
		builder_close(builder);
		return 0;
	default:
		return 0;
	}
}

/* The parser gave up: its first error, else (it has none to tell) the last place known. */
static int builder_syntax(struct builder *builder, struct fy_diag *diag)
{
	void *iterator = NULL;
	char said[QUOTE_MAX];
	struct fy_diag_error *error = fy_diag_errors_iterate(diag, &iterator);
	if (!error || !error->msg)
		return builder_fault(builder, "this is not valid YAML");
	if (error->line > 0) {
		builder->line = error->line;
		builder->column = error->column > 0 ? error->column : 1;
	}
	return builder_fault(builder, quote(error->msg, said));
}

static void yaml_discard(struct fy_diag *diag, void *user, const char *text, size_t n)
{
}

static int yaml_build(struct builder *builder, const char *text, size_t n)
{
	struct fy_diag_cfg diag_cfg;
	fy_diag_cfg_default(&diag_cfg);
	diag_cfg.fp = NULL;
	diag_cfg.output_fn = yaml_discard;
	__attribute__((cleanup(fy_diag_free))) struct fy_diag *diag = fy_diag_create(&diag_cfg);
	if (!diag)
		return -ENOMEM;
	fy_diag_set_collect_errors(diag, true);
	struct fy_parse_cfg cfg = {
		.flags = FYPCF_QUIET | FYPCF_COLLECT_DIAG | FYPCF_DISABLE_MMAP_OPT |
			 (builder->is_json ? FYPCF_JSON_FORCE : FYPCF_JSON_NONE),
		.diag = diag,
	};
	__attribute__((cleanup(fy_parser_free))) struct fy_parser *parser = fy_parser_create(&cfg);
	if (!parser || fy_parser_set_string(parser, text, n) != 0)
		return -ENOMEM;
	struct fy_event *event;
	while ((event = fy_parser_parse(parser))) {
		int r = builder_event(builder, event);
		bool is_end = event->type == FYET_STREAM_END;
		fy_parser_event_free(parser, event);
		if (r < 0)
			return r;
		if (is_end)
			return 0;
	}
	return builder_syntax(builder, diag);
}

/* jansson is the judge of what JSON is; libfyaml then knows the places. */
static int yaml_check_json(const struct yaml *yaml, const char *text, size_t n, struct fault *reterr)
{
	json_error_t error;
	char said[QUOTE_MAX];
	cleanup_json json_t *json = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
	if (json)
		return 0;
	return yaml_fault_at(yaml, error.line > 0 ? error.line : 1, error.column > 0 ? error.column : 1,
			     reterr, quote(error.text, said));
}

static int yaml_parse_into(struct yaml *yaml, const char *text, size_t n, bool is_json, struct fault *reterr)
{
	if (n > YAML_SIZE_MAX)
		return fault_set(reterr, yaml->err, "%s: the file is larger than 1 MiB", yaml->name);
	int r = yaml_check_bytes(yaml, text, n, reterr);
	if (r < 0)
		return r;
	if (n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
		text += 3;
		n -= 3;
	}
	if (n == 0 && !is_json)
		return 0;
	if (is_json) {
		r = yaml_check_json(yaml, text, n, reterr);
		if (r < 0)
			return r;
	}
	cleanup_builder struct builder builder = {.yaml = yaml,
						  .text = text,
						  .n = n,
						  .is_json = is_json,
						  .line = 1,
						  .column = 1,
						  .reterr = reterr};
	return yaml_build(&builder, text, n);
}

int yaml_parse(const char *name, const char *text, size_t n, bool is_json, int err, struct yaml *ret,
	       struct fault *reterr)
{
	cleanup_yaml struct yaml yaml = {.name = strdup(name), .err = err};
	if (!yaml.name)
		return -ENOMEM;
	int r = yaml_parse_into(&yaml, text, n, is_json, reterr);
	if (r < 0)
		return r;
	*ret = yaml;
	memset(&yaml, 0, sizeof(yaml));
	return 0;
}
