/* SPDX-License-Identifier: MIT */
/* When a draft in train/ or jobs/ is complete: its writers have gone and it is quiet (DESIGN 3.3). */
#pragma once

#include "drafts.h"

/* A change: the timer looks at the draft after `delay_ms`, and again until it has settled. */
void settle_watch_locked(struct draft *draft, int64_t delay_ms);

/* The process of this thread writes to the draft. */
void settle_note_writer_locked(struct draft *draft, pid_t pid);
