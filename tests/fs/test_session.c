// SPDX-License-Identifier: MIT
/* What session.c mends of libfuse, over a pair of sockets in the place of /dev/fuse. Leaks are the sanitizer's to find. */
#define FUSE_USE_VERSION 314

#include "session.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct connection {
	struct session session;
	int kernel; /* its end */
};

static void pass(struct connection *c, uint32_t opcode, uint64_t unique, const void *arg, size_t size)
{
	char request[FUSE_MIN_READ_BUFFER] = {0};
	struct fuse_in_header in = {.len = sizeof(in) + size, .opcode = opcode, .unique = unique};

	memcpy(request, &in, sizeof(in));
	memcpy(request + sizeof(in), arg, size);
	fuse_session_process_buf(c->session.fuse,
				 &(struct fuse_buf){.size = sizeof(in) + size, .mem = request});
}

/* The error of the next answer, which must be to `unique`. */
static int answered(struct connection *c, uint64_t unique)
{
	char answer[FUSE_MIN_READ_BUFFER];
	struct fuse_out_header out;

	cr_assert_geq(recv(c->kernel, answer, sizeof(answer), MSG_DONTWAIT), (ssize_t)sizeof(out));
	memcpy(&out, answer, sizeof(out));
	cr_assert_eq(out.unique, unique);
	return out.error;
}

static void open_connection(struct connection *ret)
{
	static const struct fuse_lowlevel_ops none = {0};
	static const struct fuse_init_in init = {.major = FUSE_KERNEL_VERSION,
						 .minor = FUSE_KERNEL_MINOR_VERSION};
	char *argv[] = {"trainfs", NULL};
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	int end[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, end), 0);
	*ret = (struct connection){
		.session = {.path = "/", .fuse = fuse_session_new(&args, &none, sizeof(none), NULL)},
		.kernel = end[1]};
	fuse_opt_free_args(&args);
	cr_assert(ret->session.fuse);
	cr_assert_eq(session_take_io(ret->session.fuse, end[0]), 0);
	pass(ret, FUSE_INIT, 2, &init, sizeof(init));
	cr_assert_eq(answered(ret, 2), 0);
}

static void interrupt(struct connection *c, uint64_t unique)
{
	const struct fuse_interrupt_in arg = {.unique = unique};

	pass(c, FUSE_INTERRUPT, unique + 1, &arg, sizeof(arg));
}

Test(session, interrupts_that_came_too_late_are_released)
{
	struct connection c;

	open_connection(&c);
	for (uint64_t unique = 4; unique < 10; unique += 2)
		interrupt(&c, unique);
	session_close(&c.session);
	for (int i = 0; i < 3; i++)
		cr_expect_eq(recv(c.kernel, &(char){0}, 1, MSG_DONTWAIT), 0, "nothing is said after the end");
	close(c.kernel);
}

Test(session, an_interrupt_without_its_request_is_tried_again_with_the_next)
{
	static const struct fuse_bmap_in bmap = {0};
	struct connection c;

	open_connection(&c);
	interrupt(&c, 4);
	pass(&c, FUSE_BMAP, 6, &bmap, sizeof(bmap));
	cr_expect_eq(answered(&c, 5), -EAGAIN);
	cr_expect_eq(answered(&c, 6), -ENOSYS);
	session_close(&c.session);
	close(c.kernel);
}
