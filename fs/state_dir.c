/* SPDX-License-Identifier: MIT */
/*
 * Makes a remote's state directory, private, and never on a network file system: SQLite's locks, renames and the
 * journal need a local one.
 */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "cleanup.h"
#include "quote.h"
#include "str.h"

enum { FUSE_MAGIC = 0x65735546 };

struct kind {
	uint32_t magic; /* f_type of statfs(2), see <linux/magic.h> */
	const char *name;
};

static const struct kind network_kinds[] = {
	{0x6969, "NFS"},        {0x517b, "SMB"},        {0xfe534d42, "SMB"},  {0xff534d42, "CIFS"},
	{0x5346414f, "AFS"},    {0x6b414653, "AFS"},    {0x00c36400, "Ceph"}, {0x01021997, "9p"},
	{0x0bd00bd0, "Lustre"}, {0x73757245, "Coda"},   {0x47504653, "GPFS"}, {0x7461636f, "OCFS2"},
	{0x01161970, "GFS2"},   {0x19830326, "BeeGFS"}, {FUSE_MAGIC, "FUSE"},
};

/* FUSE file systems that are local disks all the same. */
static bool is_local_fuse(const char *type)
{
	return strcmp(type, "fuseblk") == 0 || strcmp(type, "fuse.fuse-overlayfs") == 0;
}

/* The type behind " - " of the line of mountinfo for this device, compared; false if it is not found. */
static bool is_on_local_fuse(const char *path)
{
	struct stat st;
	char device[64], line[4096], type[64];
	cleanup_fclose FILE *file = fopen("/proc/self/mountinfo", "re");
	if (!file || stat(path, &st) < 0)
		return false;
	snprintf(device, sizeof(device), " %u:%u ", major(st.st_dev), minor(st.st_dev));
	while (fgets(line, sizeof(line), file)) {
		const char *dash = strstr(line, " - ");
		if (dash && strstr(line, device) && sscanf(dash, " - %63s", type) == 1 && is_local_fuse(type))
			return true;
	}
	return false;
}

/* The nearest directory above that is there, for a look before anything is made. */
static int nearest_existing(const char *path, char **ret)
{
	struct stat st;
	cleanup_free char *part = strdup(path);
	if (!part)
		return -ENOMEM;
	while (stat(part, &st) < 0) {
		char *slash = strrchr(part, '/');
		if (errno != ENOENT)
			return -errno;
		if (!slash || slash == part) {
			part[1] = '\0';
			break;
		}
		*slash = '\0';
	}
	*ret = STEAL(part);
	return 0;
}

static int check_kind(const struct remote_conf *remote, const char *path, struct fault *reterr)
{
	struct statfs fs;
	char shown[QUOTE_MAX];
	if (statfs(path, &fs) < 0)
		return fault_set(reterr, errno, "the state_dir %s of the remote `%s` cannot be looked at: %s",
				 quote(remote->state_dir, shown), remote->name, strerror(errno));
	for (size_t i = 0; i < sizeof(network_kinds) / sizeof(*network_kinds); i++) {
		if (network_kinds[i].magic != (uint32_t)fs.f_type)
			continue;
		if (network_kinds[i].magic == FUSE_MAGIC && is_on_local_fuse(path))
			continue;
		return fault_set(
			reterr, EINVAL,
			"the state_dir %s of the remote `%s` is on a network file system (%s), where it "
			"cannot "
			"be kept safely: set `state_dir` of that remote to a directory on a local disk",
			quote(remote->state_dir, shown), remote->name, network_kinds[i].name);
	}
	return 0;
}

static int make_dirs(const char *path)
{
	cleanup_free char *part = strdup(path);
	if (!part)
		return -ENOMEM;
	for (char *s = part + 1;; s++) {
		if (*s != '/' && *s != '\0')
			continue;
		char kept = *s;
		*s = '\0';
		if (mkdir(part, 0700) < 0 && errno != EEXIST)
			return -errno;
		*s = kept;
		if (kept == '\0')
			return 0;
	}
}

static int check_private(const struct remote_conf *remote, struct fault *reterr)
{
	struct stat st;
	char shown[QUOTE_MAX];
	quote(remote->state_dir, shown);
	if (stat(remote->state_dir, &st) < 0)
		return fault_set(reterr, errno, "the state_dir %s of the remote `%s`: %s", shown,
				 remote->name, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return fault_set(reterr, ENOTDIR, "the state_dir %s of the remote `%s` is not a directory",
				 shown, remote->name);
	if (st.st_uid != geteuid())
		return fault_set(reterr, EACCES,
				 "the state_dir %s of the remote `%s` belongs to another user (%u)", shown,
				 remote->name, st.st_uid);
	if ((st.st_mode & 077) && chmod(remote->state_dir, 0700) < 0)
		return fault_set(reterr, errno,
				 "the state_dir %s of the remote `%s` cannot be made private: %s", shown,
				 remote->name, strerror(errno));
	return 0;
}

int config_make_state_dir(const struct remote_conf *remote, struct fault *reterr)
{
	char shown[QUOTE_MAX];
	cleanup_free char *existing = NULL;
	int r = nearest_existing(remote->state_dir, &existing);
	if (r == 0) {
		r = check_kind(remote, existing, reterr);
		if (r < 0)
			return r;
		r = make_dirs(remote->state_dir);
	}
	if (r < 0)
		return fault_set(reterr, -r, "the state_dir %s of the remote `%s` cannot be made: %s",
				 quote(remote->state_dir, shown), remote->name, strerror(-r));
	return check_private(remote, reterr);
}
