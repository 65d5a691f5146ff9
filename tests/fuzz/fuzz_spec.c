/* SPDX-License-Identifier: MIT */
/* job.yaml and job.json: a text either is refused with a place, or gives an object that is dumped and read again. */
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "fs/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse(const char *name, const char *text, size_t n)
{
	cleanup_yaml struct yaml yaml = {0}, again = {0};
	cleanup_json json_t *spec = NULL;
	cleanup_json json_t *second = NULL;
	struct fault fault = {0};
	if (spec_parse(name, text, n, &yaml, &spec, &fault) < 0) {
		if (fault.err == 0 || strncmp(fault.text, "job.", 4) != 0 || strchr(fault.text, '\n'))
			abort();
		return;
	}
	cleanup_free char *dumped = json_dumps(spec, JSON_INDENT(2));
	if (!dumped || spec_parse("spec.json", dumped, strlen(dumped), &again, &second, &fault) < 0)
		abort();
	if (!json_equal(spec, second))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	parse("job.yaml", (const char *)data, size);
	parse("job.json", (const char *)data, size);
	return 0;
}
