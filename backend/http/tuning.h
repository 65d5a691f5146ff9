/* SPDX-License-Identifier: MIT */
/* The numbers of the engine, for tests that cannot wait as long as people can. */
#pragma once

#include "http/http.h"

/* A zero stands for the usual value: HTTP_CONNECT_MS and so on, see http.h. */
struct http_limits {
	int connect_ms, stall_ms, total_ms;
	int attempts, attempts_throttled;
	int backoff_ms, backoff_max_ms; /* the random wait before the nth retry is at most backoff_ms * 2^n */
	int pace_ms; /* between two requests to a host that has said "slow down" for the first time */
	int connections_per_host;
};

/* As http_new. */
int http_new_with_limits(const struct http_limits *limits, struct http **ret, struct fault *reterr);
