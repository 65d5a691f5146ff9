/* SPDX-License-Identifier: MIT */
/* What the environment says about TLS: libcurl reads the proxies itself, but not these. */
#include "http/engine.h"

#include "cleanup.h"

#include <errno.h>
#include <string.h>

static int profile_get(const char *name, char **ret)
{
	const char *value = getenv(name);

	*ret = value && *value ? strdup(value) : NULL;
	return value && *value && !*ret ? -ENOMEM : 0;
}

int http_profile_read(char **ret_ca_file, char **ret_ca_dir)
{
	cleanup_free char *file = NULL;
	int r = profile_get("SSL_CERT_FILE", &file);
	if (r == 0)
		r = profile_get("SSL_CERT_DIR", ret_ca_dir);
	if (r < 0)
		return r;
	*ret_ca_file = STEAL(file);
	return 0;
}
