/* SPDX-License-Identifier: MIT */
/* JSON by jansson, which bounds depth and refuses what is not UTF-8; the size is bounded by http/. */
#include "google/parse.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/paging.h"
#include "cleanup.h"
#include "clock.h"
#include "str.h"

/* ---- values ---- */

static json_t *load(const char *json, size_t n)
{
	json_t *root = n > 0 ? json_loadb(json, n, JSON_ALLOW_NUL, NULL) : NULL;
	if (json_is_object(root))
		return root;
	json_decref(root);
	return NULL;
}

/* The text of a member; NULL: none, or one that C cannot hold. Borrowed. */
static const char *text_of(const json_t *value)
{
	const char *text = json_string_value(value);
	return text && strlen(text) == json_string_length(value) ? text : NULL;
}

static const char *member(const json_t *object, const char *name)
{
	return text_of(json_object_get(object, name));
}

static int next_token(const json_t *root, char next[static GOOGLE_TOKEN_MAX + 1], struct fault *reterr)
{
	json_t *value = json_object_get(root, "nextPageToken");
	const char *token = text_of(value);
	if (value && (!token || !str_copy(next, GOOGLE_TOKEN_MAX + 1, token)))
		return fault_set(reterr, EIO, "the list has a page token that is none");
	if (!value)
		*next = '\0';
	return 0;
}

/* An array of `root`, NULL when it is not given; false: it is something else. Borrowed. */
static bool list_of(const json_t *root, const char *name, json_t **ret)
{
	*ret = json_object_get(root, name);
	return !*ret || json_is_array(*ret);
}

/* ---- errors ---- */

/* In new answers the details are more exact than the list beside them. */
static const char *reason_of(const json_t *error)
{
	const json_t *detail;
	size_t i;
	json_array_foreach (json_object_get(error, "details"), i, detail) {
		const char *type = member(detail, "@type"), *reason = member(detail, "reason");
		if (type && reason && str_has_suffix(type, "google.rpc.ErrorInfo"))
			return reason;
	}
	const char *reason = member(json_array_get(json_object_get(error, "errors"), 0), "reason");
	if (!reason)
		reason = member(error, "status");
	return reason ? reason : "";
}

/* One line of plain text. */
static bool is_sentence(const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (iscntrl((unsigned char)text[i]) && !(i + 1 == n && text[i] == '\n'))
			return false;
	}
	return n > 0 && !strchr("<{[", *text);
}

bool google_parse_error(const char *text, size_t n, struct google_error *ret)
{
	cleanup_json json_t *root = load(text, n);
	json_t *error = json_object_get(root, "error");
	*ret = (struct google_error){0};
	if (json_is_object(error)) {
		const char *reason = reason_of(error), *message = member(error, "message");
		str_copy_sentence(ret->reason, sizeof(ret->reason), reason, strlen(reason));
		str_copy_sentence(ret->message, sizeof(ret->message), message ? message : "",
				  message ? strlen(message) : 0);
		return *ret->reason || *ret->message;
	}
	if (root || !is_sentence(text, n))
		return false;
	str_copy_sentence(ret->message, sizeof(ret->message), text, n - (text[n - 1] == '\n'));
	return *ret->message;
}

/* ---- lists ---- */

int google_parse_buckets(const char *json, size_t n, name_sink sink, void *arg,
			 char next[static GOOGLE_TOKEN_MAX + 1], struct fault *reterr)
{
	cleanup_json json_t *root = load(json, n);
	json_t *items, *item;
	size_t i;
	if (!root || !list_of(root, "items", &items))
		return fault_set(reterr, EIO, "Cloud Storage answered something that is no list of buckets");
	int r = next_token(root, next, reterr);
	if (r < 0)
		return r;
	json_array_foreach (items, i, item) {
		const char *name = member(item, "name");
		if (!name || !*name)
			return fault_set(reterr, EIO, "Cloud Storage listed a bucket without a name");
		r = sink(arg, name);
		if (r < 0)
			return r;
	}
	return 0;
}

/* A number that JSON has as a text. */
static bool number_of(const json_t *object, const char *name, int64_t min, int64_t *ret)
{
	const char *text = member(object, name);
	return text && str_to_int(text, min, INT64_MAX, ret) == 0;
}

/* A member that has its default may be left out. */
static bool size_of(const json_t *object, int64_t *ret)
{
	*ret = 0;
	return !json_object_get(object, "size") || number_of(object, "size", 0, ret);
}

/* `updated` moves when only the metadata change. */
static int64_t time_of(const json_t *object)
{
	const char *text = member(object, "timeCreated");
	int64_t ns;
	if (!text)
		text = member(object, "updated");
	return text && clock_parse(text, &ns) == 0 ? ns : 0;
}

/* The number without sign or zeros before it. */
static bool version_of(const json_t *object, char ret[static OBJECT_VERSION_MAX + 1])
{
	int64_t generation;
	if (!number_of(object, "generation", 1, &generation))
		return false;
	snprintf(ret, OBJECT_VERSION_MAX + 1, "%lld", (long long)generation);
	return true;
}

