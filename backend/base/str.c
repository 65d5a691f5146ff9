/* SPDX-License-Identifier: MIT */
/* Growing text with a maximum, and strict readers of numbers, durations, sizes and names. */
#include "str.h"

#include "cleanup.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { STR_CAPACITY_MIN = 64, PLAIN_NAME_MAX = 128 };

void str_release(struct str *s)
{
	if (!s)
		return;
	free(s->data);
	s->data = NULL;
	s->len = s->capacity = 0;
}

void str_clear(struct str *s)
{
	s->len = 0;
	s->err = 0;
	if (s->data)
		s->data[0] = '\0';
}

/* Room for `n` bytes more and the NUL. */
static int str_reserve(struct str *s, size_t n)
{
	size_t max = s->max ? s->max : STR_MAX_DEFAULT;

	if (s->err)
		return s->err;
	if (s->len > max || n > max - s->len)
		return s->err = -EFBIG;
	size_t need = s->len + n + 1;
	if (need <= s->capacity)
		return 0;
	size_t capacity = s->capacity * 2 > need ? s->capacity * 2 : need;
	if (capacity < STR_CAPACITY_MIN)
		capacity = STR_CAPACITY_MIN;
	char *data = realloc(s->data, capacity);
	if (!data)
		return s->err = -ENOMEM;
	data[s->len] = '\0';
	s->data = data;
	s->capacity = capacity;
	return 0;
}

int str_append_n(struct str *s, const char *bytes, size_t n)
{
	int r = str_reserve(s, n);
	if (r < 0)
		return r;
	if (n > 0)
		memcpy(s->data + s->len, bytes, n);
	s->len += n;
	s->data[s->len] = '\0';
	return 0;
}

int str_append(struct str *s, const char *text)
{
	return str_append_n(s, text, strlen(text));
}

static int __attribute__((format(printf, 2, 0))) str_vprintf(struct str *s, const char *format, va_list ap)
{
	va_list again;

	if (s->err)
		return s->err;
	va_copy(again, ap);
	int n = vsnprintf(NULL, 0, format, again);
	va_end(again);
	if (n < 0)
		return s->err = -ENOMEM;
	int r = str_reserve(s, (size_t)n);
	if (r < 0)
		return r;
	(void)vsnprintf(s->data + s->len, (size_t)n + 1, format, ap);
	s->len += (size_t)n;
	return 0;
}

int str_printf(struct str *s, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	int r = str_vprintf(s, format, ap);
	va_end(ap);
	return r;
}

int str_append_tsv(struct str *s, const char *field)
{
	size_t start = s->len;

	for (; *field; field++) {
		unsigned char c = (unsigned char)*field;
		if (c == '\t')
			str_append(s, "\\t");
		else if (c == '\n')
			str_append(s, "\\n");
		else if (c == '\\')
			str_append(s, "\\\\");
		else if (c < 0x20 || c == 0x7F)
			str_printf(s, "\\x%02X", c);
		else
			str_append_n(s, field, 1);
	}
	if (s->err && s->data) { /* half a field is none */
		s->len = start;
		s->data[start] = '\0';
	}
	return s->err;
}

int str_steal(struct str *s, char **ret)
{
	if (s->err)
		return s->err;
	if (!s->data) {
		char *empty = calloc(1, 1);
		if (!empty)
			return s->err = -ENOMEM;
		*ret = empty;
		return 0;
	}
	*ret = STEAL(s->data);
	s->len = s->capacity = 0;
	return 0;
}

int str_dup(const char *text, char **ret)
{
	*ret = text ? strdup(text) : NULL;
	return text && !*ret ? -ENOMEM : 0;
}

int str_format(char **ret, const char *format, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, format);
	int n = vasprintf(&text, format, ap);
	va_end(ap);
	if (n < 0)
		return -ENOMEM;
	*ret = text;
	return 0;
}

bool str_has_prefix(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_has_suffix(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);

	return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

bool str_copy(char *to, size_t size, const char *text)
{
	size_t n = strlen(text);
	if (n >= size)
		return false;
	memcpy(to, text, n + 1);
	return true;
}

void str_copy_sentence(char *to, size_t size, const char *text, size_t n)
{
	if (n >= size) {
		n = size - 1;
		while (n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80)
			n--;
	}
	for (size_t i = 0; i < n; i++)
		to[i] = (char)(iscntrl((unsigned char)text[i]) ? ' ' : text[i]);
	to[n] = '\0';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* The digits at *p, which moves on behind them. */
static int take_number(const char **p, int64_t *ret)
{
	int64_t value = 0;

	if (!is_digit(**p))
		return -EINVAL;
	for (; is_digit(**p); (*p)++) {
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, **p - '0', &value))
			return -ERANGE;
	}
	*ret = value;
	return 0;
}

