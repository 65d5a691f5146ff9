/* SPDX-License-Identifier: MIT */
/*
 * Uploads in parts are billed until they end. So each is noted on disk, and whoever finds a note that is nobody's ends
 * its upload.
 *
 *   uploads/new.X     being written
 *   uploads/up.X      JSON {"bucket", "id", "key"}; locked by the process whose upload it is, for as long as it lives
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "aws/aws.h"
#include "clock.h"
#include "file.h"

enum { AWS_SWEEP_MS = 10 * 60 * 1000, AWS_NOTE_MAX = 64 << 10 };

static int leftover_dir(struct aws *aws, bool make)
{
	cleanup_close int state = file_open_dir(AT_FDCWD, aws->state_dir);
	if (state < 0)
		return state;
	if (make && mkdirat(state, "uploads", 0700) < 0 && errno != EEXIST)
		return -errno;
	return file_open_dir(state, "uploads");
}

static int leftover_write(int dir, const char *bucket, const char *key, const char *upload_id, int *ret_fd,
			  char **ret_name)
{
	cleanup_free char *name = NULL;
	cleanup_free char *passing = NULL;
	cleanup_close int fd = -1;
	static atomic_uint n_notes;
	cleanup_json json_t *note =
		json_pack("{s:s, s:s, s:s}", "bucket", bucket, "id", upload_id, "key", key);
	if (!note)
		return -EINVAL; /* no UTF-8, which S3 does not take either */
	unsigned n = atomic_fetch_add(&n_notes, 1);
	if (str_format(&name, "up.%d.%u.%llx", (int)getpid(), n, (unsigned long long)clock_wall_ns()) < 0 ||
	    str_format(&passing, "new.%s", name + 3) < 0)
		return -ENOMEM;
	fd = openat(dir, passing, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || flock(fd, LOCK_EX) < 0)
		return -errno;
	if (json_dumpfd(note, fd, JSON_SORT_KEYS) < 0 || fsync(fd) < 0 ||
	    renameat(dir, passing, dir, name) < 0) {
		int r = errno ? -errno : -EIO;
		unlinkat(dir, passing, 0);
		return r;
	}
	(void)file_sync_dir(dir, "."); /* lost with the machine's power only */
	*ret_fd = STEAL_FD(fd);
	*ret_name = STEAL(name);
	return 0;
}

int aws_leftover_note(struct aws *aws, const char *bucket, const char *key, const char *upload_id,
		      int *ret_fd, char **ret_name, struct fault *reterr)
{
	cleanup_close int dir = leftover_dir(aws, true);
	int r = dir < 0 ? dir : leftover_write(dir, bucket, key, upload_id, ret_fd, ret_name);
	return r < 0 ? fault_set(reterr, -r, "an upload to %s cannot be noted in %s: %s", bucket,
				 aws->state_dir, strerror(-r))
		     : 0;
}

void aws_leftover_forget(struct aws *aws, const char *name)
{
	cleanup_close int dir = leftover_dir(aws, false);
	if (dir >= 0)
		unlinkat(dir, name, 0); /* else its upload is looked for once more, in vain */
}

/* Opens a note that is nobody's, which keeps it so; -1: it is somebody's, or gone. */
static int leftover_open(int dir, const char *name, struct stat *ret)
{
	cleanup_close int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	/* whoever had the lock before may have removed it */
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 || fstat(fd, ret) < 0 || ret->st_nlink == 0)
		return -1;
	return STEAL_FD(fd);
}

static void leftover_end(struct aws *aws, int dir, const char *name)
{
	cleanup_free char *text = NULL;
	cleanup_json json_t *note = NULL;
	const char *bucket, *id, *key;
	struct stat st;
	cleanup_close int fd = leftover_open(dir, name, &st);
	if (fd < 0)
		return;
	if (file_read_all(dir, name, AWS_NOTE_MAX, &text, NULL) == 0)
		note = json_loads(text, 0, NULL);
	if (json_unpack(note, "{s:s, s:s, s:s}", "bucket", &bucket, "id", &id, "key", &key) < 0 ||
	    aws_abort(aws, bucket, key, id, NULL) == 0)
		unlinkat(dir, name, 0);
}

/* A note that was never finished has no upload that got a byte. */
static void leftover_drop(int dir, const char *name)
{
	struct stat st;
	cleanup_close int fd = leftover_open(dir, name, &st);
	if (fd >= 0 && st.st_mtime < clock_wall_ns() / 1000000000 - AWS_SWEEP_MS / 1000)
		unlinkat(dir, name, 0);
}

static bool leftover_is_due(struct aws *aws)
{
	LOCK_SCOPE(&aws->lock);
	int64_t now_ms = clock_mono_ms();
	if (aws->sweep_ms > now_ms)
		return false;
	aws->sweep_ms = now_ms + AWS_SWEEP_MS;
	return true;
}

void aws_leftover_sweep(struct aws *aws)
{
	if (!leftover_is_due(aws))
		return;
	cleanup_close int fd = leftover_dir(aws, false);
	cleanup_closedir DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (!dir)
		return;
	STEAL_FD(fd);
	for (struct dirent *entry; (entry = readdir(dir));) {
		if (str_has_prefix(entry->d_name, "up."))
			leftover_end(aws, dirfd(dir), entry->d_name);
		else if (str_has_prefix(entry->d_name, "new."))
			leftover_drop(dirfd(dir), entry->d_name);
	}
}
