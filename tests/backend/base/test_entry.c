/* SPDX-License-Identifier: MIT */
/* Entry of base/, held to what its header promises. */
#include "entry.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

Test(entry, names_of_job_states_go_both_ways)
{
	for (int i = 0; i < JOB_STATE_MAX; i++) {
		enum job_state state = JOB_STATE_MAX;
		cr_expect(eq(int, job_state_parse(job_state_name((enum job_state)i), &state), 0));
		cr_expect(eq(int, (int)state, i));
	}
	enum job_state state;
	cr_expect(eq(int, job_state_parse("running", &state), -EINVAL));
	cr_expect(eq(int, job_state_parse("", &state), -EINVAL));
}

Test(entry, names_of_version_states_go_both_ways)
{
	for (int i = 0; i < VERSION_STATE_MAX; i++) {
		enum version_state state = VERSION_STATE_MAX;
		cr_expect(eq(int, version_state_parse(version_state_name((enum version_state)i), &state), 0));
		cr_expect(eq(int, (int)state, i));
	}
	enum version_state state;
	cr_expect(eq(int, version_state_parse("READYISH", &state), -EINVAL));
}

Test(entry, three_states_are_ends)
{
	int n = 0;

	for (int i = 0; i < JOB_STATE_MAX; i++)
		n += job_state_is_ended((enum job_state)i);
	cr_assert(eq(int, n, 3));
	cr_assert(job_state_is_ended(JOB_FAILED));
	cr_assert(not(job_state_is_ended(JOB_CANCELLING)));
}

Test(entry, release_frees_everything_and_may_be_repeated)
{
	struct job_detail job = {.why = strdup("why"), .spec = strdup("{}"), .version = strdup("m/v")};
	struct model_detail model = {0};

	job.attempt = calloc(1, sizeof(*job.attempt));
	job.n_attempts = 1;
	job.attempt[0].why = strdup("preempted");
	job.event = calloc(2, sizeof(*job.event));
	job.n_events = 2;
	job_detail_release(&job);
	cr_assert(zero(ptr, job.why));
	cr_assert(zero(sz, job.n_attempts));
	job_detail_release(&job);

	model.version = calloc(1, sizeof(*model.version));
	model.n_versions = 1;
	model.version[0].name = strdup("v1");
	model.alias = calloc(1, sizeof(*model.alias));
	model.n_aliases = 1;
	model.alias[0].name = strdup("default");
	model.alias[0].version = strdup("v1");
	model_detail_release(&model);
	cr_assert(zero(ptr, model.alias));
	model_detail_release(&model);
}
