/* SPDX-License-Identifier: MIT */
/* Spools that mounts before this one left: what was complete is sent, the rest is named. Their renames come first. */
#include "cleanup.h"
#include "file.h"
#include "log.h"
#include "remote.h"
#include "renames.h"
#include "serve_private.h"
#include "upload.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

enum { RECORD_MAX = 16384 };

static void take_up_complete(struct objects *objects, char *path, const char *bucket, const char *key,
			     const char *if_version)
{
	struct spool *spool;
	if (spool_new(objects, path, open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW), if_version, &spool) < 0)
		return;
	spool->is_dirty = spool->is_complete = spool->may_be_there = true;
	LOCK_SCOPE(&objects->lock);
	struct stat st = {0};
	(void)fstat(spool->fd, &st); /* of an open descriptor */
	struct object_file *file = renames_owner_locked(objects, bucket, key, if_version);
	if (!file)
		file = object_file_get_locked(objects, bucket, key);
	if (!file || file->spool) { /* two of one key: one stays where it is, for the mount after this */
		spool->is_kept = true;
		spool_free(spool);
		if (file)
			object_file_unref_locked(file);
		return;
	}
	file->size_bytes = st.st_size;
	file->changed_ns = st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec;
	spool_attach_locked(spool, file);
	object_file_unref_locked(file);
	upload_begin_locked(spool);
}

/* It has no name any more; what has come of it is looked for. */
static void take_up_unwanted(struct objects *objects, char *path, const char *bucket, const char *key,
			     const char *if_version)
{
	struct spool *spool;
	if (spool_new(objects, path, open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW), if_version, &spool) < 0)
		return;
	spool->is_dirty = spool->is_complete = spool->is_unwanted = true;
	LOCK_SCOPE(&objects->lock);
	struct object_file *file = object_file_get_locked(objects, bucket, key);
	if (!file || file->n_refs > 1) { /* for the mount after this */
		spool_free(spool);
	} else {
		object_file_detach_locked(file);
		spool_attach_locked(spool, file);
		upload_begin_locked(spool);
	}
	if (file)
		object_file_unref_locked(file);
}

static void take_up(struct objects *objects, const char *dir, const char *name, const char *suffix)
{
	cleanup_free char *text = NULL, *record = NULL;
	const char *bucket, *key, *if_version;
	int is_complete;
	char *path = NULL;
	if (str_format(&path, "%s/%.*s", dir, (int)(strlen(name) - strlen(suffix)), name) < 0 ||
	    str_format(&record, "%s%s", path, suffix) < 0)
		return;
	cleanup_json json_t *json = NULL;
	if (file_read_all(AT_FDCWD, record, RECORD_MAX, &text, NULL) == 0)
		json = json_loads(text, 0, NULL);
	if (!json || json_unpack(json, "{s:s s:s s:s s:b}", "bucket", &bucket, "key", &key, "if_version",
				 &if_version, "complete", &is_complete) < 0) {
		log_warning("%s cannot be read, ignoring", record);
	} else if (!strcmp(suffix, SPOOL_UNWANTED)) {
		take_up_unwanted(objects, STEAL(path), bucket, key, if_version);
	} else if (is_complete) {
		take_up_complete(objects, STEAL(path), bucket, key, if_version);
	} else {
		cleanup_free char *sentence = NULL;
		if (str_format(&sentence,
			       "it was still being written when an earlier mount ended, and was not "
			       "delivered; as far as "
			       "it got it is in %s",
			       path) == 0)
			objects_report(objects, bucket, key, EIO, sentence);
	}
	free(path);
}

static bool has_beside(const char *dir, const char *name, const char *suffix)
{
	cleanup_free char *path = NULL;
	return str_format(&path, "%s/%s%s", dir, name, suffix) < 0 || access(path, F_OK) == 0 ||
	       errno != ENOENT;
}

static void take_up_all(struct objects *objects, const char *dir, const char *suffix)
{
	cleanup_closedir DIR *d = opendir(dir);
	const struct dirent *e;
	while (d && (e = readdir(d)))
		if (str_has_suffix(e->d_name, suffix))
			take_up(objects, dir, e->d_name, suffix);
}

/* Bytes without a record were delivered, or never asked for; nor does a record count that came after the end. */
static void clean_up(const char *dir)
{
	cleanup_closedir DIR *d = opendir(dir);
	const struct dirent *e;
	while (d && (e = readdir(d))) {
		cleanup_free char *name = strndup(e->d_name, strcspn(e->d_name, "."));
		bool is_bytes = name && !strcmp(name, e->d_name);
		if (!name || !*name || renames_is_record(e->d_name) ||
		    str_has_suffix(e->d_name, SPOOL_UNWANTED))
			continue;
		bool is_unwanted = has_beside(dir, name, SPOOL_UNWANTED);
		if (is_bytes ? is_unwanted || has_beside(dir, name, SPOOL_RECORD)
			     : !is_unwanted && str_has_suffix(e->d_name, SPOOL_RECORD))
			continue;
		(void)unlinkat(dirfd(d), e->d_name, 0); /* the next mount does */
	}
}

static void take_up_dir(struct objects *objects, const char *path)
{
	clean_up(path);
	renames_take_up(objects, path);
	take_up_all(objects, path, SPOOL_UNWANTED);
	take_up_all(objects, path, SPOOL_RECORD);
	(void)rmdir(path); /* what is kept keeps it */
}

/* A mount's own directory is "ID", what it took over "ID-1" and so on: a rename claims it. */
static void claim(struct objects *objects, const char *all, const char *name, unsigned *number)
{
	const struct remote *remote = objects->remote;
	cleanup_free char *id = strndup(name, strcspn(name, "-")), *from = NULL, *to = NULL;
	if (!id || strcmp(id, remote->serve->id) == 0 || remote_mount_is_alive(remote, id))
		return;
	if (str_format(&from, "%s/%s", all, name) < 0 ||
	    str_format(&to, "%s/%s-%u", all, remote->serve->id, ++*number) < 0 || rename(from, to) < 0)
		return;
	take_up_dir(objects, to);
}

int spools_take_up(struct objects *objects)
{
	cleanup_free char *all = NULL;
	unsigned number = 0;
	int r = str_format(&all, "%s/pending", objects->remote->conf->state_dir);
	if (r < 0 || objects->remote->serve->is_read_only)
		return r;
	cleanup_closedir DIR *d = opendir(all);
	const struct dirent *e;
	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.')
			claim(objects, all, e->d_name, &number);
	return 0;
}
