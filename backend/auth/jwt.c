/* SPDX-License-Identifier: MIT */
/* Encodes, and lets OpenSSL sign. */
#include "auth/jwt.h"

#include <errno.h>
#include <limits.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "str.h"

static void cleanup_key(EVP_PKEY **key)
{
	EVP_PKEY_free(*key);
}

static void cleanup_digest(EVP_MD_CTX **digest)
{
	EVP_MD_CTX_free(*digest);
}

/* Base64 with - and _ and without =, RFC 4648 5. */
static int add_base64url(struct str *ret, const void *bytes, size_t n)
{
	if (n > INT_MAX / 2)
		return ret->err = -EFBIG;
	cleanup_free char *text = malloc(4 * (n / 3 + 1) + 1);
	if (!text)
		return ret->err = -ENOMEM;
	int length = EVP_EncodeBlock((unsigned char *)text, bytes, (int)n);
	while (length > 0 && text[length - 1] == '=')
		length--;
	for (int i = 0; i < length; i++)
		text[i] = text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i];
	return str_append_n(ret, text, (size_t)length);
}

static int add_json(struct str *ret, const json_t *json)
{
	cleanup_free char *text = json_dumps(json, JSON_COMPACT);
	return text ? add_base64url(ret, text, strlen(text)) : (ret->err = -ENOMEM);
}

/* OpenSSL would ask the terminal. */
static int no_password(char *buffer, int size, int is_writing, void *arg)
{
	return -1;
}

static EVP_PKEY *read_key(const struct secret_text *pem)
{
	BIO *bio = pem->n <= INT_MAX ? BIO_new_mem_buf(pem->text, (int)pem->n) : NULL;
	EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
	BIO_free(bio);
	if (key && EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA) {
		EVP_PKEY_free(key);
		key = NULL;
	}
	return key;
}

static int add_signature(EVP_PKEY *key, struct str *ret)
{
	__attribute__((cleanup(cleanup_digest))) EVP_MD_CTX *digest = EVP_MD_CTX_new();
	size_t n = (size_t)EVP_PKEY_get_size(key);
	cleanup_free unsigned char *signature = malloc(n);
	if (!digest || !signature || EVP_DigestSignInit(digest, NULL, EVP_sha256(), NULL, key) != 1 ||
	    EVP_DigestSign(digest, signature, &n, (const unsigned char *)ret->data, ret->len) != 1)
		return -ENOMEM;
	str_append(ret, ".");
	return add_base64url(ret, signature, n);
}

int jwt_sign(const json_t *header, const json_t *claims, const struct secret_text *pem,
	     struct secret_text *ret, struct fault *reterr)
{
	__attribute__((cleanup(cleanup_key))) EVP_PKEY *key = read_key(pem);
	cleanup_secret_str struct str text = {0};
	if (!key) {
		ERR_clear_error(); /* this thread's queue is also libcurl's */
		return fault_set(reterr, EINVAL, "the private key is no RSA key in PEM, or is encrypted");
	}
	add_json(&text, header);
	str_append(&text, ".");
	int r = add_json(&text, claims);
	if (r == 0)
		r = add_signature(key, &text);
	ERR_clear_error();
	return r ?: secret_set(ret, text.data, text.len);
}
