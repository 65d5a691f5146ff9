/* SPDX-License-Identifier: MIT */
/*
 * One credential that several threads use and that is renewed in time, by one of them while the others go on or wait.
 *
 *   age               who asks gets           who renews
 *   fresh             what is held            nobody
 *   advisory          what is held            the first that asks; a failure changes nothing
 *   mandatory         the new one             the first that asks; the others wait. On failure what is held, to its end
 *   past its end, none, refused by the service: the new one or the failure
 *
 * A failure stands for RENEWAL_HOLD_MS (RENEWAL_ADVISORY_HOLD_MS when nobody needs the new one yet), so that a crowd
 * of requests does not ask one after the other; and what was just renewed is not renewed again, however short-lived
 * it is. Time is the caller's: the wall time that http gives to authorize, corrected by the service's clock.
 */
#pragma once

#include <stdint.h>

#include "auth/secret.h"
#include "fault.h"
#include "http/http.h"

enum { RENEWAL_HOLD_MS = 2000, RENEWAL_ADVISORY_HOLD_MS = 30000 };

/* What proves who asks: AWS keys, or Google's access token (in `token`). Zeroed is ready. */
struct auth_keys {
	char *id; /* of the key: no secret, but shown shortened */
	struct secret_text secret, token;
	int64_t expires_ns; /* wall time; 0: never */
	char *project;      /* Google: to bill; NULL */
	char *from;         /* for people: "profile dev in /home/u/.aws/credentials" */
};

void auth_keys_release(struct auth_keys *keys); /* takes NULL; leaves it ready */
#define cleanup_auth_keys __attribute__((cleanup(auth_keys_release)))

/*
 * Gets a new one. Called by one thread at a time, no lock held; may block, and ends soon with -EINTR once `cancel` (may
 * be NULL) is set: the next thread that needs it then asks in its stead.
 */
typedef int (*renewal_ask)(void *arg, int64_t now_ns, struct http_cancel *cancel, struct auth_keys *ret,
			   struct fault *reterr);

struct renewal;

/* `advisory_ms`, `mandatory_ms` before the end. `arg` is borrowed for its life. -ENOMEM. */
int renewal_new(renewal_ask ask, void *arg, int64_t advisory_ms, int64_t mandatory_ms, struct renewal **ret);
void renewal_free(struct renewal *renewal); /* takes NULL; nobody is in it */

/*
 * A copy of what is held or was just got, for the caller to release; and its number, never 0, another one for other
 * keys. `refused`: the number of one that the service has refused, 0: none. -EACCES: the new one is the same that was
 * refused. -EINTR: cancelled. Else as `ask`.
 */
int renewal_get(struct renewal *renewal, int64_t now_ns, uint64_t refused, struct http_cancel *cancel,
		struct auth_keys *ret, uint64_t *ret_generation, struct fault *reterr);
