// SPDX-License-Identifier: MIT
/*
 * What libfuse does around a mount, made explicit: its words and fusermount3's become the reason of a failure, and its
 * habit of unmounting whatever is at a path is kept from hitting somebody else's mount.
 */
#include "session.h"

#define FUSE_USE_VERSION 314

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/uio.h>

#include "cleanup.h"
#include "log.h"
#include "options.h"
#include "str.h"

static void log_from_libfuse(enum fuse_log_level level, const char *format, va_list ap)
	__attribute__((format(printf, 2, 0)));

static void log_from_libfuse(enum fuse_log_level level, const char *format, va_list ap)
{
	char text[512];

	if (vsnprintf(text, sizeof(text), format, ap) < 0)
		return;
	text[strcspn(text, "\n")] = '\0';
	log_at(level <= FUSE_LOG_ERR       ? LOG_LEVEL_ERROR
	       : level == FUSE_LOG_WARNING ? LOG_LEVEL_WARNING
					   : LOG_LEVEL_DEBUG,
	       "libfuse: %s", text);
}

/* Standard error goes into a pipe for a while: fusermount3 has the only words for what it did not like. */
struct captured {
	int saved, from;
};

static int capture_begin(struct captured *ret)
{
	int end[2];

	(void)fflush(stderr);
	if (pipe2(end, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	ret->saved = fcntl(2, F_DUPFD_CLOEXEC, 3);
	ret->from = end[0];
	(void)dup2(end[1], 2);
	close(end[1]);
	return 0;
}

static void capture_end(struct captured *captured, char *text, size_t size)
{
	(void)fflush(stderr);
	if (captured->saved >= 0)
		(void)dup2(captured->saved, 2);
	else
		close(2);
	ssize_t n = read(captured->from, text, size - 1);
	text[n > 0 ? n : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	if (captured->saved >= 0)
		close(captured->saved);
	close(captured->from);
}

static int explain_failure(const char *path, const char *words, struct fault *reterr)
{
	cleanup_free char *fusermount = NULL;

	if (access("/dev/fuse", F_OK) < 0)
		return fault_set(reterr, ENODEV,
				 "there is no /dev/fuse: load the kernel's module with `modprobe fuse`; "
				 "a container needs `--device /dev/fuse --cap-add SYS_ADMIN`");
	if (geteuid() != 0 && access("/dev/fuse", R_OK | W_OK) < 0)
		return fault_set(reterr, EACCES,
				 "only root may open /dev/fuse here: let users, with `chmod 666 /dev/fuse` "
				 "as root (that is how udev makes it)");
	if (geteuid() != 0 && options_find_program("fusermount3", &fusermount) < 0)
		return fault_set(reterr, ENOENT,
				 "fusermount3 is not on PATH: install the package fuse3, or mount as root");
	if (strstr(words, "Operation not permitted"))
		return fault_set(reterr, EPERM,
				 "cannot mount at %s: %s (a container needs `--device /dev/fuse "
				 "--cap-add SYS_ADMIN`)",
				 path, words);
	return fault_set(reterr, EIO, "cannot mount at %s: %s", path,
			 words[0] ? words : "libfuse did not say why");
}

/*
 * Kernels since 6.6 let files that bypass the page cache be mapped shared, when they are asked to; libfuse asks since 3.17.
 * So the flag is added to its answer to INIT, which is the first of a connection.
 * https://docs.kernel.org/filesystems/fuse/fuse-io.html
 */
enum { DIRECT_IO_ALLOW_MMAP = 1 << (36 - 32) /* of flags2 */ };

static atomic_bool has_answered_init;
/* While this thread releases interrupts, nothing that it answers is written. */
static _Thread_local bool is_releasing;
static _Thread_local bool has_released;

static ssize_t write_answer(int fd, struct iovec *iov, int count, void *userdata)
{
	const struct fuse_out_header *header = iov[0].iov_base;
	bool is_answer = header->unique != 0; /* else a notification */
	if (is_releasing) {
		has_released |= header->error == -EAGAIN;
		return header->len;
	}
	if (is_answer && !has_answered_init && !atomic_exchange(&has_answered_init, true) && count == 2 &&
	    iov[1].iov_len >= sizeof(struct fuse_init_out)) {
		struct fuse_init_out *init = iov[1].iov_base;
		init->flags |= FUSE_INIT_EXT;
		init->flags2 |= DIRECT_IO_ALLOW_MMAP;
	}
	return writev(fd, iov, count);
}

/*
 * A request that is read at the moment of the unmount is refused with ECONNABORTED by newer kernels, where ENODEV tells
 * of any other; libfuse knows the latter as the end.
 */
static ssize_t read_request(int fd, void *buf, size_t size, void *userdata)
{
	ssize_t n = read(fd, buf, size);

	if (n < 0 && errno == ECONNABORTED)
		errno = ENODEV;
	return n;
}

int session_take_io(struct fuse_session *fuse, int fd)
{
	static const struct fuse_custom_io io = {.writev = write_answer, .read = read_request};
	has_answered_init = false;
	return fuse_session_custom_io(fuse, &io, fd);
}

/*
 * An interrupt of a request that was answered meanwhile stays in libfuse until the next request comes, when it is told to
 * try again; at the end it would leak. So requests come until nobody is told so, of a kind that libfuse itself refuses.
 */
static void release_interrupts(struct fuse_session *fuse)
{
	struct {
		struct fuse_in_header in;
		struct fuse_bmap_in bmap;
	} request = {.in = {.len = sizeof(request), .opcode = FUSE_BMAP, .unique = UINT64_MAX}};
	struct fuse_buf buf = {.size = sizeof(request), .mem = &request};

	is_releasing = true;
	do {
		has_released = false;
		fuse_session_process_buf(fuse, &buf);
	} while (has_released);
	is_releasing = false;
}

int session_open(const char *path, const char *fuse_options, const struct fuse_lowlevel_ops *ops,
		 void *userdata, struct session *ret, struct fault *reterr)
{
	char *argv[] = {"trainfs", "-o", (char *)fuse_options, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(3, argv);
	struct session session = {.path = path};
	struct captured captured = {.from = -1, .saved = -1};
	char words[512];

	int r = capture_begin(&captured);
	if (r < 0)
		return fault_set(reterr, -r, "cannot make a pipe: %s", strerror(-r));
	session.fuse = fuse_session_new(&args, ops, sizeof(*ops), userdata);
	fuse_opt_free_args(&args);
	bool is_mounted = session.fuse && fuse_session_mount(session.fuse, path) == 0;
	capture_end(&captured, words, sizeof(words));
	fuse_set_log_func(log_from_libfuse);
	if (!session.fuse)
		return fault_set(reterr, EINVAL, "libfuse refused the options %s: %s", fuse_options, words);
	if (!is_mounted) {
		fuse_session_destroy(session.fuse);
		return explain_failure(path, words, reterr);
	}
	r = session_take_io(session.fuse, fuse_session_fd(session.fuse));
	if (r < 0)
		log_warning("tables cannot be mapped shared: %s, ignoring", strerror(-r));
	r = mountpoint_find(path, &session.mountpoint);
	if (r < 0) {
		session_close(&session);
		return fault_set(reterr, -r, "mounted at %s, but the mount table does not show it", path);
	}
	*ret = session;
	return 0;
}

int session_raise_read_ahead(const struct session *session)
{
	cleanup_free char *path = NULL;
	char text[16];
	int n = snprintf(text, sizeof(text), "%d", SESSION_READ_AHEAD_KB);
	int r = str_format(&path, "/sys/class/bdi/%u:%u/read_ahead_kb", session->mountpoint.major,
			   session->mountpoint.minor);
	if (r < 0)
		return r;
	cleanup_close int fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 || write(fd, text, (size_t)n) < 0 ? -errno : 0;
}

/* Is the topmost mount at our path still ours, not one that came later? */
static bool is_still_mounted(const struct session *session)
{
	struct mountpoint there = {0};

	if (mountpoint_find(session->path, &there) < 0)
		return false;
	bool is_same = there.major == session->mountpoint.major && there.minor == session->mountpoint.minor;
	mountpoint_release(&there);
	return is_same;
}

void session_detach(const struct session *session)
{
	struct fault fault = {0};

	if (!is_still_mounted(session))
		return;
	int r = mountpoint_detach(session->path, false, &fault);
	if (r < 0 && is_still_mounted(session)) {
		log_info("%s is in use, detaching it lazily", session->path);
		r = mountpoint_detach(session->path, true, &fault);
		if (r < 0)
			log_error("%s", fault.text);
	}
}

void session_close(struct session *session)
{
	int end[2];

	if (!session->fuse)
		return;
	session_detach(session);
	/*
	 * fuse_session_unmount would unmount whatever is at our path by now, unless its descriptor polls as broken. So
	 * that becomes the writing end of a pipe without a reader; /dev/fuse is closed, which aborts the connection of
	 * a mount that was detached in use.
	 */
	if (pipe2(end, O_CLOEXEC) == 0) {
		(void)dup2(end[1], fuse_session_fd(session->fuse));
		close(end[0]);
		close(end[1]);
	}
	release_interrupts(session->fuse);
	fuse_session_unmount(session->fuse);
	fuse_session_destroy(STEAL(session->fuse));
	mountpoint_release(&session->mountpoint);
}
