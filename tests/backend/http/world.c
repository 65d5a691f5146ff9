/* SPDX-License-Identifier: MIT */
#include "world.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <string.h>

struct world world;

void world_open_with(const struct http_limits *limits)
{
	cr_assert(eq(int, server_new(&world.server), 0));
	cr_assert(eq(int, http_new_with_limits(limits, &world.http, NULL), 0));
	cr_assert(eq(int, http_client_new(world.http, "place", &world.client), 0));
}

void world_open(void)
{
	world_open_with(&(struct http_limits){
		.backoff_ms = 1, .backoff_max_ms = 2, .pace_ms = 1, .stall_ms = WORLD_STALL_MS});
}

void world_close(void)
{
	http_reply_release(&world.reply);
	http_client_free(world.client);
	http_free(world.http);
	server_free(world.server);
}

static void request_fill(struct http_request *request, char *url, size_t size)
{
	(void)snprintf(url, size, "%s%s", *request->url == '/' ? server_url(world.server) : "", request->url);
	request->url = url;
	if (!request->method)
		request->method = "GET";
}

int ask(struct http_request request)
{
	char url[1024];

	request_fill(&request, url, sizeof(url));
	http_reply_release(&world.reply);
	world.fault = (struct fault){0};
	int r = http_perform(world.client, &request, &world.reply, &world.fault);
	cr_expect(eq(int, world.fault.err, -r), "%d: %s", r, world.fault.text);
	cr_expect(r == 0 || *world.fault.text);
	return r;
}

int get(const char *path)
{
	return ask((struct http_request){.url = path});
}

int get_repeatedly(const char *path)
{
	return ask((struct http_request){.url = path, .is_repeatable = true});
}

static void *asking_run(void *arg)
{
	struct asking *asking = arg;

	asking->result = http_perform(world.client, &asking->request, &asking->reply, &asking->fault);
	return NULL;
}

void asking_begin(struct asking *asking, struct http_request request)
{
	*asking = (struct asking){.request = request};
	request_fill(&asking->request, asking->url, sizeof(asking->url));
	cr_assert(eq(int, pthread_create(&asking->thread, NULL, asking_run, asking), 0));
}

int asking_end(struct asking *asking)
{
	pthread_join(asking->thread, NULL);
	return asking->result;
}

void asking_release(struct asking *asking)
{
	http_reply_release(&asking->reply);
}
