/* SPDX-License-Identifier: MIT */
/* The top of the mount: README.md, .trainfs/ and the remotes. */
#include "cleanup.h"
#include "clock.h"
#include "inode.h"
#include "jobs.h"
#include "kinds.h"
#include "log.h"
#include "node_files.h"
#include "remote.h"
#include "report.h"
#include "serve_private.h"

#include <errno.h>
#include <string.h>

enum { CTL_LINE_MAX = 4096 };

/* ---- README.md ---- */

static int render_readme(struct call *c, struct node *n, struct str *ret)
{
	const struct serve *serve = c->serve;
	const char *remote = serve->is_single || serve->n_remotes == 0 ? "" : serve->remote[0]->conf->name;
	const char *slash = *remote ? "/" : "";
	str_append(ret, "# trainfs\n\nThis directory is a trainfs mount: training jobs, logs and model "
			"versions as files.\n\n");
	if (!serve->is_single) {
		str_append(ret, "Remotes here:");
		for (size_t i = 0; i < serve->n_remotes; i++)
			str_printf(ret, " `%s/` (%s)", serve->remote[i]->conf->name,
				   serve->remote[i]->conf->type);
		str_append(ret, "\n\n");
	}
	str_printf(
		ret,
		"```sh\n"
		"cd %s\n"
		"cp -r ~/mnist %s%strain/ && sync %s%strain/mnist    # submits a training job\n"
		"tail -f %s%ssubmitted/mnist/log                # follows it\n"
		"cat %s%ssubmitted/mnist/wait                   # waits for its end, prints its last state\n"
		"ln -s ../../submitted/mnist %s%smodels/mnist/v1     # a version from the job's output\n"
		"ln -sfn v1 %s%smodels/mnist/default            # the version in use\n"
		"```\n\n",
		serve->mount_point, remote, slash, remote, slash, remote, slash, remote, slash, remote, slash,
		remote, slash);
	return str_append(ret, "| path | what it is |\n| --- | --- |\n"
			       "| `train/` | a directory copied in becomes a job |\n"
			       "| `drafts/` | the same, but only `mv drafts/X train/` submits it; refused "
			       "packages wait here, "
			       "with the reason in `.error` |\n"
			       "| `jobs/ID/` | every job: `state`, `why`, `log`, `wait`, `output`, ...; "
			       "`echo cancel > ctl` |\n"
			       "| `jobs.tsv` | all jobs, a line each |\n"
			       "| `latest`, `submitted/NAME` | the newest job, and the newest from a package "
			       "of that name |\n"
			       "| `models/M/` | versions, and `default`, the one in use |\n"
			       "| `buckets/` | outputs and other files |\n\n"
			       "Every failed operation leaves a sentence in `.trainfs/errors`.\n");
}

static int readme_getattr(struct call *c, struct node *n, struct attr *ret)
{
	node_stat(c, n, 0444, c->serve->started_ns, &ret->st);
	ret->attr_ttl = ret->entry_ttl = TTL_FIXED;
	return 0;
}

const struct node_kind kind_root_file = {
	.name = "readme",
	.type = S_IFREG,
	.getattr = readme_getattr,
	.render = render_readme,
};

/* ---- .trainfs/ ---- */

static void render_remote(const struct serve *serve, struct remote *remote, struct str *ret)
{
	pthread_mutex_lock(&remote->lock);
	int err = remote->fault.err;
	cleanup_free char *text = strdup(remote->fault.text);
	int64_t fresh_ms = remote->fresh_ms;
	pthread_mutex_unlock(&remote->lock);
	str_append_tsv(ret, remote->conf->name);
	str_printf(ret, "\t%s\t", remote->conf->type);
	str_append_tsv(ret, err ? (text ? text : fault_name(err)) : "ok");
	if (fresh_ms)
		str_printf(ret, "\t%llds\t", (long long)(clock_mono_ms() - fresh_ms) / 1000);
	else
		str_append(ret, "\t\t");
	int64_t used = remote->be ? backend_space_used(remote->be) : -1;
	if (used >= 0)
		str_printf(ret, "%lld", (long long)used);
	str_append(ret, "\n");
}

static int render_remotes(struct call *c, struct str *ret)
{
	str_append(ret, "name\ttype\tstate\tage\tused\n");
	for (size_t i = 0; i < c->serve->n_remotes; i++)
		render_remote(c->serve, c->serve->remote[i], ret);
	return ret->err;
}

