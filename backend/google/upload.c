/* SPDX-License-Identifier: MIT */
/*
 * Objects in chunks: https://cloud.google.com/storage/docs/performing-resumable-uploads
 *
 *   begin -> session -> chunk ... chunk -> object
 *              |  \-> a chunk failed: how much is there? -> goes on from there
 *              |  \-> the session is gone: another one, from the beginning
 *              \-> the first failure that stays: the session is ended
 *
 * The last chunk makes the object, if its sum is the one that the beginning told; until then nobody sees anything of it.
 * Who knows a session's URL may write to it: it goes into no sentence (http/ shows no query).
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>

#include "clock.h"
#include "google/google.h"
#include "http/range.h"

enum {
	GOOGLE_PATIENCE_MS = 60000, /* without a byte more */
	GOOGLE_PAUSE_MS = 1000,
	GOOGLE_SESSIONS_MAX = 3,
	GOOGLE_CANCEL_MS = 5000,
};

struct google_session {
	/* immutable */
	struct google *google;
	const char *bucket, *key;
	int fd;
	int64_t n;
	const char *crc32c, *if_version;

	char *url;
	int64_t n_stored; /* at the service */
	int64_t n_most;   /* the most that there ever were */
	int64_t moved_ms; /* when there were more */
	bool is_gone;
	bool is_repeated; /* the end may have come about unseen */
	bool is_done;     /* `object` is the caller's */
	struct object_detail object;
};

/* ---- the session ---- */

static int session_url(struct google_session *session, const struct http_reply *reply, struct fault *reterr)
{
	const char *location = http_headers_get(&reply->headers, "Location");
	if (!location || !google_is_session_url(session->google->storage, location))
		return fault_set(reterr, EIO, "write %s: Cloud Storage did not say where to send it",
				 session->key);
	session->url = strdup(location);
	return session->url ? 0 : fault_set(reterr, ENOMEM, "write %s: %s", session->key, strerror(ENOMEM));
}

/* Permissions and condition are looked at here already. */
static int session_begin(struct google_session *session, struct fault *reterr)
{
	cleanup_http_reply struct http_reply reply = {0};
	cleanup_call struct google_call call = {0};
	char body[64], size[32];
	snprintf(body, sizeof(body), "{\"crc32c\":\"%s\"}", session->crc32c);
	snprintf(size, sizeof(size), "%" PRId64, session->n);
	google_call_init(&call, session->google, "POST");
	google_call_upload(&call, session->bucket);
	google_call_query(&call, "uploadType", "resumable");
	google_call_query(&call, "name", session->key);
	google_call_query(&call, "fields", GOOGLE_OBJECT_FIELDS);
	google_call_condition(&call, session->if_version);
	google_call_body(&call, "application/json", body, *session->crc32c ? strlen(body) : 0);
	google_call_header(&call, "X-Upload-Content-Type", "application/octet-stream");
	google_call_header(&call, "X-Upload-Content-Length", size);
	int r = google_call_perform(&call, session->key, &reply, reterr);
	if (r < 0)
		return r;
	free(session->url);
	session->url = NULL;
	session->n_stored = 0;
	session->is_gone = false;
	return session_url(session, &reply, reterr);
}

/* A call of the session itself. */
static void session_call(struct google_session *session, struct google_call *call, const char *method)
{
	google_call_init(call, session->google, method);
	(void)str_append(&call->url, session->url);
	call->err = call->url.err;
	call->is_elsewhere = !google_is_same_host(session->google->storage, session->url);
}

/* It would be forgotten after a week by itself. */
static void session_cancel(struct google_session *session)
{
	cleanup_http_reply struct http_reply reply = {0};
	cleanup_call struct google_call call = {0};
	if (!session->url || session->is_gone || session->is_done)
		return;
	session_call(session, &call, "DELETE");
	call.request.total_ms = GOOGLE_CANCEL_MS;
	(void)google_call_perform(&call, session->key, &reply, NULL); /* 499 when it has worked */
}

/* ---- what it says ---- */

static bool is_more_wanted(const struct http_reply *reply)
{
	const char *status = http_headers_get(&reply->headers, "X-Http-Status-Code-Override");
	return reply->status == 308 || (status && !strcmp(status, "308"));
}

static int session_stored(struct google_session *session, const struct http_reply *reply,
			  struct fault *reterr)
{
	int64_t n;
	if (google_parse_stored(http_headers_get(&reply->headers, "Range"), &n) < 0 || n > session->n)
		return fault_set(reterr, EIO, "write %s: Cloud Storage does not say how much of it is there",
				 session->key);
	session->n_stored = n;
	if (n > session->n_most) {
		session->n_most = n;
		session->moved_ms = clock_mono_ms();
	}
	return 0;
}

