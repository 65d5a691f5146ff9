/* SPDX-License-Identifier: MIT */
/*
 * The files of a job's directory. They come from the row (always at hand) or from the facts (one call of the backend for
 * all of them); the log is a stream.
 */
#include "node_job_file.h"

#include "backend.h"
#include "cleanup.h"
#include "clock.h"
#include "jobs.h"
#include "logstream.h"
#include "node_files.h"
#include "remote.h"
#include "serve_private.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>

enum { LOG_BLOCK_SIZE = 128 << 10, VERB_MAX = 32 };

static int render_value(struct str *ret, const char *value)
{
	return value && *value ? str_printf(ret, "%s\n", value) : 0;
}

/* A text that may hold lines: ends in one newline, or is empty. */
static int render_text(struct str *ret, const char *text)
{
	size_t len = text ? strlen(text) : 0;
	return len == 0 ? 0 : str_printf(ret, "%s%s", text, text[len - 1] == '\n' ? "" : "\n");
}

static int render_time(struct str *ret, int64_t at_ns)
{
	char text[CLOCK_TEXT_MAX];
	return render_value(ret, clock_format(at_ns, text));
}

/* ---- from the row ---- */

static int render_state(const struct job_row *row, const struct job_detail *detail, struct str *ret)
{
	return render_value(ret, job_state_name(row->state));
}

static int render_exit(const struct job_row *row, const struct job_detail *detail, struct str *ret)
{
	return row->exit == JOB_EXIT_UNKNOWN ? 0 : str_printf(ret, "%d\n", row->exit);
}

static int render_nothing(const struct job_row *row, const struct job_detail *detail, struct str *ret)
{
	return 0;
}

static int render_created(const struct job_row *row, const struct job_detail *detail, struct str *ret)
{
	return render_time(ret, row->created_ns);
}

static int render_started(const struct job_row *row, const struct job_detail *detail, struct str *ret)
{
	return render_time(ret, row->started_ns);
}

static int render_ended(const struct job_row *row, const struct job_detail *detail, struct str *ret)
{
	return render_time(ret, row->ended_ns);
}

static int render_cost(const struct job_row *row, const struct job_detail *detail, struct str *ret)
{
	return render_value(ret, row->cost);
}

static int render_ctl(const struct job_row *row, const struct job_detail *detail, struct str *ret)
{
	if (job_state_is_ended(row->state) || row->state == JOB_UNKNOWN)
		return str_append(ret, "delete\n");
	return row->state == JOB_SUBMITTING || row->state == JOB_CANCELLING ? 0 : str_append(ret, "cancel\n");
}

static bool has_succeeded(const struct job_row *row, const struct job_detail *detail)
{
	return row->state == JOB_SUCCEEDED;
}

/* ---- from the facts ---- */

static int render_why(const struct job_row *row, const struct job_detail *detail, struct str *ret)
{
	return render_text(ret, detail->why);
}

static int render_attempts(const struct job_row *row, const struct job_detail *detail, struct str *ret)
{
	char started[CLOCK_TEXT_MAX], ended[CLOCK_TEXT_MAX];
	str_append(ret, "n\tstarted\tended\texit\twhy\n");
	for (size_t i = 0; i < detail->n_attempts; i++) {
		const struct job_attempt *attempt = &detail->attempt[i];
		str_printf(ret, "%zu\t%s\t%s\t", i + 1, clock_format(attempt->started_ns, started),
			   clock_format(attempt->ended_ns, ended));
		if (attempt->exit != JOB_EXIT_UNKNOWN)
			str_printf(ret, "%d", attempt->exit);
		str_append(ret, "\t");
		str_append_tsv(ret, attempt->why ? attempt->why : "");
		str_append(ret, "\n");
	}
	return ret->err;
}

/* A field a line, so that diff shows the difference of two jobs. */
static int render_spec(const struct job_row *row, const struct job_detail *detail, struct str *ret)
{
	cleanup_json json_t *spec = detail->spec ? json_loads(detail->spec, 0, NULL) : NULL;
	cleanup_free char *text = spec ? json_dumps(spec, JSON_INDENT(2) | JSON_PRESERVE_ORDER) : NULL;
	return render_text(ret, text ? text : detail->spec);
}

static int render_api(const struct job_row *row, const struct job_detail *detail, struct str *ret)
{
	return render_text(ret, detail->api);
}

static int render_url(const struct job_row *row, const struct job_detail *detail, struct str *ret)
{
	return render_value(ret, detail->url);
}

