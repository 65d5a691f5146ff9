// SPDX-License-Identifier: MIT
/*
 * One line a thing looked at: "ok    fuse      …" or "wrong fuse      …: how to mend it". Looks and opens, changes
 * nothing but the state directories, which a mount would make too.
 */
#include "check.h"

#define FUSE_USE_VERSION 314

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "backend.h"
#include "cleanup.h"
#include "config.h"
#include "options.h"
#include "session.h"
#include "str.h"

struct check {
	const char *subject; /* "fuse", or a remote's name */
	bool has_wrong;
};

static void tell(struct check *check, bool is_ok, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void tell(struct check *check, bool is_ok, const char *format, ...)
{
	va_list ap;

	printf("%-6s%-10s", is_ok ? "ok" : "wrong", check->subject);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	putchar('\n');
	if (!is_ok)
		check->has_wrong = true;
}

/* ---- FUSE ---- */

static const char *find_container(void)
{
	if (access("/.dockerenv", F_OK) == 0)
		return "docker";
	if (access("/run/.containerenv", F_OK) == 0)
		return "podman";
	return options_container();
}

/* Does the effective set of capabilities hold CAP_SYS_ADMIN (21)? */
static bool can_mount(void)
{
	cleanup_fclose FILE *f = fopen("/proc/self/status", "re");
	cleanup_free char *line = NULL;
	size_t size = 0;

	unsigned long long capabilities = 0;
	while (f && getline(&line, &size, f) >= 0)
		if (sscanf(line, "CapEff: %llx", &capabilities) == 1)
			break;
	return capabilities >> 21 & 1;
}

static void check_device(struct check *check, bool is_container)
{
	cleanup_close int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	int err = errno;

	if (fd >= 0)
		tell(check, true, "/dev/fuse can be opened");
	else if (err == EACCES && geteuid() != 0)
		tell(check, false,
		     "only root may open /dev/fuse: `chmod 666 /dev/fuse` as root (that is how udev makes "
		     "it)");
	else if (is_container)
		tell(check, false,
		     "/dev/fuse cannot be opened (%s): start the container with `--device /dev/fuse "
		     "--cap-add SYS_ADMIN`",
		     strerror(err));
	else if (err == ENOENT || err == ENODEV)
		tell(check, false, "/dev/fuse is not there: load the kernel's module with `modprobe fuse`");
	else
		tell(check, false, "/dev/fuse cannot be opened: %s", strerror(err));
}

static void check_fusermount(struct check *check, bool is_container)
{
	cleanup_free char *path = NULL;
	struct stat st;

	if (geteuid() == 0 && can_mount()) {
		tell(check, true, "root may mount (CAP_SYS_ADMIN)");
		return;
	}
	if (geteuid() == 0) {
		tell(check, false, "root may not mount here, CAP_SYS_ADMIN is missing%s",
		     is_container ? ": start the container with `--cap-add SYS_ADMIN`" : "");
		return;
	}
	if (options_find_program("fusermount3", &path) < 0 || stat(path, &st) < 0)
		tell(check, false, "fusermount3 is not on PATH: install the package fuse3");
	else if (st.st_uid != 0 || !(st.st_mode & S_ISUID))
		tell(check, false,
		     "%s is not setuid root, so only root can mount: reinstall fuse3, or `chmod u+s %s`",
		     path, path);
	else if (access("/etc/mtab", R_OK) < 0)
		tell(check, false,
		     "/etc/mtab cannot be read, so only root can unmount: as root, "
		     "`ln -s /proc/self/mounts /etc/mtab`");
	else
		tell(check, true, "%s is setuid root", path);
}

/* The proof: a mount of nothing, for a moment. Mounting asks the file system nothing, so no loop has to run. */
static void check_trial(struct check *check)
{
	static const struct fuse_lowlevel_ops nothing;
	char path[] = "/tmp/trainfs-check-XXXXXX";
	struct session session = {0};
	struct fault fault = {0};

	if (!mkdtemp(path)) {
		tell(check, false, "cannot make a directory in /tmp to mount at: %s", strerror(errno));
		return;
	}
	if (session_open(path, "subtype=trainfs,fsname=check,nosuid,nodev", &nothing, NULL, &session,
			 &fault) < 0)
		tell(check, false, "%s", fault.text);
	else
		tell(check, true, "a trial mount works");
	session_close(&session);
	(void)rmdir(path); /* if it is left behind, it is empty */
}

static void check_fuse(struct check *check)
{
	const char *container = find_container();

	check->subject = "fuse";
	check_device(check, container);
	check_fusermount(check, container);
	if (!check->has_wrong)
		check_trial(check);
	if (container) {
		check->subject = "container";
		tell(check, true, "this is one (%s): others see the mount only if its propagation allows it",
		     container);
	}
}

/* ---- remotes ---- */

struct finding {
	struct check *check;
	size_t n;
};

static void take_finding(void *arg, bool is_ok, const char *line)
{
	struct finding *finding = arg;

	finding->n++;
	tell(finding->check, is_ok, "%s", line);
}

static void check_remote(struct check *check, const struct remote_conf *remote, const char *python)
{
	struct fault fault = {0};
	struct backend *be = NULL;
	struct finding finding = {.check = check};
	struct backend_conf conf = {.name = remote->name,
				    .state_dir = remote->state_dir,
				    .options = remote->options,
				    .python = python};

	check->subject = remote->name;
	if (!backend_type_find(remote->type)) {
		tell(check, false, "there is no remote of type %s: see `type:` in the configuration",
		     remote->type);
		return;
	}
	if (config_make_state_dir(remote, &fault) < 0) {
		tell(check, false, "%s", fault.text);
		return;
	}
	if (backend_open(remote->type, &conf, &be, &fault) < 0) {
		tell(check, false, "%s", fault.text);
		return;
	}
	backend_check(be, take_finding, &finding);
	if (finding.n == 0)
		tell(check, true, "type %s, its state is in %s", remote->type, remote->state_dir);
	backend_close(be);
}

static void check_remotes(struct check *check, const struct options *options, const struct config *config)
{
	cleanup_free char *python = NULL;
	bool is_found = false;

	check->subject = "python3";
	if (options_find_program("python3", &python) == 0)
		tell(check, true, "%s", python);
	else
		tell(check, false,
		     "there is none on PATH: jobs in Python need one, install the package python3");
	for (size_t i = 0; i < config->n_remotes; i++) {
		if (options->remote && strcmp(options->remote, config->remote[i].name) != 0)
			continue;
		is_found = true;
		check_remote(check, &config->remote[i], python);
	}
	check->subject = options->remote ? options->remote : "";
	if (!is_found)
		tell(check, false,
		     "there is no remote of that name in the configuration (`trainfs config` shows them)");
}

int check_command(const struct options *options)
{
	struct check check = {.subject = "fuse"};
	struct config config = {0};
	struct fault fault = {0};

	check_fuse(&check);
	check.subject = "config";
	int r = config_load(options->config_path, &config, &fault);
	if (r < 0)
		tell(&check, false, "%s", fault.text);
	else if (config.path)
		tell(&check, true, "%s", config.path);
	else
		tell(&check, true, "none, nothing needs to be configured");
	if (r == 0)
		check_remotes(&check, options, &config);
	config_release(&config);
	return check.has_wrong ? EXIT_CODE_USAGE : EXIT_CODE_OK;
}
