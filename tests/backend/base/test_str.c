/* SPDX-License-Identifier: MIT */
/* Text, numbers and names, held to what str.h promises. */
#include "str.h"

#include "cleanup.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <string.h>

Test(str, appends_are_joined)
{
	cleanup_str struct str s = {0};

	cr_assert(eq(int, str_append(&s, "one"), 0));
	cr_assert(eq(int, str_append_n(&s, "two!", 3), 0));
	cr_assert(eq(int, str_printf(&s, " %d%s", 3, "x"), 0));
	cr_assert(eq(str, s.data, "onetwo 3x"));
	cr_assert(eq(sz, s.len, 9));
}

Test(str, too_much_leaves_the_last_good_text)
{
	cleanup_str struct str s = {.max = 4};
	char *text = NULL;

	cr_assert(eq(int, str_append(&s, "abc"), 0));
	cr_assert(eq(int, str_append(&s, "de"), -EFBIG));
	cr_assert(eq(str, s.data, "abc"));
	cr_assert(eq(int, str_append(&s, "d"), -EFBIG), "the error stays");
	cr_assert(eq(int, str_steal(&s, &text), -EFBIG));
	str_clear(&s);
	cr_assert(eq(int, str_append(&s, "wxyz"), 0));
}

Test(str, half_a_tsv_field_is_none)
{
	cleanup_str struct str s = {.max = 6};

	cr_assert(eq(int, str_append(&s, "ab"), 0));
	cr_assert(eq(int, str_append_tsv(&s, "c\td\te"), -EFBIG));
	cr_assert(eq(str, s.data, "ab"));
}

Test(str, tsv_escapes_what_would_end_a_field)
{
	cleanup_str struct str s = {0};

	cr_assert(eq(int, str_append_tsv(&s, "a\tb\nc\\d\x01\x7f\xC3\xA9"), 0));
	cr_assert(eq(str, s.data, "a\\tb\\nc\\\\d\\x01\\x7F\xC3\xA9"));
}

Test(str, steal_of_nothing_is_an_empty_text)
{
	struct str s = {0};
	cleanup_free char *text = NULL;

	cr_assert(eq(int, str_steal(&s, &text), 0));
	cr_assert(eq(str, text, ""));
	cr_assert(zero(ptr, s.data));
}

Test(str, steal_hands_over)
{
	struct str s = {0};
	cleanup_free char *text = NULL;

	str_append(&s, "mine");
	cr_assert(eq(int, str_steal(&s, &text), 0));
	cr_assert(eq(str, text, "mine"));
	cr_assert(eq(sz, s.len, 0));
}

struct number {
	const char *text;
	int r;
	int64_t value;
};

static void check_numbers(const struct number *n, int (*read)(const char *, int64_t *))
{
	for (; n->text; n++) {
		int64_t value = -1;
		cr_expect(eq(int, read(n->text, &value), n->r), "%s", n->text);
		if (n->r == 0)
			cr_expect(eq(i64, value, n->value), "%s", n->text);
		else
			cr_expect(eq(i64, value, -1), "%s: written on failure", n->text);
	}
}

static int read_int(const char *text, int64_t *ret)
{
	return str_to_int(text, -5, 100, ret);
}

Test(str, integers_are_whole_and_bounded)
{
	static const struct number cases[] = {
		{"0", 0, 0},         {"100", 0, 100},
		{"-5", 0, -5},       {"+7", 0, 7},
		{"101", -ERANGE, 0}, {"-6", -ERANGE, 0},
		{"", -EINVAL, 0},    {"-", -EINVAL, 0},
		{"1x", -EINVAL, 0},  {" 1", -EINVAL, 0},
		{"1 ", -EINVAL, 0},  {"99999999999999999999", -ERANGE, 0},
		{"0x1", -EINVAL, 0}, {"99999999999999999999x", -EINVAL, 0},
		{NULL, 0, 0},
	};

	check_numbers(cases, read_int);
}

Test(str, durations_have_units)
{
	static const struct number cases[] = {
		{"90", 0, 90000},     {"90s", 0, 90000},
		{"5m", 0, 300000},    {"3h", 0, 10800000},
		{"2d", 0, 172800000}, {"100ms", 0, 100},
		{"0", 0, 0},          {"", -EINVAL, 0},
		{"s", -EINVAL, 0},    {"5x", -EINVAL, 0},
		{"-5s", -EINVAL, 0},  {"5 s", -EINVAL, 0},
		{"1.5h", 0, 5400000}, {"9999999999999999d", -ERANGE, 0},
		{"0.3s", 0, 300},     {"0.0001s", -EINVAL, 0},
		{"1.", -EINVAL, 0},   {"1.1234567s", -EINVAL, 0},
		{".5s", -EINVAL, 0},  {"1.5.5s", -EINVAL, 0},
		{NULL, 0, 0},
	};

	check_numbers(cases, str_to_duration_ms);
}

