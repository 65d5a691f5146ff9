/* SPDX-License-Identifier: MIT */
/* A job's log as its supervisor writes it: only grows, and a full disk neither stops nor ends the job. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zeroed with fd = -1 when not open. One thread's own. */
struct joblog {
	int fd;
	int64_t size;      /* bytes in the file */
	bool is_line_open; /* the last byte written was no newline */
	char *held;        /* the newest bytes that did not fit on the disk, or NULL */
	size_t held_len;
	int64_t lost; /* bytes before the held ones that were given up, not yet told in the log */
	int64_t lost_total;
	int64_t tried_ms; /* when the disk was last tried */
};

int joblog_open(struct joblog *log, const char *path);
void joblog_close(struct joblog *log); /* takes a closed one; what is held is lost */

/* Never fails: what the disk refuses is held, the newest MiB of it. */
void joblog_write(struct joblog *log, const char *bytes, size_t n);

/* A line of our own: "[trainfs: …]". */
void joblog_note(struct joblog *log, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Tries to bring what is held to the disk; true when nothing is held any more. */
bool joblog_flush(struct joblog *log);

/*
 * The last line at or after `from` that says something (not empty, not ours), cut to `max` bytes and made printable,
 * in new memory; NULL if there is none.
 */
char *joblog_last_line(const struct joblog *log, int64_t from, size_t max);
