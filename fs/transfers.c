/* SPDX-License-Identifier: MIT */
/* transfers.tsv: what is being sent, and what waits to be. */
#include "drafts.h"

static int render_one(void *arg, struct draft *draft)
{
	struct str *text = arg;
	const char *phase = draft->doing ? draft->doing : draft->verdict ? "refused" : "open";
	if (draft->is_frozen && !draft->doing)
		phase = "queued";
	bool is_version = draft->place == PLACE_MODEL;
	str_append(text, is_version ? "version\t" : "job\t");
	str_append_tsv(text, draft->name);
	str_printf(text, "\t%s\t0\t%lld\t", phase, (long long)draft->size_bytes);
	str_append_tsv(text, draft->verdict ? draft->verdict : "");
	return str_append(text, "\n");
}

int drafts_render(struct drafts *drafts, struct str *ret)
{
	return drafts_each(drafts, render_one, ret);
}
