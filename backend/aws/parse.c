/* SPDX-License-Identifier: MIT */
/*
 * A document is walked, never kept: libxml2 tells of elements, `walk` keeps the path of the open ones and the text of
 * the innermost, and hands both to its reader at each end tag. So memory is bounded whatever is sent.
 */
#include "aws/parse.h"

#include <ctype.h>
#include <errno.h>
#include <libxml/parser.h>
#include <libxml/parserInternals.h>
#include <limits.h>
#include <string.h>
#include <time.h>

#include "aws/errors.h"
#include "base/paging.h"
#include "cleanup.h"
#include "clock.h"
#include "str.h"

enum { WALK_PATH_MAX = 256, WALK_DEPTH_MAX = 16, WALK_TEXT_MAX = 8 << 10 };

/* One end tag: `path` is "ListBucketResult/Contents/Key", `text` what was directly in it. */
typedef int (*walk_end)(void *arg, const char *path, const char *text);

struct walk {
	walk_end end;
	void *arg;
	xmlParserCtxt *parser; /* libxml2's, while it runs */
	char path[WALK_PATH_MAX];
	size_t len;
	unsigned depth;
	struct str text;
	int err; /* 0 or what ended it */
};

static void walk_stop(struct walk *walk, int err)
{
	if (walk->err == 0)
		walk->err = err;
	xmlStopParser(walk->parser);
}

static void walk_on_start(void *arg, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri,
			  int n_namespaces, const xmlChar **namespaces, int n_attributes, int n_defaulted,
			  const xmlChar **attributes)
{
	struct walk *walk = arg;
	if (walk->err)
		return;
	int n = snprintf(walk->path + walk->len, sizeof(walk->path) - walk->len, "%s%s", walk->len ? "/" : "",
			 (const char *)name);
	if (n < 0 || (size_t)n >= sizeof(walk->path) - walk->len || ++walk->depth > WALK_DEPTH_MAX) {
		walk_stop(walk, -EIO);
		return;
	}
	walk->len += (size_t)n;
	str_clear(&walk->text);
}

static void walk_on_end(void *arg, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri)
{
	struct walk *walk = arg;
	if (walk->err)
		return;
	int r = walk->end(walk->arg, walk->path, walk->text.data ? walk->text.data : "");
	str_clear(&walk->text);
	if (r < 0) {
		walk_stop(walk, r);
		return;
	}
	const char *slash = strrchr(walk->path, '/');
	walk->len = slash ? (size_t)(slash - walk->path) : 0;
	walk->path[walk->len] = '\0';
	walk->depth--;
}

static void walk_on_text(void *arg, const xmlChar *text, int n)
{
	struct walk *walk = arg;
	if (walk->err)
		return;
	int r = str_append_n(&walk->text, (const char *)text, (size_t)n);
	if (r < 0)
		walk_stop(walk, r == -EFBIG ? -EIO : r);
}

/* Before anything in it is believed. */
static void walk_on_dtd(void *arg, const xmlChar *name, const xmlChar *external, const xmlChar *system)
{
	walk_stop(arg, -EIO);
}

