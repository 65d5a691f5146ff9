/* SPDX-License-Identifier: MIT */
/*
 * Switching: an alias is pointed at a version by one call of the backend; then the table, the journal (for `default`)
 * and the kernel know of it, before whoever asked is answered.
 */
#include "backend.h"
#include "cleanup.h"
#include "clock.h"
#include "crash.h"
#include "journal.h"
#include "kinds.h"
#include "log.h"
#include "model.h"
#include "model_held.h"
#include "model_json.h"
#include "notify.h"
#include "remote.h"
#include "serve_private.h"

#include <errno.h>
#include <pwd.h>
#include <string.h>
#include <time.h>

enum { WAIT_MS = 2000, PASSWD_MAX = 16384 };

/* ---- previous and history ---- */

struct previous {
	struct model *m;
	const char *now;
	char *found;
};

static int look_at_switch(void *arg, const struct switch_row *row)
{
	struct previous *previous = arg;
	if (!row->from[0] || (previous->now && strcmp(row->from, previous->now) == 0))
		return 0;
	LOCK_SCOPE(&previous->m->models->lock);
	if (!version_find_locked(previous->m, row->from))
		return 0;
	char *copy = strdup(row->from);
	if (!copy)
		return -ENOMEM;
	free(previous->found);
	previous->found = copy;
	return 0;
}

void model_load_previous(struct model *m)
{
	cleanup_free char *now = NULL;
	pthread_mutex_lock(&m->models->lock);
	const char *version = alias_find_locked(m, "default");
	now = version ? strdup(version) : NULL;
	pthread_mutex_unlock(&m->models->lock);
	struct previous previous = {.m = m, .now = now};
	int r = journal_switches(m->remote->journal, m->name, look_at_switch, &previous);
	if (r < 0)
		log_warning("cannot read the switches of model %s: %s, ignoring", m->name, strerror(-r));
	pthread_mutex_lock(&m->models->lock);
	free(m->previous);
	m->previous = r < 0 ? NULL : STEAL(previous.found);
	pthread_mutex_unlock(&m->models->lock);
	free(previous.found);
}

static int render_switch(void *arg, const struct switch_row *row)
{
	struct str *text = arg;
	char at[CLOCK_TEXT_MAX];
	const char *field[] = {row->from, row->to, row->by};
	str_append(text, clock_format(row->at_ns, at));
	for (size_t i = 0; i < sizeof(field) / sizeof(field[0]); i++) {
		str_append(text, "\t");
		str_append_tsv(text, field[i]);
	}
	return str_append(text, "\n");
}

int model_render_history(struct model *m, struct str *ret)
{
	str_append(ret, "time\tfrom\tto\tby\n");
	int r = journal_switches(m->remote->journal, m->name, render_switch, ret);
	return r < 0 ? r : ret->err;
}

static void name_of_user(uid_t uid, char *ret, size_t size)
{
	cleanup_free char *buffer = malloc(PASSWD_MAX);
	struct passwd user, *found = NULL;
	if (buffer && getpwuid_r(uid, &user, buffer, PASSWD_MAX, &found) == 0 && found)
		snprintf(ret, size, "%s", found->pw_name);
	else
		snprintf(ret, size, "%u", (unsigned)uid);
}

static int switch_begin(struct model *m, uid_t uid, const char *from, const char *to, int64_t *ret_id)
{
	char by[256];
	name_of_user(uid, by, sizeof(by));
	struct switch_row row = {.at_ns = clock_wall_ns(), .from = from, .to = to, .by = by};
	return journal_switch_begin(m->remote->journal, m->name, &row, m->remote->serve->id, ret_id);
}

static void switch_end(struct model *m, int64_t id, bool is_made)
{
	int r = journal_switch_end(m->remote->journal, id, is_made);
	if (r < 0) /* the next mount looks what became of it */
		log_warning("cannot journal a switch of model %s: %s, ignoring", m->name, strerror(-r));
}

struct open_switches {
	struct model *m;
	struct {
		int64_t id;
		bool is_made;
	} row[16];
	size_t n;
};

static int take_open_switch(void *arg, int64_t id, const char *to, const char *owner)
{
	struct open_switches *open = arg;
	struct model *m = open->m;
	if (open->n == sizeof(open->row) / sizeof(open->row[0]) || remote_mount_is_alive(m->remote, owner))
		return 0;
	LOCK_SCOPE(&m->models->lock);
	const char *now = alias_find_locked(m, "default");
	open->row[open->n].id = id;
	open->row[open->n++].is_made = now && strcmp(now, to) == 0;
	return 0;
}

bool model_settle_switches(struct model *m)
{
	struct open_switches open = {.m = m};
	(void)journal_open_switches(m->remote->journal, m->name, take_open_switch, &open); /* tried again */
	for (size_t i = 0; i < open.n; i++)
		switch_end(m, open.row[i].id, open.row[i].is_made);
	return open.n > 0;
}

