/* SPDX-License-Identifier: MIT */
/*
 * Makes inotify fire for what changed remotely. Only an operation through the mount does, and the daemon's own threads
 * may never wait for their own mount: a helper process sets the file's mtime alone, which is an IN_MODIFY.
 */
#pragma once

struct touch;

/* Starts the helper. -errno. */
int touch_start(struct touch **ret);

/*
 * Has `absolute_path` touched, soon. Never blocks: with the helper behind, or the path longer than 4095 bytes, the
 * touch is dropped. Starts a helper that died anew, once a second at most. Callable from any thread.
 */
void touch_path(struct touch *touch, const char *absolute_path);

void touch_free(struct touch *touch); /* takes NULL; no touch_path may run any more */

/* The helper itself: `trainfs-helper touch`, paths on standard input, a NUL after each. Returns the exit code. */
int touch_helper_main(void);
