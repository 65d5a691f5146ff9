/* SPDX-License-Identifier: MIT */
/*
 * The extended attributes of an object, with -o xattr: its version under the service's word for it, its content type and
 * storage class, and the user's own metadata as meta.NAME.
 */
#include "objects.h"

#include "cleanup.h"
#include "remote.h"
#include "spool.h"

#include <ctype.h>
#include <errno.h>
#include <linux/limits.h>
#include <string.h>

static const char meta_prefix[] = "meta.";

static int add_text(json_t *all, const char *name, const char *text)
{
	if (!text)
		return 0;
	return json_object_set_new(all, name, json_string_nocheck(text)) < 0 ? -ENOMEM : 0;
}

static bool is_name(const char *name)
{
	for (const char *at = name; *at; at++) {
		if (iscntrl((unsigned char)*at))
			return false;
	}
	return *name && strlen("user.") + strlen(meta_prefix) + strlen(name) <= XATTR_NAME_MAX;
}

static int add_metadata(json_t *all, const char *metadata)
{
	cleanup_json json_t *meta = metadata ? json_loads(metadata, JSON_ALLOW_NUL, NULL) : NULL;
	const char *name;
	json_t *value;
	json_object_foreach (meta, name, value) {
		char own[XATTR_NAME_MAX + 1];
		if (!is_name(name) || !json_is_string(value))
			continue;
		snprintf(own, sizeof(own), "%s%s", meta_prefix, name);
		if (json_object_set(all, own, value) < 0)
			return -ENOMEM;
	}
	return 0;
}

int object_xattrs_add(const struct object_detail *facts, json_t *ret)
{
	int r = add_text(ret, "content-type", facts->content_type);
	if (r == 0)
		r = add_text(ret, "storage-class", facts->storage_class);
	return r < 0 ? r : add_metadata(ret, facts->metadata);
}

/* The version is told by listings, the rest by a call for each object: only for a name that is among it. */
static bool needs_facts(const char *name)
{
	return !name || str_has_prefix(name, meta_prefix) || !strcmp(name, "content-type") ||
	       !strcmp(name, "storage-class");
}

int object_xattrs(struct call *c, struct node *n, const char *name, json_t *ret)
{
	struct object_file *file = n->obj;
	struct backend *be;
	int r = remote_backend(n->remote, &be, &c->fault);
	if (r < 0)
		return r;
	const char *version_name = backend_bucket_version_name(be);
	if (name && !needs_facts(name) && strcmp(name, version_name) != 0)
		return 0;
	r = needs_facts(name) ? object_file_know(c, file) : object_file_fresh(c, file);
	LOCK_SCOPE(&file->objects->lock);
	if (r < 0 || !file->version || (file->spool && file->spool->is_dirty))
		return r;
	r = add_text(ret, version_name, file->version);
	return r < 0 ? r : object_xattrs_add(&file->facts, ret);
}
