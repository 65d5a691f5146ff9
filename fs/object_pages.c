/* SPDX-License-Identifier: MIT */
#include "object_pages.h"

#include "cleanup.h"
#include "pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct listing_run {
	const struct object_pages *wanted;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	size_t n_asked; /* pages; by the thread whose turn it is */
};

/*
 * One call. The caller of object_pages makes it, or somebody of the pool ahead of its turn, who then holds its rows back:
 * whoever begins it first.
 */
struct page {
	struct listing_run *run; /* not for who comes too late to begin */
	atomic_bool is_begun;
	atomic_uint n_refs;
	char cursor[OBJECT_CURSOR_MAX + 1];
	struct object_page next;
	struct page *ahead; /* asked for while rows came; referenced */
	int result;
	struct fault fault;
	bool has_turn, is_unwanted, is_over; /* under the lock */
};

static struct page *page_new(struct listing_run *run, const char *cursor)
{
	struct page *page = calloc(1, sizeof(*page));
	if (!page)
		return NULL;
	page->run = run;
	page->n_refs = 1;
	memcpy(page->cursor, cursor, strlen(cursor) + 1);
	run->n_asked++;
	return page;
}

static void page_unref(struct page *page)
{
	if (page && --page->n_refs == 0)
		free(page);
}

static void ask_task(void *arg);

/* Without it the page is asked for when it is due. */
static void ask_ahead(struct page *page)
{
	struct listing_run *run = page->run;
	struct page *ahead = page_new(run, page->next.cursor);
	if (!ahead)
		return;
	page->ahead = ahead;
	ahead->n_refs++;
	if (pool_submit(run->wanted->pool, ask_task, ahead) < 0)
		page_unref(ahead);
}

static bool await_turn(struct page *page)
{
	struct listing_run *run = page->run;
	LOCK_SCOPE(&run->lock);
	while (!page->has_turn && !page->is_unwanted)
		pthread_cond_wait(&run->changed, &run->lock);
	return !page->is_unwanted;
}

static int take_row(void *arg, const struct object_entry *object)
{
	struct page *page = arg;
	const struct object_pages *wanted = page->run->wanted;
	if (!await_turn(page))
		return -ECANCELED;
	if (page->next.has_more && !page->ahead && page->run->n_asked < wanted->n_max)
		ask_ahead(page);
	return wanted->sink(wanted->arg, object);
}

static void ask(struct page *page)
{
	struct listing_run *run = page->run;
	const struct object_pages *wanted = run->wanted;
	page->result = backend_objects(wanted->be, wanted->bucket, wanted->prefix, page->cursor,
				       OBJECT_PAGE_ROWS, take_row, page, &page->next, &page->fault);
	LOCK_SCOPE(&run->lock);
	page->is_over = true;
	pthread_cond_broadcast(&run->changed);
}

static void ask_task(void *arg)
{
	struct page *page = arg;
	if (!atomic_exchange(&page->is_begun, true))
		ask(page);
	page_unref(page);
}

/* It is its turn, or (is_unwanted) will never be. */
static void finish(struct page *page, bool is_unwanted)
{
	struct listing_run *run = page->run;
	bool is_ours = !atomic_exchange(&page->is_begun, true);
	{
		LOCK_SCOPE(&run->lock);
		page->has_turn = !is_unwanted;
		page->is_unwanted = is_unwanted;
		pthread_cond_broadcast(&run->changed);
		while (!is_ours && !page->is_over)
			pthread_cond_wait(&run->changed, &run->lock);
	}
	if (is_ours && !is_unwanted)
		ask(page);
}

static struct page *page_after(struct page *page)
{
	return page->ahead ? STEAL(page->ahead) : page_new(page->run, page->next.cursor);
}

/* With what was asked for after it in vain. */
static void page_end(struct page *page)
{
	if (page->ahead)
		finish(page->ahead, true);
	page_unref(page->ahead);
	page_unref(page);
}

/* A service that repeats itself for ever is found by Brent's way: one cursor is kept, from page 1, 2, 4, ... */
struct cycle {
	struct object_page kept;
	size_t n_pages, keep_at;
};

static bool comes_again(struct cycle *cycle, const struct object_page *next)
{
	if (strcmp(next->cursor, cycle->kept.cursor) == 0)
		return true;
	if (++cycle->n_pages == cycle->keep_at) {
		cycle->kept = *next;
		cycle->keep_at *= 2;
	}
	return false;
}

static int may_go_on(struct cycle *cycle, const struct page *page, struct fault *reterr)
{
	const struct object_pages *wanted = page->run->wanted;
	if (comes_again(cycle, &page->next))
		return fault_set(reterr, EIO, "%s: the service lists the same page again and again",
				 wanted->bucket);
	if (cycle->n_pages >= wanted->n_max)
		return -EFBIG;
	return wanted->goes_on(wanted->arg) ? 0 : -EINTR;
}

static int run_pages(struct listing_run *run, struct fault *reterr)
{
	struct cycle cycle = {.keep_at = 1};
	struct page *page = page_new(run, "");
	int r = page ? 0 : -ENOMEM;
	while (page) {
		struct page *next = NULL;
		finish(page, false);
		r = page->result;
		if (r < 0)
			*reterr = page->fault;
		bool has_more = r == 0 && page->next.has_more;
		if (has_more)
			r = may_go_on(&cycle, page, reterr);
		if (has_more && r == 0 && !(next = page_after(page)))
			r = -ENOMEM;
		page_end(page);
		page = next;
	}
	return r;
}

int object_pages(const struct object_pages *wanted, struct fault *reterr)
{
	struct listing_run run = {.wanted = wanted};
	pthread_mutex_init(&run.lock, NULL);
	pthread_cond_init(&run.changed, NULL);
	int r = run_pages(&run, reterr);
	pthread_cond_destroy(&run.changed);
	pthread_mutex_destroy(&run.lock);
	return r;
}
