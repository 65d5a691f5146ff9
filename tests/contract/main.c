/* SPDX-License-Identifier: MIT */
/* Criterion's main, and that of the helpers: a backend's supervisors are this program again. */
#include "helper.h"

#include <criterion/criterion.h>
#include <string.h>

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[0], HELPER_ARGV0) == 0) {
		const struct helper *helper = helper_find(argv[1]);
		return helper ? helper->main(argc - 1, argv + 1) : 2;
	}
	struct criterion_test_set *tests = criterion_initialize();
	int status = 0;
	if (criterion_handle_args(argc, argv, true))
		status = !criterion_run_all_tests(tests);
	criterion_finalize(tests);
	return status;
}
