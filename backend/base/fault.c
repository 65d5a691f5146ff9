/* SPDX-License-Identifier: MIT */
/* Fills the caller's fault: one line, cut at a whole character. */
#include "fault.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* After a cut: drops a UTF-8 sequence that lost its end. */
static void drop_partial_character(char *text)
{
	size_t len = strlen(text), start = len;

	while (start > 0 && len - start < 4 && ((unsigned char)text[start - 1] & 0xC0) == 0x80)
		start--;
	if (start == 0)
		return;
	unsigned char lead = (unsigned char)text[start - 1];
	size_t want = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
	if (want > len - start + 1)
		text[start - 1] = '\0';
}

int __attribute__((format(printf, 3, 0)))
fault_vset(struct fault *fault, int err, const char *format, va_list ap)
{
	assert(err > 0);
	if (!fault)
		return -err;
	fault->err = err;
	int n = vsnprintf(fault->text, sizeof(fault->text), format, ap);
	if (n < 0)
		(void)snprintf(fault->text, sizeof(fault->text), "%s", strerrordesc_np(err) ?: "failed");
	if (n >= (int)sizeof(fault->text))
		drop_partial_character(fault->text);
	for (char *p = fault->text; *p; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7F)
			*p = ' ';
	}
	return -err;
}

int fault_set(struct fault *fault, int err, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	int r = fault_vset(fault, err, format, ap);
	va_end(ap);
	return r;
}

bool fault_is_passing(int r)
{
	return r == -EHOSTUNREACH || r == -ETIMEDOUT || r == -EAGAIN || r == -EIO;
}

const char *fault_name(int err)
{
	return (err > 0 ? strerrorname_np(err) : NULL) ?: "E?";
}
