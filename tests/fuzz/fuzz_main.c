/* SPDX-License-Identifier: MIT */
/* Python text looked at for main(): any bytes, and never a byte beyond them. */
#include <stdint.h>

#include "fs/recognise.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	(void)recognise_main((const char *)data, size);
	return 0;
}
