/* SPDX-License-Identifier: MIT */
/* Made-up files: text that is rendered once an open, and verbs. */
#include "node_files.h"

#include "cleanup.h"
#include "notify.h"
#include "serve_private.h"

#include <errno.h>
#include <string.h>

int handle_render(struct call *c, struct handle *h)
{
	cleanup_str struct str text = {0};
	int r = h->node->kind->render(c, h->node, &text);
	if (r < 0)
		return r;
	h->text_len = text.len;
	r = str_steal(&text, &h->text);
	if (r < 0)
		return r;
	/* tar reads as much as fstat says; the kernel's own reads end at the size that it knows */
	int64_t told = h->node->reported_size;
	if (told >= 0 && told != (int64_t)h->text_len)
		notify_attr_now(c->serve->notify, h->node);
	return 0;
}

ssize_t handle_read_text(const struct handle *h, char *buf, size_t size, off_t offset)
{
	if (!h->text || (size_t)offset >= h->text_len)
		return 0;
	size_t n = h->text_len - offset;
	if (n > size)
		n = size;
	memcpy(buf, h->text + offset, n);
	return n;
}

int ctl_line(struct call *c, const char *buf, size_t size, char *ret, size_t ret_size)
{
	while (size > 0 && (buf[size - 1] == '\n' || buf[size - 1] == ' '))
		size--;
	if (size >= ret_size || memchr(buf, '\n', size) || memchr(buf, '\0', size))
		return fault_set(&c->fault, EINVAL, "write one verb, on one line");
	memcpy(ret, buf, size);
	ret[size] = '\0';
	return 0;
}
