/* SPDX-License-Identifier: MIT */
/*
 * far PORT DELAY_MS MB_PER_S: makes the server on 127.0.0.1:PORT a distant one. Prints the port that it listens on
 * itself; ends when its standard input does.
 *
 * Bytes go from socket to pipe to socket by splice(2), never through this program. What a client sends after it was
 * answered begins a request; no byte of an answer goes on before DELAY_MS have passed since. (`100 Continue` ends no
 * request.) Each direction of each connection carries MB_PER_S at most.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PIPE_BYTES = 256 << 10, EVENTS = 64 };

/* What goes from one end of a connection to the other. */
struct flow {
	int pipe[2];
	size_t n_held;   /* bytes in the pipe */
	int64_t free_ns; /* it may carry more from then on */
	bool is_ended, is_told;
};

/* One of the two sockets of a connection; epoll knows it. */
struct end {
	int fd;
	bool is_readable, is_writable;
};

struct link {
	struct link *next;
	struct end client, server;
	struct flow up, down;
	bool is_answered; /* the next byte of the client begins a request */
	bool is_broken;
};

static struct {
	int64_t delay_ns;
	double ns_per_byte;
	struct sockaddr_in server;
	int epoll, listener;
	struct link *links;
} far;

static int64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- links ---- */

static bool watch(struct link *link, struct end *end)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = link};
	int one = 1;
	return setsockopt(end->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) == 0 &&
	       epoll_ctl(far.epoll, EPOLL_CTL_ADD, end->fd, &event) == 0;
}

static bool flow_init(struct flow *flow)
{
	if (pipe2(flow->pipe, O_NONBLOCK | O_CLOEXEC) < 0)
		return false;
	(void)fcntl(flow->pipe[1], F_SETPIPE_SZ, PIPE_BYTES); /* a smaller one is slower, no more */
	return true;
}

