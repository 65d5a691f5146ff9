/* SPDX-License-Identifier: MIT */
/*
 * A job's log as its supervisor writes it.
 *
 * As long as the disk takes everything, bytes go straight to the file. When it is full (but for a spare that the database
 * needs to tell the job's end) they are held in memory, of which the oldest are given up beyond JOBLOG_HELD; when there is
 * room again the file gets a line that says how many are missing, then what is held. So the log stays in order, and who
 * reads it sees where it has a gap.
 */
#include "local/joblog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cleanup.h"
#include "clock.h"

enum {
	JOBLOG_HELD = 1 << 20, /* kept; the buffer has twice that, so that giving up is rarely a move */
	JOBLOG_RETRY_MS = 200,
	JOBLOG_SPARE = 2 << 20, /* left on the disk for the database, to tell the job's end */
	JOBLOG_TAIL = 16 << 10, /* how far back a last line is looked for */
};

int joblog_open(struct joblog *log, const char *path)
{
	*log = (struct joblog){.fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644)};
	struct stat st;
	if (log->fd < 0 || fstat(log->fd, &st) < 0)
		return -errno;
	log->size = st.st_size;
	return 0;
}

void joblog_close(struct joblog *log)
{
	if (log->fd >= 0)
		close(log->fd);
	free(log->held);
	*log = (struct joblog){.fd = -1};
}

static bool joblog_has_room(const struct joblog *log, size_t n)
{
	struct statvfs fs;
	return fstatvfs(log->fd, &fs) < 0 || (uint64_t)fs.f_bavail * fs.f_frsize >= JOBLOG_SPARE + n;
}

/* Gives the number of bytes that the disk took. */
static size_t joblog_put(struct joblog *log, const char *bytes, size_t n)
{
	size_t done = 0;
	if (!joblog_has_room(log, n))
		return 0;
	while (done < n) {
		ssize_t r = write(log->fd, bytes + done, n - done);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			break;
		done += (size_t)r;
	}
	if (done)
		log->is_line_open = bytes[done - 1] != '\n';
	log->size += (int64_t)done;
	return done;
}

static void joblog_give_up(struct joblog *log, size_t n)
{
	memmove(log->held, log->held + n, log->held_len - n);
	log->held_len -= n;
	log->lost += (int64_t)n;
	log->lost_total += (int64_t)n;
}

static void joblog_hold(struct joblog *log, const char *bytes, size_t n)
{
	if (!log->held)
		log->held = malloc(2 * JOBLOG_HELD);
	if (!log->held) {
		log->lost += (int64_t)n;
		log->lost_total += (int64_t)n;
		return;
	}
	if (n > JOBLOG_HELD) {
		joblog_give_up(log, log->held_len);
		log->lost += (int64_t)(n - JOBLOG_HELD);
		log->lost_total += (int64_t)(n - JOBLOG_HELD);
		bytes += n - JOBLOG_HELD;
		n = JOBLOG_HELD;
	}
	if (log->held_len + n > 2 * JOBLOG_HELD)
		joblog_give_up(log, log->held_len + n - JOBLOG_HELD);
	memcpy(log->held + log->held_len, bytes, n);
	log->held_len += n;
}

bool joblog_flush(struct joblog *log)
{
	if (!log->held_len && !log->lost)
		return true;
	log->tried_ms = clock_mono_ms();
	if (log->lost) {
		char note[96];
		int n = snprintf(note, sizeof(note), "%s[trainfs: %lld bytes of log were lost: disk full]\n",
				 log->is_line_open ? "\n" : "", (long long)log->lost);
		/* a torn note is not worth more care: blocks are larger than it */
		if (joblog_put(log, note, (size_t)n) < (size_t)n)
			return false;
		log->lost = 0;
	}
	size_t n = joblog_put(log, log->held, log->held_len);
	memmove(log->held, log->held + n, log->held_len - n);
	log->held_len -= n;
	if (log->held_len)
		return false;
	free(STEAL(log->held));
	return true;
}

