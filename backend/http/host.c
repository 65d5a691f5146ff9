/* SPDX-License-Identifier: MIT */
/*
 * The pace at which a host is asked. A 429 or 503 doubles the time between two requests of everybody, each answer that is
 * neither shortens it by an eighth: the rate settles where the service stops complaining.
 */
#include "http/engine.h"

#include <stdlib.h>
#include <string.h>

enum {
	PACE_MAX_MS = 1000,
	PACE_DOUBLING_MS = 100, /* answers to what was under way together count once */
	FORGET_MS = 60000
};

static bool host_is(const struct http_host *host, const struct url *url)
{
	size_t n = (size_t)(url->host + url->n_host - url->scheme);

	return host->n_name == n && memcmp(host->name, url->scheme, n) == 0;
}

static void host_free_locked(struct http_host *host)
{
	LIST_REMOVE(host, in_http);
	free(host);
}

/* Hosts that nobody uses and that were slowed down long ago. */
static void hosts_sweep_locked(struct http *http, int64_t now_ms)
{
	struct http_host *host = LIST_FIRST(&http->hosts);

	while (host) {
		struct http_host *next = LIST_NEXT(host, in_http);
		if (host->n_refs == 0 && now_ms - host->slowed_ms > FORGET_MS)
			host_free_locked(host);
		host = next;
	}
}

static struct http_host *host_new_locked(struct http *http, const struct url *url)
{
	size_t n = (size_t)(url->host + url->n_host - url->scheme);
	struct http_host *host = calloc(1, sizeof(*host) + n + 1);

	if (!host)
		return NULL;
	host->n_name = n;
	memcpy(host->name, url->scheme, n);
	for (int i = 0; i < HTTP_N_LANES; i++)
		TAILQ_INIT(&host->queue[i]);
	LIST_INSERT_HEAD(&http->hosts, host, in_http);
	return host;
}

struct http_host *http_host_ref_locked(struct http *http, const struct url *url)
{
	struct http_host *host;

	LIST_FOREACH(host, &http->hosts, in_http)
	{
		if (host_is(host, url))
			break;
	}
	if (!host)
		host = host_new_locked(http, url);
	if (host)
		host->n_refs++;
	return host;
}

void http_host_unref_locked(struct http *http, struct http_host *host, int64_t now_ms)
{
	host->n_refs--;
	hosts_sweep_locked(http, now_ms);
}

int64_t http_host_take_turn_locked(struct http_host *host, int64_t now_ms)
{
	if (now_ms < host->next_ms)
		return host->next_ms - now_ms;
	host->next_ms = now_ms + host->pace_ms;
	return 0;
}

void http_host_slow_down_locked(struct http_host *host, const struct http_limits *limits, int64_t now_ms)
{
	if (host->pace_ms == 0)
		host->pace_ms = limits->pace_ms;
	else if (now_ms - host->slowed_ms >= PACE_DOUBLING_MS)
		host->pace_ms = host->pace_ms < PACE_MAX_MS / 2 ? host->pace_ms * 2 : PACE_MAX_MS;
	host->slowed_ms = now_ms;
	if (host->next_ms < now_ms + host->pace_ms)
		host->next_ms = now_ms + host->pace_ms;
}

void http_host_speed_up_locked(struct http_host *host)
{
	if (host->pace_ms > 0)
		host->pace_ms -= host->pace_ms / 8 + 1;
}
