/* SPDX-License-Identifier: MIT */
/* Reads the two clocks, and writes and reads RFC 3339. */
#include "clock.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { NS_PER_S = 1000000000 };

int64_t clock_wall_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts); /* cannot fail for this clock */
	return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

int64_t clock_mono_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void clock_condition_init(pthread_cond_t *condition)
{
	pthread_condattr_t monotonic;

	(void)pthread_condattr_init(&monotonic); /* none of these can fail on Linux */
	(void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	(void)pthread_cond_init(condition, &monotonic);
	(void)pthread_condattr_destroy(&monotonic);
}

bool clock_wait(pthread_cond_t *condition, pthread_mutex_t *lock, int64_t until_ms)
{
	const struct timespec until = {.tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000};

	if (until_ms == INT64_MAX)
		return pthread_cond_wait(condition, lock) == 0;
	return pthread_cond_timedwait(condition, lock, &until) == 0;
}

/* An int64_t of nanoseconds ends in 1677 and 2262, so every one of them is a date. */
static void split(int64_t wall_ns, struct tm *ret, int *ret_ms)
{
	time_t seconds = wall_ns / NS_PER_S;
	int64_t rest = wall_ns % NS_PER_S;

	if (rest < 0) {
		rest += NS_PER_S;
		seconds--;
	}
	(void)gmtime_r(&seconds, ret);
	*ret_ms = (int)(rest / 1000000);
}

char *clock_format(int64_t wall_ns, char ret[static CLOCK_TEXT_MAX])
{
	struct tm tm;
	int ms;

	if (wall_ns == 0) {
		ret[0] = '\0';
		return ret;
	}
	split(wall_ns, &tm, &ms);
	size_t n = strftime(ret, CLOCK_TEXT_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
	(void)snprintf(ret + n, CLOCK_TEXT_MAX - n, ".%03dZ", ms);
	return ret;
}

char *clock_stamp(int64_t wall_ns, char ret[static CLOCK_TEXT_MAX])
{
	struct tm tm;
	int ms;

	split(wall_ns, &tm, &ms);
	(void)strftime(ret, CLOCK_TEXT_MAX, "%Y%m%d_%H%M%S", &tm);
	return ret;
}

/* Exactly `n` digits at *p, which moves on. */
static bool take_digits(const char **p, int n, int *ret)
{
	int value = 0;

	for (; n > 0; n--, (*p)++) {
		if (**p < '0' || **p > '9')
			return false;
		value = value * 10 + (**p - '0');
	}
	*ret = value;
	return true;
}

static bool take_one_of(const char **p, const char *set)
{
	if (!**p || !strchr(set, **p))
		return false;
	(*p)++;
	return true;
}

static bool take_date_and_time(const char **p, struct tm *ret)
{
	if (!take_digits(p, 4, &ret->tm_year) || !take_one_of(p, "-") || !take_digits(p, 2, &ret->tm_mon) ||
	    !take_one_of(p, "-") || !take_digits(p, 2, &ret->tm_mday) || !take_one_of(p, "Tt ") ||
	    !take_digits(p, 2, &ret->tm_hour) || !take_one_of(p, ":") || !take_digits(p, 2, &ret->tm_min) ||
	    !take_one_of(p, ":") || !take_digits(p, 2, &ret->tm_sec))
		return false;
	ret->tm_year -= 1900;
	ret->tm_mon -= 1;
	return true;
}

/* The date must survive normalisation (no 31 April); 60 is a leap second. */
static bool is_real_date(const struct tm *tm)
{
	struct tm day = {.tm_year = tm->tm_year, .tm_mon = tm->tm_mon, .tm_mday = tm->tm_mday, .tm_hour = 12};

	if (tm->tm_mon < 0 || tm->tm_mon > 11 || tm->tm_mday < 1 || tm->tm_mday > 31)
		return false;
	(void)timegm(&day);
	return day.tm_mon == tm->tm_mon && day.tm_mday == tm->tm_mday && tm->tm_hour <= 23 &&
	       tm->tm_min <= 59 && tm->tm_sec <= 60;
}

/* ".25" -> 250000000; digits beyond nanoseconds are dropped. */
static bool take_fraction(const char **p, int64_t *ret_ns)
{
	int64_t scale = NS_PER_S / 10;

	*ret_ns = 0;
	if (!take_one_of(p, "."))
		return true;
	if (**p < '0' || **p > '9')
		return false;
	for (; **p >= '0' && **p <= '9'; (*p)++, scale /= 10)
		*ret_ns += (**p - '0') * scale;
	return true;
}

static bool take_offset(const char **p, int64_t *ret_seconds)
{
	int hours, minutes;

	*ret_seconds = 0;
	if (take_one_of(p, "Zz"))
		return true;
	bool is_west = **p == '-';
	if (!take_one_of(p, "+-") || !take_digits(p, 2, &hours) || !take_one_of(p, ":") ||
	    !take_digits(p, 2, &minutes) || hours > 23 || minutes > 59)
		return false;
	*ret_seconds = (is_west ? -1 : 1) * (int64_t)(hours * 3600 + minutes * 60);
	return true;
}

int clock_parse(const char *text, int64_t *ret_wall_ns)
{
	struct tm tm = {0};
	int64_t fraction_ns, offset_s, ns;

	if (!take_date_and_time(&text, &tm) || !is_real_date(&tm) || !take_fraction(&text, &fraction_ns) ||
	    !take_offset(&text, &offset_s) || *text)
		return -EINVAL;
	int64_t seconds = (int64_t)timegm(&tm) - offset_s;
	if (__builtin_mul_overflow(seconds, (int64_t)NS_PER_S, &ns) ||
	    __builtin_add_overflow(ns, fraction_ns, &ns))
		return -EINVAL;
	*ret_wall_ns = ns;
	return 0;
}