Test(str, sizes_have_units)
{
	static const struct number cases[] = {
		{"500MB", 0, 500000000},
		{"10GB", 0, 10000000000},
		{"4KiB", 0, 4096},
		{"1048576", 0, 1048576},
		{"1MiB", 0, 1 << 20},
		{"7B", 0, 7},
		{"1kb", 0, 1000},
		{"4K", -EINVAL, 0},
		{"1.5GB", 0, 1500000000},
		{"0.5B", -EINVAL, 0},
		{"", -EINVAL, 0},
		{"-1", -EINVAL, 0},
		{"99999999999TB", -ERANGE, 0},
		{NULL, 0, 0},
	};

	check_numbers(cases, str_to_size);
}

Test(str, plain_names)
{
	char longest[130];

	memset(longest, 'a', sizeof(longest));
	longest[128] = '\0';
	cr_expect(str_is_plain_name(longest));
	longest[128] = 'a';
	longest[129] = '\0';
	cr_expect(not(str_is_plain_name(longest)));
	cr_expect(str_is_plain_name("A"));
	cr_expect(str_is_plain_name("9a._-Z"));
	cr_expect(not(str_is_plain_name("")));
	cr_expect(not(str_is_plain_name(".")));
	cr_expect(not(str_is_plain_name("..")));
	cr_expect(not(str_is_plain_name("-a")));
	cr_expect(not(str_is_plain_name("_a")));
	cr_expect(not(str_is_plain_name("a b")));
	cr_expect(not(str_is_plain_name("a/b")));
	cr_expect(not(str_is_plain_name("a\n")));
	cr_expect(not(str_is_plain_name("\xC3\xA9")));
}

Test(str, any_name_is_made_plain)
{
	static const struct {
		const char *from, *to;
	} cases[] = {
		{"mnist", "mnist"},    {"my model!", "my_model_"},
		{"a\xC3\xA9z", "a_z"}, {".hidden", "x.hidden"},
		{"-rf", "x-rf"},       {"", "x_"},
		{NULL, "x_"},          {"\xE6\x97\xA5\xE6\x9C\xAC", "x__"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cleanup_free char *name = NULL;
		cr_assert(eq(int, str_make_plain_name(cases[i].from, &name), 0));
		cr_expect(eq(str, name, (char *)cases[i].to));
		cr_expect(str_is_plain_name(name));
	}
}

Test(str, a_long_name_is_cut)
{
	char longest[300];
	cleanup_free char *name = NULL;

	memset(longest, '%', sizeof(longest));
	longest[299] = '\0';
	cr_assert(eq(int, str_make_plain_name(longest, &name), 0));
	cr_assert(eq(sz, strlen(name), 127));
	cr_assert(str_is_plain_name(name));
}

Test(str, hex_is_of_every_byte)
{
	char text[9];
	cr_expect(eq(str, str_hex("\x00\x9f\xa0\xff", 4, text), "009fa0ff"));
	cr_expect(eq(str, str_hex("", 0, text), ""));
}

Test(str, hash_chains)
{
	uint64_t whole = str_hash(STR_HASH_START, "ab", 2);

	cr_assert(eq(u64, str_hash(str_hash(STR_HASH_START, "a", 1), "b", 1), whole));
	cr_assert(eq(u64, str_hash(STR_HASH_START, "a", 1), UINT64_C(0xaf63dc4c8601ec8c)),
		  "FNV-1a's own example");
}

Test(str, prefix_and_suffix)
{
	cr_expect(str_has_prefix("abc", "ab"));
	cr_expect(str_has_prefix("abc", ""));
	cr_expect(not(str_has_prefix("ab", "abc")));
	cr_expect(str_has_suffix("abc", "bc"));
	cr_expect(not(str_has_suffix("c", "bc")));
}

Test(str, copies_fit_or_are_not_made)
{
	char text[4] = "old";

	cr_expect(not(str_copy(text, sizeof(text), "1234")));
	cr_expect(eq(str, text, "old"));
	cr_expect(str_copy(text, sizeof(text), "123"));
	cr_expect(eq(str, text, "123"));
}

Test(str, a_sentence_is_cut_between_characters)
{
	char text[6];

	str_copy_sentence(text, sizeof(text), "a\nb\tc", 5);
	cr_expect(eq(str, text, "a b c"));
	str_copy_sentence(text, sizeof(text), "abcd\xC3\xBC!", 7);
	cr_expect(eq(str, text, "abcd"));
	str_copy_sentence(text, sizeof(text), "rest", 2);
	cr_expect(eq(str, text, "re"));
}

Test(str, a_copy_of_nothing_is_nothing)
{
	char *none = (char *)"", *copy = NULL;

	cr_expect(zero(int, str_dup(NULL, &none)));
	cr_expect(eq(ptr, none, NULL));
	cr_assert(zero(int, str_dup("text", &copy)));
	cr_expect(eq(str, copy, "text"));
	free(copy);
}