static int render_git(const struct job_row *row, const struct job_detail *detail, struct str *ret)
{
	return render_text(ret, detail->git);
}

static int render_events(const struct job_row *row, const struct job_detail *detail, struct str *ret)
{
	char at[CLOCK_TEXT_MAX];
	for (size_t i = 0; i < detail->n_events; i++)
		str_printf(ret, "{\"time\":\"%s\",\"state\":\"%s\"}\n",
			   clock_format(detail->event[i].at_ns, at), job_state_name(detail->event[i].state));
	return ret->err;
}

static bool has_git(const struct job_row *row, const struct job_detail *detail)
{
	return detail->git;
}

/* ---- links ---- */

static int render_output(const struct job_row *row, const struct job_detail *detail, struct str *ret)
{
	return str_printf(ret, "../../buckets/%s", detail->output);
}

static int render_model(const struct job_row *row, const struct job_detail *detail, struct str *ret)
{
	return str_printf(ret, "../../models/%s", detail->version);
}

static int render_resumed_from(const struct job_row *row, const struct job_detail *detail, struct str *ret)
{
	return str_printf(ret, "../%s", detail->resumed_from);
}

static bool has_output(const struct job_row *row, const struct job_detail *detail)
{
	return detail->output;
}

static bool has_model(const struct job_row *row, const struct job_detail *detail)
{
	return detail->version;
}

static bool has_resumed_from(const struct job_row *row, const struct job_detail *detail)
{
	return detail->resumed_from;
}

/* ---- the table ---- */

struct job_file_type {
	const char *name;
	mode_t mode; /* with its type */
	bool needs_facts;
	bool settles; /* once the job has ended it is what it is, and its mtime tells another job of that id */
	bool is_fixed;  /* it never changes, so the pages of it that the kernel has are right */
	bool is_hidden; /* not listed: a recursive grep must not hang on it */
	enum open_mode open_mode;
	int (*render)(const struct job_row *row, const struct job_detail *detail, struct str *ret);
	bool (*is_there)(const struct job_row *row, const struct job_detail *detail); /* NULL: always */
};

static const struct job_file_type job_file_type[JOB_FILE_MAX] = {
	[JOB_FILE_STATE] = {"state", S_IFREG | 0644, .settles = true, .open_mode = OPEN_DIRECT,
			    .render = render_state},
	[JOB_FILE_WHY] = {"why", S_IFREG | 0644, .needs_facts = true, .render = render_why},
	[JOB_FILE_EXIT] = {"exit", S_IFREG | 0644, .settles = true, .render = render_exit},
	[JOB_FILE_DONE] = {"done", S_IFREG | 0644, .render = render_nothing, .is_there = has_succeeded},
	[JOB_FILE_CREATED] = {"created", S_IFREG | 0644, .settles = true, .is_fixed = true,
			      .render = render_created},
	[JOB_FILE_STARTED] = {"started", S_IFREG | 0644, .settles = true, .render = render_started},
	[JOB_FILE_ENDED] = {"ended", S_IFREG | 0644, .settles = true, .render = render_ended},
	[JOB_FILE_LOG] = {"log", S_IFREG | 0644},
	[JOB_FILE_ATTEMPTS] = {"attempts.tsv", S_IFREG | 0644, .needs_facts = true,
			       .render = render_attempts},
	[JOB_FILE_SPEC] = {"spec.json", S_IFREG | 0644, .needs_facts = true, .is_fixed = true,
			   .render = render_spec},
	[JOB_FILE_API] = {"api.json", S_IFREG | 0644, .needs_facts = true, .render = render_api},
	[JOB_FILE_URL] = {"url", S_IFREG | 0644, .needs_facts = true, .render = render_url},
	[JOB_FILE_GIT] = {"git.json", S_IFREG | 0644, .needs_facts = true, .is_fixed = true,
			  .render = render_git, .is_there = has_git},
	[JOB_FILE_EVENTS] = {"events.jsonl", S_IFREG | 0644, .needs_facts = true, .render = render_events},
	[JOB_FILE_COST] = {"cost", S_IFREG | 0644, .render = render_cost},
	[JOB_FILE_CTL] = {"ctl", S_IFREG | 0644, .open_mode = OPEN_DIRECT, .render = render_ctl},
	[JOB_FILE_WAIT] = {"wait", S_IFREG | 0444, .is_hidden = true, .open_mode = OPEN_STREAM},
	[JOB_FILE_FOLLOW] = {"follow", S_IFREG | 0444, .is_hidden = true, .open_mode = OPEN_STREAM},
	[JOB_FILE_OUTPUT] = {"output", S_IFLNK | 0777, .needs_facts = true, .render = render_output,
			     .is_there = has_output},
	[JOB_FILE_MODEL] = {"model", S_IFLNK | 0777, .needs_facts = true, .render = render_model,
			    .is_there = has_model},
	[JOB_FILE_RESUMED_FROM] = {"resumed_from", S_IFLNK | 0777, .needs_facts = true,
				   .render = render_resumed_from, .is_there = has_resumed_from},
};