static void render_counts(const struct remote *remote, struct str *ret)
{
	struct backend_count count[BACKEND_COUNTS_MAX];
	if (!remote->be)
		return;
	backend_counts(remote->be, count);
	for (int i = 0; i < BACKEND_COUNTS_MAX && count[i].op; i++) {
		str_printf(ret, "%s\t%s\t%llu\n", remote->conf->name, count[i].op,
			   (unsigned long long)count[i].n_calls);
		if (count[i].n_failures)
			str_printf(ret, "%s\t%s, failed\t%llu\n", remote->conf->name, count[i].op,
				   (unsigned long long)count[i].n_failures);
	}
}

struct numbers {
	const char *remote;
	struct str *text;
};

static void render_number(void *arg, const char *name, uint64_t value)
{
	const struct numbers *numbers = arg;
	str_printf(numbers->text, "%s\t%s\t%llu\n", numbers->remote, name, (unsigned long long)value);
}

static int render_stats(struct call *c, struct str *ret)
{
	struct serve *serve = c->serve;
	str_append(ret, "remote\tcounter\tvalue\n");
	for (size_t i = 0; i < serve->n_remotes; i++) {
		struct remote *remote = serve->remote[i];
		str_printf(ret, "%s\tcalls\t%llu\n", remote->conf->name, (unsigned long long)remote->n_calls);
		str_printf(ret, "%s\tfailures\t%llu\n", remote->conf->name,
			   (unsigned long long)remote->n_failures);
		render_counts(remote, ret);
		struct numbers numbers = {remote->conf->name, ret};
		if (remote->be)
			backend_numbers(remote->be, render_number, &numbers);
	}
	str_printf(ret, "\tparked\t%zu\n", parking_count(serve->parking));
	str_printf(ret, "\thandles\t%zu\n", (size_t)serve->n_handles);
	str_printf(ret, "\tnodes\t%zu\n", inode_count(serve->table));
	return str_printf(ret, "\terrors\t%zu\n", report_n_errors(serve->report));
}

static const struct {
	const char *name;
	mode_t permissions;
} control_file[CONTROL_FILE_MAX] = {
	[CONTROL_VERSION] = {"version", 0444}, [CONTROL_REMOTES] = {"remotes.tsv", 0444},
	[CONTROL_ERRORS] = {"errors", 0444},   [CONTROL_EVENTS] = {"events", 0444},
	[CONTROL_STATS] = {"stats.tsv", 0444}, [CONTROL_CTL] = {"ctl", 0644},
};

static int control_render(struct call *c, struct node *n, struct str *ret)
{
	switch ((enum control_file)n->sub) {
	case CONTROL_VERSION:
		return str_append(ret, "trainfs " TRAINFS_VERSION "\n");
	case CONTROL_REMOTES:
		return render_remotes(c, ret);
	case CONTROL_STATS:
		return render_stats(c, ret);
	case CONTROL_CTL:
		return str_append(ret, "refresh [PATH]\ndebug on\ndebug off\n");
	default:
		return -EOPNOTSUPP; /* it grows: getattr and read know */
	}
}

static bool is_record(const struct node *n, enum report_kind *ret)
{
	*ret = n->sub == CONTROL_EVENTS ? REPORT_EVENTS : REPORT_ERRORS;
	return n->sub == CONTROL_EVENTS || n->sub == CONTROL_ERRORS;
}

static int control_getattr(struct call *c, struct node *n, struct attr *ret)
{
	enum report_kind record;
	int64_t changed_ns = c->serve->started_ns;
	bool is_growing = is_record(n, &record);
	int64_t size = is_growing ? report_size(c->serve->report, record, &changed_ns) : 0;
	bool is_volatile = n->sub == CONTROL_REMOTES || n->sub == CONTROL_STATS;
	node_stat(c, n, control_file[n->sub].permissions, is_volatile ? clock_wall_ns() : changed_ns,
		  &ret->st);
	node_set_size(&ret->st, size);
	ret->entry_ttl = TTL_FIXED;
	ret->attr_ttl = is_growing ? TTL_LIVE : is_volatile ? TTL_NONE : TTL_FIXED;
	return 0;
}

static int control_open(struct call *c, struct node *n, int flags, struct handle *h)
{
	enum report_kind record;
	if (n->sub == CONTROL_CTL || n->sub == CONTROL_REMOTES || n->sub == CONTROL_STATS)
		h->mode = OPEN_DIRECT;
	return is_record(n, &record) ? 0 : handle_render(c, h);
}

static ssize_t control_read(struct call *c, struct handle *h, char *buf, size_t size, off_t offset)
{
	enum report_kind record;
	if (is_record(h->node, &record))
		return report_read(c->serve->report, record, buf, size, offset);
	return handle_read_text(h, buf, size, offset);
}

