/* SPDX-License-Identifier: MIT */
/* Checked once, looked up by name. */
#include "auth/endpoints.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "http/url.h"
#include "str.h"

bool auth_is_http_url(const char *text)
{
	struct url url;
	return text && url_parse(text, &url) == 0 &&
	       (str_has_prefix(text, "https://") || str_has_prefix(text, "http://"));
}

int auth_endpoints_init(const char *all, const json_t *single, struct auth_endpoints *ret,
			struct fault *reterr)
{
	const char *name;
	json_t *value;
	if (all && !auth_is_http_url(all))
		return fault_set(reterr, EINVAL, "endpoint: an http or https URL is wanted");
	if (single && !json_is_object(single))
		return fault_set(reterr, EINVAL,
				 "endpoints: a service and its URL each is wanted, {s3: URL}");
	json_object_foreach ((json_t *)single, name, value) {
		if (!auth_is_http_url(json_string_value(value)))
			return fault_set(reterr, EINVAL, "endpoints: %s: an http or https URL is wanted",
					 name);
	}
	struct auth_endpoints endpoints = {.all = all ? strdup(all) : NULL};
	endpoints.single = single ? json_deep_copy(single) : NULL;
	if ((all && !endpoints.all) || (single && !endpoints.single)) {
		auth_endpoints_release(&endpoints);
		return -ENOMEM;
	}
	*ret = endpoints;
	return 0;
}

void auth_endpoints_release(struct auth_endpoints *endpoints)
{
	free(endpoints->all);
	json_decref(endpoints->single);
	*endpoints = (struct auth_endpoints){0};
}

const char *auth_endpoints_get(const struct auth_endpoints *endpoints, const char *name, const char *other)
{
	const char *url = json_string_value(json_object_get(endpoints->single, name));
	if (!url && other)
		url = json_string_value(json_object_get(endpoints->single, other));
	return url ?: endpoints->all;
}

int auth_base_url(const char *text, char **ret)
{
	size_t n = strlen(text);
	while (n > 0 && text[n - 1] == '/')
		n--;
	return str_format(ret, "%.*s", (int)n, text);
}
