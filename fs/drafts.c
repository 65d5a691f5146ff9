/* SPDX-License-Identifier: MIT */
/*
 * The table of a remote's drafts: who writes to which, and when one is complete.
 *
 *   open ---------------------> frozen ------> sent: a job or a version, the draft is gone
 *     ^  (sync, mv, settling)      |
 *     |                            v
 *     +------ refused: in drafts/, with .error
 *
 * Every change below a draft holds `freeze` for reading; freezing takes it for writing, so nothing changes behind a
 * check. The journal knows each step before it is taken (journal.h); a struct draft lives until the mount ends.
 */
#include "drafts.h"

#include "backend.h"
#include "cleanup.h"
#include "clock.h"
#include "disk.h"
#include "drafts_private.h"
#include "file.h"
#include "jobs.h"
#include "kinds.h"
#include "log.h"
#include "models.h"
#include "notify.h"
#include "pool.h"
#include "remote.h"
#include "report.h"
#include "sending.h"
#include "serve_private.h"
#include "settle.h"
#include "submission.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

void drafts_lock(struct drafts *drafts)
{
	pthread_mutex_lock(&drafts->lock);
}

void drafts_unlock(struct drafts *drafts)
{
	pthread_mutex_unlock(&drafts->lock);
}

const char *drafts_owner(const struct drafts *drafts)
{
	return drafts->remote->serve->id;
}

/* ---- the table ---- */

static void draft_free(struct draft *draft)
{
	pthread_rwlock_destroy(&draft->freeze);
	free(draft->dir);
	free(draft->model);
	free(draft->name);
	free(draft->job);
	free(draft->verdict);
	free(draft);
}

void draft_remove_left(void *arg)
{
	struct draft *draft = arg;
	drafts_lock(draft->remote->drafts);
	bool is_left = draft->is_left;
	draft->is_left = false;
	drafts_unlock(draft->remote->drafts);
	if (is_left && tree_remove(AT_FDCWD, draft->dir) < 0) /* the next mount sweeps it */
		log_warning("cannot remove %s, ignoring", draft->dir);
}

void drafts_free(struct drafts *drafts)
{
	if (!drafts)
		return;
	while (drafts->first) {
		struct draft *draft = drafts->first;
		drafts->first = draft->next;
		draft_remove_left(draft);
		draft_free(draft);
	}
	free(drafts->dir);
	pthread_mutex_destroy(&drafts->lock);
	free(drafts);
}

int drafts_new(struct remote *remote, struct drafts **ret, struct fault *reterr)
{
	struct drafts *drafts = calloc(1, sizeof(*drafts));
	if (!drafts)
		return -ENOMEM;
	pthread_mutex_init(&drafts->lock, NULL);
	drafts->remote = remote;
	drafts->changed_ns = remote->serve->started_ns;
	int r = str_format(&drafts->dir, "%s/drafts", remote->conf->state_dir);
	if (r == 0 && mkdir(drafts->dir, 0700) < 0 && errno != EEXIST)
		r = fault_set(reterr, errno, "cannot make %s: %s", drafts->dir, strerror(errno));
	if (r < 0) {
		drafts_free(drafts);
		return r;
	}
	*ret = drafts;
	return 0;
}

/* A struct for a row; its directory is looked for, not made. */
int draft_new(struct drafts *drafts, const struct draft_row *row, struct draft **ret)
{
	struct draft *draft = calloc(1, sizeof(*draft));
	if (!draft)
		return -ENOMEM;
	pthread_rwlock_init(&draft->freeze, NULL);
	draft->id = row->id;
	draft->remote = drafts->remote;
	draft->place = row->place;
	draft->is_frozen = row->phase != PHASE_OPEN;
	draft->model = strdup(row->model);
	draft->name = strdup(row->name);
	draft->job = row->job ? strdup(row->job) : NULL;
	draft->changed_ms = clock_mono_ms();
	snprintf(draft->owner, sizeof(draft->owner), "%s", row->owner);
	if (!draft->model || !draft->name || (row->job && !draft->job) ||
	    str_format(&draft->dir, "%s/%lld", drafts->dir, (long long)row->id) < 0) {
		draft_free(draft);
		return -ENOMEM;
	}
	struct stat st;
	draft->is_lost = lstat(draft->dir, &st) < 0 || !S_ISDIR(st.st_mode);
	*ret = draft;
	return 0;
}

