/* SPDX-License-Identifier: MIT */
/* CRC64NVME, which S3 keeps of each object that comes without a sum of its own. ISA-L has it from 2.31 on only. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define CRC64NVME_POLYNOMIAL UINT64_C(0x9A6C9329AC4BC9B5) /* bits reflected: x^63 is bit 0 */

/* Goes on from `crc`; 0 is the start. */
uint64_t crc64nvme_add(uint64_t crc, const void *bytes, size_t n);
