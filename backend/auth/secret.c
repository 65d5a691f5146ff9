/* SPDX-License-Identifier: MIT */
/* Keeps secrets in memory of their own, and wipes it. */
#include "auth/secret.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

int secret_set(struct secret_text *s, const char *text, size_t n)
{
	char *copy = malloc(n + 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, text, n);
	copy[n] = '\0';
	secret_release(s);
	*s = (struct secret_text){.text = copy, .n = n};
	return 0;
}

int secret_take_json(struct secret_text *s, json_t *object, const char *name)
{
	json_t *value = json_object_get(object, name);
	size_t n = json_string_length(value);
	if (!n)
		return -ENOENT;
	int r = secret_set(s, json_string_value(value), n);
	if (r == 0)
		explicit_bzero((char *)json_string_value(value), n); /* jansson gives its own buffer */
	return r;
}

bool secret_is_equal(const struct secret_text *a, const struct secret_text *b)
{
	return a->n == b->n && (a->n == 0 || CRYPTO_memcmp(a->text, b->text, a->n) == 0);
}

void secret_release(struct secret_text *s)
{
	if (!s)
		return;
	if (s->text)
		explicit_bzero(s->text, s->n);
	free(s->text);
	*s = (struct secret_text){0};
}

void secret_release_str(struct str *s)
{
	if (s && s->data)
		explicit_bzero(s->data, s->capacity);
	str_release(s);
}

void secret_free(char *text)
{
	if (text)
		explicit_bzero(text, strlen(text));
	free(text);
}