struct draft *drafts_by_id_locked(struct drafts *drafts, int64_t id)
{
	struct draft *draft = drafts->first;
	while (draft && draft->id != id)
		draft = draft->next;
	return draft;
}

static bool is_at(const struct draft *draft, enum place place, const char *model, const char *name)
{
	return !draft->is_gone && draft->place == place && strcmp(draft->model, model) == 0 &&
	       strcmp(draft->name, name) == 0;
}

static struct draft *find_locked(struct drafts *drafts, enum place place, const char *model, const char *name)
{
	struct draft *draft = drafts->first;
	while (draft && !is_at(draft, place, model, name))
		draft = draft->next;
	return draft;
}

struct draft *drafts_find(struct drafts *drafts, enum place place, const char *model, const char *name)
{
	LOCK_SCOPE(&drafts->lock);
	return find_locked(drafts, place, model, name);
}

struct draft *drafts_of_job(struct drafts *drafts, const char *job)
{
	LOCK_SCOPE(&drafts->lock);
	struct draft *draft = drafts->first;
	while (draft && (draft->is_gone || !draft->job || strcmp(draft->job, job) != 0))
		draft = draft->next;
	return draft;
}

int drafts_each(struct drafts *drafts, draft_visit visit, void *arg)
{
	LOCK_SCOPE(&drafts->lock);
	int r = 0;
	for (struct draft *draft = drafts->first; draft && r == 0; draft = draft->next)
		if (!draft->is_gone)
			r = visit(arg, draft);
	return r;
}

int drafts_free_name_locked(struct drafts *drafts, const char *wanted, char **ret)
{
	cleanup_free char *name = NULL;
	int r = str_format(&name, "%s", wanted);
	for (int n = 2; r == 0 && find_locked(drafts, PLACE_DRAFTS, "", name); n++) {
		free(STEAL(name));
		r = str_format(&name, "%.240s_%d", wanted, n);
	}
	if (r == 0)
		*ret = STEAL(name);
	return r;
}

/* ---- telling ---- */

int64_t drafts_changed_ns(struct drafts *drafts)
{
	LOCK_SCOPE(&drafts->lock);
	return drafts->changed_ns;
}

void drafts_tell_entry(struct drafts *drafts, enum place place, const char *model, const char *name)
{
	struct remote *remote = drafts->remote;
	struct notify *notify = remote->serve->notify;
	if (place == PLACE_JOBS)
		notify_names(notify, &kind_jobs, remote, 0);
	else if (place == PLACE_MODEL)
		models_note_pending(remote->models, model, name, false);
	else
		notify_names(notify, &kind_place, remote, place);
	notify_attr(notify, &kind_remote_file, remote, REMOTE_FILE_TRANSFERS, NULL);
}

void draft_tell_end(struct draft *draft, int result)
{
	struct drafts *drafts = draft->remote->drafts;
	pthread_mutex_lock(&drafts->lock);
	draft->result = result;
	draft->doing = NULL;
	struct request *row = waiters_take(&draft->for_end);
	pthread_mutex_unlock(&drafts->lock);
	waiters_resume(row);
}

/* ---- changes ---- */

/* A draft of a mount that is gone becomes ours; one of a living mount is its. */
static int own_locked(struct call *c, struct draft *draft)
{
	struct drafts *drafts = draft->remote->drafts;
	const char *me = drafts_owner(drafts);
	if (strcmp(draft->owner, me) == 0)
		return 0;
	if (remote_mount_is_alive(draft->remote, draft->owner) ||
	    journal_draft_adopt(drafts->remote->journal, draft->id, draft->owner, me) < 0)
		return fault_set(&c->fault, EBUSY, "this draft is being made through another mount of %s",
				 draft->remote->conf->name);
	snprintf(draft->owner, sizeof(draft->owner), "%s", me);
	return 0;
}