/* 0, -EIO for what is not well-formed or goes beyond a bound, or what `end` returned. */
static int walk_xml(const char *xml, size_t n, walk_end end, void *arg)
{
	xmlSAXHandler handler = {
		.initialized = XML_SAX2_MAGIC,
		.startElementNs = walk_on_start,
		.endElementNs = walk_on_end,
		.characters = walk_on_text,
		.cdataBlock = walk_on_text,
		.internalSubset = walk_on_dtd,
	};
	struct walk walk = {.end = end, .arg = arg, .text = {.max = WALK_TEXT_MAX}};
	/* blanks that kept the connection alive may stand before the declaration */
	for (; n > 0 && isspace((unsigned char)*xml); n--)
		xml++;
	if (n == 0 || n > INT_MAX)
		return -EIO;
	walk.parser = xmlCreatePushParserCtxt(&handler, &walk, NULL, 0, NULL);
	if (!walk.parser)
		return -ENOMEM;
	xmlCtxtUseOptions(walk.parser, XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
	(void)xmlParseChunk(walk.parser, xml, (int)n, 1); /* told by wellFormed */
	int r = walk.err ? walk.err : walk.parser->wellFormed ? 0 : -EIO;
	xmlFreeParserCtxt(walk.parser);
	str_release(&walk.text);
	return r;
}

/* ---- values ---- */

/* The part of a path after "ROOT/"; NULL: another root, or the root itself. */
static const char *below(const char *path, const char *root)
{
	size_t n = strlen(root);
	return strncmp(path, root, n) == 0 && path[n] == '/' ? path + n + 1 : NULL;
}

static int hex_value(char c)
{
	return isdigit((unsigned char)c) ? c - '0' : isxdigit((unsigned char)c) ? tolower(c) - 'a' + 10 : -1;
}

/* Form encoding, in place. -EINVAL: an escape is cut or wrong. -EDOM: a NUL. */
static int decode_form(char *text)
{
	char *to = text;
	bool has_nul = false;
	for (const char *c = text; *c; c++) {
		if (*c == '+') {
			*to++ = ' ';
		} else if (*c != '%') {
			*to++ = *c;
		} else {
			int high = hex_value(c[1]);
			int low = high < 0 ? -1 : hex_value(c[2]);
			if (low < 0)
				return -EINVAL;
			has_nul |= high == 0 && low == 0;
			*to++ = (char)(high << 4 | low);
			c += 2;
		}
	}
	*to = '\0';
	return has_nul ? -EDOM : 0;
}

int aws_parse_etag(const char *etag, char ret[static OBJECT_VERSION_MAX + 1])
{
	size_t n = strlen(etag);
	if (n >= 2 && etag[0] == '"' && etag[n - 1] == '"') {
		etag++;
		n -= 2;
	}
	if (n == 0 || n > OBJECT_VERSION_MAX)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		if (iscntrl((unsigned char)etag[i]))
			return -EINVAL;
	}
	memcpy(ret, etag, n);
	ret[n] = '\0';
	return 0;
}

static int64_t parse_time(const char *text)
{
	int64_t ns;
	return clock_parse(text, &ns) == 0 ? ns : 0;
}

/* ---- errors ---- */

struct error_reader {
	struct aws_error error;
	bool is_error;
};

static int error_end(void *arg, const char *path, const char *text)
{
	struct error_reader *reader = arg;
	static const char *const root[] = {"Error", "ErrorResponse/Error", "Response/Errors/Error",
					   "ErrorResponse/Errors/Error"};
	const char *name = NULL;
	for (size_t i = 0; i < sizeof(root) / sizeof(*root) && !name; i++)
		name = below(path, root[i]);
	if (!name)
		return 0;
	struct aws_error *error = &reader->error;
	reader->is_error |= !strcmp(name, "Code");
	if (!strcmp(name, "Code"))
		str_copy_sentence(error->code, sizeof(error->code), text, strlen(text));
	else if (!strcmp(name, "Message"))
		str_copy_sentence(error->message, sizeof(error->message), text, strlen(text));
	else if (!strcmp(name, "Region"))
		str_copy_sentence(error->region, sizeof(error->region), text, strlen(text));
	else if (!strcmp(name, "Endpoint"))
		str_copy_sentence(error->endpoint, sizeof(error->endpoint), text, strlen(text));
	return 0;
}

bool aws_parse_error(const char *xml, size_t n, struct aws_error *ret)
{
	struct error_reader reader = {0};
	if (walk_xml(xml, n, error_end, &reader) < 0 || !reader.is_error)
		return false;
	*ret = reader.error;
	return true;
}

/* ---- the list of buckets ---- */

struct buckets_reader {
	aws_bucket_sink sink;
	void *arg;
	bool is_list, has_failed; /* has_failed: what the sink said, not what was sent */
	char name[AWS_HOST_MAX], region[AWS_REGION_MAX];
	char next[AWS_TOKEN_MAX + 1];
};

static int buckets_row(struct buckets_reader *reader)
{
	int r = reader->sink(reader->arg, reader->name, reader->region);
	reader->has_failed = r < 0;
	reader->name[0] = reader->region[0] = '\0';
	return r;
}

