/* SPDX-License-Identifier: MIT */
/* What a package's .git says: submission_git of submission.h is made here. */
#pragma once

#include <stdbool.h>

/*
 * May libgit2 be let at the .git in the directory open as `dir_fd`? No when it is no directory, or holds or refers
 * to what could block, lead elsewhere or grow: pipes, devices, links, includes, other work trees, alternates.
 */
bool git_is_tame(int dir_fd);
