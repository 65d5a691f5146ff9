/* SPDX-License-Identifier: MIT */
/* A small HTTP server in this process that answers as told and remembers what it was asked. One a process. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* The first that fits is the answer; none: 404. */
struct peer_route {
	const char *method, *path; /* path with query: how it begins */
	int status;
	const char *headers; /* "Name: value\r\n" each; NULL */
	const char *body;
};

/* On a free port of 127.0.0.1. */
void peer_start(void);
void peer_stop(void);
const char *peer_url(void); /* "http://127.0.0.1:PORT" */
/* Borrowed until the next call; forgets what was asked before. */
void peer_set(const struct peer_route *route, size_t n);
#define PEER_SET(...)                                      \
	peer_set((const struct peer_route[]){__VA_ARGS__}, \
		 sizeof((const struct peer_route[]){__VA_ARGS__}) / sizeof(struct peer_route))

int peer_n_asked(void);
/* The request, head and body, of that number from 0 on; "" if there was none. Borrowed until peer_set. */
const char *peer_asked(int i);
/* Does it hold `part`? */
bool peer_has(int i, const char *part);
