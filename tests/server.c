/* SPDX-License-Identifier: MIT */
/* Plain sockets and a thread a connection; see server.h. */
#include "server.h"

#include "cleanup.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 64 << 10, HEAD_MAX = 1 << 20, PATIENCE_MS = 20000 };

struct connection {
	struct server *server;
	pthread_t thread;
	int number;

	/* its thread only */
	char *buffer; /* what was read and not used */
	size_t n_buffer, capacity;
	int n_requests;

	/* protected by server->lock */
	int fd; /* -1: closed */
	bool is_over;
	struct connection *next;
};

struct server {
	/* immutable after init */
	int fd;
	int port;
	char url[64];
	pthread_t thread;

	pthread_mutex_t lock;
	/* protected by lock */
	pthread_cond_t changed;
	struct server_request **request;
	size_t n_requests;
	struct server_answer *script;
	size_t n_script, n_script_used;
	server_answerer answerer;
	void *answerer_arg;
	struct connection *connections; /* newest first */
	int n_connections;
	int n_releases;
	bool is_ending;
};

unsigned char server_byte(int64_t at)
{
	return (unsigned char)(at % 251);
}

static int64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- reading a request */

/* More bytes into the buffer; false: there are none. */
static bool connection_fill(struct connection *connection)
{
	if (connection->capacity - connection->n_buffer < PIECE) {
		connection->capacity = 2 * connection->capacity + PIECE;
		connection->buffer = realloc(connection->buffer, connection->capacity);
		assert(connection->buffer);
	}
	ssize_t n = recv(connection->fd, connection->buffer + connection->n_buffer, PIECE, 0);
	if (n <= 0)
		return false;
	connection->n_buffer += (size_t)n;
	return true;
}

/* The next n bytes as text; NULL: the client has gone. */
static char *connection_take(struct connection *connection, size_t n)
{
	while (connection->n_buffer < n) {
		if (!connection_fill(connection))
			return NULL;
	}
	char *text = malloc(n + 1);
	assert(text);
	memcpy(text, connection->buffer, n);
	text[n] = '\0';
	connection->n_buffer -= n;
	memmove(connection->buffer, connection->buffer + n, connection->n_buffer);
	return text;
}

static char *connection_take_head(struct connection *connection)
{
	for (;;) {
		const char *end = connection->n_buffer
					  ? memmem(connection->buffer, connection->n_buffer, "\r\n\r\n", 4)
					  : NULL;
		if (end)
			return connection_take(connection, (size_t)(end - connection->buffer) + 4);
		if (connection->n_buffer > HEAD_MAX || !connection_fill(connection))
			return NULL;
	}
}

char *server_request_header(const struct server_request *request, const char *name, char *ret, size_t size)
{
	const size_t n = strlen(name);

	for (const char *line = strstr(request->head, "\r\n"); line && line[2];
	     line = strstr(line + 2, "\r\n")) {
		const char *value = line + 2 + n;
		if (strncasecmp(line + 2, name, n) != 0 || *value != ':')
			continue;
		value++;
		value += strspn(value, " \t");
		(void)snprintf(ret, size, "%.*s", (int)strcspn(value, "\r"), value);
		return ret;
	}
	return NULL;
}

static void request_free(struct server_request *request)
{
	free(request->method);
	free(request->target);
	free(request->head);
	free(request->body);
	free(request);
}

/* "METHOD TARGET HTTP/1.1" */
static bool request_split(struct server_request *request)
{
	const char *head = request->head;
	size_t n_method = strcspn(head, " \r");
	if (head[n_method] != ' ')
		return false;
	size_t n_target = strcspn(head + n_method + 1, " \r");
	request->method = strndup(head, n_method);
	request->target = strndup(head + n_method + 1, n_target);
	assert(request->method && request->target);
	return strncmp(head + n_method + 1 + n_target, " HTTP/1.1\r\n", 11) == 0;
}

static void connection_take_body(struct connection *connection, struct server_request *request)
{
	char text[32] = "0";

	(void)server_request_header(request, "Content-Length", text, sizeof(text));
	request->n_body = (size_t)strtoll(text, NULL, 10);
	request->body = connection_take(connection, request->n_body);
}

