/* SPDX-License-Identifier: MIT */
/* The objects of mem: what the contract says of them, and what somebody else does to them. */
#include "mem/state.h"

#include "cleanup.h"
#include "clock.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { VERSION_MAX = 24, CHUNK = 256 << 10 };

static void version_text(uint64_t version, char ret[static VERSION_MAX])
{
	(void)snprintf(ret, VERSION_MAX, "v%" PRIu64, version);
}

static bool has_version(const struct mem_object *object, const char *version)
{
	char own[VERSION_MAX];
	version_text(object->version, own);
	return strcmp(own, version) == 0;
}

static int no_object(const struct mem *mem, const char *bucket, const char *key, struct fault *reterr)
{
	return fault_set(reterr, ENOENT, "%s: there is no object %s in %s", mem->name, key, bucket);
}

static int has_changed(const struct mem *mem, const char *bucket, const char *key, struct fault *reterr)
{
	return fault_set(reterr, ESTALE, "%s: object %s in %s has been changed by somebody else", mem->name,
			 key, bucket);
}

/* May a change go on? As `if_version` of the contract says. */
static int check_version_locked(struct mem *mem, const char *bucket, const char *key, const char *if_version,
				struct fault *reterr)
{
	const struct mem_object *object = mem_object_find_locked(mem, bucket, key);
	if (!if_version)
		return 0;
	if (!if_version[0])
		return object ? fault_set(reterr, EEXIST, "%s: there is an object %s in %s already",
					  mem->name, key, bucket)
			      : 0;
	return object && has_version(object, if_version) ? 0 : has_changed(mem, bucket, key, reterr);
}

static int fill_detail(const struct mem_object *object, struct object_detail *ret)
{
	char version[VERSION_MAX];
	version_text(object->version, version);
	ret->version = strdup(version);
	ret->content_type = strdup("application/octet-stream");
	ret->size_bytes = object->size_bytes;
	ret->changed_ns = object->changed_ns;
	return ret->version && ret->content_type ? 0 : -ENOMEM;
}

/* ---- listing ---- */

/* The end of the common prefix of `key` behind `skip` bytes, or 0: an object. */
static size_t prefix_end(const char *key, size_t skip)
{
	const char *slash = strchr(key + skip, '/');
	return slash ? slash + 1 - key : 0;
}

/* The first key that does not begin with the n bytes of `key`: those end in '/', whose successor is '0'. */
static size_t place_behind(const struct mem_bucket *bucket, const char *key, size_t n)
{
	char behind[OBJECT_KEY_MAX + 1];
	memcpy(behind, key, n);
	behind[n - 1] = '/' + 1;
	behind[n] = '\0';
	return mem_object_place(bucket, behind);
}

struct row {
	struct object_entry entry;
	char key[OBJECT_KEY_MAX + 1], version[VERSION_MAX];
};

/* Fills `row`, and gives the place to go on from. */
static size_t take_row(const struct mem_bucket *bucket, size_t at, size_t skip, bool is_deep, struct row *row)
{
	const struct mem_object *object = &bucket->object[at];
	size_t end = is_deep ? 0 : prefix_end(object->key, skip);
	*row = (struct row){.entry = {.key = row->key, .version = row->version, .is_prefix = end}};
	if (end) {
		memcpy(row->key, object->key, end);
		return place_behind(bucket, object->key, end);
	}
	snprintf(row->key, sizeof(row->key), "%s", object->key);
	version_text(object->version, row->version);
	row->entry.size_bytes = object->size_bytes;
	row->entry.changed_ns = object->changed_ns;
	return at + 1;
}

/* The rows of a page, so that the sink is called without the lock. The cursor is the last row's key. */
static size_t collect_locked(struct mem *mem, const char *bucket, const char *prefix, const char *cursor,
			     bool is_deep, size_t max, struct row *row, bool *ret_more)
{
	const struct mem_bucket *b = mem_bucket_find_locked(mem, bucket);
	size_t skip = strlen(prefix), len = strlen(cursor), n = 0;
	if (!b)
		return 0;
	size_t at = mem_object_place(b, len > 0 ? cursor : prefix);
	if (len > skip && cursor[len - 1] == '/')
		at = place_behind(b, cursor, len);
	else if (len > 0 && at < b->n_objects && strcmp(b->object[at].key, cursor) == 0)
		at++;
	while (n < max && at < b->n_objects && str_has_prefix(b->object[at].key, prefix))
		at = take_row(b, at, skip, is_deep, &row[n++]);
	*ret_more = at < b->n_objects && str_has_prefix(b->object[at].key, prefix);
	return n;
}