/* What a sink said is the result; -EIO of ours comes with a sentence. */
static int take_row(const json_t *name, const json_t *item, const char *prefix, bool is_deep,
		    object_sink sink, void *arg, struct fault *reterr)
{
	struct object_entry entry = {.key = text_of(name), .version = "", .is_prefix = !item};
	char version[OBJECT_VERSION_MAX + 1];
	if (json_is_string(name) && !entry.key)
		return 0; /* has a NUL */
	bool is_right = entry.key && paging_is_row(entry.key, prefix, is_deep, entry.is_prefix);
	if (is_right && item) {
		is_right = version_of(item, version) && size_of(item, &entry.size_bytes);
		entry.version = version;
		entry.changed_ns = time_of(item);
	}
	if (!is_right)
		return fault_set(reterr, EIO,
				 "Cloud Storage listed something below \"%s\" that cannot be there", prefix);
	return sink(arg, &entry);
}

int google_parse_objects(const char *json, size_t n, const char *prefix, bool is_deep, object_sink sink,
			 void *arg, char next[static GOOGLE_TOKEN_MAX + 1], struct fault *reterr)
{
	cleanup_json json_t *root = load(json, n);
	json_t *items, *prefixes, *row;
	size_t i;
	if (!root || !list_of(root, "items", &items) || !list_of(root, "prefixes", &prefixes))
		return fault_set(reterr, EIO,
				 "Cloud Storage answered something that is no list of what is below \"%s\"",
				 prefix);
	int r = next_token(root, next, reterr);
	json_array_foreach (items, i, row) {
		if (r == 0)
			r = take_row(json_object_get(row, "name"), row, prefix, is_deep, sink, arg, reterr);
	}
	json_array_foreach (prefixes, i, row) {
		if (r == 0)
			r = take_row(row, NULL, prefix, is_deep, sink, arg, reterr);
	}
	return r;
}

/* ---- objects ---- */

static int copy_metadata(const json_t *object, char **ret)
{
	const json_t *metadata = json_object_get(object, "metadata");
	if (json_object_size(metadata) == 0)
		return 0;
	*ret = json_dumps(metadata, JSON_SORT_KEYS | JSON_COMPACT);
	return *ret ? 0 : -ENOMEM;
}

static int take_object(const json_t *object, struct object_detail *ret, char crc32c[static GOOGLE_CRC_MAX],
		       struct fault *reterr)
{
	char version[OBJECT_VERSION_MAX + 1];
	const char *crc = member(object, "crc32c");
	struct object_detail detail = {0};
	if (!version_of(object, version) || !size_of(object, &detail.size_bytes))
		return fault_set(reterr, EIO,
				 "Cloud Storage told of an object, and not of its generation or size");
	detail.changed_ns = time_of(object);
	detail.version = strdup(version);
	if (!detail.version || str_dup(member(object, "contentType"), &detail.content_type) < 0 ||
	    str_dup(member(object, "storageClass"), &detail.storage_class) < 0 ||
	    copy_metadata(object, &detail.metadata) < 0) {
		object_detail_release(&detail);
		return fault_set(reterr, ENOMEM, "an object's facts: %s", strerror(ENOMEM));
	}
	if (!crc || !str_copy(crc32c, GOOGLE_CRC_MAX, crc))
		*crc32c = '\0';
	*ret = detail;
	return 0;
}

int google_parse_object(const char *json, size_t n, struct object_detail *ret,
			char crc32c[static GOOGLE_CRC_MAX], struct fault *reterr)
{
	cleanup_json json_t *root = load(json, n);
	if (!root)
		return fault_set(reterr, EIO, "Cloud Storage answered something that is no object");
	return take_object(root, ret, crc32c, reterr);
}

int google_parse_rewrite(const char *json, size_t n, struct google_rewrite *ret, struct fault *reterr)
{
	cleanup_json json_t *root = load(json, n);
	struct google_rewrite rewrite = {.is_done = json_is_true(json_object_get(root, "done"))};
	const char *token = member(root, "rewriteToken");
	char crc[GOOGLE_CRC_MAX];
	bool is_right = rewrite.is_done ||
			(token && *token && str_copy(rewrite.token, sizeof(rewrite.token), token) &&
			 number_of(root, "totalBytesRewritten", 0, &rewrite.n_rewritten));
	if (!is_right)
		return fault_set(reterr, EIO, "Cloud Storage answered something that is no state of a copy");
	int r = rewrite.is_done ? take_object(json_object_get(root, "resource"), &rewrite.object, crc, reterr)
				: 0;
	if (r == 0)
		*ret = rewrite;
	return r;
}

/* ---- headers ---- */

int google_parse_stored(const char *range, int64_t *ret)
{
	static const char begin[] = "bytes=0-";
	int64_t last;
	if (range && (!str_has_prefix(range, begin) ||
		      str_to_int(range + sizeof(begin) - 1, 0, INT64_MAX - 1, &last) < 0))
		return -EINVAL;
	*ret = range ? last + 1 : 0;
	return 0;
}

bool google_parse_hash(const char *text, char ret[static GOOGLE_CRC_MAX])
{
	static const char name[] = "crc32c=";
	while (text) {
		text += strspn(text, " \t,");
		size_t n = strcspn(text, ", \t");
		if (strncasecmp(text, name, sizeof(name) - 1) == 0 && n < sizeof(name) - 1 + GOOGLE_CRC_MAX) {
			n -= sizeof(name) - 1;
			memcpy(ret, text + sizeof(name) - 1, n);
			ret[n] = '\0';
			return n > 0;
		}
		text = strchr(text, ',');
	}
	return false;
}
