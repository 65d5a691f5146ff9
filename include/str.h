/* SPDX-License-Identifier: MIT */
/* Growing text with a maximum, and the few string helpers that both sides of the contract use. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Text under construction. After a failed append the text is unchanged from the last good one and
 * `err` holds -ENOMEM or -EFBIG; later appends do nothing, so a row of appends needs one check at its end.
 */
struct str {
	char *data; /* NUL-terminated once anything was appended; NULL before */
	size_t len; /* without the NUL */
	size_t capacity;
	size_t max; /* bytes; 0 stands for STR_MAX_DEFAULT */
	int err;    /* 0 or -errno, sticky */
};

enum { STR_MAX_DEFAULT = 64 << 20 };

void str_release(struct str *s); /* takes NULL */
void str_clear(struct str *s);
int str_append(struct str *s, const char *text);
int str_append_n(struct str *s, const char *bytes, size_t n);
int str_printf(struct str *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Appends one TSV field: tab, newline and backslash as \t \n \\; other control bytes as \xHH. */
int str_append_tsv(struct str *s, const char *field);
/* Hands over the text ("" if nothing was appended; caller frees), or returns s->err. */
int str_steal(struct str *s, char **ret);

static inline void cleanup_str_(struct str *s)
{
	str_release(s);
}
#define cleanup_str __attribute__((cleanup(cleanup_str_)))

/* The caller's; of NULL it is NULL. -ENOMEM. */
int str_dup(const char *text, char **ret);
/* printf into new memory; -ENOMEM. */
int str_format(char **ret, const char *format, ...) __attribute__((format(printf, 2, 3)));

bool str_has_prefix(const char *s, const char *prefix);
bool str_has_suffix(const char *s, const char *suffix);

/* Into `size` bytes; false: it does not fit, and nothing is written. */
bool str_copy(char *to, size_t size, const char *text);
/* What fits of n bytes, to stand in a sentence: cut at a character's beginning, blanks for what is not printed. */
void str_copy_sentence(char *to, size_t size, const char *text, size_t n);

/* Whole string as a decimal number within [min, max]; -EINVAL, -ERANGE. */
int str_to_int(const char *s, int64_t min, int64_t max, int64_t *ret);
/* "90", "90s", "5m", "3h", "2d" -> milliseconds; decimals as in "0.5s"; a bare number is seconds; -EINVAL, -ERANGE. */
int str_to_duration_ms(const char *s, int64_t *ret);
/* "500MB", "10GB", "4KiB", "1048576" -> bytes (MB is 10^6, MiB 2^20); -EINVAL, -ERANGE. */
int str_to_size(const char *s, int64_t *ret);

/* A name of DESIGN 5: [A-Za-z0-9][A-Za-z0-9._-]{0,127}. */
bool str_is_plain_name(const char *s);
/* Makes such a name: other characters become '_', cut to 127. Empty or NULL gives "_". */
int str_make_plain_name(const char *s, char **ret);

/* Lower-case hex into `ret`, of 2 * n + 1 bytes, which it returns. */
char *str_hex(const void *bytes, size_t n, char *ret);

/* FNV-1a, for tables and inode numbers; start with hash = STR_HASH_START to chain. */
#define STR_HASH_START UINT64_C(14695981039346656037)
uint64_t str_hash(uint64_t hash, const void *bytes, size_t n);