int mem_objects(struct backend *be, const char *bucket, const char *prefix, bool is_deep, const char *cursor,
		unsigned max_rows, object_sink sink, void *arg, struct object_page *ret, struct fault *reterr)
{
	struct mem *mem = mem_of(be);
	size_t n = max_rows < mem->object_rows ? max_rows : mem->object_rows;
	cleanup_free struct row *row = NULL;

	int r = mem_enter(mem, MEM_OBJECTS, reterr);
	if (r == 0)
		r = mem_bucket_check(mem, bucket, reterr);
	if (r < 0)
		return r;
	row = malloc(n * sizeof(*row));
	if (!row)
		return -ENOMEM;
	{
		LOCK_SCOPE(&mem->lock);
		n = collect_locked(mem, bucket, prefix, cursor, is_deep, n, row, &ret->has_more);
		if (mem->rule[MEM_OBJECTS].is_repeating && !ret->has_more) {
			ret->has_more = true;
			snprintf(ret->cursor, sizeof(ret->cursor), "%sagain", prefix);
		}
		if (ret->has_more && !ret->cursor[0])
			snprintf(ret->cursor, sizeof(ret->cursor), "%s", row[n - 1].key);
	}
	for (size_t i = 0; r == 0 && i < n; i++)
		r = sink(arg, &row[i].entry);
	return r < 0 ? r : mem_leave(mem, MEM_OBJECTS, 0, reterr);
}

/* ---- one object ---- */

static int find(struct mem *mem, const char *bucket, const char *key, struct mem_object *ret,
		struct fault *reterr)
{
	int r = mem_bucket_check(mem, bucket, reterr);
	if (r < 0)
		return r;
	LOCK_SCOPE(&mem->lock);
	const struct mem_object *object = mem_object_find_locked(mem, bucket, key);
	if (!object)
		return no_object(mem, bucket, key, reterr);
	*ret = *object;
	return 0;
}

int mem_object_get(struct backend *be, const char *bucket, const char *key, struct object_detail *ret,
		   struct fault *reterr)
{
	struct mem *mem = mem_of(be);
	struct mem_object object = {0};
	int r = mem_enter(mem, MEM_OBJECT_GET, reterr);
	if (r == 0)
		r = find(mem, bucket, key, &object, reterr);
	if (r == 0)
		r = fill_detail(&object, ret);
	return r < 0 ? r : mem_leave(mem, MEM_OBJECT_GET, 0, reterr);
}

static int read_chunk(struct mem *mem, const struct mem_object *object, const char *key, char *buf, size_t n,
		      int64_t at)
{
	if (object->at < 0) {
		memcpy(buf, key + at, n);
		return 0;
	}
	ssize_t got = pread(mem->data_fd, buf, n, object->at + at);
	return got < 0 ? -errno : (size_t)got < n ? -EIO : 0;
}

/* The version is looked at again before each chunk, as a service does before each packet. */
int mem_object_read(struct backend *be, const char *bucket, const char *key, const char *version, int64_t at,
		    int64_t n, bytes_sink sink, void *arg, struct checksum *sum, struct fault *reterr)
{
	struct mem *mem = mem_of(be);
	struct mem_object object = {0};
	cleanup_free char *buf = malloc(CHUNK);
	int r = mem_enter(mem, MEM_OBJECT_READ, reterr);
	if (!buf)
		return -ENOMEM;
	do {
		if (r == 0)
			r = find(mem, bucket, key, &object, reterr);
		if (r == 0 && !has_version(&object, version))
			r = has_changed(mem, bucket, key, reterr);
		int64_t rest = r == 0 ? object.size_bytes - at : 0;
		if (rest > n)
			rest = n;
		if (r < 0 || rest <= 0)
			break;
		size_t len = rest < CHUNK ? rest : CHUNK;
		r = read_chunk(mem, &object, key, buf, len, at);
		int64_t damage = object.damage - 1 - at;
		if (damage >= 0 && damage < (int64_t)len)
			buf[damage] ^= 1;
		if (r == 0)
			r = sink(arg, buf, len);
		at += len;
		n -= len;
	} while (r == 0);
	return r < 0 ? r : mem_leave(mem, MEM_OBJECT_READ, 0, reterr);
}

