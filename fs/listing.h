/* SPDX-License-Identifier: MIT */
/* A directory's snapshot, made when it is opened: stable positions, whatever happens meanwhile. */
#pragma once

#include "node.h"

struct listing_entry {
	struct child child;
	size_t name; /* offset in names */
};

struct listing {
	struct listing_entry *entry;
	size_t n_entries, capacity;
	char *names;
	size_t names_len, names_capacity;
};

void listing_free(struct listing *listing); /* takes NULL */

static inline const char *listing_name(const struct listing *listing, size_t i)
{
	return listing->names + listing->entry[i].name;
}
