/* SPDX-License-Identifier: MIT */
/*
 * Held entries of a model: added by a handler, sent or forgotten when they are due. The timer only hands a model to the
 * remote's pool; there one entry after the other is marked `is_sending`, sent without the lock, and taken out.
 */
#include "model_held.h"

#include "backend.h"
#include "cleanup.h"
#include "clock.h"
#include "kinds.h"
#include "notify.h"
#include "pool.h"
#include "remote.h"
#include "serve_private.h"
#include "str.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

enum { AGAIN_MS = 1000, HELD_MAX = 256 };

/* ---- files in memory ---- */

int scratch_new(const char *text, size_t len, struct scratch **ret)
{
	cleanup_close int fd = memfd_create("beside model.json", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = len ? pwrite(fd, text, len, 0) : 0;
	if (n != (ssize_t)len)
		return n < 0 ? -errno : -EIO;
	struct scratch *file = calloc(1, sizeof(*file));
	if (!file)
		return -ENOMEM;
	file->n_refs = 1;
	file->mode = 0644;
	file->fd = STEAL_FD(fd);
	*ret = file;
	return 0;
}

struct scratch *scratch_ref(struct scratch *file)
{
	file->n_refs++;
	return file;
}

void scratch_unref(struct scratch *file)
{
	if (!file || --file->n_refs > 0)
		return;
	close(file->fd);
	free(file);
}

int fd_read_all(int fd, char **ret, size_t *ret_len)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size > MODEL_FILE_MAX)
		return -EFBIG;
	cleanup_free char *text = malloc(st.st_size + 1);
	if (!text)
		return -ENOMEM;
	ssize_t n = pread(fd, text, st.st_size, 0); /* of memory: never short */
	if (n < 0)
		return -errno;
	text[n] = '\0';
	*ret_len = n;
	*ret = STEAL(text);
	return 0;
}

int scratch_read(const struct scratch *file, char **ret, size_t *ret_len)
{
	return fd_read_all(file->fd, ret, ret_len);
}

/* ---- the list ---- */

struct held *held_find_locked(struct model *m, const char *name)
{
	struct held *held = m->held;
	while (held && strcmp(held->name, name) != 0)
		held = held->next;
	return held;
}

static void held_free(struct held *held)
{
	if (!held)
		return;
	free(held->name);
	free(held->target);
	free(held->meaning);
	scratch_unref(held->file);
	free(held);
}

void held_drop_locked(struct model *m, struct held *held)
{
	struct held **at = &m->held;
	while (*at != held)
		at = &(*at)->next;
	*at = held->next;
	held_free(held);
}

void held_clear(struct model *m)
{
	while (m->held)
		held_drop_locked(m, m->held);
}

int held_rename_locked(struct model *m, struct held *held, const char *name)
{
	struct held *old = held_find_locked(m, name);
	if (held->is_sending || (old && old->is_sending))
		return -EBUSY;
	char *copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	if (old && old != held)
		held_drop_locked(m, old);
	free(held->name);
	held->name = copy;
	held->is_passing = true;
	held->due_ms = clock_mono_ms() + MODEL_PASSING_MS;
	return 0;
}

void held_restore_locked(struct model *m, pid_t pid)
{
	struct held **at = &m->held;
	while (*at) {
		struct held *held = *at;
		if (held->type != HELD_REMOVED || held->pid != pid || pid == 0 || held->is_sending) {
			at = &held->next;
			continue;
		}
		*at = held->next;
		held_free(held);
	}
}

/* ---- when they are due ---- */

/* The next that is due (or any, when `all`), marked; NULL if there is none. */
static struct held *next_due_locked(struct model *m, bool all)
{
	int64_t now = clock_mono_ms();
	for (struct held *held = m->held; held; held = held->next) {
		if (held->is_sending || !(all || held->due_ms <= now))
			continue;
		if (held->type == HELD_FILE && held->file->n_open > 0 && !all) {
			held->due_ms = now + MODEL_PASSING_MS;
			continue;
		}
		held->is_sending = true;
		return held;
	}
	return NULL;
}

static int send_alias(struct model *m, struct held *held, struct fault *reterr)
{
	struct call c = {.serve = m->remote->serve, .may_block = true, .uid = m->remote->serve->uid};
	int r = model_switch(&c, m, held->name, held->meaning);
	*reterr = c.fault;
	return r;
}

