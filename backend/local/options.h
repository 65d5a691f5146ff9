/* SPDX-License-Identifier: MIT */
/* The fields of a remote of type `local` in config.yaml. */
#pragma once

#include "fault.h"
#include "local/store.h"

#include <jansson.h>

/*
 * slots: N · gpus: N · grace: 10s · keep: 30d | 50GB | [30d, 50GB] · python: NAME. Defaults come from the machine.
 * -EINVAL names what is wrong. `ret_python` is new memory, or NULL when not given.
 */
int local_options_parse(const json_t *options, struct settings *ret, char **ret_python, struct fault *reterr);

/* backend_type.defaults: those that can be written out and mean the same. */
int local_options_defaults(const json_t *options, json_t **ret, struct fault *reterr);
