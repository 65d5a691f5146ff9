/* SPDX-License-Identifier: MIT */
/* Log of base/, held to what its header promises. */
#include "log.h"

#include "cleanup.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <criterion/redirect.h>
#include <errno.h>
#include <string.h>

Test(log, a_message_is_one_line_of_stderr, .init = cr_redirect_stderr)
{
	log_init(LOG_LEVEL_INFO, false);
	log_info("%s: two\nlines", "job");
	cr_assert_stderr_eq_str("trainfs: job: two?lines\n");
}

Test(log, what_is_below_the_level_is_not_said, .init = cr_redirect_stderr)
{
	log_init(LOG_LEVEL_WARNING, false);
	log_info("no");
	log_debug("no");
	log_set_debug(true);
	log_debug("yes");
	log_set_debug(false);
	log_debug("no");
	log_warning("careful, ignoring");
	cr_assert_stderr_eq_str("trainfs: yes\ntrainfs: careful, ignoring\n");
}

Test(log, errno_is_left_alone, .init = cr_redirect_stderr)
{
	log_init(LOG_LEVEL_ERROR, false);
	errno = ENOTTY;
	log_error("x");
	cr_assert(eq(int, errno, ENOTTY));
}

Test(log, a_long_message_is_cut, .init = cr_redirect_stderr)
{
	cleanup_free char *text = malloc(100001);

	memset(text, 'a', 100000);
	text[100000] = '\0';
	log_init(LOG_LEVEL_ERROR, false);
	log_error("%s", text);
	cr_assert(true, "it is enough to live");
}