static int run_command(struct call *c, const char *command)
{
	if (strcmp(command, "debug on") == 0 || strcmp(command, "debug off") == 0) {
		log_set_debug(strcmp(command, "debug on") == 0);
		return 0;
	}
	if (strcmp(command, "refresh") != 0 && !str_has_prefix(command, "refresh "))
		return fault_set(&c->fault, EINVAL,
				 "%.100s: not a command; there are: refresh [PATH], debug on, debug off",
				 command);
	const char *path = command + strlen("refresh");
	path += strspn(path, " /");
	for (size_t i = 0; i < c->serve->n_remotes; i++) {
		struct remote *remote = c->serve->remote[i];
		size_t len = strlen(remote->conf->name);
		if (!*path || c->serve->is_single ||
		    (strncmp(path, remote->conf->name, len) == 0 && (path[len] == '/' || !path[len])))
			remote_refresh(remote);
	}
	return 0;
}

static ssize_t control_write(struct call *c, struct handle *h, const char *buf, size_t size, off_t offset)
{
	char line[CTL_LINE_MAX];
	if (h->node->sub != CONTROL_CTL)
		return -EPERM;
	int r = ctl_line(c, buf, size, line, sizeof(line));
	if (r == 0)
		r = run_command(c, line);
	return r < 0 ? r : (ssize_t)size;
}

const struct node_kind kind_control_file = {
	.name = "control-file",
	.type = S_IFREG,
	.getattr = control_getattr,
	.render = control_render,
	.open = control_open,
	.read = control_read,
	.write = control_write,
};

static int dir_getattr(struct call *c, struct node *n, struct attr *ret)
{
	node_stat(c, n, 0755, c->serve->started_ns, &ret->st);
	ret->attr_ttl = ret->entry_ttl = TTL_FIXED;
	return 0;
}

static struct child control_child(struct serve *serve, enum control_file file)
{
	return (struct child){.kind = &kind_control_file, .obj = serve, .sub = file, .type = S_IFREG};
}

static int control_lookup(struct call *c, struct node *dir, const char *name, struct child *ret)
{
	for (int file = 0; file < CONTROL_FILE_MAX; file++)
		if (strcmp(name, control_file[file].name) == 0) {
			*ret = control_child(c->serve, file);
			return 0;
		}
	return -ENOENT;
}

static int control_list(struct call *c, struct node *dir, struct listing *ret)
{
	int r = 0;
	for (int file = 0; r == 0 && file < CONTROL_FILE_MAX; file++) {
		struct child child = control_child(c->serve, file);
		r = listing_add(ret, control_file[file].name, &child);
	}
	return r;
}

const struct node_kind kind_control = {
	.name = "control",
	.type = S_IFDIR,
	.getattr = dir_getattr,
	.lookup = control_lookup,
	.list = control_list,
};

/* ---- the top ---- */

int root_lookup(struct call *c, const char *name, struct child *ret)
{
	struct serve *serve = c->serve;
	if (strcmp(name, "README.md") == 0)
		*ret = (struct child){.kind = &kind_root_file, .obj = serve, .type = S_IFREG};
	else if (strcmp(name, ".trainfs") == 0)
		*ret = (struct child){.kind = &kind_control, .obj = serve, .type = S_IFDIR};
	else
		return -ENOENT;
	return 0;
}

int root_list(struct call *c, struct listing *ret)
{
	static const char *const name[] = {"README.md", ".trainfs"};
	int r = 0;
	for (int i = 0; r == 0 && i < 2; i++) {
		struct child child;
		(void)root_lookup(c, name[i], &child); /* both are there */
		r = listing_add(ret, name[i], &child);
	}
	return r;
}

static int top_lookup(struct call *c, struct node *dir, const char *name, struct child *ret)
{
	for (size_t i = 0; i < c->serve->n_remotes; i++) {
		struct remote *remote = c->serve->remote[i];
		if (strcmp(name, remote->conf->name) != 0)
			continue;
		*ret = (struct child){.kind = &kind_remote, .remote = remote, .obj = remote, .type = S_IFDIR};
		return 0;
	}
	return root_lookup(c, name, ret);
}

static int top_list(struct call *c, struct node *dir, struct listing *ret)
{
	int r = root_list(c, ret);
	for (size_t i = 0; r == 0 && i < c->serve->n_remotes; i++) {
		struct remote *remote = c->serve->remote[i];
		struct child child = {.kind = &kind_remote, .remote = remote, .obj = remote, .type = S_IFDIR};
		r = listing_add(ret, remote->conf->name, &child);
	}
	return r;
}

const struct node_kind kind_root = {
	.name = "root",
	.type = S_IFDIR,
	.getattr = dir_getattr,
	.lookup = top_lookup,
	.list = top_list,
};
