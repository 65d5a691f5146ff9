/* SPDX-License-Identifier: MIT */
/* The files of a job's directory: what the directory asks of them. */
#pragma once

#include "kinds.h"

struct job;

const char *job_file_name(enum job_file file);
bool job_file_is_listed(enum job_file file);
struct child job_file_child(struct job *job, enum job_file file);

/* 0, or -ENOENT: this job has none. May need the facts: CALL_MUST_BLOCK, CALL_PARKED, or why they cannot be had. */
int job_file_is_there(struct call *c, struct job *job, enum job_file file);
