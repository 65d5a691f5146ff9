/* SPDX-License-Identifier: MIT */
/* The limits of cgroups, as a kernel and a container show them. */
#include "fixtures.h"

#include "fs/memory_limit.h"

TestSuite(memory_limit, .timeout = 60, .init = scratch_make, .fini = scratch_remove);

static int64_t limit(const char *self)
{
	put("self", self);
	return memory_limit(in_scratch("self"), in_scratch("cg"));
}

Test(memory_limit, the_least_on_the_way_up_counts)
{
	put("cg/a/memory.max", "3000000000\n");
	put("cg/a/b/memory.max", "max\n");
	cr_expect_eq(limit("0::/a/b\n"), 3000000000);
	put("cg/a/b/memory.max", "1000000\n");
	cr_expect_eq(limit("0::/a/b\n"), 1000000);
	cr_expect_eq(limit("0::/a\n"), 3000000000);
}

Test(memory_limit, the_first_version_has_its_own_place)
{
	put("cg/memory/job/memory.limit_in_bytes", "500000000\n");
	put("cg/memory/memory.limit_in_bytes", "9223372036854771712\n");
	cr_expect_eq(limit("5:devices:/\n4:memory:/job\n3:cpu,cpuacct:/job\n0::/\n"), 500000000);
	cr_expect_eq(limit("4:memory:/\n0::/\n"), 9223372036854771712);
}

Test(memory_limit, a_path_of_outside_is_looked_for_at_the_root)
{
	put("cg/memory.max", "700000000\n");
	cr_expect_eq(limit("0::/../../docker/0123\n"), 700000000);
	cr_expect_eq(limit("0::/system.slice/x.service\n"), 700000000);
}

Test(memory_limit, without_cgroups_there_is_none)
{
	static const char *const self[] = {"",     "0::/\n", "nonsense\n", "4:memory\n", "4:memory:x\n",
					   "::\n", "0::/a"};
	for (size_t i = 0; i < sizeof(self) / sizeof(*self); i++)
		cr_expect_eq(limit(self[i]), INT64_MAX, "%s", self[i]);
	cr_expect_eq(memory_limit("none", "none"), INT64_MAX);
}
