/* SPDX-License-Identifier: MIT */
#include "base/options.h"

#include <errno.h>
#include <string.h>

#include "str.h"

static int no_such_option(const char *name, const char *what, const struct option_text *text, size_t n,
			  struct fault *reterr)
{
	cleanup_str struct str names = {0};
	for (size_t i = 0; i < n; i++)
		str_printf(&names, "%s, ", text[i].name);
	return fault_set(reterr, EINVAL, "%s: no such option of %s (%sendpoints)", name, what,
			 names.data ? names.data : "");
}

static int parse_one(const char *name, const json_t *value, const char *what, const struct option_text *text,
		     size_t n, struct fault *reterr)
{
	size_t i = 0;
	while (i < n && strcmp(name, text[i].name) != 0)
		i++;
	if (i == n)
		return no_such_option(name, what, text, n, reterr);
	const char *given = json_string_value(value);
	if (!given || !*given)
		return fault_set(reterr, EINVAL, "%s: a text is wanted", name);
	*text[i].ret = given;
	return 0;
}

int options_parse(const json_t *options, const char *what, const struct option_text *text, size_t n,
		  const json_t **ret_endpoints, struct fault *reterr)
{
	const char *name;
	json_t *value;
	json_object_foreach ((json_t *)options, name, value) {
		bool is_endpoints = strcmp(name, "endpoints") == 0;
		if (is_endpoints && !json_is_object(value))
			return fault_set(reterr, EINVAL,
					 "endpoints: URLs by service are wanted, as {SERVICE: URL}");
		int r = is_endpoints ? 0 : parse_one(name, value, what, text, n, reterr);
		if (r < 0)
			return r;
		if (is_endpoints)
			*ret_endpoints = value;
	}
	return 0;
}
