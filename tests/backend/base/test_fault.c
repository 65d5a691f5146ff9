/* SPDX-License-Identifier: MIT */
/* Fault of base/, held to what its header promises. */
#include "fault.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <string.h>

Test(fault, carries_number_and_sentence)
{
	struct fault fault = {0};

	cr_assert(eq(int, fault_set(&fault, ENOENT, "no %s", "job"), -ENOENT));
	cr_assert(eq(int, fault.err, ENOENT));
	cr_assert(eq(str, fault.text, "no job"));
}

Test(fault, nobody_need_listen)
{
	cr_assert(eq(int, fault_set(NULL, EBUSY, "%d", 1), -EBUSY));
}

Test(fault, is_one_line)
{
	struct fault fault = {0};

	fault_set(&fault, EIO, "%s", "a\nb\tc\x7f");
	cr_assert(eq(str, fault.text, "a b c "));
}

Test(fault, a_cut_keeps_whole_characters)
{
	char text[FAULT_TEXT_MAX + 10];
	struct fault fault = {0};

	/* two-byte characters at odd places: the limit falls into one */
	text[0] = 'x';
	for (size_t i = 1; i + 1 < sizeof(text) - 1; i += 2)
		memcpy(text + i, "\xC3\xA9", 2);
	text[sizeof(text) - 1] = '\0';
	text[sizeof(text) - 2] = 'y';
	fault_set(&fault, EIO, "%s", text);
	cr_assert(eq(sz, strlen(fault.text), FAULT_TEXT_MAX - 1));
	memmove(text + 1, text, sizeof(text) - 2);
	text[0] = 'x';
	fault_set(&fault, EIO, "%s", text);
	cr_assert(eq(sz, strlen(fault.text), FAULT_TEXT_MAX - 2));
	cr_assert(eq(int, (unsigned char)fault.text[strlen(fault.text) - 1], 0xA9));
}

Test(fault, names_of_errors)
{
	cr_expect(eq(str, (char *)fault_name(ENOENT), "ENOENT"));
	cr_expect(eq(str, (char *)fault_name(EOPNOTSUPP), "EOPNOTSUPP"));
	cr_expect(eq(str, (char *)fault_name(EAGAIN), "EAGAIN"));
	cr_expect(eq(str, (char *)fault_name(99999), "E?"));
	cr_expect(eq(str, (char *)fault_name(0), "E?"));
	cr_expect(eq(str, (char *)fault_name(-2), "E?"));
}

Test(fault, what_passes)
{
	cr_expect(fault_is_passing(-ETIMEDOUT) && fault_is_passing(-EHOSTUNREACH));
	cr_expect(fault_is_passing(-EAGAIN) && fault_is_passing(-EIO));
	cr_expect(not(fault_is_passing(0) || fault_is_passing(-ENOENT) || fault_is_passing(-EACCES)));
}