static int send_removal(struct model *m, struct held *held, struct fault *reterr)
{
	struct backend *be;
	pthread_mutex_lock(&m->models->lock);
	bool is_alias = alias_find_locked(m, held->name);
	pthread_mutex_unlock(&m->models->lock);
	if (!is_alias || strcmp(held->name, "default") == 0)
		return 0; /* default comes back, as model.json does */
	int r = remote_backend(m->remote, &be, reterr);
	if (r == 0)
		r = backend_model_alias_remove(be, m->name, held->name, reterr);
	if (r < 0 && r != -ENOENT)
		return r;
	pthread_mutex_lock(&m->models->lock);
	alias_drop_locked(m, held->name);
	model_touch_locked(m);
	pthread_mutex_unlock(&m->models->lock);
	return 0;
}

/* `held` is ours while it is marked; its strings do not change. */
static void send_one(struct model *m, struct held *held)
{
	struct fault fault = {0};
	int r = 0;
	if (held->type == HELD_REMOVED)
		r = send_removal(m, held, &fault);
	else if (held->type == HELD_ALIAS && !held->is_passing)
		r = send_alias(m, held, &fault);
	else if (held->type == HELD_JOB && !held->is_passing)
		r = version_make(m, held->name, held->meaning);
	if (r < 0)
		model_report(m, held->name, -r, fault.text[0] ? fault.text : strerror(-r));
	cleanup_free char *name = strdup(held->name);
	pthread_mutex_lock(&m->models->lock);
	bool is_file = held->type == HELD_FILE;
	held_drop_locked(m, held);
	pthread_mutex_unlock(&m->models->lock);
	if (name)
		notify_names(m->remote->serve->notify, &kind_model, m, 0);
	if (!is_file)
		model_tell(m);
}

static void send_due(struct model *m, bool all)
{
	for (;;) {
		pthread_mutex_lock(&m->models->lock);
		struct held *held = next_due_locked(m, all);
		pthread_mutex_unlock(&m->models->lock);
		if (!held)
			return;
		send_one(m, held);
	}
}

static void arm(struct model *m, int64_t delay_ms);

static void send_in_pool(void *arg)
{
	send_due(arg, false);
}

static void is_due(void *arg)
{
	struct model *m = arg;
	if (m->remote->serve->is_stopping)
		return;
	int64_t now = clock_mono_ms(), next = INT64_MAX;
	bool has_due = false;
	pthread_mutex_lock(&m->models->lock);
	for (struct held *held = m->held; held; held = held->next) {
		if (held->is_sending)
			continue;
		if (held->due_ms <= now)
			has_due = true;
		else if (held->due_ms < next)
			next = held->due_ms;
	}
	pthread_mutex_unlock(&m->models->lock);
	if (has_due && pool_submit(m->remote->pool, send_in_pool, m) < 0)
		next = now + AGAIN_MS;
	if (next != INT64_MAX)
		arm(m, next - now);
}

/* Out of memory: the next entry's timer finds it. */
static void arm(struct model *m, int64_t delay_ms)
{
	(void)timers_in(m->remote->serve->timers, delay_ms, is_due, m);
}

static size_t count_locked(const struct model *m)
{
	size_t n = 0;
	for (const struct held *held = m->held; held; held = held->next)
		n++;
	return n;
}

int held_add(struct model *m, const struct held *what, int64_t hold_ms)
{
	struct held *held = calloc(1, sizeof(*held));
	if (!held)
		return -ENOMEM;
	*held = *what;
	held->name = strdup(what->name);
	held->target = what->target ? strdup(what->target) : NULL;
	held->meaning = what->meaning ? strdup(what->meaning) : NULL;
	held->file = what->file ? scratch_ref(what->file) : NULL;
	held->due_ms = clock_mono_ms() + hold_ms;
	if (!held->name || !held->target != !what->target || !held->meaning != !what->meaning) {
		held_free(held);
		return -ENOMEM;
	}
	pthread_mutex_lock(&m->models->lock);
	struct held *old = held_find_locked(m, what->name);
	int r = old && old->is_sending ? -EBUSY : 0;
	if (!old && count_locked(m) >= HELD_MAX)
		r = -ENOSPC;
	if (r == 0) {
		if (old)
			held_drop_locked(m, old);
		held->next = m->held;
		m->held = held;
	}
	pthread_mutex_unlock(&m->models->lock);
	if (r < 0) {
		held_free(held);
		return r;
	}
	arm(m, hold_ms);
	return 0;
}

void held_flush(struct model *m)
{
	send_due(m, true);
}