static const struct job_file_type *type_of(const struct node *n)
{
	return &job_file_type[n->sub];
}

/* The facts if this type needs them: referenced, or NULL. */
static int facts_for(struct call *c, struct job *job, const struct job_file_type *type,
		     struct job_facts **ret)
{
	*ret = NULL;
	return type->needs_facts ? job_facts_get(c, job, ret) : 0;
}

/* ---- one file ---- */

static int file_render(struct call *c, struct node *n, struct str *ret)
{
	static const struct job_detail none;
	const struct job_file_type *type = type_of(n);
	struct job_facts *facts;
	struct job_row row;
	if (!type->render)
		return -EOPNOTSUPP;
	int r = facts_for(c, n->obj, type, &facts);
	if (r < 0)
		return r;
	job_row_get(n->obj, &row);
	const struct job_detail *detail = facts ? &facts->detail : &none;
	r = type->is_there && !type->is_there(&row, detail) ? -ENOENT : type->render(&row, detail, ret);
	job_facts_unref(facts);
	return r;
}

static int file_getattr(struct call *c, struct node *n, struct attr *ret)
{
	struct job *job = n->obj;
	struct job_row row;
	job_row_get(job, &row);
	bool is_ended = job_state_is_ended(row.state);
	node_stat(c, n, type_of(n)->mode & 07777, row.changed_ns, &ret->st);
	ret->st.st_mode = type_of(n)->mode;
	ret->entry_ttl = ret->attr_ttl = is_ended ? TTL_FIXED : TTL_LIVE;
	if (row.is_gone)
		return -ENOENT;
	if (n->sub == JOB_FILE_MODEL)
		ret->entry_ttl = TTL_LISTED;
	if (type_of(n)->open_mode == OPEN_STREAM)
		node_set_size(&ret->st, 1); /* else sendfile(2) takes it for empty */
	if (n->sub == JOB_FILE_WHY && row.state == JOB_QUEUED)
		ret->attr_ttl = TTL_MISSING; /* its place in the queue */
	if (n->sub != JOB_FILE_LOG)
		return 0;
	struct stat st;
	int r = logstream_stat(c, job, &st);
	if (r < 0)
		return r;
	node_set_size(&ret->st, st.st_size);
	ret->st.st_mtim = ret->st.st_ctim = ret->st.st_atim = st.st_mtim;
	ret->st.st_blksize = LOG_BLOCK_SIZE;
	if (!is_ended && !logstream_is_open(job))
		ret->attr_ttl = TTL_MISSING; /* nobody follows it: what is known grows old */
	return 0;
}

static int file_readlink(struct call *c, struct node *n, char **ret)
{
	cleanup_str struct str text = {0};
	int r = file_render(c, n, &text);
	return r < 0 ? r : str_steal(&text, ret);
}

