/* SPDX-License-Identifier: MIT */
/*
 * The table of nodes. Two chained hashes, by number and by identity, behind one lock that is held for a few dozen
 * instructions and never across anything that waits.
 *
 * A node lives while somebody holds it: the kernel (n_lookups), an open handle, a request, a child (n_refs). Identity
 * is (kind, obj, sub, name), or what the kind's hash and same say; parent and name only say where it is.
 */
#include "inode.h"

#include "cleanup.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

struct inode_table {
	pthread_mutex_t lock;
	/* protected by lock */
	struct node **by_id;
	struct node **by_key;
	size_t n_buckets; /* a power of two */
	size_t n_nodes;
	uint64_t next_id;
};

enum { BUCKETS_AT_START = 1 << 10 };

static uint64_t key_hash(const struct node_kind *kind, const void *obj, uint32_t sub, const char *name)
{
	uint64_t hash = str_hash(STR_HASH_START, &kind, sizeof(kind));
	if (kind->hash) {
		uint64_t own = kind->hash(obj);
		return str_hash(hash, &own, sizeof(own));
	}
	hash = str_hash(hash, &obj, sizeof(obj));
	hash = str_hash(hash, &sub, sizeof(sub));
	return sub == NODE_BY_NAME ? str_hash(hash, name, strlen(name)) : hash;
}

static bool key_matches(const struct node *n, const struct node_kind *kind, const void *obj, uint32_t sub,
			const char *name)
{
	if (n->kind != kind)
		return false;
	if (kind->same)
		return kind->same(n->obj, obj);
	return n->obj == obj && n->sub == sub && (sub != NODE_BY_NAME || strcmp(n->name, name) == 0);
}

int inode_table_new(struct inode_table **ret)
{
	struct inode_table *table = calloc(1, sizeof(*table));
	if (!table)
		return -ENOMEM;
	pthread_mutex_init(&table->lock, NULL);
	table->n_buckets = BUCKETS_AT_START;
	table->next_id = 1;
	table->by_id = calloc(table->n_buckets, sizeof(*table->by_id));
	table->by_key = calloc(table->n_buckets, sizeof(*table->by_key));
	if (!table->by_id || !table->by_key) {
		inode_table_free(table);
		return -ENOMEM;
	}
	*ret = table;
	return 0;
}

static void node_free(struct node *n)
{
	if (n->kind->drop)
		n->kind->drop(n->obj);
	free(n->name);
	free(n);
}

void inode_table_free(struct inode_table *table)
{
	if (!table)
		return;
	for (size_t i = 0; table->by_id && i < table->n_buckets; i++) {
		struct node *next;
		for (struct node *n = table->by_id[i]; n; n = next) {
			next = n->next_id;
			node_free(n);
		}
	}
	free(table->by_id);
	free(table->by_key);
	pthread_mutex_destroy(&table->lock);
	free(table);
}

static size_t id_bucket(const struct inode_table *table, uint64_t id)
{
	return id & (table->n_buckets - 1);
}

static size_t key_bucket(const struct inode_table *table, const struct node *n)
{
	return key_hash(n->kind, n->obj, n->sub, n->name) & (table->n_buckets - 1);
}

static void insert_locked(struct inode_table *table, struct node *n)
{
	size_t id = id_bucket(table, n->id), key = key_bucket(table, n);
	n->next_id = table->by_id[id];
	table->by_id[id] = n;
	n->next_key = table->by_key[key];
	table->by_key[key] = n;
}

/* Doubles the buckets; failing to is only slower. */
static void grow_locked(struct inode_table *table)
{
	size_t n_old = table->n_buckets;
	struct node **old = table->by_id;
	struct node **by_id = calloc(n_old * 2, sizeof(*by_id));
	struct node **by_key = calloc(n_old * 2, sizeof(*by_key));
	if (!by_id || !by_key) {
		free(by_id);
		free(by_key);
		return;
	}
	free(table->by_key);
	table->by_id = by_id;
	table->by_key = by_key;
	table->n_buckets = n_old * 2;
	for (size_t i = 0; i < n_old; i++) {
		struct node *next;
		for (struct node *n = old[i]; n; n = next) {
			next = n->next_id;
			insert_locked(table, n);
		}
	}
	free(old);
}

static void unchain_key_locked(struct inode_table *table, struct node *n)
{
	struct node **at = &table->by_key[key_bucket(table, n)];
	while (*at != n)
		at = &(*at)->next_key;
	*at = n->next_key;
}

static void unchain_locked(struct inode_table *table, struct node *n)
{
	struct node **at = &table->by_id[id_bucket(table, n->id)];
	while (*at != n)
		at = &(*at)->next_id;
	*at = n->next_id;
	unchain_key_locked(table, n);
	table->n_nodes--;
}

static struct node *find_locked(struct inode_table *table, const struct node_kind *kind, const void *obj,
				uint32_t sub, const char *name)
{
	uint64_t hash = key_hash(kind, obj, sub, name);
	for (struct node *n = table->by_key[hash & (table->n_buckets - 1)]; n; n = n->next_key)
		if (key_matches(n, kind, obj, sub, name))
			return n;
	return NULL;
}

static uint64_t node_ino(const struct node *n)
{
	if (n->kind->ino)
		return n->kind->ino(n);
	uint64_t hash = n->parent ? n->parent->ino : STR_HASH_START;
	hash = str_hash(hash, n->kind->name, strlen(n->kind->name));
	return str_hash(hash, n->name, strlen(n->name));
}

