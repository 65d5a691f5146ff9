/* SPDX-License-Identifier: MIT */
/* config.yaml: refused, or dumped as a configuration that is read again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cleanup.h"
#include "fs/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int load(const void *data, size_t size, struct config *ret)
{
	char path[64];
	struct fault fault = {0};
	cleanup_close int fd = memfd_create("config", MFD_CLOEXEC);
	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int r = config_load(path, ret, &fault);
	if (r < 0 && (fault.err == 0 || strchr(fault.text, '\n')))
		abort();
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config config = {0}, again = {0};
	cleanup_free char *dumped = NULL;
	setenv("HOME", "/home/u", 1);
	if (load(data, size, &config) < 0)
		return 0;
	if (config_dump(&config, &dumped) < 0 || load(dumped, strlen(dumped), &again) < 0)
		abort();
	config_release(&config);
	config_release(&again);
	return 0;
}
