/* SPDX-License-Identifier: MIT */
/* The JSON of models: model.json (StarChart's model file), info.json, and what a saved model.json asks for. */
#pragma once

#include "model.h"
#include "str.h"

/* With the table's lock held. */
int model_json_render_locked(struct model *m, struct str *ret);
int version_info_render_locked(struct version *v, struct str *ret);

/* What model.json says of a job, new; NULL without memory. Blocks. */
json_t *model_json_job(struct remote *remote, const char *id);

/* The one version with `isDefault` true: its name (caller frees). -EBADMSG with the sentence. */
int model_json_parse(const char *text, size_t len, char **ret, struct fault *reterr);