/* Of what was put, whatever reads give. */
static int count_checksum(struct mem *mem, const struct mem_object *object, const char *key,
			  struct checksum *ret)
{
	cleanup_free char *buf = malloc(CHUNK);
	uint64_t crc = 0;
	int r = buf ? 0 : -ENOMEM;
	for (int64_t at = 0; r == 0 && at < object->size_bytes; at += CHUNK) {
		int64_t rest = object->size_bytes - at;
		size_t len = rest < CHUNK ? rest : CHUNK;
		r = read_chunk(mem, object, key, buf, len, at);
		if (r == 0)
			crc = checksum_add(CHECKSUM_CRC32C, crc, buf, len);
	}
	if (r == 0) {
		ret->kind = CHECKSUM_CRC32C;
		(void)checksum_text(ret->kind, crc, ret->text);
	}
	return r;
}

int mem_object_checksum(struct backend *be, const char *bucket, const char *key, const char *version,
			struct checksum *ret, struct fault *reterr)
{
	struct mem *mem = mem_of(be);
	struct mem_object object = {0};
	int r = mem_enter(mem, MEM_OBJECT_CHECKSUM, reterr);
	if (r == 0)
		r = find(mem, bucket, key, &object, reterr);
	if (r == 0 && !has_version(&object, version))
		r = has_changed(mem, bucket, key, reterr);
	if (r == 0)
		r = count_checksum(mem, &object, key, ret);
	return r < 0 ? r : mem_leave(mem, MEM_OBJECT_CHECKSUM, 0, reterr);
}

/* ---- changes ---- */

int64_t mem_object_reserve(struct mem *mem, int64_t n)
{
	LOCK_SCOPE(&mem->lock);
	return mem_log_reserve_locked(mem, n);
}

/* The bytes lie at `at`: from now on they are the key's. */
static int commit_locked(struct mem *mem, const char *bucket, const char *key, int64_t at, int64_t n,
			 struct object_detail *ret)
{
	const struct mem_object *old = mem_object_find_locked(mem, bucket, key);
	int64_t now_ns = clock_wall_ns();
	struct mem_object object = {.key = (char *)key,
				    .version = ++mem->n_versions,
				    .at = at,
				    .size_bytes = n,
				    .changed_ns =
					    old && old->changed_ns >= now_ns ? old->changed_ns + 1 : now_ns};
	int r = mem_log_put_locked(mem, bucket, &object);
	if (r == 0)
		r = mem_object_set_locked(mem, bucket, &object);
	return r == 0 && ret ? fill_detail(&object, ret) : r;
}

int mem_object_commit(struct mem *mem, const char *bucket, const char *key, int64_t at, int64_t n,
		      const char *if_version, struct object_detail *ret, struct fault *reterr)
{
	LOCK_SCOPE(&mem->lock);
	int r = check_version_locked(mem, bucket, key, if_version, reterr);
	return r < 0 ? r : commit_locked(mem, bucket, key, at, n, ret);
}

static int copy(struct mem *mem, const struct mem_object *from, const char *key, const char *to_bucket,
		const char *to_key, const char *if_version, struct object_detail *ret, struct fault *reterr)
{
	int64_t at = from->at;
	int r = 0;
	if (at < 0) { /* a filled one: its bytes are those of its key */
		at = mem_object_reserve(mem, from->size_bytes);
		if (pwrite(mem->data_fd, key, from->size_bytes, at) != from->size_bytes)
			r = -ENOSPC;
	}
	return r < 0 ? r
		     : mem_object_commit(mem, to_bucket, to_key, at, from->size_bytes, if_version, ret,
					 reterr);
}

int mem_object_copy(struct backend *be, const char *bucket, const char *key, const char *version,
		    const char *to_bucket, const char *to_key, const char *if_version,
		    struct object_detail *ret, struct fault *reterr)
{
	struct mem *mem = mem_of(be);
	struct mem_object from = {0};
	int r = mem_enter(mem, MEM_OBJECT_COPY, reterr);
	if (r == 0)
		r = find(mem, bucket, key, &from, reterr);
	if (r == 0 && version && !has_version(&from, version))
		r = has_changed(mem, bucket, key, reterr);
	if (r == 0)
		r = mem_bucket_check(mem, to_bucket, reterr);
	if (r == 0)
		r = copy(mem, &from, key, to_bucket, to_key, if_version, ret, reterr);
	return r < 0 ? r : mem_leave(mem, MEM_OBJECT_COPY, 0, reterr);
}

static int remove_object(struct mem *mem, const char *bucket, const char *key, const char *if_version,
			 struct fault *reterr)
{
	int r = mem_bucket_check(mem, bucket, reterr);
	if (r < 0)
		return r;
	LOCK_SCOPE(&mem->lock);
	if (!mem_object_find_locked(mem, bucket, key))
		return no_object(mem, bucket, key, reterr);
	r = check_version_locked(mem, bucket, key, if_version, reterr);
	if (r == 0)
		r = mem_log_remove_locked(mem, bucket, key);
	if (r == 0)
		mem_object_drop_locked(mem, bucket, key);
	return r;
}