static int note_change(struct call *c, struct draft *draft)
{
	LOCK_SCOPE(&draft->remote->drafts->lock);
	if (draft->is_gone)
		return -ESTALE;
	int r = own_locked(c, draft);
	if (r < 0)
		return r;
	settle_note_writer_locked(draft, c->pid);
	draft->changed_ms = clock_mono_ms();
	free(STEAL(draft->verdict));
	settle_watch_locked(draft, draft->remote->conf->settle_ms);
	return 0;
}

int draft_change_begin(struct call *c, struct draft *draft)
{
	pthread_rwlock_rdlock(&draft->freeze);
	int r = draft->is_frozen ? fault_set(&c->fault, EBUSY,
					     "%s is being submitted: it takes no more changes", draft->name)
				 : note_change(c, draft);
	if (r < 0)
		pthread_rwlock_unlock(&draft->freeze);
	return r;
}

/* No fault of the caller's: what was to be written is not there. */
static bool is_loss(int result)
{
	return result == -ENOSPC || result == -EDQUOT || result == -EIO || result == -ENOMEM ||
	       result == -EMFILE || result == -ENFILE;
}

void draft_change_end(struct draft *draft, int result)
{
	if (is_loss(result)) {
		drafts_lock(draft->remote->drafts);
		draft->failed = result;
		drafts_unlock(draft->remote->drafts);
	}
	pthread_rwlock_unlock(&draft->freeze);
}

int draft_freeze(struct draft *draft)
{
	pthread_rwlock_wrlock(&draft->freeze);
	int r = draft->is_frozen || draft->is_gone ? -EBUSY : 0;
	draft->is_frozen = true;
	pthread_rwlock_unlock(&draft->freeze);
	return r;
}

void draft_thaw(struct draft *draft)
{
	pthread_rwlock_wrlock(&draft->freeze);
	draft->is_frozen = false;
	pthread_rwlock_unlock(&draft->freeze);
}

/* ---- making, moving, removing ---- */

static int refuse_name(struct call *c, enum place place, const char *name)
{
	if (node_is_passing(name) && place != PLACE_DRAFTS && place != PLACE_TRAIN)
		return fault_set(&c->fault, EINVAL, "%s: not a name for a job or a version", name);
	if (place == PLACE_TRAIN || place == PLACE_DRAFTS || str_is_plain_name(name))
		return 0;
	return fault_set(
		&c->fault, EINVAL,
		"a job's or a version's name begins with a letter or digit and has only letters, digits, "
		"'.', '_' and '-', 128 at most");
}

int draft_make(struct call *c, struct drafts *drafts, enum place place, const char *model, const char *name,
	       mode_t mode, struct draft **ret)
{
	struct draft_row row = {.place = place, .model = model, .name = name, .owner = drafts_owner(drafts)};
	struct journal *journal = drafts->remote->journal;
	struct draft *draft;
	int r = refuse_name(c, place, name);
	if (r == 0)
		r = journal_draft_add(journal, place, model, name, row.owner, &row.id);
	if (r < 0)
		return r;
	cleanup_free char *dir = NULL;
	r = str_format(&dir, "%s/%lld", drafts->dir, (long long)row.id);
	if (r == 0 && (mkdir(dir, S_IRWXU) < 0 || chmod(dir, mode | S_IRWXU) < 0)) /* whatever our umask is */
		r = -errno;
	if (r == 0)
		r = draft_new(drafts, &row, &draft);
	if (r < 0) {
		/* else the next mount finds it without a directory */
		(void)journal_draft_remove(journal, row.id);
		return r;
	}
	LOCK_SCOPE(&drafts->lock);
	draft->next = drafts->first;
	drafts->first = draft;
	drafts->changed_ns = clock_wall_ns();
	settle_note_writer_locked(draft, c->pid);
	settle_watch_locked(draft, drafts->remote->conf->settle_ms);
	*ret = draft;
	return 0;
}

