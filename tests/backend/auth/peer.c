/* SPDX-License-Identifier: MIT */
/* One request a connection, one connection after the other: token services are asked no faster. */
#include "peer.h"

#include "cleanup.h"
#include "str.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

enum { PEER_ASKED_MAX = 64 };

static struct {
	/* immutable while it runs */
	int fd;
	char url[40];
	pthread_t thread;
	pthread_mutex_t lock;
	/* protected by lock */
	struct peer_route route[16];
	size_t n_routes;
	char *asked[PEER_ASKED_MAX];
	int n_asked;
} peer = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Of the body; the head ends at `end`. */
static size_t body_length(const char *head, const char *end)
{
	unsigned long n = 0;
	const char *length = strcasestr(head, "\r\ncontent-length:");
	if (length && length < end)
		(void)sscanf(length + strlen("\r\ncontent-length:"), "%lu", &n);
	return n;
}

/* The whole request: its head tells how long the body is. */
static int receive(int fd, struct str *ret)
{
	char bytes[4096];
	for (;;) {
		const char *end = ret->data ? strstr(ret->data, "\r\n\r\n") : NULL;
		if (end && ret->len >= (size_t)(end + 4 - ret->data) + body_length(ret->data, end))
			return 0;
		ssize_t n = recv(fd, bytes, sizeof(bytes), 0);
		if (n <= 0)
			return -1;
		str_append_n(ret, bytes, (size_t)n);
	}
}

static const struct peer_route *find_route(const char *request)
{
	for (size_t i = 0; i < peer.n_routes; i++) {
		const struct peer_route *route = &peer.route[i];
		size_t n = strlen(route->method);
		if (!strncmp(request, route->method, n) && request[n] == ' ' &&
		    !strncmp(request + n + 1, route->path, strlen(route->path)))
			return route;
	}
	return NULL;
}

static void answer(int fd)
{
	cleanup_str struct str request = {0}, reply = {0};
	if (receive(fd, &request) < 0)
		return;
	{
		LOCK_SCOPE(&peer.lock);
		const struct peer_route *route = find_route(request.data);
		const char *body = route && route->body ? route->body : "";
		str_printf(&reply, "HTTP/1.1 %d X\r\nConnection: close\r\nContent-Length: %zu\r\n%s\r\n%s",
			   route ? route->status : 404, strlen(body),
			   route && route->headers ? route->headers : "", body);
		if (peer.n_asked < PEER_ASKED_MAX)
			peer.asked[peer.n_asked++] = STEAL(request.data);
	}
	for (size_t n = 0; n < reply.len;) {
		ssize_t sent = send(fd, reply.data + n, reply.len - n, MSG_NOSIGNAL);
		if (sent <= 0)
			return;
		n += (size_t)sent;
	}
}

static void *serve(void *arg)
{
	for (;;) {
		cleanup_close int fd = accept4(peer.fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			return NULL;
		answer(fd);
	}
}

void peer_start(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(address);
	peer.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert(peer.fd >= 0 && bind(peer.fd, (struct sockaddr *)&address, n) == 0 &&
		  listen(peer.fd, 16) == 0);
	cr_assert(getsockname(peer.fd, (struct sockaddr *)&address, &n) == 0);
	snprintf(peer.url, sizeof(peer.url), "http://127.0.0.1:%d", ntohs(address.sin_port));
	cr_assert(pthread_create(&peer.thread, NULL, serve, NULL) == 0);
}

void peer_stop(void)
{
	shutdown(peer.fd, SHUT_RDWR);
	pthread_join(peer.thread, NULL);
	close(peer.fd);
	peer_set(NULL, 0);
}

const char *peer_url(void)
{
	return peer.url;
}

void peer_set(const struct peer_route *route, size_t n)
{
	LOCK_SCOPE(&peer.lock);
	cr_assert(n <= sizeof(peer.route) / sizeof(peer.route[0]));
	for (size_t i = 0; i < n; i++)
		peer.route[i] = route[i];
	peer.n_routes = n;
	for (int i = 0; i < peer.n_asked; i++)
		free(peer.asked[i]);
	peer.n_asked = 0;
}

int peer_n_asked(void)
{
	LOCK_SCOPE(&peer.lock);
	return peer.n_asked;
}

const char *peer_asked(int i)
{
	LOCK_SCOPE(&peer.lock);
	return i < peer.n_asked ? peer.asked[i] : "";
}

bool peer_has(int i, const char *part)
{
	return strstr(peer_asked(i), part) != NULL;
}
