/* SPDX-License-Identifier: MIT */
/*
 * The daemon's log: stderr in front (-f), else syslog. base/ and the backends log at debug only
 * and return their faults; fs/ logs a failure once. A warning that is survived ends in ", ignoring".
 * Never pass a secret.
 */
#pragma once

#include <stdbool.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Callable from any thread. `to_syslog` is decided once, before threads start. */
void log_init(enum log_level level, bool to_syslog);
void log_set_debug(bool on);
void log_at(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...)   log_at(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_at(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_at(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_at(LOG_LEVEL_DEBUG, __VA_ARGS__)
