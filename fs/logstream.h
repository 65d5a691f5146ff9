/* SPDX-License-Identifier: MIT */
/*
 * Logs that grow. However many readers a log has, it is followed once: by inotify where the backend keeps it as a file,
 * else by one polling call after the other into a spool; and not at all while nobody has it open.
 */
#pragma once

#include "node.h"
#include "request.h"

struct job;
struct logstream;
struct logwatch;

/* inotify and its thread, one a mount. */
int logwatch_new(struct serve *serve, struct logwatch **ret);
int logwatch_start(struct logwatch *watch);
void logwatch_stop(struct logwatch *watch);
void logwatch_free(struct logwatch *watch); /* takes NULL */

/*
 * Size and mtime as known so far. For a log that nobody has open this may ask the backend (file logs), or be what was
 * spooled.
 */
int logstream_stat(struct call *c, struct job *job, struct stat *ret);
bool logstream_is_open(struct job *job);

/* A reader comes: what there is now is at hand when this returns 0. May block or park. */
int logstream_open(struct call *c, struct job *job);
void logstream_close(struct job *job);

ssize_t logstream_read(struct job *job, char *buf, size_t size, off_t offset);

/* For `follow`: like read, but at the end of a log that may still grow it parks. 0: the log is complete. */
ssize_t logstream_follow(struct call *c, struct job *job, char *buf, size_t size, off_t offset);

/* Its state has changed: readers of a log that had not begun get it now. */
void logstream_begin(struct job *job);
/* The job has ended: fetch what is left, then job_log_is_complete. */
void logstream_end(struct job *job);
/* Ask the followers again. */
void logstream_wake(struct job *job);

/* Only the job table frees one. Takes NULL. */
void logstream_free(struct logstream *log);
