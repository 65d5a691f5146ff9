/* SPDX-License-Identifier: MIT */
/* Names that mean something to the tree. */
#include <criterion/criterion.h>

#include "fs/node.h"

Test(tree, names_that_tools_make_in_passing_are_known)
{
	static const char *const passing[] = {".hidden", ".t.swp", "4913", "sedAbc123", "CuaBcdef", "t~"};
	for (size_t i = 0; i < sizeof(passing) / sizeof(*passing); i++)
		cr_expect(node_is_passing(passing[i]), "%s", passing[i]);
}

Test(tree, words_that_look_alike_are_names)
{
	static const char *const names[] = {"Customer", "Curation",  "sedations", "Cu",
					    "sed",      "CuAbCdEfG", "49130"};
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		cr_expect(!node_is_passing(names[i]), "%s", names[i]);
}
