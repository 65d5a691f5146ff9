/* SPDX-License-Identifier: MIT */
/* An engine with short limits, a client of it, and a faulty server; for tests of http/. */
#pragma once

#include "http/http.h"
#include "http/tuning.h"
#include "server.h"

#include <pthread.h>

enum { WORLD_STALL_MS = 400 };

extern struct world {
	struct server *server;
	struct http *http;
	struct http_client *client;
	/* of the last ask() */
	struct http_reply reply;
	struct fault fault;
} world;

void world_open(void); /* retries at once */
void world_open_with(const struct http_limits *limits);
void world_close(void);

/* http_perform with world.client; `request.url` is a path of world.server, or a URL; the method is GET if none is given. */
int ask(struct http_request request);
int get(const char *path);
int get_repeatedly(const char *path); /* is_repeatable */

/* The same on a thread of its own. */
struct asking {
	struct http_request request;
	struct http_reply reply;
	struct fault fault;
	int result;
	pthread_t thread;
	char url[256];
};
void asking_begin(struct asking *asking, struct http_request request);
int asking_end(struct asking *asking); /* waits; the result */
void asking_release(struct asking *asking);

#define script(...)                                                                         \
	do {                                                                                \
		const struct server_answer script_[] = {__VA_ARGS__};                       \
		server_script(world.server, script_, sizeof(script_) / sizeof(script_[0])); \
	} while (0)
