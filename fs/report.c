/* SPDX-License-Identifier: MIT */
/*
 * The errors and the events of a mount, as text in nameless memory files, so that offsets stay true while they grow.
 * Above RECORD_MAX a record takes nothing more and says so in its last line; a mount that fails a hundred thousand times
 * has told enough.
 */
#include "report.h"

#include "cleanup.h"
#include "clock.h"
#include "helper_touch.h"
#include "kinds.h"
#include "log.h"
#include "notify.h"
#include "remote.h"
#include "serve_private.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

enum { RECORD_MAX = 16 << 20 };

struct record {
	int fd;
	int64_t size;
	int64_t changed_ns;
	size_t n_lines;
	bool is_full;
};

struct report {
	struct serve *serve; /* immutable */

	pthread_mutex_t lock;
	/* protected by lock */
	struct record record[2]; /* by enum report_kind */
};

int report_new(struct serve *serve, struct report **ret)
{
	struct report *report = calloc(1, sizeof(*report));
	if (!report)
		return -ENOMEM;
	report->serve = serve;
	pthread_mutex_init(&report->lock, NULL);
	report->record[REPORT_ERRORS].fd = memfd_create("errors", MFD_CLOEXEC);
	report->record[REPORT_EVENTS].fd = memfd_create("events", MFD_CLOEXEC);
	if (report->record[0].fd < 0 || report->record[1].fd < 0) {
		int r = -errno;
		report_free(report);
		return r;
	}
	report->record[0].changed_ns = report->record[1].changed_ns = serve->started_ns;
	*ret = report;
	return 0;
}

void report_free(struct report *report)
{
	if (!report)
		return;
	for (int i = 0; i < 2; i++)
		if (report->record[i].fd >= 0)
			close(report->record[i].fd);
	pthread_mutex_destroy(&report->lock);
	free(report);
}

static void append(struct report *report, enum report_kind kind, const char *line, size_t n)
{
	static const char last[] = "(more were not recorded)\n";
	LOCK_SCOPE(&report->lock);
	struct record *record = &report->record[kind];
	if (record->is_full)
		return;
	if (record->size + (int64_t)n > RECORD_MAX) {
		record->is_full = true;
		line = last;
		n = sizeof(last) - 1;
	}
	ssize_t w = pwrite(record->fd, line, n, record->size);
	if (w > 0)
		record->size += w;
	record->n_lines++;
	record->changed_ns = clock_wall_ns();
}

static void tell(struct report *report, enum control_file file)
{
	notify_attr(report->serve->notify, &kind_control_file, report->serve, file, NULL);
}

void report_error(struct report *report, const char *remote, const char *path, int err, const char *sentence)
{
	char now[CLOCK_TEXT_MAX];
	cleanup_str struct str line = {0};
	str_append(&line, clock_format(clock_wall_ns(), now));
	const char *field[] = {remote ? remote : "", path, fault_name(err), sentence};
	for (size_t i = 0; i < sizeof(field) / sizeof(field[0]); i++) {
		str_append(&line, "\t");
		str_append_tsv(&line, field[i]);
	}
	if (str_append(&line, "\n") < 0)
		return;
	append(report, REPORT_ERRORS, line.data, line.len);
	/* at once: who is told the errno looks here for the sentence */
	struct serve *serve = report->serve;
	struct node *n = inode_find(serve->table, &kind_control_file, serve, CONTROL_ERRORS, NULL);
	if (n)
		notify_attr_now(serve->notify, n);
	inode_unref(serve->table, n);
}

void report_event(struct report *report, const char *remote, const char *job, const char *from,
		  const char *to)
{
	char now[CLOCK_TEXT_MAX];
	cleanup_json json_t *event =
		json_pack("{ss ss ss ss? ss}", "time", clock_format(clock_wall_ns(), now), "remote", remote,
			  "job", job, "from", from, "to", to);
	cleanup_free char *line = event ? json_dumps(event, JSON_COMPACT) : NULL;
	cleanup_free char *with_end = NULL;
	if (!line || str_format(&with_end, "%s\n", line) < 0)
		return;
	append(report, REPORT_EVENTS, with_end, strlen(with_end));
	tell(report, CONTROL_EVENTS);
}

void report_touch(const struct remote *remote, const char *format, ...)
{
	struct serve *serve = remote->serve;
	if (!serve->touch || serve->is_stopping)
		return;
	cleanup_free char *below = NULL, *path = NULL, *events = NULL;
	va_list ap;
	va_start(ap, format);
	int n = vasprintf(&below, format, ap);
	va_end(ap);
	if (n < 0) {
		below = NULL;
		return;
	}
	bool has_name = !serve->is_single;
	if (str_format(&path, "%s/%s%s%s", serve->mount_point, has_name ? remote->conf->name : "",
		       has_name ? "/" : "", below) == 0)
		touch_path(serve->touch, path);
	if (str_format(&events, "%s/.trainfs/events", serve->mount_point) == 0)
		touch_path(serve->touch, events);
}

int64_t report_size(struct report *report, enum report_kind kind, int64_t *ret_changed_ns)
{
	LOCK_SCOPE(&report->lock);
	*ret_changed_ns = report->record[kind].changed_ns;
	return report->record[kind].size;
}

ssize_t report_read(struct report *report, enum report_kind kind, char *buf, size_t size, off_t offset)
{
	ssize_t n = pread(report->record[kind].fd, buf, size, offset); /* the descriptor never changes */
	return n < 0 ? -errno : n;
}

size_t report_n_errors(struct report *report)
{
	LOCK_SCOPE(&report->lock);
	return report->record[REPORT_ERRORS].n_lines;
}

void serve_report(struct serve *serve, struct node *n, const char *child, int err, const char *sentence)
{
	cleanup_free char *path = NULL;
	if (node_path(n, child, &path) < 0)
		return;
	report_error(serve->report, n->remote ? n->remote->conf->name : NULL, path, err, sentence);
	log_error("%s: %s: %s", path, fault_name(err), sentence);
}