/* The head of the next request; NULL: the client has gone, or speaks something else. */
static struct server_request *connection_read(struct connection *connection)
{
	struct server_request *request = calloc(1, sizeof(*request));
	assert(request);
	request->connection = connection->number;
	request->nth_on_connection = connection->n_requests++;
	request->head = connection_take_head(connection);
	request->at_ms = now_ms();
	if (request->head && request_split(request))
		return request;
	request_free(request);
	return NULL;
}

/* ---- waiting */

static void wait_a_while(struct server *server, int64_t until_ms)
{
	const struct timespec until = {.tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000};

	(void)pthread_cond_timedwait(&server->changed, &server->lock, &until);
}

/* Until somebody calls server_release; false: the server ends. */
static bool server_hold(struct server *server)
{
	LOCK_SCOPE(&server->lock);
	while (server->n_releases == 0 && !server->is_ending)
		pthread_cond_wait(&server->changed, &server->lock);
	server->n_releases -= server->n_releases > 0;
	return !server->is_ending;
}

static bool server_pause(struct server *server, int ms)
{
	int64_t until_ms = now_ms() + ms;

	LOCK_SCOPE(&server->lock);
	while (!server->is_ending && now_ms() < until_ms)
		wait_a_while(server, until_ms);
	return !server->is_ending;
}

/* ---- sending an answer */

static bool send_all(int fd, const char *bytes, size_t n)
{
	while (n > 0) {
		ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);
		if (sent < 0)
			return false;
		bytes += sent;
		n -= (size_t)sent;
	}
	return true;
}

static bool send_text(int fd, const char *text)
{
	return send_all(fd, text, strlen(text));
}

static bool send_head(const struct connection *connection, const struct server_answer *answer, int64_t n_body)
{
	cleanup_free char *head = NULL;
	char framing[64] = "";
	const int status = answer->status ? answer->status : 200;

	if (answer->is_chunked || answer->is_endless)
		(void)snprintf(framing, sizeof(framing), "Transfer-Encoding: chunked\r\n");
	else if (!answer->has_no_length && status != 204 && status != 304)
		(void)snprintf(framing, sizeof(framing), "Content-Length: %lld\r\n",
			       (long long)(answer->n_announced ? answer->n_announced : n_body));
	int n = asprintf(&head, "%sHTTP/1.1 %d Said\r\n%s%s%s\r\n", answer->before ? answer->before : "",
			 status, framing, answer->is_last ? "Connection: close\r\n" : "",
			 answer->headers ? answer->headers : "");
	assert(n > 0);
	return send_all(connection->fd, head, (size_t)n);
}

/* n bytes from offset `at` of the body, as one chunk if it has those. */
static bool send_piece(const struct connection *connection, const struct server_answer *answer, int64_t at,
		       int64_t n)
{
	char own[PIECE], size[32];
	const char *bytes = answer->body ? answer->body + at : own;
	const bool is_chunked = answer->is_chunked || answer->is_endless;

	for (int64_t i = 0; !answer->body && i < n; i++)
		own[i] = (char)server_byte(at + i);
	(void)snprintf(size, sizeof(size), "%llx\r\n", (unsigned long long)n);
	return (!is_chunked || send_text(connection->fd, size)) &&
	       send_all(connection->fd, bytes, (size_t)n) &&
	       (!is_chunked || send_text(connection->fd, "\r\n"));
}

/* False: the connection is of no use any more. */
static bool send_body(const struct connection *connection, const struct server_answer *answer, int64_t n_body)
{
	const int64_t most = answer->piece > 0 && answer->piece < PIECE ? answer->piece : PIECE;
	int64_t end = answer->is_endless ? INT64_MAX : answer->cut_at > 0 ? answer->cut_at : n_body;

	for (int64_t at = 0, n; at < end; at += n) {
		n = end - at < most ? end - at : most;
		if (at < answer->hold_at && n > answer->hold_at - at)
			n = answer->hold_at - at;
		if (answer->hold_at > 0 && at == answer->hold_at && !server_hold(connection->server))
			return false;
		if (at > 0 && answer->pause_ms > 0 && !server_pause(connection->server, answer->pause_ms))
			return false;
		if (!send_piece(connection, answer, at, n))
			return false;
	}
	if (answer->cut_at != 0)
		return false;
	if (!answer->is_chunked)
		return true;
	return send_text(connection->fd, "0\r\n") &&
	       (!answer->trailers || send_text(connection->fd, answer->trailers)) &&
	       send_text(connection->fd, "\r\n");
}

