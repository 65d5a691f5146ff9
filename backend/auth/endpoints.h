/* SPDX-License-Identifier: MIT */
/* Base URLs that a remote's options set: `endpoint` for all services, `endpoints: {s3: URL}` for one. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "fault.h"

/* Zeroed is none. */
struct auth_endpoints {
	char *all;
	json_t *single;
};

/* Copies. -EINVAL: no http(s) URL. */
int auth_endpoints_init(const char *all, const json_t *single, struct auth_endpoints *ret,
			struct fault *reterr);
void auth_endpoints_release(struct auth_endpoints *endpoints);
/* Borrowed; NULL: none. `other`: a second name of the same service; NULL. */
const char *auth_endpoints_get(const struct auth_endpoints *endpoints, const char *name, const char *other);
bool auth_is_http_url(const char *text); /* takes NULL */
/* A copy without '/' at its end. */
int auth_base_url(const char *text, char **ret);
