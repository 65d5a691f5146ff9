/* SPDX-License-Identifier: MIT */
/*
 * The objects of mem: an index in memory, sorted by key, over the file objects.log.
 *
 * The log is records, each a head, the bucket and the key; the bytes that were put lie in objects.data, written before the
 * record. What a kill has cut off at the end was never answered, and is passed over.
 */
#include "mem/state.h"

#include "cleanup.h"
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

enum record_kind { RECORD_PUT = 1, RECORD_REMOVE };

struct record {
	uint32_t kind;
	uint32_t key_len, bucket_len;
	uint64_t version;
	int64_t at; /* of the bytes, in objects.data */
	int64_t size_bytes;
	int64_t changed_ns;
};

enum { BUCKET_NAME_MAX = 128 };

/* ---- the index ---- */

struct mem_bucket *mem_bucket_find_locked(struct mem *mem, const char *bucket)
{
	for (struct mem_bucket *b = mem->bucket; b; b = b->next) {
		if (strcmp(b->name, bucket) == 0)
			return b;
	}
	return NULL;
}

size_t mem_object_place(const struct mem_bucket *bucket, const char *key)
{
	size_t from = 0, to = bucket->n_objects;
	while (from < to) {
		size_t middle = from + (to - from) / 2;
		if (strcmp(bucket->object[middle].key, key) < 0)
			from = middle + 1;
		else
			to = middle;
	}
	return from;
}

struct mem_object *mem_object_find_locked(struct mem *mem, const char *bucket, const char *key)
{
	struct mem_bucket *b = mem_bucket_find_locked(mem, bucket);
	if (!b)
		return NULL;
	size_t i = mem_object_place(b, key);
	return i < b->n_objects && strcmp(b->object[i].key, key) == 0 ? &b->object[i] : NULL;
}

static struct mem_bucket *make_bucket_locked(struct mem *mem, const char *name)
{
	struct mem_bucket *b = calloc(1, sizeof(*b));
	if (!b)
		return NULL;
	b->name = strdup(name);
	if (!b->name) {
		free(b);
		return NULL;
	}
	b->next = mem->bucket;
	mem->bucket = b;
	return b;
}

int mem_object_set_locked(struct mem *mem, const char *bucket, const struct mem_object *object)
{
	struct mem_bucket *b = mem_bucket_find_locked(mem, bucket) ?: make_bucket_locked(mem, bucket);
	if (!b)
		return -ENOMEM;
	size_t i = mem_object_place(b, object->key);
	if (i < b->n_objects && strcmp(b->object[i].key, object->key) == 0) {
		char *key = b->object[i].key;
		b->object[i] = *object;
		b->object[i].key = key;
		return 0;
	}
	if (b->n_objects == b->capacity) {
		size_t n = b->capacity ? b->capacity * 2 : 64;
		struct mem_object *bigger = realloc(b->object, n * sizeof(*bigger));
		if (!bigger)
			return -ENOMEM;
		b->object = bigger;
		b->capacity = n;
	}
	char *key = strdup(object->key);
	if (!key)
		return -ENOMEM;
	memmove(&b->object[i + 1], &b->object[i], (b->n_objects - i) * sizeof(*b->object));
	b->object[i] = *object;
	b->object[i].key = key;
	b->n_objects++;
	return 0;
}

void mem_object_drop_locked(struct mem *mem, const char *bucket, const char *key)
{
	struct mem_bucket *b = mem_bucket_find_locked(mem, bucket);
	struct mem_object *object = mem_object_find_locked(mem, bucket, key);
	if (!object)
		return;
	size_t i = object - b->object;
	free(object->key);
	b->n_objects--;
	memmove(&b->object[i], &b->object[i + 1], (b->n_objects - i) * sizeof(*b->object));
}

