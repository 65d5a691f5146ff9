/* SPDX-License-Identifier: MIT */
/*
 * Settling. Each draft keeps who wrote to it (process and start time) and when it changed last; while it may settle a
 * timer looks at it. A writer that lives on, an editor or a notebook, makes it wait for a minute of quiet, one that is
 * stopped for ever.
 */
#include "settle.h"

#include "cleanup.h"
#include "clock.h"
#include "config.h"
#include "drafts_private.h"
#include "pool.h"
#include "process.h"
#include "remote.h"
#include "sending.h"
#include "serve_private.h"
#include "submission.h"

#include <errno.h>
#include <string.h>

enum { QUIET_WITH_WRITER_MS = 60000, WRITER_POLL_MS = 200, PID_FRESH_MS = 200 };

static bool settles(const struct draft *draft)
{
	const struct remote *remote = draft->remote;
	return (draft->place == PLACE_TRAIN || draft->place == PLACE_JOBS) && !remote->conf->confirm &&
	       !draft->is_gone && !draft->is_frozen && !draft->is_lost &&
	       strcmp(draft->owner, remote->serve->id) == 0;
}

static void settle_is_due(void *arg);

void settle_watch_locked(struct draft *draft, int64_t delay_ms)
{
	if (!draft->is_watched && settles(draft))
		draft->is_watched =
			timers_in(draft->remote->serve->timers, delay_ms, settle_is_due, draft) == 0;
}

/* Forgets writers that are gone; tells whether one lives, and whether one of them is stopped. */
static void look_at_writers_locked(struct draft *draft, bool *ret_lives, bool *ret_is_stopped)
{
	*ret_lives = draft->has_unknown_writer;
	*ret_is_stopped = false;
	for (size_t i = 0; i < draft->n_writers;) {
		enum process_life life = process_life(&draft->writer[i]);
		if (life == PROCESS_GONE) {
			draft->writer[i] = draft->writer[--draft->n_writers];
			continue;
		}
		*ret_lives = true;
		*ret_is_stopped |= life == PROCESS_IS_STOPPED;
		i++;
	}
}

/* Milliseconds until it should be looked at again; 0: it is complete now. */
static int64_t settle_delay_locked(struct draft *draft)
{
	bool lives, is_stopped;
	int64_t quiet = clock_mono_ms() - draft->changed_ms, settle = draft->remote->conf->settle_ms;
	if (quiet < settle)
		return settle - quiet;
	if (draft->verdict) /* refused, but it could not be put aside; nothing has changed since */
		return 0;
	look_at_writers_locked(draft, &lives, &is_stopped);
	if (!lives)
		return 0;
	return quiet >= QUIET_WITH_WRITER_MS && !is_stopped ? 0 : WRITER_POLL_MS;
}

/* On a pool thread: complete, so it goes its way. */
static void settle(void *arg)
{
	struct draft *draft = arg;
	struct drafts *drafts = draft->remote->drafts;
	struct fault fault = {0};
	if (submission_is_empty(draft->dir)) /* mkdir train/x, and the copy comes later */
		return;
	if (draft_freeze(draft) < 0)
		return;
	drafts_lock(drafts);
	bool is_ours = (draft->place == PLACE_TRAIN || draft->place == PLACE_JOBS) && !draft->is_gone;
	drafts_unlock(drafts);
	int r = is_ours ? sending_begin(draft, &fault) : -ECANCELED;
	if (r == 0)
		sending_finish(draft);
	else if (is_ours)
		sending_refuse(draft, r, fault.text);
	else
		draft_thaw(draft);
}

static void settle_is_due(void *arg)
{
	struct draft *draft = arg;
	LOCK_SCOPE(&draft->remote->drafts->lock);
	draft->is_watched = false;
	if (!settles(draft) || draft->remote->serve->is_stopping)
		return;
	int64_t delay = settle_delay_locked(draft);
	if (delay == 0 && pool_submit(draft->remote->pool, settle, draft) == 0)
		return;
	settle_watch_locked(draft, delay ? delay : WRITER_POLL_MS);
}

static void make_room_locked(struct draft *draft)
{
	bool lives, is_stopped;
	if (draft->n_writers < DRAFT_WRITERS_MAX)
		return;
	look_at_writers_locked(draft, &lives, &is_stopped);
	if (draft->n_writers == DRAFT_WRITERS_MAX) {
		draft->has_unknown_writer = true;
		draft->n_writers--;
	}
}

void settle_note_writer_locked(struct draft *draft, pid_t pid)
{
	struct process process;
	int64_t now = clock_mono_ms();
	if (pid == draft->last_pid && now - draft->last_pid_ms < PID_FRESH_MS)
		return;
	draft->last_pid = pid;
	draft->last_pid_ms = now;
	int r = pid ? process_of(pid, &process) : -EACCES;
	if (r == -ESRCH)
		return;
	if (r < 0) {
		draft->has_unknown_writer = true;
		return;
	}
	for (size_t i = 0; i < draft->n_writers; i++)
		if (draft->writer[i].tgid == process.tgid && draft->writer[i].started == process.started)
			return;
	make_room_locked(draft);
	draft->writer[draft->n_writers++] = process;
}