static const char in_sending[] = "this draft is being submitted: it takes no more changes";

int draft_child(struct draft *draft, struct child *ret)
{
	if (draft->is_lost)
		return -EIO;
	int fd = open(draft->dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	LOCK_SCOPE(&draft->remote->drafts->lock);
	struct disk_root properties = {
		.draft = draft,
		.is_read_only = draft->is_frozen,
		.is_shared = strcmp(draft->owner, draft->remote->serve->id) != 0,
		.refusal = in_sending,
		.refusal_err = EBUSY,
	};
	return disk_top(fd, &properties, draft->remote, ret);
}

void draft_forget_locked(struct draft *draft)
{
	draft->is_gone = true;
	draft->doing = NULL;
	draft->remote->drafts->changed_ns = clock_wall_ns();
}

int draft_remove(struct call *c, struct draft *draft)
{
	struct drafts *drafts = draft->remote->drafts;
	int r = draft_change_begin(c, draft);
	if (r < 0)
		return r;
	r = rmdir(draft->dir) < 0 ? -errno : 0;
	if (r == 0) {
		(void)journal_draft_remove(drafts->remote->journal, draft->id); /* else the next mount does */
		LOCK_SCOPE(&drafts->lock);
		draft_forget_locked(draft);
	}
	draft_change_end(draft, r);
	return r;
}

/* The row and the struct take the new place. */
static int set_place(struct draft *draft, enum place place, const char *model, const char *name)
{
	struct drafts *drafts = draft->remote->drafts;
	cleanup_free char *new_model = strdup(model), *new_name = strdup(name);
	if (!new_model || !new_name)
		return -ENOMEM;
	int r = journal_draft_move(drafts->remote->journal, draft->id, place, model, name);
	if (r < 0)
		return r;
	LOCK_SCOPE(&drafts->lock);
	drafts->changed_ns = clock_wall_ns();
	draft->place = place;
	free(draft->model);
	free(draft->name);
	draft->model = STEAL(new_model);
	draft->name = STEAL(new_name);
	settle_watch_locked(draft, drafts->remote->conf->settle_ms);
	return 0;
}

/* A name of a passing kind in train/ is a tool's own rename: it becomes what it will be called. */
static bool submits(const struct draft *draft, enum place from, enum place to, const char *name)
{
	if (to == PLACE_DRAFTS || node_is_passing(name))
		return false;
	return from == PLACE_DRAFTS && !submission_is_empty(draft->dir);
}

static void draft_forgive(struct draft *draft)
{
	LOCK_SCOPE(&draft->remote->drafts->lock);
	draft->failed = 0;
}

/* mv into train/, jobs/ or a model: check, decide, and go on behind. */
static int move_and_submit(struct call *c, struct draft *draft, enum place place, const char *model,
			   const char *name)
{
	enum place old_place = draft->place;
	cleanup_free char *old_model = strdup(draft->model), *old_name = strdup(draft->name);
	int r = old_model && old_name ? draft_freeze(draft) : -ENOMEM;
	if (r < 0)
		return r;
	r = set_place(draft, place, model, name);
	if (r == 0)
		r = sending_begin(draft, &c->fault);
	if (r == 0)
		r = pool_submit(draft->remote->pool, sending_finish, draft);
	if (r == 0)
		return 0;
	(void)set_place(draft, old_place, old_model, old_name); /* a row that exists, and a name it had */
	sending_refuse(draft, r, c->fault.text);
	c->fault.text[0] = '\0'; /* reported there */
	return r;
}

int draft_move(struct call *c, struct draft *draft, enum place place, const char *model, const char *name)
{
	struct drafts *drafts = draft->remote->drafts;
	int r = refuse_name(c, place, name);
	if (r == 0 && drafts_find(drafts, place, model, name))
		r = -EEXIST;
	if (r < 0)
		return r;
	enum place from = draft->place;
	if (!submits(draft, from, place, name)) {
		r = draft_change_begin(c, draft);
		if (r < 0)
			return r;
		r = set_place(draft, place, model, name);
		draft_change_end(draft, r);
		return r;
	}
	r = draft_change_begin(c, draft); /* whose is it? */
	if (r < 0)
		return r;
	draft_change_end(draft, 0);
	draft_forgive(draft); /* as it is: that is what mv says */
	return move_and_submit(c, draft, place, model, name);
}

/* ---- fsync of the directory ---- */

/* Why it was refused has been reported where that was decided. */
static int verdict(struct draft *draft)
{
	LOCK_SCOPE(&draft->remote->drafts->lock);
	return draft->result;
}

static int wait_for_verdict(struct call *c, struct draft *draft)
{
	LOCK_SCOPE(&draft->remote->drafts->lock);
	if (draft->is_gone)
		return 0;
	request_park(c->request, 0); /* the backend's own limits end it */
	waiters_add(&draft->for_end, c->request);
	return CALL_PARKED;
}

static int sync_directory(const struct draft *draft)
{
	cleanup_close int fd = open(draft->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

int draft_sync(struct call *c, struct draft *draft)
{
	if (c->request->has_waited)
		return verdict(draft);
	bool is_sent_by_sync = draft->place != PLACE_DRAFTS && !node_is_passing(draft->name);
	if (!is_sent_by_sync && !draft->is_frozen)
		return sync_directory(draft);
	if (draft->is_gone)
		return draft->result;
	if (submission_is_empty(draft->dir) && !draft->is_frozen)
		return fault_set(&c->fault, EBADMSG, "%s is empty: there is nothing to submit yet",
				 draft->name);
	int r = draft_change_begin(c, draft);
	if (r < 0 && !draft->is_frozen)
		return r;
	if (r == 0)
		draft_change_end(draft, 0);
	bool is_mine = draft_freeze(draft) == 0;
	c->fault.text[0] = '\0';
	r = wait_for_verdict(c, draft);
	if (r == CALL_PARKED && is_mine && pool_submit(draft->remote->pool, sending_run, draft) < 0)
		sending_refuse(draft, -EAGAIN, "too many calls wait already; try again later");
	return r;
}

/* ---- files written directly into train/ ---- */

struct aside {
	struct process process;
	struct draft *found;
};

static int was_made_by(void *arg, struct draft *draft)
{
	struct aside *aside = arg;
	if (draft->place != PLACE_TRAIN || draft->is_frozen)
		return 0;
	for (size_t i = 0; i < draft->n_writers; i++)
		if (draft->writer[i].tgid == aside->process.tgid &&
		    draft->writer[i].started == aside->process.started)
			aside->found = draft;
	return aside->found ? 1 : 0;
}

static void set_aside_one(struct drafts *drafts, struct draft *draft)
{
	drafts_lock(drafts);
	cleanup_free char *old_name = strdup(draft->name), *name = NULL;
	int r = old_name ? drafts_free_name_locked(drafts, old_name, &name) : -ENOMEM;
	drafts_unlock(drafts);
	if (r == 0)
		r = set_place(draft, PLACE_DRAFTS, "", name);
	if (r < 0)
		return;
	drafts_tell_entry(drafts, PLACE_TRAIN, "", old_name);
	drafts_tell_entry(drafts, PLACE_DRAFTS, "", name);
}

void drafts_set_aside(struct call *c, struct drafts *drafts)
{
	struct aside aside = {0};
	if (process_of(c->pid, &aside.process) < 0)
		return;
	for (;;) {
		aside.found = NULL;
		(void)drafts_each(drafts, was_made_by, &aside);
		if (!aside.found)
			return;
		struct draft *draft = aside.found;
		set_aside_one(drafts, draft);
		if (draft->place == PLACE_TRAIN)
			return;
	}
}

int draft_verdict(struct draft *draft, struct str *ret)
{
	LOCK_SCOPE(&draft->remote->drafts->lock);
	return draft->verdict ? str_append(ret, draft->verdict) : -ENODATA;
}
