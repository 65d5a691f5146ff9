/* SPDX-License-Identifier: MIT */
/*
 * Objects in chunks: https://cloud.google.com/storage/docs/performing-resumable-uploads
 *
 *   begin -> session -> chunk ... chunk -> object
 *              |  \-> a chunk failed: how much is there? -> goes on from there; or the next put does
 *              |  \-> the session is gone: another one, from the beginning
 *              \-> the first failure that stays: the session is ended
 *
 * The last chunk makes the object, if its sum is the one that was told: at the beginning where all bytes were there, else
 * with that chunk. Until then nobody sees anything of it. One chunk after the other: a session takes them in order.
 * Who knows a session's URL may write to it: it goes into no sentence (http/ shows no query).
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>

#include "base/crc32c.h"
#include "checksum.h"
#include "clock.h"
#include "google/google.h"
#include "http/range.h"

enum {
	GOOGLE_PATIENCE_MS = 60000, /* without a byte more */
	GOOGLE_PAUSE_MS = 1000,
	GOOGLE_SESSIONS_MAX = 3,
	GOOGLE_CANCEL_MS = 5000,
	GOOGLE_RANGE_MAX = 100,
};

struct google_session {
	struct object_upload base; /* n_sent: at the service */

	/* immutable */
	struct google *google;
	char *bucket, *key;

	/* of the put that is under way */
	const struct object_source *source;
	const char *if_version;