int str_to_int(const char *s, int64_t min, int64_t max, int64_t *ret)
{
	bool is_negative = *s == '-';
	int64_t value;

	if (*s == '-' || *s == '+')
		s++;
	int r = take_number(&s, &value);
	if (r == -ERANGE && s[strspn(s, "0123456789")])
		r = -EINVAL;
	if (r < 0)
		return r;
	if (*s)
		return -EINVAL;
	if (is_negative)
		value = -value;
	if (value < min || value > max)
		return -ERANGE;
	*ret = value;
	return 0;
}

struct unit {
	const char *name;
	int64_t factor;
};

enum { FRACTION_DIGITS_MAX = 6 };

/* What stands behind a decimal point at *p, in parts of `*ret_parts`; nothing is 0 of 1. */
static int take_fraction(const char **p, int64_t *ret, int64_t *ret_parts)
{
	int n_digits = 0;

	*ret = 0;
	*ret_parts = 1;
	if (**p != '.')
		return 0;
	for ((*p)++; is_digit(**p); (*p)++) {
		if (++n_digits > FRACTION_DIGITS_MAX)
			return -EINVAL;
		*ret = *ret * 10 + (**p - '0');
		*ret_parts *= 10;
	}
	return n_digits > 0 ? 0 : -EINVAL;
}

/* A number and one of the units (the table ends with a NULL name). */
static int with_unit(const char *s, const struct unit *unit, int64_t *ret)
{
	int64_t value, fraction, parts;
	int r = take_number(&s, &value);
	if (r == 0)
		r = take_fraction(&s, &fraction, &parts);
	if (r < 0)
		return r;
	for (; unit->name; unit++) {
		if (strcasecmp(s, unit->name) != 0)
			continue;
		if (__builtin_mul_overflow(value, unit->factor, &value))
			return -ERANGE;
		if (unit->factor * fraction % parts != 0) /* half a byte */
			return -EINVAL;
		if (__builtin_add_overflow(value, unit->factor * fraction / parts, &value))
			return -ERANGE;
		*ret = value;
		return 0;
	}
	return -EINVAL;
}

int str_to_duration_ms(const char *s, int64_t *ret)
{
	static const struct unit units[] = {
		{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}, {NULL, 0},
	};

	return with_unit(s, units, ret);
}

int str_to_size(const char *s, int64_t *ret)
{
	static const struct unit units[] = {
		{"", 1},
		{"B", 1},
		{"KB", 1000},
		{"MB", 1000000},
		{"GB", 1000000000},
		{"TB", 1000000000000},
		{"KiB", INT64_C(1) << 10},
		{"MiB", INT64_C(1) << 20},
		{"GiB", INT64_C(1) << 30},
		{"TiB", INT64_C(1) << 40},
		{NULL, 0},
	};

	return with_unit(s, units, ret);
}

static bool is_alnum(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_plain(char c)
{
	return is_alnum(c) || c == '.' || c == '_' || c == '-';
}

bool str_is_plain_name(const char *s)
{
	if (!is_alnum(s[0]))
		return false;
	size_t n = 0;
	while (n <= PLAIN_NAME_MAX && is_plain(s[n]))
		n++;
	return !s[n] && n <= PLAIN_NAME_MAX;
}

int str_make_plain_name(const char *s, char **ret)
{
	char *name = malloc(PLAIN_NAME_MAX);
	size_t n = 0;

	if (!name)
		return -ENOMEM;
	if (!s || !*s)
		s = "_";
	if (!is_alnum(*s)) /* the first character is stricter than the rest */
		name[n++] = 'x';
	for (; *s && n < PLAIN_NAME_MAX - 1; s++) {
		if (((unsigned char)*s & 0xC0) == 0x80) /* one '_' a character, not a byte */
			continue;
		name[n++] = *s;
		if (!is_plain(*s))
			name[n - 1] = '_';
	}
	name[n] = '\0';
	*ret = name;
	return 0;
}

char *str_hex(const void *bytes, size_t n, char *ret)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *byte = bytes;
	for (size_t i = 0; i < n; i++) {
		ret[2 * i] = digits[byte[i] >> 4];
		ret[2 * i + 1] = digits[byte[i] & 15];
	}
	ret[2 * n] = '\0';
	return ret;
}

uint64_t str_hash(uint64_t hash, const void *bytes, size_t n)
{
	const unsigned char *p = bytes;

	for (; n > 0; n--, p++)
		hash = (hash ^ *p) * UINT64_C(1099511628211);
	return hash;
}
