/* SPDX-License-Identifier: MIT */
/* /proc/PID/status and /proc/PID/stat. */
#include "process.h"

#include "cleanup.h"
#include "str.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* A file of /proc/PID: its beginning, as text. */
static int read_proc(pid_t pid, const char *name, char *ret, size_t size)
{
	char path[40];
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, ret, size - 1);
	if (n < 0)
		return errno == ENOENT || errno == ESRCH ? -ESRCH : -errno;
	ret[n] = '\0';
	return 0;
}

/* State letter and start time: the 3rd and 22nd fields, counted behind the last ')' of the command's name. */
static int read_stat(pid_t pid, char *ret_state, uint64_t *ret_started)
{
	char text[1024];
	int r = read_proc(pid, "stat", text, sizeof(text));
	if (r < 0)
		return r;
	char *field = strrchr(text, ')');
	if (!field || field[1] != ' ')
		return -EIO;
	field += 2;
	*ret_state = *field;
	for (int i = 3; i < 22; i++) {
		field = strchr(field, ' ');
		if (!field++)
			return -EIO;
	}
	unsigned long long started;
	if (sscanf(field, "%llu", &started) != 1)
		return -EIO;
	*ret_started = started;
	return 0;
}

static int read_tgid(pid_t pid, pid_t *ret)
{
	char text[2048];
	int r = read_proc(pid, "status", text, sizeof(text));
	if (r < 0)
		return r;
	const char *line = strstr(text, "\nTgid:");
	int tgid;
	if (!line || sscanf(line, "\nTgid: %d", &tgid) != 1)
		return -EIO;
	*ret = tgid;
	return 0;
}

int process_of(pid_t pid, struct process *ret)
{
	char state;
	struct process process = {0};
	int r = read_tgid(pid, &process.tgid);
	if (r == 0)
		r = read_stat(process.tgid, &state, &process.started);
	if (r == 0)
		*ret = process;
	return r;
}

enum process_life process_life(const struct process *process)
{
	char state;
	uint64_t started;
	int r = read_stat(process->tgid, &state, &started);
	if (r == -ESRCH || (r == 0 && (started != process->started || state == 'Z' || state == 'X')))
		return PROCESS_GONE;
	return r == 0 && (state == 'T' || state == 't') ? PROCESS_IS_STOPPED : PROCESS_RUNS;
}
