/* SPDX-License-Identifier: MIT */
/* Parts of copying that tree_copy and package_copy share. */
#pragma once

struct stat;

/* Makes a symlink of the same name and target in `dst`. */
int tree_copy_link(int src, const char *name, int dst);

/* Gives a directory its mode and times. Last: filling it needs the one and changes the others. */
int tree_finish_dir(int fd, const struct stat *st);
