/* SPDX-License-Identifier: MIT */
/* Words for what is known of credentials. */
#include "auth/describe.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"

void describe_line(auth_sink sink, void *arg, bool is_ok, const char *format, ...)
{
	char line[FAULT_TEXT_MAX];
	va_list ap;
	va_start(ap, format);
	(void)vsnprintf(line, sizeof(line), format, ap); /* a longer one is cut */
	va_end(ap);
	sink(arg, is_ok, line);
}

void describe_failure(int r, const struct fault *fault, auth_sink sink, void *arg)
{
	sink(arg, false, fault->err ? fault->text : strerrordesc_np(-r) ?: "failed");
}

char *describe_id(const char *id, char ret[static DESCRIBE_ID_MAX])
{
	size_t n = strlen(id);
	if (n < 16)
		(void)snprintf(ret, DESCRIBE_ID_MAX, "...");
	else
		(void)snprintf(ret, DESCRIBE_ID_MAX, "%.4s...%s", id, id + n - 4);
	return ret;
}

char *describe_until(int64_t expires_ns, int64_t now_ns, char ret[static DESCRIBE_UNTIL_MAX])
{
	char time[CLOCK_TEXT_MAX];
	if (!expires_ns)
		(void)snprintf(ret, DESCRIBE_UNTIL_MAX, "good for ever");
	else
		(void)snprintf(ret, DESCRIBE_UNTIL_MAX, "good until %s (%lld min)",
			       clock_format(expires_ns, time),
			       (long long)((expires_ns - now_ns) / 60000000000));
	return ret;
}
