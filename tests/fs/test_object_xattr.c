/* SPDX-License-Identifier: MIT */
#include "fs/objects.h"

#include "cleanup.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

static char *shown(const struct object_detail *facts)
{
	cleanup_json json_t *all = json_object();
	cr_assert(eq(int, object_xattrs_add(facts, all), 0));
	return json_dumps(all, JSON_SORT_KEYS | JSON_COMPACT);
}

#define SHOWS(facts, wanted)                           \
	do {                                           \
		cleanup_free char *got = shown(facts); \
		cr_expect(eq(str, got, (wanted)));     \
	} while (0)

Test(object_xattr, of_what_is_not_known_there_is_none)
{
	SHOWS(&(struct object_detail){0}, "{}");
}

Test(object_xattr, type_class_and_metadata)
{
	SHOWS((&(struct object_detail){.content_type = "text/plain",
				       .storage_class = "NEARLINE",
				       .metadata = "{\"a\":\"1\",\"b c\":\"\\u00fc\"}"}),
	      "{\"content-type\":\"text/plain\",\"meta.a\":\"1\",\"meta.b c\":\"\xc3\xbc\","
	      "\"storage-class\":\"NEARLINE\"}");
}

Test(object_xattr, names_that_cannot_be_one_are_left_out)
{
	char long_name[300];
	cleanup_free char *text = NULL;
	memset(long_name, 'n', sizeof(long_name));
	long_name[245] = '\0'; /* with user.meta. just as long as Linux takes */
	cr_assert(eq(int,
		     str_format(&text,
				"{\"%s\":\"fits\",\"%sn\":\"no\",\"\":\"no\",\"a\\u0001b\":\"no\",\"n\":3}",
				long_name, long_name),
		     0));
	cleanup_json json_t *all = json_object();
	cr_assert(eq(int, object_xattrs_add(&(struct object_detail){.metadata = text}, all), 0));
	cr_expect(eq(sz, json_object_size(all), 1));
	const char *name;
	json_t *value;
	json_object_foreach (all, name, value)
		cr_expect(eq(str, (char *)json_string_value(value), "fits"));
}

Test(object_xattr, values_are_bytes)
{
	cleanup_json json_t *all = json_object();
	cr_assert(eq(int,
		     object_xattrs_add(&(struct object_detail){.metadata = "{\"a\":\"x\\u0000\\ny\"}"}, all),
		     0));
	cr_expect(eq(sz, json_string_length(json_object_get(all, "meta.a")), 4));
}

Test(object_xattr, what_is_no_object_shows_nothing)
{
	SHOWS(&(struct object_detail){.metadata = "[1"}, "{}");
	SHOWS(&(struct object_detail){.metadata = ""}, "{}");
}
