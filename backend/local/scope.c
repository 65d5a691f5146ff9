/* SPDX-License-Identifier: MIT */
/*
 * Leaving the unit of systemd that this process was started in.
 *
 * A daemon run as a service takes everything in its cgroup along when it is stopped. A transient scope can be made of a
 * process that runs already, by its id: so there is nothing to fall back from when it is refused. In the scope of a
 * login session nothing is done: such processes live on unless the administrator has decided otherwise
 * (KillUserProcesses), and below the user's manager they would end with it.
 */
#include "local/scope.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "str.h"

extern char **environ;

bool scope_is_needed(const char *cgroup_path)
{
	const char *last = strrchr(cgroup_path, '/');
	return last && str_has_suffix(last, ".service");
}

/* Of cgroup v2 the line "0::PATH", of v1 that of systemd's own hierarchy. */
static bool scope_is_needed_here(bool *ret_is_user)
{
	cleanup_fclose FILE *file = fopen("/proc/self/cgroup", "re");
	char line[4096];
	while (file && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		const char *path = strchr(line, ':');
		path = path ? strchr(path + 1, ':') : NULL;
		if (!path || !(str_has_prefix(line, "0::") || strstr(line, ":name=systemd:")))
			continue;
		*ret_is_user = strstr(path, "/user@");
		if (scope_is_needed(path + 1))
			return true;
	}
	return false;
}

void scope_enter(const char *job_id)
{
	bool is_user = false;
	struct stat st;
	if (stat("/run/systemd/system", &st) < 0 || !scope_is_needed_here(&is_user))
		return;
	if (!is_user && getuid() != 0)
		return;
	char unit[256], pid[16];
	snprintf(unit, sizeof(unit), "trainfs-%.128s-%d.scope", job_id, (int)getpid());
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	const char *argv[] = {"busctl",
			      is_user ? "--user" : "--system",
			      "--quiet",
			      "--timeout=5",
			      "call",
			      "org.freedesktop.systemd1",
			      "/org/freedesktop/systemd1",
			      "org.freedesktop.systemd1.Manager",
			      "StartTransientUnit",
			      "ssa(sv)a(sa(sv))",
			      unit,
			      "fail",
			      "2",
			      "PIDs",
			      "au",
			      "1",
			      pid,
			      "CollectMode",
			      "s",
			      "inactive-or-failed",
			      "0",
			      NULL};
	pid_t child;
	if (posix_spawnp(&child, "busctl", NULL, NULL, (char *const *)argv, environ) == 0)
		(void)waitpid(child, NULL, 0); /* refused: we stay where we are */
}
