/* SPDX-License-Identifier: MIT */
/*
 * Named points between the steps of the journal, where a test build (-Dtests=true) can be made to die as by kill -9:
 * TRAINFS_CRASH_POINT=NAME. Nothing in other builds.
 */
#pragma once

#ifdef TRAINFS_CRASH_POINTS
void crash_point(const char *name);
#else
static inline void crash_point(const char *name)
{
}
#endif