static int buckets_end(void *arg, const char *path, const char *text)
{
	struct buckets_reader *reader = arg;
	const char *name = below(path, "ListAllMyBucketsResult");
	bool fits = true;
	if (!strcmp(path, "ListAllMyBucketsResult"))
		reader->is_list = true;
	if (!name)
		return 0;
	if (!strcmp(name, "Buckets/Bucket/Name"))
		fits = str_copy(reader->name, sizeof(reader->name), text);
	else if (!strcmp(name, "Buckets/Bucket/BucketRegion"))
		fits = str_copy(reader->region, sizeof(reader->region), text);
	else if (!strcmp(name, "ContinuationToken"))
		fits = str_copy(reader->next, sizeof(reader->next), text);
	else if (!strcmp(name, "Buckets/Bucket"))
		return *reader->name ? buckets_row(reader) : -EIO;
	return fits ? 0 : -EIO;
}

int aws_parse_buckets(const char *xml, size_t n, aws_bucket_sink sink, void *arg,
		      char next[static AWS_TOKEN_MAX + 1], struct fault *reterr)
{
	struct buckets_reader reader = {.sink = sink, .arg = arg};
	int r = walk_xml(xml, n, buckets_end, &reader);
	if (r < 0 && reader.has_failed)
		return r;
	if (r < 0 || !reader.is_list)
		return fault_set(reterr, r == -ENOMEM ? ENOMEM : EIO,
				 "S3 answered something that is no list of buckets");
	memcpy(next, reader.next, sizeof(reader.next));
	return 0;
}

/* ---- the list of objects ---- */

struct objects_reader {
	const char *prefix;
	bool is_deep;
	object_sink sink;
	void *arg;
	bool is_list, is_encoded, is_truncated, has_failed;
	bool has_size;
	char key[3 * OBJECT_KEY_MAX + 1], version[OBJECT_VERSION_MAX + 1];
	int64_t size_bytes, changed_ns;
	char *next; /* AWS_TOKEN_MAX + 1 */
};

static bool objects_is_row(const struct objects_reader *reader, bool is_prefix)
{
	return paging_is_row(reader->key, reader->prefix, reader->is_deep, is_prefix) &&
	       (is_prefix || (*reader->version && reader->has_size));
}

static int objects_row(struct objects_reader *reader, bool is_prefix)
{
	int r = reader->is_encoded ? decode_form(reader->key) : 0;
	if (r == -EDOM)
		return 0;
	if (r < 0 || !objects_is_row(reader, is_prefix))
		return -EIO;
	const struct object_entry entry = {
		.key = reader->key,
		.version = is_prefix ? "" : reader->version,
		.size_bytes = is_prefix ? 0 : reader->size_bytes,
		.changed_ns = is_prefix ? 0 : reader->changed_ns,
		.is_prefix = is_prefix,
	};
	r = reader->sink(reader->arg, &entry);
	reader->has_failed = r < 0;
	return r;
}

static int objects_contents(struct objects_reader *reader, const char *name, const char *text)
{
	if (!strcmp(name, "Key")) {
		return str_copy(reader->key, sizeof(reader->key), text) ? 0 : -EIO;
	} else if (!strcmp(name, "ETag")) {
		return aws_parse_etag(text, reader->version) < 0 ? -EIO : 0;
	} else if (!strcmp(name, "LastModified")) {
		reader->changed_ns = parse_time(text);
	} else if (!strcmp(name, "Size")) {
		reader->has_size = true;
		return str_to_int(text, 0, INT64_MAX, &reader->size_bytes) < 0 ? -EIO : 0;
	}
	return 0;
}

static int objects_finish_row(struct objects_reader *reader, bool is_prefix)
{
	int r = objects_row(reader, is_prefix);
	reader->key[0] = reader->version[0] = '\0';
	reader->changed_ns = 0;
	reader->has_size = false;
	return r;
}