static void link_free(struct link *link)
{
	int fds[] = {link->client.fd,  link->server.fd,    link->up.pipe[0],
		     link->up.pipe[1], link->down.pipe[0], link->down.pipe[1]};
	for (size_t i = 0; i < sizeof(fds) / sizeof(*fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(link);
}

static bool link_init(struct link *link)
{
	link->server.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return link->server.fd >= 0 && flow_init(&link->up) && flow_init(&link->down) &&
	       connect(link->server.fd, (struct sockaddr *)&far.server, sizeof(far.server)) == 0 &&
	       fcntl(link->server.fd, F_SETFL, O_NONBLOCK) == 0 && watch(link, &link->client) &&
	       watch(link, &link->server);
}

static void take_link(void)
{
	int fd = accept4(far.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct link *link = fd < 0 ? NULL : malloc(sizeof(*link));
	if (!link) {
		if (fd >= 0)
			close(fd);
		return;
	}
	*link = (struct link){.client.fd = fd,
			      .server.fd = -1,
			      .up.pipe = {-1, -1},
			      .down.pipe = {-1, -1},
			      .is_answered = true};
	if (!link_init(link)) {
		link_free(link);
		return;
	}
	link->client.is_readable = link->client.is_writable = true;
	link->server.is_readable = link->server.is_writable = true;
	link->next = far.links;
	far.links = link;
}

static void free_broken(void)
{
	for (struct link **at = &far.links; *at;) {
		struct link *link = *at;
		if (!link->is_broken) {
			at = &link->next;
			continue;
		}
		*at = link->next;
		link_free(link);
	}
}

/* ---- bytes ---- */

/* Takes what there is into the pipe. False: nothing now. */
static bool fill(struct link *link, struct flow *flow, struct end *from)
{
	if (flow->n_held || flow->is_ended || !from->is_readable)
		return false;
	ssize_t n =
		splice(from->fd, NULL, flow->pipe[1], NULL, PIPE_BYTES, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	if (n > 0) {
		flow->n_held = (size_t)n;
		return true;
	}
	from->is_readable = false;
	flow->is_ended = n == 0;
	link->is_broken |= n < 0 && errno != EAGAIN;
	return false;
}

static bool drain(struct link *link, struct flow *flow, struct end *to, int64_t now)
{
	if (!flow->n_held || !to->is_writable)
		return false;
	ssize_t n =
		splice(flow->pipe[0], NULL, to->fd, NULL, flow->n_held, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	if (n <= 0) {
		to->is_writable = false;
		link->is_broken |= n == 0 || errno != EAGAIN;
		return false;
	}
	flow->n_held -= (size_t)n;
	flow->free_ns = (flow->free_ns > now ? flow->free_ns : now) + (int64_t)((double)n * far.ns_per_byte);
	return true;
}

static void pass_end(struct flow *flow, struct end *to)
{
	if (flow->is_ended && !flow->n_held && !flow->is_told) {
		flow->is_told = true;
		(void)shutdown(to->fd, SHUT_WR); /* it may have gone already */
	}
}

static void move_up(struct link *link, int64_t now)
{
	while (link->up.free_ns <= now) {
		if (fill(link, &link->up, &link->client) && link->is_answered) {
			link->is_answered = false;
			link->down.free_ns = now + far.delay_ns;
		}
		if (!drain(link, &link->up, &link->server, now))
			break;
	}
	pass_end(&link->up, &link->server);
}

/* Is an answer there, not just `100 Continue`? */
static bool has_answer(int fd)
{
	static const char interim[] = "HTTP/1.1 1";
	char head[sizeof(interim) - 1];
	ssize_t n = recv(fd, head, sizeof(head), MSG_PEEK | MSG_DONTWAIT);
	return n > 0 && strncmp(head, interim, (size_t)n) != 0;
}

static void move_down(struct link *link, int64_t now)
{
	while (link->down.free_ns <= now) {
		if (!link->is_answered && !link->down.n_held && link->server.is_readable)
			link->is_answered = has_answer(link->server.fd);
		(void)fill(link, &link->down, &link->server);
		if (!drain(link, &link->down, &link->client, now))
			break;
	}
	pass_end(&link->down, &link->client);
}

/* When it has to be looked at again though nothing happens; INT64_MAX: not. */
static int64_t next_look(const struct link *link, int64_t now)
{
	int64_t up = link->up.free_ns > now ? link->up.free_ns : INT64_MAX;
	int64_t down = link->down.free_ns > now ? link->down.free_ns : INT64_MAX;
	return up < down ? up : down;
}

static int64_t move_all(void)
{
	int64_t next = INT64_MAX;
	for (struct link *link = far.links; link; link = link->next) {
		int64_t now = now_ns();
		move_up(link, now);
		move_down(link, now);
		link->is_broken |= link->up.is_told && link->down.is_told;
		int64_t look = next_look(link, now);
		next = look < next ? look : next;
	}
	free_broken();
	return next;
}

/* ---- the program ---- */

static int listen_on_any_port(void)
{
	struct sockaddr_in place = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(place);
	far.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (far.listener < 0 || bind(far.listener, (struct sockaddr *)&place, len) < 0 ||
	    listen(far.listener, SOMAXCONN) < 0 ||
	    getsockname(far.listener, (struct sockaddr *)&place, &len) < 0)
		return -errno;
	return ntohs(place.sin_port);
}

static bool watch_level(int *fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = fd};
	return epoll_ctl(far.epoll, EPOLL_CTL_ADD, *fd, &event) == 0;
}

static void note(const struct epoll_event *event)
{
	struct link *link = event->data.ptr;
	/* One event tells of one socket, not which: to try is cheap. */
	link->client.is_readable = link->client.is_writable = true;
	link->server.is_readable = link->server.is_writable = true;
}

static void serve(int *input)
{
	struct epoll_event event[EVENTS];
	for (;;) {
		int64_t next = move_all(), wait = next == INT64_MAX ? INT64_MAX : next - now_ns();
		struct timespec limit = {.tv_sec = wait > 0 ? wait / 1000000000 : 0,
					 .tv_nsec = wait > 0 ? wait % 1000000000 : 0};
		int n = epoll_pwait2(far.epoll, event, EVENTS, wait == INT64_MAX ? NULL : &limit, NULL);
		for (int i = 0; i < n; i++) {
			if (event[i].data.ptr == input)
				return;
			if (event[i].data.ptr == &far.listener)
				take_link();
			else
				note(&event[i]);
		}
		if (n < 0 && errno != EINTR)
			return;
	}
}

int main(int argc, char **argv)
{
	int input = STDIN_FILENO;
	if (argc != 4) {
		fprintf(stderr, "usage: far PORT DELAY_MS MB_PER_S\n");
		return 2;
	}
	far.server.sin_family = AF_INET;
	far.server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	unsigned port, delay_ms, mb_per_s;
	if (sscanf(argv[1], "%u", &port) != 1 || sscanf(argv[2], "%u", &delay_ms) != 1 ||
	    sscanf(argv[3], "%u", &mb_per_s) != 1 || mb_per_s == 0)
		return 2;
	far.server.sin_port = htons((uint16_t)port);
	far.delay_ns = (int64_t)delay_ms * 1000000;
	far.ns_per_byte = 1000.0 / mb_per_s;
	(void)signal(SIGPIPE, SIG_IGN); /* it is an error of splice(2) as well */
	(void)prctl(PR_SET_TIMERSLACK,
		    1UL); /* waits are as long as asked for; else they are a little longer */
	far.epoll = epoll_create1(EPOLL_CLOEXEC);
	int own_port = listen_on_any_port();
	if (far.epoll < 0 || own_port < 0 || !watch_level(&far.listener) || !watch_level(&input)) {
		perror("far");
		return 1;
	}
	printf("%d\n", own_port);
	fflush(stdout);
	serve(&input);
	return 0;
}
