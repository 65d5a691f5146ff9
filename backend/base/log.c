/* SPDX-License-Identifier: MIT */
/* One line a message, written by one write(2), so that threads never mix theirs and no lock is needed. */
#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

enum { LOG_LINE_MAX = 4096 };

/* Process-wide by nature. `max_level` may change at any time; the others are set before threads start. */
static _Atomic int max_level = LOG_LEVEL_WARNING;
static int usual_level = LOG_LEVEL_WARNING;
static bool is_syslog;

void log_init(enum log_level level, bool to_syslog)
{
	usual_level = level;
	atomic_store(&max_level, level);
	is_syslog = to_syslog;
	if (to_syslog)
		openlog("trainfs", LOG_PID, LOG_DAEMON);
}

void log_set_debug(bool on)
{
	atomic_store(&max_level, on ? LOG_LEVEL_DEBUG : usual_level);
}

/* A file's name may hold anything: it must not look like a line of its own. */
static void mask_control_bytes(char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text < 0x20 || *text == 0x7F)
			*text = '?';
	}
}

void log_at(enum log_level level, const char *format, ...)
{
	static const int priority[] = {
		[LOG_LEVEL_ERROR] = LOG_ERR,
		[LOG_LEVEL_WARNING] = LOG_WARNING,
		[LOG_LEVEL_INFO] = LOG_INFO,
		[LOG_LEVEL_DEBUG] = LOG_DEBUG,
	};
	static const char prefix[] = "trainfs: ";
	const size_t skip = sizeof(prefix) - 1;
	char line[LOG_LINE_MAX];
	va_list ap;

	if ((int)level > atomic_load_explicit(&max_level, memory_order_relaxed))
		return;
	int saved_errno = errno;
	memcpy(line, prefix, sizeof(prefix));
	va_start(ap, format);
	(void)vsnprintf(line + skip, sizeof(line) - skip - 1, format, ap); /* too long: cut */
	va_end(ap);
	mask_control_bytes(line + skip);
	if (is_syslog) {
		syslog(priority[level], "%s", line + skip);
	} else {
		size_t len = strlen(line);
		line[len++] = '\n';
		if (write(STDERR_FILENO, line, len) < 0) {
			/* There is nobody left to tell. */
		}
	}
	errno = saved_errno;
}