static int objects_end(void *arg, const char *path, const char *text)
{
	struct objects_reader *reader = arg;
	const char *name = below(path, "ListBucketResult");
	if (!strcmp(path, "ListBucketResult"))
		reader->is_list = true;
	if (!name)
		return 0;
	const char *field = below(name, "Contents");
	if (field)
		return objects_contents(reader, field, text);
	if (!strcmp(name, "Contents"))
		return objects_finish_row(reader, false);
	if (!strcmp(name, "CommonPrefixes/Prefix"))
		return str_copy(reader->key, sizeof(reader->key), text) ? 0 : -EIO;
	if (!strcmp(name, "CommonPrefixes"))
		return objects_finish_row(reader, true);
	if (!strcmp(name, "IsTruncated"))
		reader->is_truncated = !strcmp(text, "true");
	else if (!strcmp(name, "NextContinuationToken"))
		return str_copy(reader->next, AWS_TOKEN_MAX + 1, text) ? 0 : -EIO;
	return 0;
}

int aws_parse_objects(const char *xml, size_t n, const char *prefix, bool is_deep, object_sink sink,
		      void *arg, char next[static AWS_TOKEN_MAX + 1], struct fault *reterr)
{
	static const char encoded[] = "<EncodingType>url</EncodingType>"; /* rows may come before it */
	struct objects_reader reader = {
		.prefix = prefix, .is_deep = is_deep, .sink = sink, .arg = arg, .next = next};
	next[0] = '\0';
	reader.is_encoded = n > 0 && memmem(xml, n, encoded, sizeof(encoded) - 1);
	int r = walk_xml(xml, n, objects_end, &reader);
	if (r < 0 && reader.has_failed)
		return r;
	if (r < 0 || !reader.is_list)
		return fault_set(reterr, r == -ENOMEM ? ENOMEM : EIO,
				 "S3 answered something that is no list of what is below \"%s\"", prefix);
	if (reader.is_truncated && !*reader.next)
		return fault_set(reterr, EIO, "S3 gave a part of a list, and no way to the rest");
	if (!reader.is_truncated)
		next[0] = '\0';
	return 0;
}

/* ---- answers to changes ---- */

static int upload_end(void *arg, const char *path, const char *text)
{
	char **id = arg;
	if (strcmp(path, "InitiateMultipartUploadResult/UploadId") != 0 || *id || !*text)
		return 0;
	*id = strdup(text);
	return *id ? 0 : -ENOMEM;
}

int aws_parse_upload(const char *xml, size_t n, char **ret_id, struct fault *reterr)
{
	cleanup_free char *id = NULL;
	int r = walk_xml(xml, n, upload_end, &id);
	if (r < 0 || !id)
		return fault_set(reterr, r == -ENOMEM ? ENOMEM : EIO,
				 "S3 began an upload without an id for it");
	*ret_id = STEAL(id);
	return 0;
}

struct made_reader {
	const char *root;
	struct aws_made made;
	struct error_reader error;
};

static int made_end(void *arg, const char *path, const char *text)
{
	struct made_reader *reader = arg;
	const char *name = below(path, reader->root);
	if (!name)
		return error_end(&reader->error, path, text);
	if (!strcmp(name, "ETag"))
		return aws_parse_etag(text, reader->made.version) < 0 ? -EIO : 0;
	if (!strcmp(name, "ChecksumCRC32C"))
		return str_copy(reader->made.crc32c, sizeof(reader->made.crc32c), text) ? 0 : -EIO;
	if (!strcmp(name, "LastModified"))
		reader->made.changed_ns = parse_time(text);
	return 0;
}

int aws_parse_made(const char *xml, size_t n, const char *root, struct aws_made *ret,
		   struct aws_error *ret_error, struct fault *reterr)
{
	struct made_reader reader = {.root = root};
	int r = walk_xml(xml, n, made_end, &reader);
	if (r == 0 && reader.error.is_error) {
		char text[FAULT_TEXT_MAX];
		const struct aws_error *error = &reader.error.error;
		const struct http_meaning *meaning = http_meaning_find(aws_meanings, error->code);
		*ret_error = *error;
		http_meaning_text(meaning, error->code, error->message, text, sizeof(text));
		return fault_set(reterr, meaning ? meaning->err : EIO, "S3 began well and ended in %s", text);
	}
	if (r < 0 || !*reader.made.version)
		return fault_set(reterr, r == -ENOMEM ? ENOMEM : EIO, "S3 answered something that is no %s",
				 root);
	*ret = reader.made;
	return 0;
}
