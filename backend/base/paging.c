/* SPDX-License-Identifier: MIT */
/* A cursor is "MARK.SINCE.UNTIL.TOKEN", numbers in hex. */
#include "base/paging.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "str.h"

int paging_parse(const char *cursor, struct paging *ret, struct fault *reterr)
{
	struct paging paging = {.n_until = 1, .token = ""};
	int at = 0;
	if (*cursor) {
		if (sscanf(cursor, "%16" SCNx64 ".%16" SCNx64 ".%16" SCNx64 ".%n", &paging.mark,
			   &paging.n_since, &paging.n_until, &at) != 3 ||
		    at == 0)
			return fault_set(reterr, EINVAL, "no cursor of a listing: \"%.40s\"", cursor);
		paging.token = cursor + at;
	}
	*ret = paging;
	return 0;
}

int paging_next(struct paging *paging, const char *token, struct fault *reterr)
{
	uint64_t hash = str_hash(STR_HASH_START, token, strlen(token));
	if (hash == paging->mark || !strcmp(token, paging->token))
		return fault_set(reterr, EIO,
				 "the service gave the same page token again: the list would never end");
	if (++paging->n_since >= paging->n_until) {
		paging->mark = hash;
		paging->n_since = 0;
		paging->n_until *= 2;
	}
	return 0;
}

int paging_end(struct paging *paging, const char *token, struct object_page *ret, struct fault *reterr)
{
	int r = *token ? paging_next(paging, token, reterr) : 0;
	if (r < 0)
		return r;
	*ret = (struct object_page){.has_more = *token};
	if (*token)
		snprintf(ret->cursor, sizeof(ret->cursor), "%" PRIx64 ".%" PRIx64 ".%" PRIx64 ".%s",
			 paging->mark, paging->n_since, paging->n_until, token);
	return 0;
}

int paging_row(void *paging_sink, const struct object_entry *object)
{
	const struct paging_sink *rows = paging_sink;
	struct paging paging = *rows->paging;
	if (!rows->ret->has_more && *rows->token)
		(void)paging_end(&paging, rows->token, rows->ret,
				 NULL); /* the end tells what is wrong with it */
	return rows->sink(rows->arg, object);
}

bool paging_is_row(const char *key, const char *prefix, bool is_deep, bool is_prefix)
{
	size_t n = strlen(prefix);
	if (!*key || strlen(key) > OBJECT_KEY_MAX || strncmp(key, prefix, n) != 0)
		return false;
	const char *slash = strchr(key + n, '/');
	return is_prefix ? slash && !slash[1] : !slash || is_deep;
}
