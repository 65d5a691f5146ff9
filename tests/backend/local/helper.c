/* SPDX-License-Identifier: MIT */
/* What trainfs is to its helpers, without the rest: the tests start supervisors from it. */
#include "helper.h"

#include <string.h>

int main(int argc, char **argv)
{
	const struct helper *helper =
		argc > 1 && !strcmp(argv[0], HELPER_ARGV0) ? helper_find(argv[1]) : NULL;
	return helper ? helper->main(argc - 1, argv + 1) : 2;
}
