/* SPDX-License-Identifier: MIT */
/*
 * Reading an object through one open handle: ranges of one version, read ahead as long as reads come in order.
 *
 * The first read fetches FIRST; in order the window doubles up to WINDOW_MAX, in ranges of RANGE_MAX of which IN_FLIGHT
 * are under way; three jumps, and only what is asked for is fetched until reads come in order again. All readers of a
 * mount share one budget (half of cache.memory): without room windows do not grow, and what is waited for is fetched all
 * the same. Readers are parked and answered by the thread that brings the bytes.
 */
#pragma once

#include "objects.h"

struct reader;

enum {
	READER_UNIT = 128 << 10,
	READER_FIRST = (1 << 20) + READER_UNIT,
	READER_WINDOW_MAX = 64 << 20,
	READER_RANGE_MAX = 8 << 20,
	READER_IN_FLIGHT = 8,
	READER_BEHIND = 1 << 20, /* kept */
	READER_AHEAD = 16 << 20, /* a jump of less is none */
	READER_JUMPS = 3
};

/* may_repin: the kernel has no pages of it; as long as nothing was given, another content of the same size will do. */
int reader_new_locked(struct object_file *file, bool may_repin, struct reader **ret);
ssize_t reader_read(struct call *c, struct reader *reader, char *buf, size_t size, off_t offset);
/* Takes NULL. What is under way ends by itself. */
void reader_close(struct reader *reader);
