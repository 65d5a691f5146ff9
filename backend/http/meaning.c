/* SPDX-License-Identifier: MIT */
/* Looking codes up, and verdicts of what they mean: meaning.h. */
#include "http/meaning.h"

#include <string.h>

const struct http_meaning *http_meaning_find(const struct http_meaning *table, const char *code)
{
	while (table->code && strcmp(table->code, code) != 0)
		table++;
	return table->code ? table : NULL;
}

void http_meaning_text(const struct http_meaning *meaning, const char *code, const char *message, char *ret,
		       size_t size)
{
	const char *advice = meaning && meaning->advice ? meaning->advice : "";
	snprintf(ret, size, "%s%s%s%s%s", code, *code && *message ? ": " : "", message, *advice ? "; " : "",
		 advice);
}

void http_meaning_judge(const struct http_meaning *table, const char *code, const char *message,
			struct http_verdict *ret)
{
	const struct http_meaning *meaning = http_meaning_find(table, code);
	http_meaning_text(meaning, code, message, ret->text, sizeof(ret->text));
	if (!meaning)
		return;
	ret->err = meaning->err;
	ret->is_transient = meaning->flags & HTTP_MEANS_TRANSIENT;
	ret->is_throttled = meaning->flags & HTTP_MEANS_THROTTLED;
	ret->is_credential_refused = meaning->flags & HTTP_MEANS_CREDENTIALS;
	ret->is_skewed = meaning->flags & HTTP_MEANS_SKEWED;
}
