/* SPDX-License-Identifier: MIT */
/*
 * Drafts that this mount did not make: those that an earlier mount left behind, and those of other mounts of the same
 * state, living or dead. A dead mount's are taken up by whoever comes first.
 */
#include "backend.h"
#include "cleanup.h"
#include "drafts_private.h"
#include "file.h"
#include "log.h"
#include "pool.h"
#include "remote.h"
#include "sending.h"
#include "serve_private.h"
#include "submitted.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static int load_draft(void *arg, const struct draft_row *row)
{
	struct drafts *drafts = arg;
	struct draft *draft = drafts_by_id_locked(drafts, row->id);
	if (draft)
		return 0;
	int r = draft_new(drafts, row, &draft);
	if (r < 0)
		return r;
	draft->is_replayed = row->phase == PHASE_SENDING;
	draft->next = drafts->first;
	drafts->first = draft;
	return 0;
}

static const char incomplete[] =
	"trainfs was ended while this package was being written, so it may be incomplete: "
	"copy it again, or submit it as it is with mv into train/";

static bool is_a_dead_ones(struct draft *draft)
{
	struct drafts *drafts = draft->remote->drafts;
	LOCK_SCOPE(&drafts->lock);
	return !draft->is_gone && strcmp(draft->owner, drafts_owner(drafts)) != 0 &&
	       !remote_mount_is_alive(draft->remote, draft->owner);
}

static bool adopt(struct draft *draft)
{
	struct drafts *drafts = draft->remote->drafts;
	const char *me = drafts_owner(drafts);
	LOCK_SCOPE(&drafts->lock);
	if (journal_draft_adopt(draft->remote->journal, draft->id, draft->owner, me) < 0)
		return false;
	snprintf(draft->owner, sizeof(draft->owner), "%s", me);
	return true;
}

/* It goes on where it stood. */
static void take_up(struct draft *draft)
{
	struct drafts *drafts = draft->remote->drafts;
	if (!adopt(draft)) /* another mount was first */
		return;
	if (draft->is_lost) { /* a row without a directory: the crash came in between */
		(void)journal_draft_remove(draft->remote->journal, draft->id); /* else at the next mount */
		LOCK_SCOPE(&drafts->lock);
		draft_forget_locked(draft);
	} else if (draft->is_frozen) {
		(void)pool_submit(draft->remote->pool, draft->is_replayed ? sending_finish : sending_run,
				  draft);
	} else if (draft->place == PLACE_TRAIN || draft->place == PLACE_JOBS) {
		sending_refuse(draft, -EINTR, incomplete);
	}
}

struct reload {
	struct drafts *drafts;
	int64_t *seen;
	size_t n_seen, capacity;
};

/* A draft of another mount: as the journal has it now. */
static int reload_row(void *arg, const struct draft_row *row)
{
	struct reload *reload = arg;
	if (reload->n_seen == reload->capacity) {
		size_t capacity = reload->capacity ? reload->capacity * 2 : 64;
		int64_t *seen = realloc(reload->seen, capacity * sizeof(*seen));
		if (!seen)
			return -ENOMEM;
		reload->seen = seen;
		reload->capacity = capacity;
	}
	reload->seen[reload->n_seen++] = row->id;
	int r = load_draft(reload->drafts, row);
	struct draft *draft = drafts_by_id_locked(reload->drafts, row->id);
	if (r < 0 || strcmp(draft->owner, drafts_owner(reload->drafts)) == 0)
		return r;
	cleanup_free char *model = strdup(row->model), *name = strdup(row->name);
	cleanup_free char *job = row->job ? strdup(row->job) : NULL;
	if (!model || !name || (row->job && !job))
		return -ENOMEM;
	free(draft->model);
	free(draft->name);
	free(draft->job);
	draft->model = STEAL(model);
	draft->name = STEAL(name);
	draft->job = STEAL(job);
	draft->is_frozen =
		row->phase != PHASE_OPEN; /* nobody changes another mount's draft through this one */
	draft->is_replayed = row->phase == PHASE_SENDING;
	draft->place = row->place;
	snprintf(draft->owner, sizeof(draft->owner), "%s", row->owner);
	return 0;
}

static bool was_seen(const struct reload *reload, int64_t id)
{
	for (size_t i = 0; i < reload->n_seen; i++)
		if (reload->seen[i] == id)
			return true;
	return false;
}

static void read_again(struct drafts *drafts)
{
	struct reload reload = {.drafts = drafts};
	drafts_lock(drafts);
	int r = journal_drafts(drafts->remote->journal, reload_row, &reload);
	for (struct draft *draft = drafts->first; r == 0 && draft; draft = draft->next)
		if (strcmp(draft->owner, drafts_owner(drafts)) != 0 && !was_seen(&reload, draft->id))
			draft_forget_locked(draft);
	drafts_unlock(drafts);
	free(reload.seen);
}

static void take_up_all(struct drafts *drafts)
{
	drafts_lock(drafts);
	struct draft *draft = drafts->first;
	drafts_unlock(drafts);
	for (; draft; draft = draft->next) { /* new ones come in front; `next` never changes */
		if (!is_a_dead_ones(draft))
			continue;
		read_again(drafts); /* what it journalled before it died */
		if (is_a_dead_ones(draft))
			take_up(draft);
	}
}

void drafts_reload(struct drafts *drafts)
{
	if (journal_has_changed(drafts->remote->journal)) {
		read_again(drafts);
		(void)submitted_load(drafts->remote->submitted); /* tried again with the next change */
	}
	if (!drafts->remote->serve->is_read_only)
		take_up_all(drafts);
}

static bool is_known(struct drafts *drafts, int64_t id)
{
	LOCK_SCOPE(&drafts->lock);
	return drafts_by_id_locked(drafts, id);
}

/*
 * Directories without a row: of drafts that were sent just before a crash. A row is there before its directory is, so
 * one that another mount has just made is known after a second reading.
 */
static void sweep(struct drafts *drafts)
{
	cleanup_closedir DIR *d = opendir(drafts->dir);
	const struct dirent *e;
	while (d && (e = readdir(d))) {
		int64_t id;
		if (str_to_int(e->d_name, 1, INT64_MAX, &id) < 0 || is_known(drafts, id))
			continue;
		read_again(drafts);
		if (!is_known(drafts, id) && tree_remove(dirfd(d), e->d_name) < 0)
			log_warning("cannot remove %s/%s, ignoring", drafts->dir, e->d_name);
	}
}

int drafts_start(struct drafts *drafts)
{
	struct remote *remote = drafts->remote;
	(void)journal_has_changed(remote->journal); /* from here on */
	int r = submitted_load(remote->submitted);
	drafts_lock(drafts);
	if (r == 0)
		r = journal_drafts(remote->journal, load_draft, drafts);
	drafts_unlock(drafts);
	if (r < 0 || remote->serve->is_read_only)
		return r;
	sweep(drafts);
	take_up_all(drafts);
	return 0;
}
