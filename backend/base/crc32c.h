/* SPDX-License-Identifier: MIT */
/* CRC32C (Castagnoli), the checksum that object stores know. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Goes on from `crc`; 0 is the start. */
uint32_t crc32c_add(uint32_t crc, const void *bytes, size_t n);

/* Of `n` bytes of a file from `at` on; -EIO if the file ends before, or what pread says. */
int crc32c_file(int fd, int64_t at, int64_t n, uint32_t *ret);