int mem_object_remove(struct backend *be, const char *bucket, const char *key, const char *if_version,
		      struct fault *reterr)
{
	struct mem *mem = mem_of(be);
	int r = mem_enter(mem, MEM_OBJECT_REMOVE, reterr);
	if (r == 0)
		r = remove_object(mem, bucket, key, if_version, reterr);
	return r < 0 ? r : mem_leave(mem, MEM_OBJECT_REMOVE, 0, reterr);
}

int mem_bucket_is_empty(struct mem *mem, const char *bucket, struct fault *reterr)
{
	LOCK_SCOPE(&mem->lock);
	const struct mem_bucket *b = mem_bucket_find_locked(mem, bucket);
	return b && b->n_objects > 0
		       ? fault_set(reterr, ENOTEMPTY, "%s: bucket %s holds objects", mem->name, bucket)
		       : 0;
}

/* ---- what somebody else does ---- */

/* %HH in place; false if there is none that is right. */
static bool decode(char *text)
{
	char *to = text;
	for (const char *from = text; *from; from++) {
		if (*from != '%') {
			*to++ = *from;
			continue;
		}
		unsigned value;
		if (!isxdigit((unsigned char)from[1]) || !isxdigit((unsigned char)from[2]) ||
		    sscanf(from + 1, "%2x", &value) != 1 || value == 0)
			return false;
		*to++ = (char)value;
		from += 2;
	}
	*to = '\0';
	return true;
}

static int put_text(struct mem *mem, const char *bucket, const char *key, const char *text,
		    struct fault *reterr)
{
	int64_t n = strlen(text), at = mem_object_reserve(mem, n);
	int r = mem_bucket_check(mem, bucket, reterr);
	if (r < 0)
		return r;
	if (pwrite(mem->data_fd, text, n, at) != n)
		return -EIO;
	LOCK_SCOPE(&mem->lock);
	return commit_locked(mem, bucket, key, at, n, NULL);
}

static int fill(struct mem *mem, const char *bucket, const char *prefix, int64_t n)
{
	char key[OBJECT_KEY_MAX + 1];
	int r = 0;
	LOCK_SCOPE(&mem->lock);
	for (int64_t i = 0; r == 0 && i < n; i++) {
		int len = snprintf(key, sizeof(key), "%.*s%09" PRId64, OBJECT_KEY_MAX - 16, prefix, i);
		struct mem_object object = {.key = key,
					    .version = ++mem->n_versions,
					    .at = -1,
					    .size_bytes = len,
					    .changed_ns = clock_wall_ns()};
		r = mem_object_set_locked(mem, bucket, &object);
	}
	return r;
}

static int damage(struct mem *mem, const char *bucket, const char *key, int64_t at, struct fault *reterr)
{
	LOCK_SCOPE(&mem->lock);
	struct mem_object *object = mem_object_find_locked(mem, bucket, key);
	if (!object)
		return no_object(mem, bucket, key, reterr);
	object->damage = at + 1;
	return 0;
}

int mem_object_command(struct mem *mem, char **word, const char *text, struct fault *reterr)
{
	const char *bucket = word[1], *verb = word[2];
	cleanup_free char *key = strdup(word[3]), *content = NULL;
	int64_t n;
	text += strlen(word[3]);
	text += strspn(text, " \t");
	int r = key ? str_format(&content, "%s ", text) : -ENOMEM;
	if (r < 0)
		return r;
	if (mem->data_fd < 0 || !decode(key) || !key[0] || strlen(key) > OBJECT_KEY_MAX)
		return -EINVAL;
	if (strcmp(verb, "remove") == 0)
		return remove_object(mem, bucket, key, NULL, reterr);
	if (strcmp(verb, "fill") == 0)
		return !word[4] || str_to_int(word[4], 1, 10000000, &n) < 0 ? -EINVAL
									    : fill(mem, bucket, key, n);
	if (strcmp(verb, "damage") == 0)
		return !word[4] || str_to_int(word[4], 0, INT64_MAX - 1, &n) < 0
			       ? -EINVAL
			       : damage(mem, bucket, key, n, reterr);
	if (strcmp(verb, "put") != 0)
		return -EINVAL;
	content[strlen(content) - 1] = '\0';
	mem_unescape(content);
	return put_text(mem, bucket, key, content, reterr);
}