void model_note_first_default(struct model *m, const char *version)
{
	int64_t id;
	if (switch_begin(m, m->remote->serve->uid, "", version, &id) == 0) /* else history lacks it */
		switch_end(m, id, true);
	notify_names(m->remote->serve->notify, &kind_model, m, 0);
}

/* ---- switching ---- */

/* A link to a job that is to become this version is not held any longer. */
static int begin_making(struct model *m, const char *version)
{
	cleanup_free char *job = NULL;
	pthread_mutex_lock(&m->models->lock);
	struct held *held = held_find_locked(m, version);
	if (held && held->type == HELD_JOB && !held->is_sending && held->meaning) {
		job = STEAL(held->meaning);
		held_drop_locked(m, held);
	}
	pthread_mutex_unlock(&m->models->lock);
	return job ? version_make(m, version, job) : 0;
}

/* Waits a moment for a version that is on its way, then says what is wrong with it, if anything. */
static int wait_until_ready(struct call *c, struct model *m, const char *version)
{
	int64_t due_ms = clock_mono_ms() + WAIT_MS;
	LOCK_SCOPE(&m->models->lock);
	for (;;) {
		const struct version *v = version_find_locked(m, version);
		if (!v)
			return fault_set(&c->fault, ENOENT, "model %s has no version %s", m->name, version);
		enum version_state state = version_state_locked(v);
		if (state == VERSION_READY)
			return 0;
		if (state != VERSION_CREATING || !clock_wait(&m->models->changed, &m->models->lock, due_ms))
			return fault_set(&c->fault, EBUSY,
					 "version %s of model %s is %s, not READY; try again when its "
					 "`state` says READY",
					 version, m->name, version_state_name(state));
	}
}

static void tell_switch(struct model *m, const char *alias, const char *from, const char *to)
{
	struct notify *notify = m->remote->serve->notify;
	const char *changed[] = {from, to};
	notify_names(notify, &kind_model, m, 0);
	model_tell(m);
	for (size_t i = 0; i < 2; i++) {
		pthread_mutex_lock(&m->models->lock);
		struct version *v = version_find_locked(m, changed[i]);
		pthread_mutex_unlock(&m->models->lock);
		if (v) /* its info.json and ctl */
			version_tell(v, false);
	}
}

static int set_alias(struct call *c, struct model *m, const char *alias, const char *version)
{
	struct backend *be;
	int r = remote_backend(m->remote, &be, &c->fault);
	if (r < 0)
		return r;
	pthread_mutex_lock(&m->models->lock);
	m->n_switching++;
	pthread_mutex_unlock(&m->models->lock);
	r = backend_model_alias_set(be, m->name, alias, version, &c->fault);
	crash_point("switched");
	pthread_mutex_lock(&m->models->lock);
	m->n_switching--;
	if (r == 0)
		m->is_stale |= alias_put_locked(m, alias, version) < 0;
	model_touch_locked(m);
	pthread_mutex_unlock(&m->models->lock);
	return r;
}

int model_switch(struct call *c, struct model *m, const char *alias, const char *version)
{
	cleanup_free char *from = NULL;
	bool is_default = strcmp(alias, "default") == 0;
	int r = begin_making(m, version);
	if (r == 0)
		r = wait_until_ready(c, m, version);
	if (r < 0)
		return r;
	pthread_mutex_lock(&m->models->lock);
	const char *now = alias_find_locked(m, alias);
	from = strdup(now ? now : "");
	pthread_mutex_unlock(&m->models->lock);
	if (!from)
		return -ENOMEM;
	if (strcmp(from, version) == 0)
		return 0;
	int64_t id = 0;
	if (is_default)
		r = switch_begin(m, c->uid, from, version, &id);
	if (r == 0)
		r = set_alias(c, m, alias, version);
	if (is_default && id)
		switch_end(m, id, r == 0);
	if (r < 0)
		return r;
	if (is_default)
		model_load_previous(m);
	tell_switch(m, alias, from, version);
	return 0;
}

int model_save(struct call *c, struct model *m, const char *text, size_t len)
{
	cleanup_free char *wanted = NULL;
	int r = model_json_parse(text, len, &wanted, &c->fault);
	if (r < 0)
		return r;
	pthread_mutex_lock(&m->models->lock);
	bool is_there = version_find_locked(m, wanted);
	pthread_mutex_unlock(&m->models->lock);
	if (!is_there)
		return fault_set(&c->fault, EBADMSG,
				 "model.json: isDefault is true for %s, and model %s has no such version",
				 wanted, m->name);
	return model_switch(c, m, "default", wanted);
}