/* The answer to a chunk, or to the question how much is there. */
static int session_answer(struct google_session *session, int r, const struct http_reply *reply,
			  struct fault *reterr)
{
	if (is_more_wanted(reply))
		return session_stored(session, reply, reterr);
	if (reply->status == 404 || reply->status == 410) {
		session->is_gone = true;
		return r;
	}
	if (r < 0)
		return r;
	r = google_put_answer(reply, session->key, session->n, session->crc32c, &session->object, reterr);
	session->is_done = r == 0;
	session->is_gone = true; /* there is nothing to end */
	return r;
}

static void session_describe(struct google_session *session, struct google_call *call, int64_t n_chunk)
{
	char range[100];
	if (n_chunk > 0)
		snprintf(range, sizeof(range), "bytes %" PRId64 "-%" PRId64 "/%" PRId64, session->n_stored,
			 session->n_stored + n_chunk - 1, session->n);
	else
		snprintf(range, sizeof(range), "bytes */%" PRId64, session->n);
	session_call(session, call, "PUT");
	google_call_header(call, "Content-Range", range);
	google_call_header(call, "X-GUploader-No-308", "yes"); /* which would count as a failure */
	call->request.has_body = true;
	call->request.body_fd = session->fd;
	call->request.body_at = session->n_stored;
	call->request.body_n = n_chunk;
	call->request.is_bulk = n_chunk > 0;
	call->request.is_repeatable = n_chunk == 0; /* first it is asked what came of it */
	call->request.total_ms = http_transfer_ms(n_chunk);
}

/* Sends what comes next, or asks how much is there (n_chunk 0). */
static int session_put(struct google_session *session, int64_t n_chunk, bool *ret_is_lost,
		       struct fault *reterr)
{
	cleanup_http_reply struct http_reply reply = {0};
	cleanup_call struct google_call call = {0};
	session_describe(session, &call, n_chunk);
	int r = google_call_perform(&call, session->key, &reply, reterr);
	bool is_answer = r == 0 || is_more_wanted(&reply);
	*ret_is_lost = !is_answer && (r == -EHOSTUNREACH || r == -ETIMEDOUT || r == -EIO || r == -EAGAIN);
	session->is_repeated |= *ret_is_lost || reply.n_sent > 1;
	return session_answer(session, r, &reply, reterr);
}

/* ---- all of it ---- */

static int64_t session_next(const struct google_session *session)
{
	int64_t left = session->n - session->n_stored;
	return left < GOOGLE_CHUNK_BYTES ? left : GOOGLE_CHUNK_BYTES;
}

static bool session_has_patience(const struct google_session *session)
{
	poll(NULL, 0, GOOGLE_PAUSE_MS);
	return clock_mono_ms() - session->moved_ms < GOOGLE_PATIENCE_MS;
}

/* Until the object is there, the session is gone, or something fails that waiting does not mend. */
static int session_run(struct google_session *session, struct fault *reterr)
{
	bool is_lost = false;
	while (true) {
		int64_t before = session->n_stored;
		int r = session_put(session, is_lost ? 0 : session_next(session), &is_lost, reterr);
		if (session->is_done || session->is_gone || (r < 0 && !is_lost))
			return r;
		bool is_stuck = r < 0 || session->n_stored <= before;
		if (is_stuck && !session_has_patience(session))
			return r < 0 ? r
				     : fault_set(reterr, EIO,
						 "write %s: Cloud Storage takes no more than %" PRId64
						 " bytes of it",
						 session->key, session->n_stored);
	}
}

static int session_perform(struct google_session *session, struct fault *reterr)
{
	int r = 0;
	for (int i = 0; i < GOOGLE_SESSIONS_MAX; i++) {
		session->moved_ms = clock_mono_ms();
		session->n_most = 0;
		r = session_begin(session, reterr);
		if (r == 0)
			r = session_run(session, reterr);
		if (r == 0 || r != -ENOENT || !session->is_gone)
			break;
	}
	session_cancel(session);
	r = google_conditional(r, session->key, session->if_version, reterr);
	if ((r == -EEXIST || r == -ESTALE) && session->is_repeated &&
	    google_is_done(session->google, session->bucket, session->key, session->n, session->crc32c,
			   &session->object))
		return 0;
	return r;
}

int google_upload(struct google *google, const char *bucket, const char *key, int fd, int64_t n,
		  const char *crc32c, const char *if_version, struct object_detail *ret, struct fault *reterr)
{
	struct google_session session = {
		.google = google,
		.bucket = bucket,
		.key = key,
		.fd = fd,
		.n = n,
		.crc32c = crc32c,
		.if_version = if_version,
	};
	int r = session_perform(&session, reterr);
	free(session.url);
	if (r == 0)
		*ret = session.object;
	return r;
}

int google_upload_try(struct google *google, const char *bucket, const char *key, struct fault *reterr)
{
	struct google_session session = {
		.google = google, .bucket = bucket, .key = key, .fd = -1, .crc32c = ""};
	int r = session_begin(&session, reterr);
	if (r == 0)
		session_cancel(&session);
	free(session.url);
	return r;
}
