/* SPDX-License-Identifier: MIT */
/* The two records of a mount that only grow: .trainfs/errors and .trainfs/events. Thread-safe. */
#pragma once

#include "node.h"

struct report;

int report_new(struct serve *serve, struct report **ret);
void report_free(struct report *report); /* takes NULL */

/* time TAB remote TAB path TAB errno name TAB sentence. `remote` may be NULL. */
void report_error(struct report *report, const char *remote, const char *path, int err, const char *sentence);

/* {"time","remote","job","from","to"}; `from` NULL for a job that is new. */
void report_event(struct report *report, const char *remote, const char *job, const char *from,
		  const char *to);

/* Makes inotify fire for a path below the remote's directory, and for .trainfs/events. */
void report_touch(const struct remote *remote, const char *format, ...) __attribute__((format(printf, 2, 3)));

enum report_kind { REPORT_ERRORS, REPORT_EVENTS };
int64_t report_size(struct report *report, enum report_kind kind, int64_t *ret_changed_ns);
ssize_t report_read(struct report *report, enum report_kind kind, char *buf, size_t size, off_t offset);
size_t report_n_errors(struct report *report);