void mem_objects_release(struct mem *mem)
{
	while (mem->bucket) {
		struct mem_bucket *b = mem->bucket;
		mem->bucket = b->next;
		for (size_t i = 0; i < b->n_objects; i++)
			free(b->object[i].key);
		free(b->object);
		free(b->name);
		free(b);
	}
}

/* ---- the log ---- */

int64_t mem_log_reserve_locked(struct mem *mem, int64_t n)
{
	int64_t at = mem->data_size;
	mem->data_size += n;
	return at;
}

static int append(struct mem *mem, struct record record, const char *bucket, const char *key)
{
	cleanup_str struct str text = {0};
	record.bucket_len = strlen(bucket);
	record.key_len = strlen(key);
	str_append_n(&text, (const char *)&record, sizeof(record));
	str_append(&text, bucket);
	if (str_append(&text, key) < 0)
		return text.err;
	return file_write_fd(mem->objects_fd, text.data, text.len);
}

int mem_log_put_locked(struct mem *mem, const char *bucket, const struct mem_object *object)
{
	return append(mem,
		      (struct record){.kind = RECORD_PUT,
				      .version = object->version,
				      .at = object->at,
				      .size_bytes = object->size_bytes,
				      .changed_ns = object->changed_ns},
		      bucket, object->key);
}

int mem_log_remove_locked(struct mem *mem, const char *bucket, const char *key)
{
	return append(mem, (struct record){.kind = RECORD_REMOVE}, bucket, key);
}

static int replay(struct mem *mem, const struct record *record, const char *bucket, const char *key)
{
	if (record->kind == RECORD_REMOVE) {
		mem_object_drop_locked(mem, bucket, key);
		return 0;
	}
	if (record->version > mem->n_versions)
		mem->n_versions = record->version;
	struct mem_object object = {.key = (char *)key,
				    .version = record->version,
				    .at = record->at,
				    .size_bytes = record->size_bytes,
				    .changed_ns = record->changed_ns};
	return mem_object_set_locked(mem, bucket, &object);
}

/* The length of the record at `at`, 0 at the end. */
static ssize_t replay_at(struct mem *mem, off_t at)
{
	struct record record;
	char bucket[BUCKET_NAME_MAX + 1] = "", key[OBJECT_KEY_MAX + 1] = "";
	off_t names = at + (off_t)sizeof(record);
	if (pread(mem->objects_fd, &record, sizeof(record), at) != sizeof(record) ||
	    record.bucket_len > BUCKET_NAME_MAX || record.key_len > OBJECT_KEY_MAX ||
	    pread(mem->objects_fd, bucket, record.bucket_len, names) != record.bucket_len ||
	    pread(mem->objects_fd, key, record.key_len, names + record.bucket_len) != record.key_len)
		return 0;
	int r = replay(mem, &record, bucket, key);
	return r < 0 ? r : (ssize_t)sizeof(record) + record.bucket_len + record.key_len;
}

static int open_file(struct mem *mem, const char *name, int *ret_fd, struct fault *reterr)
{
	*ret_fd = openat(mem->state_fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	return *ret_fd < 0 ? fault_set(reterr, errno, "%s: %s cannot be opened", mem->name, name) : 0;
}

int mem_log_open(struct mem *mem, struct fault *reterr)
{
	off_t at = 0;
	ssize_t n = 0;
	int r = open_file(mem, "objects.log", &mem->objects_fd, reterr);
	if (r == 0)
		r = open_file(mem, "objects.data", &mem->data_fd, reterr);
	if (r < 0)
		return r;
	LOCK_SCOPE(&mem->lock);
	while ((n = replay_at(mem, at)) > 0)
		at += n;
	if (n == 0 && (ftruncate(mem->objects_fd, at) < 0 || lseek(mem->objects_fd, at, SEEK_SET) < 0))
		n = -errno;
	mem->data_size = lseek(mem->data_fd, 0, SEEK_END);
	return n < 0 ? fault_set(reterr, (int)-n, "%s: objects.log cannot be read", mem->name) : 0;
}
