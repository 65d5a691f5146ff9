/* SPDX-License-Identifier: MIT */
/*
 * An HTTP/1.1 server for tests, in this process, that can be as bad as servers are: it answers late, in pieces, with
 * less than it announced, with lies, with garbage, or not at all. Each request is kept, byte for byte, to be checked.
 *
 * What it answers comes from a script (the nth request gets the nth answer) or from a function (server_answer_with);
 * without either, and after the script's end, from `200 OK` with the body "ok". It listens on a free port of 127.0.0.1,
 * one thread a connection. A test that fails leaves it running; the process ends anyway. Nothing here uses backend/,
 * so that a mistake there is not made here as well.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct server;

/* ---- what came in */

/* Valid until server_free. */
struct server_request {
	int connection;        /* 0 is the first that was accepted */
	int nth_on_connection; /* 0 is the first */
	char *method, *target; /* as sent: path and query */
	char *head;            /* all of it, from the method to the empty line */
	char *body;            /* NUL-terminated */
	size_t n_body;
	int64_t at_ms; /* of CLOCK_MONOTONIC, when its head was complete */
};
/* The header's value without the blanks around it, in `ret`, cut to it; NULL: there is none. Names without case. */
char *server_request_header(const struct server_request *request, const char *name, char *ret, size_t size);

/* ---- what goes out */

enum server_deed {
	SERVER_ANSWERS,   /* as the fields below tell */
	SERVER_CLOSES,    /* closes the connection without a word */
	SERVER_RESETS,    /* the same, with RST */
	SERVER_IS_SILENT, /* never says anything; until the client goes away or the server ends */
	SERVER_SAYS,      /* sends `raw` as it is, then closes */
};

/* Strings and bodies are borrowed until the server is freed. A zeroed one is `200 OK` with an empty body. */
struct server_answer {
	enum server_deed deed;
	int status;          /* 0: 200 */
	const char *headers; /* "Name: value\r\n..."; NULL: none but those of the framing */
	const char *body;    /* NULL: n_body bytes of server_byte() */
	int64_t n_body;      /* 0 with a body: strlen */

	/* framing: Content-Length, unless one of these is set */
	bool is_chunked;      /* in chunks of `piece` bytes or 64 KiB */
	const char *trailers; /* of a chunked one: "Name: value\r\n..." */
	bool is_endless;      /* a chunked body that never ends (n_body is not looked at) */
	bool has_no_length;   /* the end of the connection is the body's */
	int64_t n_announced;  /* Content-Length, whatever is sent; 0: the truth */

	/* how */
	const char *before; /* sent as it is before the status line: "HTTP/1.1 103 Early Hints\r\n\r\n" */
	int piece;          /* bytes at a time; 0: all */
	int pause_ms;       /* between two pieces */
	bool is_held;       /* before anything: waits for server_release */
	int64_t hold_at;    /* after that many bytes of the body: waits for server_release; 0: does not */
	int64_t cut_at; /* after that many bytes of the body the connection ends; -1: before the first; 0: it does not */
	bool is_reset;     /* by RST */
	bool is_last;      /* the connection is closed behind it, and "Connection: close" says so */
	bool ignores_body; /* answers without reading the body of the request, and closes */

	const char *raw; /* SERVER_SAYS */
	size_t n_raw;    /* 0: strlen */
};

/* The byte at that offset of a body that is not given: any two of 251 neighbours differ. */
unsigned char server_byte(int64_t at);

/* ---- the server */

int server_new(struct server **ret); /* -errno */
void server_free(struct server *server);

const char *server_url(const struct server *server); /* "http://127.0.0.1:PORT"; borrowed */
int server_port(const struct server *server);

/* `n` answers, for the requests from now on in the order of their arrival; a script before it is forgotten. */
void server_script(struct server *server, const struct server_answer *answer, size_t n);
/* Each request that no script has an answer for is given to `answer`; on the connection's thread, several at once. */
typedef void (*server_answerer)(void *arg, const struct server_request *request, struct server_answer *ret);
void server_answer_with(struct server *server, server_answerer answer, void *arg);

/* One of the answers that are held, or the next that will be, goes on. */
void server_release(struct server *server);

size_t server_n_requests(struct server *server);
size_t server_n_connections(struct server *server);
/* The nth that came in, from 0; NULL: it has not. */
const struct server_request *server_request(struct server *server, size_t nth);
/* Waits until there were n requests; false: not within 20 s. */
bool server_wait(struct server *server, size_t n);
/* Waits until the nth connection (from 0) was closed by the client, or has ended otherwise; false: not within 20 s. */
bool server_wait_closed(struct server *server, int connection);