/* Until the client goes away, or the server ends and shuts the connection down. */
static void connection_drain(const struct connection *connection)
{
	char bytes[4096];

	while (recv(connection->fd, bytes, sizeof(bytes), 0) > 0)
		;
}

/* False: the connection ends. */
static bool send_answer(const struct connection *connection, const struct server_request *request,
			const struct server_answer *answer)
{
	int64_t n_body = answer->n_body;
	if (n_body == 0 && answer->body)
		n_body = (int64_t)strlen(answer->body);
	const bool has_body =
		strcmp(request->method, "HEAD") != 0 && answer->status != 204 && answer->status != 304;

	if (!send_head(connection, answer, n_body) || answer->cut_at < 0)
		return false;
	if (has_body && !send_body(connection, answer, n_body))
		return false;
	if (answer->ignores_body) { /* closing with bytes unread would be RST, and might overtake the answer */
		(void)shutdown(connection->fd, SHUT_WR);
		connection_drain(connection);
		return false;
	}
	return !answer->is_last && !answer->has_no_length;
}

static bool connection_do(struct connection *connection, const struct server_request *request,
			  const struct server_answer *answer)
{
	const struct linger reset = {.l_onoff = 1, .l_linger = 0}; /* closing sends RST */

	if (answer->is_held && !server_hold(connection->server))
		return false;
	if (answer->is_reset || answer->deed == SERVER_RESETS)
		(void)setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	switch (answer->deed) {
	case SERVER_ANSWERS:
		return send_answer(connection, request, answer);
	case SERVER_SAYS:
		(void)send_all(connection->fd, answer->raw,
			       answer->n_raw ? answer->n_raw : strlen(answer->raw));
		return false;
	case SERVER_IS_SILENT:
		connection_drain(connection);
		return false;
	default:
		return false;
	}
}

/* ---- a connection */

static struct server_answer server_find_answer(struct server *server, const struct server_request *request)
{
	struct server_answer answer = {.body = "ok"};
	server_answerer answerer;
	void *arg;

	{
		LOCK_SCOPE(&server->lock);
		if (server->n_script_used < server->n_script)
			return server->script[server->n_script_used++];
		answerer = server->answerer;
		arg = server->answerer_arg;
	}
	if (answerer) {
		answer.body = NULL;
		answerer(arg, request, &answer);
	}
	return answer;
}

static void server_keep(struct server *server, struct server_request *request)
{
	LOCK_SCOPE(&server->lock);
	struct server_request **grown =
		reallocarray(server->request, server->n_requests + 1, sizeof(struct server_request *));
	assert(grown);
	server->request = grown;
	grown[server->n_requests++] = request;
	pthread_cond_broadcast(&server->changed);
}

/* A scripted answer that does not wait for the body has to be known before that is read. */
static bool is_answered_early(struct server *server)
{
	LOCK_SCOPE(&server->lock);
	bool is_early = server->n_script_used < server->n_script &&
			server->script[server->n_script_used].ignores_body;
	return is_early;
}

/* One request and its answer; false: it was the last. */
static bool connection_serve(struct connection *connection)
{
	struct server *server = connection->server;
	struct server_request *request = connection_read(connection);
	if (!request)
		return false;
	if (is_answered_early(server))
		request->body = strdup("");
	else
		connection_take_body(connection, request);
	if (!request->body) {
		request_free(request);
		return false;
	}
	struct server_answer answer = server_find_answer(server, request);
	server_keep(server, request);
	return connection_do(connection, request, &answer);
}

static void *connection_run(void *arg)
{
	struct connection *connection = arg;
	struct server *server = connection->server;

	while (connection_serve(connection))
		;
	LOCK_SCOPE(&server->lock);
	close(connection->fd);
	connection->fd = -1;
	connection->is_over = true;
	pthread_cond_broadcast(&server->changed);
	return NULL;
}

static void server_accept(struct server *server, int fd)
{
	const int yes = 1;
	struct connection *connection = calloc(1, sizeof(*connection));
	assert(connection);
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	connection->server = server;
	connection->fd = fd;
	LOCK_SCOPE(&server->lock);
	connection->number = server->n_connections++;
	connection->next = server->connections;
	server->connections = connection;
	int r = pthread_create(&connection->thread, NULL, connection_run, connection);
	assert(r == 0);
}

static void *server_run(void *arg)
{
	struct server *server = arg;

	for (;;) {
		int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			return NULL;
		server_accept(server, fd);
	}
}

