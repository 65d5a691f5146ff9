/* SPDX-License-Identifier: MIT */
/*
 * `mem`: jobs and models in memory. The contract in executable form, and the instrument of tests: it can be slow,
 * hang, fail, and take a submission but lose the reply.
 *
 * Options (all may be left out):
 *   auto: true         a submitted job runs at once, logs "hello from ID\n" and succeeds; else it waits to be driven
 *   control: PATH      a text file of commands (below), read again before an operation when it has changed
 *   max_block_ms: N    no operation takes longer, whatever is asked (60000)
 *   page: N            rows a page of a listing (100; of objects 1000), and the most KiB a page of a log (8192)
 *   watch: false       no watch, so that the tree has to poll
 *   remove: false      jobs cannot be deleted
 *   models: false, buckets: false   no such capability
 *   objects: true      buckets hold objects; else they are directories
 *
 * Commands, one a line; '#' begins a comment. The rules for operations are those in the file now; a command for a job
 * or an object is carried out once, so that lines may be added to the file, or the file replaced.
 *   OP delay MS                       it takes that long, then does its work
 *   OP hang MS                        it does nothing for so long, then -ETIMEDOUT; goes on if the rule goes away
 *   OP fail ERRNO [every N|first N]   it does nothing but fail: always, each Nth call, or the first N
 *   OP lose-reply [ERRNO]             it does its work and then fails (ETIMEDOUT)
 *   objects repeat                    every page says that there is more, and gives the same cursor
 *   cursors stale                     cursors given so far are -ESTALE
 *   job ID state STATE [EXIT]         makes the job if there is none; it succeeds with output/model/model.txt
 *   job ID log TEXT                   adds TEXT and a newline; \n, \t and \\ are understood, \c ends without newline
 *   job ID why TEXT
 *   job ID remove
 *   object BUCKET put KEY TEXT        as somebody else would; KEY with %HH, TEXT as that of a log
 *   object BUCKET remove KEY
 *   object BUCKET damage KEY AT       reads give another byte there than was put
 *   object BUCKET fill PREFIX N       N objects PREFIX000000000 and on, each its key's bytes; not kept on disk
 * OP: list get check submit cancel remove log package model-list model-get model-create model-remove model-check
 *     version-create version-remove artifacts alias-set alias-remove bucket-list bucket-create bucket-remove
 *     bucket-dir objects object-get object-read object-checksum object-put object-part (each 8 MiB of a bigger put)
 *     object-copy object-remove; or * for all of them.
 *
 * Kept on disk in state_dir: objects.log and objects.data (all that was ever put), packages/ID, buckets/B (outputs/MODEL/ID is a job's output), models/M/V, and
 * accepted.jsonl, a line a submission taken or job removed, from which the jobs come back at the next open (QUEUED,
 * or ended with auto). Models do not come back. One process at a time.
 */
#pragma once

#include "backend.h"

/* One line of the language above; -EINVAL, with the sentence. For tests in the same process. */
int mem_control(struct backend *be, const char *command, struct fault *reterr);

/* How often an operation has been called (also when it failed); 0 for an unknown one. */
unsigned mem_calls(struct backend *be, const char *op);