void joblog_write(struct joblog *log, const char *bytes, size_t n)
{
	if (log->held_len || log->lost) {
		joblog_hold(log, bytes, n);
		if (clock_mono_ms() - log->tried_ms >= JOBLOG_RETRY_MS)
			(void)joblog_flush(log);
		return;
	}
	size_t done = joblog_put(log, bytes, n);
	if (done < n) {
		joblog_hold(log, bytes + done, n - done);
		log->tried_ms = clock_mono_ms();
	}
}

void joblog_note(struct joblog *log, const char *format, ...)
{
	char text[512];
	char line[600];
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	bool is_open = log->held_len ? log->held[log->held_len - 1] != '\n' : log->is_line_open;
	int n = snprintf(line, sizeof(line), "%s[trainfs: %s]\n", is_open ? "\n" : "", text);
	joblog_write(log, line, (size_t)n);
}

/* ---- what it said last */

static bool joblog_is_blank(const char *line, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r')
			return false;
	return true;
}

/* The length of the UTF-8 character at `c`, or 0 if it is none, or a control byte. */
static size_t joblog_char_size(const char *c)
{
	unsigned char lead = (unsigned char)*c;
	if (lead < 0x80)
		return lead >= 0x20 && lead < 0x7f;
	size_t size = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
	if (lead < 0xc2 || lead > 0xf4)
		return 0;
	for (size_t i = 1; i < size; i++)
		if (((unsigned char)c[i] & 0xc0) != 0x80)
			return 0;
	return size;
}

/* Cuts at a character's start, and makes control bytes and broken UTF-8 harmless. */
static char *joblog_printable(const char *line, size_t n, size_t max)
{
	if (n > max)
		for (n = max; n && ((unsigned char)line[n] & 0xc0) == 0x80;)
			n--;
	char *text = malloc(n + 1); /* the line ends where it ends, not with a NUL */
	if (!text)
		return NULL;
	memcpy(text, line, n);
	text[n] = '\0';
	for (char *c = text; *c;) {
		size_t size = joblog_char_size(c);
		if (!size)
			*c = *c == '\t' ? ' ' : '?';
		c += size ? size : 1;
	}
	return text;
}

/* Narrows a line to what is seen of it last: of a progress bar, behind the last carriage return. False: nothing. */
static bool joblog_seen(const char **line, size_t *n)
{
	while (*n && ((*line)[*n - 1] == '\r' || (*line)[*n - 1] == ' '))
		(*n)--;
	const char *cr = *n ? memrchr(*line, '\r', *n) : NULL;
	if (cr) {
		*n -= (size_t)(cr + 1 - *line);
		*line = cr + 1;
	}
	return !joblog_is_blank(*line, *n) && !(*n > 10 && !strncmp(*line, "[trainfs: ", 10));
}

/* The end of the log, at or after `from`: held in memory, or read into `buffer` of JOBLOG_TAIL bytes. */
static const char *joblog_tail(const struct joblog *log, int64_t from, char *buffer, size_t *ret_n)
{
	if (log->held_len) {
		*ret_n = log->held_len < JOBLOG_TAIL ? log->held_len : JOBLOG_TAIL;
		return log->held + log->held_len - *ret_n;
	}
	int64_t start = log->size - JOBLOG_TAIL > from ? log->size - JOBLOG_TAIL : from;
	ssize_t n = pread(log->fd, buffer, JOBLOG_TAIL, start);
	*ret_n = n > 0 ? (size_t)n : 0;
	return buffer;
}

char *joblog_last_line(const struct joblog *log, int64_t from, size_t max)
{
	cleanup_free char *buffer = malloc(JOBLOG_TAIL);
	if (!buffer)
		return NULL;
	size_t n;
	const char *tail = joblog_tail(log, from, buffer, &n);
	while (n) {
		const char *newline = memrchr(tail, '\n', n);
		const char *line = newline ? newline + 1 : tail;
		size_t len = (size_t)(tail + n - line);
		if (joblog_seen(&line, &len))
			return joblog_printable(line, len, max);
		n = newline ? (size_t)(newline - tail) : 0;
	}
	return NULL;
}
