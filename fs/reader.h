/* SPDX-License-Identifier: MIT */
/*
 * Reading an object through one open handle: lent from what is here (ranges.h), which is fetched ahead as long as reads
 * come in order (readahead.h). Who waits is parked, and answered by the thread that brings the bytes.
 */
#pragma once

#include "objects.h"

struct loan;
struct reader;

/* What came was not what the service has: who opens the file from now on has it fetched anew. Else nothing. */
void reader_drop_wrong_locked(struct object_file *file);

/* may_repin: the kernel has no pages of it; as long as nothing was given, another content of the same size will do. */
int reader_new_locked(struct object_file *file, bool may_repin, struct reader **ret);
/* *ret: NULL, or what it was lent while it waited; filled if there is anything. */
ssize_t reader_lend(struct call *c, struct reader *reader, size_t size, off_t offset, struct loan **ret);
/* Takes NULL. What is under way ends by itself. */
void reader_close(struct reader *reader);
