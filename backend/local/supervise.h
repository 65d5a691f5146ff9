/* SPDX-License-Identifier: MIT */
/* A running job's own process: prepares it, runs it, keeps its log, records its end. */
#pragma once

/*
 * The helper "supervise": argv is {"supervise", STATE_DIR, JOB_ID}; descriptor 3 is the job's lock, held. Called in a
 * process of its own, single-threaded. Returns when the job has ended and its end is recorded.
 */
int local_supervise_main(int argc, char **argv);
