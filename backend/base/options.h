/* SPDX-License-Identifier: MIT */
/* The options of a remote at a service: texts, and `endpoints`, an object of URLs by service. */
#pragma once

#include "fault.h"

#include <jansson.h>
#include <stddef.h>

struct option_text {
	const char *name;
	const char **ret; /* borrowed from the options; untouched where it is not given */
};

/* `what` is for messages: "an aws remote". -EINVAL with the name of what is no option, or no text. */
int options_parse(const json_t *options, const char *what, const struct option_text *text, size_t n,
		  const json_t **ret_endpoints, struct fault *reterr);
