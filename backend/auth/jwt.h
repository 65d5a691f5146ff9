/* SPDX-License-Identifier: MIT */
/* Signed JSON Web Tokens: RFC 7519, RS256 of RFC 7518. Pure. */
#pragma once

#include <jansson.h>

#include "auth/secret.h"
#include "fault.h"

/*
 * b64url(header).b64url(claims).b64url(signature). `pem`: an RSA private key, PKCS#8 or PKCS#1.
 * -EINVAL: `pem` is none, or is encrypted. -ENOMEM.
 */
int jwt_sign(const json_t *header, const json_t *claims, const struct secret_text *pem,
	     struct secret_text *ret, struct fault *reterr);
