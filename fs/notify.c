/* SPDX-License-Identifier: MIT */
/* The notification queue and its thread. */
#include "notify.h"

#include "cleanup.h"
#include "clock.h"
#include "log.h"

#include <errno.h>
#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
#include <signal.h>
#include <string.h>

enum { QUEUE_MAX = 1 << 16, SLOW_MS = 500 };

enum item_type { ITEM_ATTR, ITEM_POLL, ITEM_THEN };

struct item {
	enum item_type type;
	uint64_t id; /* ATTR: the node */
	void (*fn)(void *arg);
	void *arg; /* THEN; POLL: the handle */
	struct item *next;
};

struct notify {
	/* immutable after start */
	struct inode_table *table;
	struct fuse_session *session;
	pthread_t thread;

	pthread_mutex_t lock;
	/* protected by lock */
	pthread_cond_t changed;
	struct item *first, **last;
	size_t n_items;
	bool is_running, is_stopped;
};

int notify_new(struct inode_table *table, struct notify **ret)
{
	struct notify *notify = calloc(1, sizeof(*notify));
	if (!notify)
		return -ENOMEM;
	notify->table = table;
	notify->last = &notify->first;
	pthread_mutex_init(&notify->lock, NULL);
	pthread_cond_init(&notify->changed, NULL);
	*ret = notify;
	return 0;
}

/* -ENOENT (the kernel has forgotten it) is normal; so is everything during an unmount. */
static void tell(struct notify *notify, struct item *item, bool is_stopped)
{
	int64_t start = clock_mono_ms();
	switch (item->type) {
	case ITEM_ATTR:
		if (!is_stopped)
			(void)fuse_lowlevel_notify_inval_inode(notify->session, item->id, -1, 0);
		break;
	case ITEM_POLL:
		if (!is_stopped)
			(void)fuse_lowlevel_notify_poll(item->arg);
		fuse_pollhandle_destroy(item->arg);
		break;
	case ITEM_THEN:
		item->fn(item->arg);
		break;
	}
	if (clock_mono_ms() - start > SLOW_MS)
		log_debug("a notification took %lld ms", (long long)(clock_mono_ms() - start));
}

static void *notify_thread(void *arg)
{
	struct notify *notify = arg;
	pthread_mutex_lock(&notify->lock);
	for (;;) {
		struct item *item = notify->first;
		if (!item && notify->is_stopped)
			break;
		if (!item) {
			pthread_cond_wait(&notify->changed, &notify->lock);
			continue;
		}
		notify->first = item->next;
		if (!notify->first)
			notify->last = &notify->first;
		notify->n_items--;
		bool is_stopped = notify->is_stopped;
		pthread_mutex_unlock(&notify->lock);
		tell(notify, item, is_stopped);
		free(item);
		pthread_mutex_lock(&notify->lock);
	}
	pthread_mutex_unlock(&notify->lock);
	return NULL;
}

int notify_start(struct notify *notify, struct fuse_session *session)
{
	notify->session = session;
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int r = pthread_create(&notify->thread, NULL, notify_thread, notify);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	notify->is_running = r == 0;
	return -r;
}

void notify_stop(struct notify *notify)
{
	pthread_mutex_lock(&notify->lock);
	notify->is_stopped = true;
	bool was_running = notify->is_running;
	notify->is_running = false;
	pthread_cond_broadcast(&notify->changed);
	pthread_mutex_unlock(&notify->lock);
	if (was_running)
		pthread_join(notify->thread, NULL);
}

void notify_free(struct notify *notify)
{
	if (!notify)
		return;
	while (notify->first) {
		struct item *item = notify->first;
		notify->first = item->next;
		if (item->type == ITEM_POLL)
			fuse_pollhandle_destroy(item->arg);
		free(item);
	}
	pthread_cond_destroy(&notify->changed);
	pthread_mutex_destroy(&notify->lock);
	free(notify);
}

static bool is_queued_locked(const struct notify *notify, const struct item *wanted)
{
	int looked_at = 0;
	for (const struct item *i = notify->first; i && looked_at++ < 32; i = i->next)
		if (i->type == ITEM_ATTR && i->id == wanted->id)
			return true;
	return false;
}

static int enqueue(struct notify *notify, struct item item)
{
	struct item *copy = malloc(sizeof(*copy));
	pthread_mutex_lock(&notify->lock);
	bool is_extra = item.type == ITEM_ATTR && (notify->n_items >= QUEUE_MAX || notify->is_stopped);
	if (!copy || is_extra || (item.type == ITEM_ATTR && is_queued_locked(notify, &item))) {
		pthread_mutex_unlock(&notify->lock);
		free(copy);
		return copy ? 0 : -ENOMEM;
	}
	*copy = item;
	copy->next = NULL;
	*notify->last = copy;
	notify->last = &copy->next;
	notify->n_items++;
	pthread_cond_signal(&notify->changed);
	pthread_mutex_unlock(&notify->lock);
	return 0;
}

/* The node's number if the kernel knows it, else 0. */
static uint64_t known_id(struct notify *notify, const struct node_kind *kind, const void *obj, uint32_t sub,
			 const char *name)
{
	struct node *n = inode_find(notify->table, kind, obj, sub, name);
	if (!n)
		return 0;
	uint64_t id = n->id;
	inode_unref(notify->table, n);
	return id;
}

void notify_attr(struct notify *notify, const struct node_kind *kind, const void *obj, uint32_t sub,
		 const char *name)
{
	uint64_t id = known_id(notify, kind, obj, sub, name);
	if (id)
		(void)enqueue(notify,
			      (struct item){.type = ITEM_ATTR, .id = id}); /* else its lifetime ends it */
}

void notify_names(struct notify *notify, const struct node_kind *dir_kind, const void *dir_obj,
		  uint32_t dir_sub)
{
	notify_attr(notify, dir_kind, dir_obj, dir_sub, NULL);
}

void notify_poll(struct notify *notify, void *poll_handle)
{
	if (enqueue(notify, (struct item){.type = ITEM_POLL, .arg = poll_handle}) < 0)
		fuse_pollhandle_destroy(poll_handle);
}

int notify_then(struct notify *notify, void (*fn)(void *arg), void *arg)
{
	return enqueue(notify, (struct item){.type = ITEM_THEN, .fn = fn, .arg = arg});
}

void notify_attr_now(struct notify *notify, struct node *n)
{
	if (notify->session)
		(void)fuse_lowlevel_notify_inval_inode(notify->session, n->id, -1, 0);
}