/* ---- the server */

static int server_listen(struct server *server)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(address);

	server->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (server->fd < 0 || bind(server->fd, (struct sockaddr *)&address, n) < 0 ||
	    listen(server->fd, 128) < 0 || getsockname(server->fd, (struct sockaddr *)&address, &n) < 0)
		return -errno;
	server->port = ntohs(address.sin_port);
	(void)snprintf(server->url, sizeof(server->url), "http://127.0.0.1:%d", server->port);
	return 0;
}

int server_new(struct server **ret)
{
	struct server *server = calloc(1, sizeof(*server));
	pthread_condattr_t monotonic;

	assert(server);
	(void)pthread_mutex_init(&server->lock, NULL);
	(void)pthread_condattr_init(&monotonic);
	(void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&server->changed, &monotonic);
	(void)pthread_condattr_destroy(&monotonic);
	int r = server_listen(server);
	if (r == 0)
		r = -pthread_create(&server->thread, NULL, server_run, server);
	if (r < 0) /* of no use any more, and the test neither */
		return r;
	*ret = server;
	return 0;
}

void server_free(struct server *server)
{
	if (!server)
		return;
	(void)shutdown(server->fd, SHUT_RDWR); /* ends accept4 */
	pthread_join(server->thread, NULL);
	close(server->fd);
	pthread_mutex_lock(&server->lock);
	server->is_ending = true;
	pthread_cond_broadcast(&server->changed);
	for (struct connection *connection = server->connections; connection; connection = connection->next) {
		if (connection->fd >= 0)
			(void)shutdown(connection->fd, SHUT_RDWR);
	}
	pthread_mutex_unlock(&server->lock);
	for (struct connection *connection; (connection = server->connections);) {
		pthread_join(connection->thread, NULL);
		server->connections = connection->next;
		free(connection->buffer);
		free(connection);
	}
	for (size_t i = 0; i < server->n_requests; i++)
		request_free(server->request[i]);
	free(server->request);
	free(server->script);
	(void)pthread_cond_destroy(&server->changed);
	(void)pthread_mutex_destroy(&server->lock);
	free(server);
}

const char *server_url(const struct server *server)
{
	return server->url;
}

int server_port(const struct server *server)
{
	return server->port;
}

void server_script(struct server *server, const struct server_answer *answer, size_t n)
{
	struct server_answer *script = calloc(n + 1, sizeof(*script));
	assert(script);
	for (size_t i = 0; i < n; i++)
		script[i] = answer[i];
	LOCK_SCOPE(&server->lock);
	free(server->script);
	server->script = script;
	server->n_script = n;
	server->n_script_used = 0;
}

void server_answer_with(struct server *server, server_answerer answer, void *arg)
{
	LOCK_SCOPE(&server->lock);
	server->answerer = answer;
	server->answerer_arg = arg;
}

void server_release(struct server *server)
{
	LOCK_SCOPE(&server->lock);
	server->n_releases++;
	pthread_cond_broadcast(&server->changed);
}

size_t server_n_requests(struct server *server)
{
	LOCK_SCOPE(&server->lock);
	return server->n_requests;
}

size_t server_n_connections(struct server *server)
{
	LOCK_SCOPE(&server->lock);
	return (size_t)server->n_connections;
}

const struct server_request *server_request(struct server *server, size_t nth)
{
	LOCK_SCOPE(&server->lock);
	return nth < server->n_requests ? server->request[nth] : NULL;
}

bool server_wait(struct server *server, size_t n)
{
	int64_t until_ms = now_ms() + PATIENCE_MS;

	LOCK_SCOPE(&server->lock);
	while (server->n_requests < n && now_ms() < until_ms)
		wait_a_while(server, until_ms);
	return server->n_requests >= n;
}

static bool is_closed_locked(const struct server *server, int number)
{
	const struct connection *connection = server->connections;

	while (connection && connection->number != number)
		connection = connection->next;
	return connection && connection->is_over;
}

bool server_wait_closed(struct server *server, int connection)
{
	int64_t until_ms = now_ms() + PATIENCE_MS;
	bool is_closed;

	LOCK_SCOPE(&server->lock);
	while (!(is_closed = is_closed_locked(server, connection)) && now_ms() < until_ms)
		wait_a_while(server, until_ms);
	return is_closed;
}