	char *url;         /* NULL: none was begun */
	bool is_resumed;   /* begun by an earlier put: it says first how much it has */
	int64_t n_offered; /* bytes that the source has told to be there */
	int64_t n;         /* all of them; -1: not known yet */
	uint32_t sum;      /* of the first n_summed */
	int64_t n_summed;
	int64_t n_most;   /* the most that there ever were at the service */
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

/* The sum of all: "" while they are not known. */
static char *session_crc(const struct google_session *session, char ret[static CHECKSUM_TEXT_MAX])
{
	ret[0] = '\0';
	return session->n >= 0 && session->n_summed == session->n
		       ? checksum_text(CHECKSUM_CRC32C, session->sum, ret)
		       : ret;
}

/* Permissions and condition are looked at here already. */
static int session_begin(struct google_session *session, struct fault *reterr)
{
	cleanup_http_reply struct http_reply reply = {0};
	cleanup_call struct google_call call = {0};
	char body[64], size[32], crc[CHECKSUM_TEXT_MAX];
	bool is_known = *session_crc(session, crc);
	snprintf(body, sizeof(body), "{\"crc32c\":\"%s\"}", crc);
	snprintf(size, sizeof(size), "%" PRId64, session->n);
	google_call_init(&call, session->google, "POST");
	google_call_upload(&call, session->bucket);
	google_call_query(&call, "uploadType", "resumable");
	google_call_query(&call, "name", session->key);
	google_call_query(&call, "fields", GOOGLE_OBJECT_FIELDS);
	google_call_condition(&call, session->if_version);
	google_call_body(&call, "application/json", body, is_known ? strlen(body) : 0);
	google_call_header(&call, "X-Upload-Content-Type", "application/octet-stream");
	if (is_known)
		google_call_header(&call, "X-Upload-Content-Length", size);
	int r = google_call_perform(&call, session->key, &reply, reterr);
	if (r < 0)
		return r;
	free(session->url);
	session->url = NULL;
	session->base.n_sent = 0;
	session->is_gone = session->is_resumed = false;
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
	if (google_parse_stored(http_headers_get(&reply->headers, "Range"), &n) < 0 || n > session->n_offered)
		return fault_set(reterr, EIO, "write %s: Cloud Storage does not say how much of it is there",
				 session->key);
	session->base.n_sent = n;
	if (n > session->n_most) {
		session->n_most = n;
		session->moved_ms = clock_mono_ms();
		object_source_sent(session->source, n);
	}
	return 0;
}

/* The answer to a chunk, or to the question how much is there. */
static int session_answer(struct google_session *session, int r, const struct http_reply *reply,
			  struct fault *reterr)
{
	char crc[CHECKSUM_TEXT_MAX];
	if (is_more_wanted(reply))
		return session_stored(session, reply, reterr);
	if (reply->status == 404 || reply->status == 410) {
		session->is_gone = true;
		return r;
	}
	if (r < 0)
		return r;
	r = google_put_answer(reply, session->key, session->n, session_crc(session, crc), &session->object,
			      reterr);
	session->is_done = r == 0;
	session->is_gone = true; /* there is nothing to end */
	return r;
}

/* "bytes 0-99/150"; a star for what is not sent, or not known. */
static void session_range(const struct google_session *session, int64_t n_chunk,
			  char ret[static GOOGLE_RANGE_MAX])
{
	int64_t at = session->base.n_sent;
	char chunk[48] = "*", all[24] = "*";
	if (n_chunk > 0)
		snprintf(chunk, sizeof(chunk), "%" PRId64 "-%" PRId64, at, at + n_chunk - 1);
	if (session->n >= 0)
		snprintf(all, sizeof(all), "%" PRId64, session->n);
	snprintf(ret, GOOGLE_RANGE_MAX, "bytes %s/%s", chunk, all);
}

static void session_describe(struct google_session *session, struct google_call *call, int64_t n_chunk)
{
	char range[GOOGLE_RANGE_MAX], hash[CHECKSUM_TEXT_MAX + 16], crc[CHECKSUM_TEXT_MAX];
	session_range(session, n_chunk, range);
	session_call(session, call, "PUT");
	google_call_header(call, "Content-Range", range);
	google_call_header(call, "X-GUploader-No-308", "yes"); /* which would count as a failure */
	if (session->base.n_sent + n_chunk == session->n && *session_crc(session, crc)) {
		snprintf(hash, sizeof(hash), "crc32c=%s", crc);
		google_call_header(call, "X-Goog-Hash", hash);
	}
	call->request.has_body = true;
	call->request.body_fd = session->source->fd;
	call->request.body_at = session->base.n_sent;
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
	*ret_is_lost = !is_answer && fault_is_passing(r);
	session->is_repeated |= *ret_is_lost || reply.n_sent > 1;
	return session_answer(session, r, &reply, reterr);
}

/* ---- all of it ---- */

/* Waits for the next chunk. *ret 0: all is at the service, which has not said so. */
static int session_next(struct google_session *session, int64_t *ret, struct fault *reterr)
{
	int64_t at = session->base.n_sent, n;
	bool is_all;
	int r = object_source_await(session->source, at + GOOGLE_CHUNK_MIN, at + GOOGLE_CHUNK_MAX, &n,
				    &is_all);
	if (r < 0)
		return fault_set(reterr, -r, "write %s: given up", session->key);
	if (is_all)
		session->n = n;
	else
		n -= n % GOOGLE_CHUNK_UNIT;
	if (n > session->n_offered)
		session->n_offered = n;
	if (n > session->n_summed) {
		uint32_t sum;
		r = crc32c_file(session->source->fd, session->n_summed, n - session->n_summed, &sum);
		if (r < 0)
			return fault_set(reterr, -r, "write %s: the bytes to send cannot be read: %s",
					 session->key, strerror(-r));
		session->sum =
			(uint32_t)checksum_join(CHECKSUM_CRC32C, session->sum, sum, n - session->n_summed);
		session->n_summed = n;
	}
	*ret = n - at;
	return 0;
}

/* `since_ms`: when what does not get on was begun. */
static bool session_has_patience(const struct google_session *session, int64_t since_ms)
{
	poll(NULL, 0, GOOGLE_PAUSE_MS);
	if (session->moved_ms > since_ms)
		since_ms = session->moved_ms;
	return clock_mono_ms() - since_ms < GOOGLE_PATIENCE_MS;
}

/* Until the object is there, the session is gone, or something fails that waiting does not mend. */
static int session_run(struct google_session *session, struct fault *reterr)
{
	bool is_lost = session->is_resumed, is_stuck = false;
	int64_t since_ms = clock_mono_ms();
	while (true) {
		int64_t before = session->base.n_sent, n_chunk = 0;
		int r = is_lost ? 0 : session_next(session, &n_chunk, reterr);
		if (r < 0)
			return r;
		if (!is_stuck)
			since_ms = clock_mono_ms();
		r = session_put(session, n_chunk, &is_lost, reterr);
		if (session->is_done || session->is_gone || (r < 0 && !is_lost))
			return r;
		is_stuck = r < 0 || session->base.n_sent <= before;
		if (is_stuck && !session_has_patience(session, since_ms))
			return r < 0 ? r
				     : fault_set(reterr, EIO,
						 "write %s: Cloud Storage takes no more than %" PRId64
						 " bytes of it",
						 session->key, session->base.n_sent);
	}
}

/* All bytes that are there already are told, with their sum, when the session begins. */
static int session_look_ahead(struct google_session *session, struct fault *reterr)
{
	if (session->source->wait || session->n >= 0)
		return 0;
	int r = crc32c_file(session->source->fd, 0, session->source->n, &session->sum);
	if (r < 0)
		return fault_set(reterr, -r, "write %s: the bytes to send cannot be read: %s", session->key,
				 strerror(-r));
	session->n = session->n_summed = session->n_offered = session->source->n;
	return 0;
}

static int session_perform(struct google_session *session, struct fault *reterr)
{
	char crc[CHECKSUM_TEXT_MAX];
	int r = 0;
	for (int i = 0; i < GOOGLE_SESSIONS_MAX; i++) {
		session->n_most = 0;
		if (!session->is_resumed) {
			r = session_look_ahead(session, reterr);
			if (r == 0)
				r = session_begin(session, reterr);
		}
		if (r == 0)
			r = session_run(session, reterr);
		if (r == 0 || r != -ENOENT || !session->is_gone)
			break;
		session->is_resumed = false;
	}
	r = google_conditional(r, session->key, session->if_version, reterr);
	if ((r == -EEXIST || r == -ESTALE) && session->is_repeated &&
	    google_is_done(session->google, session->bucket, session->key, session->n,
			   session_crc(session, crc), &session->object))
		return 0;
	return r;
}

static void session_free(struct google_session *session)
{
	if (!session)
		return;
	free(session->bucket);
	free(session->key);
	free(session->url);
	free(session);
}

static struct google_session *session_new(struct google *google, const char *bucket, const char *key)
{
	struct google_session *session = calloc(1, sizeof(*session));
	if (!session)
		return NULL;
	session->google = google;
	session->bucket = strdup(bucket);
	session->key = strdup(key);
	session->n = -1;
	if (session->bucket && session->key)
		return session;
	session_free(session);
	return NULL;
}

void google_object_put_drop(struct backend *be, struct object_upload *upload)
{
	struct google_session *session = (struct google_session *)upload;
	session_cancel(session);
	session_free(session);
}

/* A session that has been told another end than the one there is now, or whose sum is of other bytes, is of no use. */
static bool session_can_go_on(struct google_session *session, const struct object_source *source)
{
	return session->url && !session->is_gone &&
	       (session->n < 0 || (!source->wait && source->n == session->n));
}

int google_upload(struct google *google, const char *bucket, const char *key,
		  const struct object_source *source, const char *if_version, struct object_upload **upload,
		  struct object_detail *ret, struct fault *reterr)
{
	struct google_session *session = (struct google_session *)STEAL(*upload);
	if (session && !session_can_go_on(session, source)) {
		google_object_put_drop(&google->base, &session->base);
		session = NULL;
	}
	bool is_resumed = session;
	if (!session)
		session = session_new(google, bucket, key);
	if (!session)
		return fault_set(reterr, ENOMEM, "write %s: %s", key, strerror(ENOMEM));
	session->is_resumed = is_resumed;
	session->source = source;
	session->if_version = if_version;
	int r = session_perform(session, reterr);
	if (r == 0)
		*ret = session->object;
	if ((fault_is_passing(r) || r == -EACCES) && session->url && !session->is_gone)
		*upload = &session->base;
	else
		google_object_put_drop(&google->base, &session->base);
	return r;
}

int google_upload_try(struct google *google, const char *bucket, const char *key, struct fault *reterr)
{
	struct google_session *session = session_new(google, bucket, key);
	int r = session ? session_begin(session, reterr) : -ENOMEM;
	if (session)
		google_object_put_drop(&google->base, &session->base);
	return r;
}
