/* SPDX-License-Identifier: MIT */
/* Buckets, and those that are directories of this machine. */
#include "contract.h"

#include "scratch.h"

#include <errno.h>
#include <string.h>

static unsigned listed(struct contract *c, const char *name)
{
	struct contract_search search = {.name = name};

	contract_ok(c, backend_bucket_list(c->be, contract_search, &search, &c->fault));
	return search.n;
}

CONTRACT_TEST(contract_buckets, come_and_go)
{
	cr_expect(eq(uint, listed(c, "data"), 0));
	contract_ok(c, backend_bucket_create(c->be, "data", &c->fault));
	cr_expect(eq(uint, listed(c, "data"), 1));
	contract_fails(c, backend_bucket_create(c->be, "data", &c->fault), EEXIST);
	contract_ok(c, backend_bucket_remove(c->be, "data", &c->fault));
	cr_expect(eq(uint, listed(c, "data"), 0));
	contract_fails(c, backend_bucket_remove(c->be, "data", &c->fault), ENOENT);
}

CONTRACT_TEST(contract_buckets, hold_files)
{
	cleanup_close int fd = -1, again = -1;

	if (!backend_bucket_is_dir(c->be))
		return;
	contract_ok(c, backend_bucket_create(c->be, "data", &c->fault));
	contract_ok(c, backend_bucket_dir(c->be, "data", &fd, &c->fault));
	cr_assert(zero(int, file_write_atomic(fd, "key", "value", 5, 0644)));
	contract_ok(c, backend_bucket_dir(c->be, "data", &again, &c->fault));
	cr_expect(contract_has_text(again, "key", "value"));
	contract_fails(c, backend_bucket_remove(c->be, "data", &c->fault), ENOTEMPTY);
	cr_expect(contract_has_text(again, "key", "value"));
	cr_assert(zero(int, unlinkat(fd, "key", 0)));
	contract_ok(c, backend_bucket_remove(c->be, "data", &c->fault));
}

CONTRACT_TEST(contract_buckets, bad_names_are_refused)
{
	static const char *const bad[] = {"..", ".", "a/b", "../b", ".a", "a b"};
	int fd = -1;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		contract_fails(c, backend_bucket_create(c->be, bad[i], &c->fault), EINVAL);
		if (backend_bucket_is_dir(c->be))
			contract_fails(c, backend_bucket_dir(c->be, bad[i], &fd, &c->fault), ENOENT);
	}
	if (backend_bucket_is_dir(c->be))
		contract_fails(c, backend_bucket_dir(c->be, "none", &fd, &c->fault), ENOENT);
}