static int file_open(struct call *c, struct node *n, int flags, struct handle *h)
{
	bool is_change = (flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC;
	struct job_row row;
	job_row_get(n->obj, &row);
	if (row.is_gone) /* elsewhere, while the kernel remembers its name */
		return -ENOENT;
	if (is_change && n->sub != JOB_FILE_CTL)
		return fault_set(&c->fault, EPERM,
				 "a job's files are what it is: they cannot be written (a copy can)");
	bool is_over = job_end_is_told(n->obj);
	h->mode = type_of(n)->settles && is_over ? OPEN_KEEP : type_of(n)->open_mode;
	if (h->mode == OPEN_CACHED && n->sub != JOB_FILE_LOG && !type_of(n)->is_fixed && !is_over)
		h->mode = OPEN_DIRECT;
	if (n->sub == JOB_FILE_WAIT)
		return 0;
	if (n->sub != JOB_FILE_LOG && n->sub != JOB_FILE_FOLLOW)
		return handle_render(c, h);
	int r = logstream_open(c, n->obj);
	if (r == 0)
		h->state = n->obj;
	return r;
}

static void file_release(struct handle *h)
{
	if (h->state)
		logstream_close(h->state);
}

/* At the start of `state` it is always the present. */
static int refresh_state(struct call *c, struct handle *h, off_t offset)
{
	if (offset != 0)
		return 0;
	free(STEAL(h->text));
	h->text_len = 0;
	int r = handle_render(c, h);
	if (r == 0)
		job_state_was_read(h->node->obj);
	return r;
}

static ssize_t read_wait(struct call *c, struct handle *h, char *buf, size_t size, off_t offset)
{
	struct job_row row;
	if (offset != 0)
		return 0;
	int r = job_wait_end(c, h->node->obj);
	if (r < 0)
		return r;
	job_row_get(h->node->obj, &row);
	return snprintf(buf, size, "%s\n", job_state_name(row.state));
}

static ssize_t file_read(struct call *c, struct handle *h, char *buf, size_t size, off_t offset)
{
	int r = 0;
	switch ((enum job_file)h->node->sub) {
	case JOB_FILE_WAIT:
		return read_wait(c, h, buf, size, offset);
	case JOB_FILE_LOG:
		return logstream_read(h->node->obj, buf, size, offset);
	case JOB_FILE_FOLLOW:
		return logstream_follow(c, h->node->obj, buf, size, offset);
	case JOB_FILE_STATE:
		r = refresh_state(c, h, offset);
		break;
	default:
		break;
	}
	return r < 0 ? r : handle_read_text(h, buf, size, offset);
}

static int job_cancel(struct call *c, struct job *job)
{
	struct backend *be;
	struct job_row row;
	job_row_get(job, &row);
	if (job_state_is_ended(row.state))
		return fault_set(&c->fault, EBUSY, "job %s has ended already: it is %s", job->id,
				 job_state_name(row.state));
	if (row.state == JOB_SUBMITTING)
		return fault_set(&c->fault, EBUSY, "job %s is being submitted; cancel it when it is QUEUED",
				 job->id);
	int r = call_may_block(c, job->remote);
	if (r == 0)
		r = remote_backend(job->remote, &be, &c->fault);
	if (r == 0)
		r = backend_job_cancel(be, job->id, &c->fault);
	if (r == 0)
		remote_poke(job->remote);
	return r;
}

static ssize_t file_write(struct call *c, struct handle *h, const char *buf, size_t size, off_t offset)
{
	char verb[VERB_MAX];
	if (h->node->sub != JOB_FILE_CTL)
		return -EPERM;
	int r = ctl_line(c, buf, size, verb, sizeof(verb));
	if (r < 0)
		return r;
	if (strcmp(verb, "cancel") == 0)
		r = job_cancel(c, h->node->obj);
	else if (strcmp(verb, "delete") == 0)
		r = job_delete(c, h->node->obj);
	else
		r = fault_set(&c->fault, EINVAL, "%s: not a verb of a job; there are: cancel, delete", verb);
	return r < 0 ? r : (ssize_t)size;
}

static unsigned file_poll(struct call *c, struct handle *h, void *kernel)
{
	if (h->node->sub == JOB_FILE_STATE)
		return job_poll_state(h->node->obj, kernel);
	if (kernel)
		fuse_pollhandle_destroy(kernel);
	return POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM;
}

const struct node_kind kind_job_file = {
	.name = "job-file",
	.getattr = file_getattr,
	.readlink = file_readlink,
	.render = file_render,
	.open = file_open,
	.read = file_read,
	.write = file_write,
	.release = file_release,
	.poll = file_poll,
};

/* ---- what the directory asks of them ---- */

const char *job_file_name(enum job_file file)
{
	return job_file_type[file].name;
}

bool job_file_is_listed(enum job_file file)
{
	return !job_file_type[file].is_hidden;
}

struct child job_file_child(struct job *job, enum job_file file)
{
	return (struct child){.kind = &kind_job_file,
			      .remote = job->remote,
			      .obj = job,
			      .sub = file,
			      .type = job_file_type[file].mode & S_IFMT};
}

int job_file_is_there(struct call *c, struct job *job, enum job_file file)
{
	static const struct job_detail none;
	const struct job_file_type *type = &job_file_type[file];
	struct job_facts *facts;
	struct job_row row;
	if (!type->is_there)
		return 0;
	int r = facts_for(c, job, type, &facts);
	if (r < 0)
		return r;
	job_row_get(job, &row);
	r = type->is_there(&row, facts ? &facts->detail : &none) ? 0 : -ENOENT;
	job_facts_unref(facts);
	return r;
}