static int add_locked(struct inode_table *table, struct node *parent, const char *name,
		      const struct child *child, struct node **ret)
{
	struct node *n = calloc(1, sizeof(*n));
	char *copy = strdup(name);
	if (!n || !copy) {
		free(n);
		free(copy);
		return -ENOMEM;
	}
	n->id = table->next_id++;
	n->kind = child->kind;
	n->remote = child->remote;
	n->obj = child->obj;
	n->sub = child->sub;
	n->name = copy;
	n->parent = parent;
	if (parent)
		parent->n_refs++;
	n->reported_size = -1;
	n->ino = node_ino(n);
	if (table->n_nodes++ > table->n_buckets)
		grow_locked(table);
	insert_locked(table, n);
	*ret = n;
	return 0;
}

int inode_root(struct inode_table *table, const struct child *child, struct node **ret)
{
	LOCK_SCOPE(&table->lock);
	int r = add_locked(table, NULL, "", child, ret);
	if (r < 0)
		return r;
	(*ret)->n_refs++;
	assert((*ret)->id == 1);
	return 0;
}

int inode_intern(struct inode_table *table, struct node *parent, const char *name, const struct child *child,
		 bool as_lookup, struct node **ret)
{
	LOCK_SCOPE(&table->lock);
	struct node *n = find_locked(table, child->kind, child->obj, child->sub, name);
	if (n && child->kind->drop)
		child->kind->drop(child->obj);
	if (!n) {
		int r = add_locked(table, parent, name, child, &n);
		if (r < 0) {
			if (child->kind->drop)
				child->kind->drop(child->obj);
			return r;
		}
	}
	if (as_lookup)
		n->n_lookups++;
	else
		n->n_refs++;
	*ret = n;
	return 0;
}

struct node *inode_get(struct inode_table *table, uint64_t id)
{
	LOCK_SCOPE(&table->lock);
	for (struct node *n = table->by_id[id_bucket(table, id)]; n; n = n->next_id)
		if (n->id == id) {
			n->n_refs++;
			return n;
		}
	return NULL;
}

struct node *inode_find(struct inode_table *table, const struct node_kind *kind, const void *obj,
			uint32_t sub, const char *name)
{
	LOCK_SCOPE(&table->lock);
	struct node *n = find_locked(table, kind, obj, sub, name ? name : "");
	if (n)
		n->n_refs++;
	return n;
}

struct node *inode_ref(struct inode_table *table, struct node *n)
{
	LOCK_SCOPE(&table->lock);
	n->n_refs++;
	return n;
}

/* Unchains what nobody holds, up the tree, into a list by next_id, to be freed without the lock. */
static struct node *reap_locked(struct inode_table *table, struct node *n)
{
	struct node *dead = NULL;
	while (n && n->n_refs == 0 && n->n_lookups == 0) {
		struct node *parent = n->parent;
		unchain_locked(table, n);
		n->next_id = dead;
		dead = n;
		if (parent)
			parent->n_refs--;
		n = parent;
	}
	return dead;
}

static void free_all(struct node *dead)
{
	while (dead) {
		struct node *next = dead->next_id;
		node_free(dead);
		dead = next;
	}
}

void inode_unref(struct inode_table *table, struct node *n)
{
	if (!n)
		return;
	pthread_mutex_lock(&table->lock);
	assert(n->n_refs > 0);
	n->n_refs--;
	struct node *dead = reap_locked(table, n);
	pthread_mutex_unlock(&table->lock);
	free_all(dead);
}

bool inode_is_new(struct inode_table *table, const struct node *n)
{
	LOCK_SCOPE(&table->lock);
	return n->n_lookups <= 1;
}

void inode_forget(struct inode_table *table, uint64_t id, uint64_t n_lookups)
{
	struct node *n = inode_get(table, id);
	if (!n)
		return;
	pthread_mutex_lock(&table->lock);
	n->n_lookups -= n_lookups < n->n_lookups ? n_lookups : n->n_lookups;
	n->n_refs--;
	struct node *dead = reap_locked(table, n);
	pthread_mutex_unlock(&table->lock);
	free_all(dead);
}

void inode_moved(struct inode_table *table, struct node *n, struct node *parent, const char *name)
{
	char *copy = strdup(name);
	if (!copy)
		return; /* the old path in a message is the only harm */
	pthread_mutex_lock(&table->lock);
	struct node *old = n->parent;
	unchain_key_locked(table, n);
	free(n->name);
	n->name = copy;
	n->parent = parent;
	parent->n_refs++;
	size_t key = key_bucket(table, n);
	n->next_key = table->by_key[key];
	table->by_key[key] = n;
	pthread_mutex_unlock(&table->lock);
	inode_unref(table, old);
}

int inode_whereabouts(struct inode_table *table, struct node *n, struct node **ret_parent, char **ret_name)
{
	LOCK_SCOPE(&table->lock);
	if (!n->parent)
		return -ENOENT;
	char *name = strdup(n->name);
	if (!name)
		return -ENOMEM;
	n->parent->n_refs++;
	*ret_parent = n->parent;
	*ret_name = name;
	return 0;
}

size_t inode_count(struct inode_table *table)
{
	LOCK_SCOPE(&table->lock);
	return table->n_nodes;
}
