/* SPDX-License-Identifier: MIT */
/* Jobs: listing, submission, end, removal, logs, packages. */
#include "contract.h"

#include "scratch.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

CONTRACT_TEST(contract_jobs, a_new_backend_has_no_jobs)
{
	contract_refresh(c);
	cr_assert(eq(sz, c->n_rows, 0));
	contract_refresh(c);
	cr_assert(eq(sz, c->n_rows, 0));
}

CONTRACT_TEST(contract_jobs, a_submitted_job_is_listed)
{
	contract_refresh(c);
	contract_ok(c, contract_submit(c, "a_1", CONTRACT_ENDLESS));
	contract_refresh(c);
	const struct contract_row *row = contract_row(c, "a_1");
	cr_assert(ne(ptr, (void *)row, NULL), "%s", c->type->name);
	cr_expect(eq(str, (char *)row->model, "digits"));
	cr_expect(row->entry.state == JOB_QUEUED || row->entry.state == JOB_PREPARING ||
		  row->entry.state == JOB_RUNNING);
	cr_expect(gt(i64, row->entry.created_ns, 0));
	cr_expect(ge(i64, row->entry.changed_ns, row->entry.created_ns));
	cr_expect(zero(i64, row->entry.ended_ns));
	cr_expect(eq(int, row->entry.exit, JOB_EXIT_UNKNOWN));
	cr_expect(not(row->entry.is_gone));
}

CONTRACT_TEST(contract_jobs, success_is_told)
{
	contract_run(c, "good-1", CONTRACT_GOOD);
	const struct job_entry *entry = &contract_row(c, "good-1")->entry;
	cr_expect(eq(int, entry->exit, 0));
	cr_expect(ge(i64, entry->started_ns, entry->created_ns));
	cr_expect(ge(i64, entry->ended_ns, entry->started_ns));
	cr_expect(ge(i64, entry->changed_ns, entry->started_ns));
}

CONTRACT_TEST(contract_jobs, failure_is_told_with_its_exit_code)
{
	struct job_detail detail;

	contract_run(c, "bad", CONTRACT_BAD);
	cr_expect(eq(int, contract_row(c, "bad")->entry.exit, 3));
	contract_ok(c, backend_job_get(c->be, "bad", &detail, &c->fault));
	cr_expect(eq(sz, detail.n_attempts, 1));
	job_detail_release(&detail);
}

static int ids_of_listing(void *arg, const struct job_entry *entry)
{
	unsigned *found = arg;
	int i = entry->id[1] - '0';

	cr_assert(not(entry->is_gone), "from the beginning, what is gone is not told");
	cr_assert(entry->id[0] == 'j' && i >= 0 && i < 7);
	*found |= 1u << i;
	return 0;
}

CONTRACT_TEST(contract_jobs, every_job_is_listed_whatever_the_pages)
{
	char id[] = "j0";
	struct job_page page = {0};
	unsigned found = 0;

	for (int i = 0; i < 7; i++) {
		id[1] = (char)('0' + i);
		contract_run(c, id, CONTRACT_BAD);
	}
	do {
		char cursor[256];
		memcpy(cursor, page.cursor, sizeof(cursor));
		contract_ok(c, backend_job_list(c->be, cursor, ids_of_listing, &found, &page, &c->fault));
	} while (page.has_more);
	cr_assert(eq(uint, found, 0x7F));
}

CONTRACT_TEST(contract_jobs, a_job_that_changes_during_paging_is_not_left_out)
{
	struct job_page page = {0};
	unsigned found = 0;
	char cursor[256] = "", id[] = "j0";

	for (int i = 0; i < 7; i++) {
		id[1] = (char)('0' + i);
		contract_run(c, id, i == 0 ? CONTRACT_ENDLESS : CONTRACT_BAD);
	}
	contract_ok(c, backend_job_list(c->be, "", ids_of_listing, &found, &page, &c->fault));
	contract_ok(c, backend_job_cancel(c->be, "j0", &c->fault));
	contract_wait(c, "j0", JOB_CANCELLED);
	while (page.has_more) {
		memcpy(cursor, page.cursor, sizeof(cursor));
		contract_ok(c, backend_job_list(c->be, cursor, ids_of_listing, &found, &page, &c->fault));
	}
	cr_assert(eq(uint, found, 0x7F));
}

CONTRACT_TEST(contract_jobs, a_removed_job_is_told_of_as_gone)
{
	if (!c->be->type->jobs->remove)
		return;
	contract_run(c, "kept", CONTRACT_BAD);
	contract_run(c, "dropped", CONTRACT_BAD);
	contract_ok(c, backend_job_remove(c->be, "dropped", &c->fault));
	contract_refresh(c);
	cr_expect(contract_row(c, "dropped")->entry.is_gone);
	cr_expect(not(contract_row(c, "kept")->entry.is_gone));
	contract_forget(c);
	contract_refresh(c);
	const struct contract_row *dropped = contract_row(c, "dropped");
	cr_expect(not(dropped && !dropped->entry.is_gone),
		  "from the beginning it is not there, or told of as gone");
	cr_expect(ne(ptr, (void *)contract_row(c, "kept"), NULL));
	struct job_detail detail;
	contract_fails(c, backend_job_get(c->be, "dropped", &detail, &c->fault), ENOENT);
	int fd = -1;
	contract_fails(c, backend_job_package_dir(c->be, "dropped", &fd, &c->fault), ENOENT);
	contract_fails(c, backend_job_remove(c->be, "dropped", &c->fault), ENOENT);
}

CONTRACT_TEST(contract_jobs, only_ended_jobs_are_removed)
{
	contract_run(c, "lives", CONTRACT_ENDLESS);
	contract_fails(c, backend_job_remove(c->be, "lives", &c->fault), EBUSY);
	contract_fails(c, backend_job_remove(c->be, "none", &c->fault), ENOENT);
	struct job_detail detail;
	contract_ok(c, backend_job_get(c->be, "lives", &detail, &c->fault));
	job_detail_release(&detail);
}

static int stop_listing(void *arg, const struct job_entry *entry)
{
	return -ECANCELED;
}

CONTRACT_TEST(contract_jobs, a_sink_can_end_the_listing)
{
	struct job_page page = {.cursor = "untouched"};

	contract_run(c, "a", CONTRACT_BAD);
	contract_fails(c, backend_job_list(c->be, "", stop_listing, NULL, &page, &c->fault), ECANCELED);
	cr_assert(eq(str, page.cursor, "untouched"));
}

CONTRACT_TEST(contract_jobs, details_are_what_was_submitted)
{
	struct job_detail detail;

	contract_run(c, "a-7", CONTRACT_GOOD);
	contract_ok(c, backend_job_get(c->be, "a-7", &detail, &c->fault));
	cleanup_json json_t *spec = json_loads(detail.spec, 0, NULL);
	cr_assert(ne(ptr, spec, NULL), "%s", detail.spec);
	cr_expect(json_equal(spec, contract_request(c, "a-7", "digits", CONTRACT_GOOD)->spec));
	cleanup_json json_t *git = json_loads(detail.git ? detail.git : "", 0, NULL);
	cr_expect(eq(str, (char *)json_string_value(json_object_get(git, "branch")), "main"));
	cr_assert(gt(sz, detail.n_events, 0));
	for (size_t i = 1; i < detail.n_events; i++)
		cr_expect(ge(i64, detail.event[i].at_ns, detail.event[i - 1].at_ns));
	cr_expect(eq(int, (int)detail.event[detail.n_events - 1].state, (int)JOB_SUCCEEDED));
	cr_expect(zero(ptr, detail.version));
	if (detail.api) {
		cleanup_json json_t *api = json_loads(detail.api, 0, NULL);
		cr_expect(ne(ptr, api, NULL), "api is JSON");
	}
	job_detail_release(&detail);
}

CONTRACT_TEST(contract_jobs, the_output_lies_in_a_bucket)
{
	struct job_detail detail;
	char path[400];

	if (!backend_bucket_is_dir(c->be))
		return;
	contract_run(c, "a-7", CONTRACT_GOOD);
	contract_ok(c, backend_job_get(c->be, "a-7", &detail, &c->fault));
	cr_assert(ne(ptr, detail.output, NULL));
	char *slash = strchr(detail.output, '/');
	cr_assert(ne(ptr, slash, NULL));
	*slash = '\0';
	cleanup_close int bucket = -1;
	contract_ok(c, backend_bucket_dir(c->be, detail.output, &bucket, &c->fault));
	snprintf(path, sizeof(path), "%s/model/model.txt", slash + 1);
	cr_expect(contract_has_text(bucket, path, "model of a-7\n"));
	job_detail_release(&detail);
}

CONTRACT_TEST(contract_jobs, an_unknown_job_is_ENOENT)
{
	struct job_detail detail;
	int fd = -1;

	contract_fails(c, backend_job_get(c->be, "none", &detail, &c->fault), ENOENT);
	contract_fails(c, backend_job_get(c->be, "no name at all", &detail, &c->fault), ENOENT);
	contract_fails(c, backend_job_cancel(c->be, "none", &c->fault), ENOENT);
	contract_fails(c, backend_job_package_dir(c->be, "none", &fd, &c->fault), ENOENT);
	if (backend_job_log_is_file(c->be))
		contract_fails(c, backend_job_log_file(c->be, "none", &fd, &c->fault), ENOENT);
}

CONTRACT_TEST(contract_jobs, an_id_is_taken_once)
{
	contract_run(c, "a", CONTRACT_BAD);
	contract_fails(c, contract_submit(c, "a", CONTRACT_GOOD), EEXIST);
	contract_refresh(c);
	cr_assert(eq(int, (int)contract_row(c, "a")->entry.state, (int)JOB_FAILED));
}

struct racer {
	struct contract *c;
	const struct job_request *request;
	_Atomic int n_won, n_lost;
};

static void *race(void *arg)
{
	struct racer *racer = arg;
	int r = backend_job_submit(racer->c->be, racer->request, NULL);

	if (r == 0)
		racer->n_won++;
	else if (r == -EEXIST)
		racer->n_lost++;
	return NULL;
}

CONTRACT_TEST(contract_jobs, of_several_at_once_one_gets_the_id)
{
	struct racer racer = {.c = c, .request = contract_request(c, "a", "digits", CONTRACT_BAD)};
	pthread_t thread[4];

	for (size_t i = 0; i < 4; i++)
		cr_assert(zero(int, pthread_create(&thread[i], NULL, race, &racer)));
	for (size_t i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	cr_expect(eq(int, racer.n_won, 1));
	cr_expect(eq(int, racer.n_lost, 3));
	if (c->type->drive)
		c->type->drive(c->be, "a", CONTRACT_BAD);
	contract_wait(c, "a", JOB_FAILED);
}

CONTRACT_TEST(contract_jobs, check_takes_what_submit_takes)
{
	static const char *const bad[] = {"a b", ".a", "-a", "a/b", "..", "a\nb", "\xC3\xA9"};

	contract_ok(c,
		    backend_job_check(c->be, contract_request(c, "a_1.b-2", "m", CONTRACT_GOOD), &c->fault));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		contract_fails(
			c,
			backend_job_check(c->be, contract_request(c, bad[i], "m", CONTRACT_GOOD), &c->fault),
			EINVAL);
		contract_fails(
			c,
			backend_job_check(c->be, contract_request(c, "a", bad[i], CONTRACT_GOOD), &c->fault),
			EINVAL);
		contract_fails(
			c,
			backend_job_submit(c->be, contract_request(c, bad[i], "m", CONTRACT_GOOD), &c->fault),
			EINVAL);
	}
	contract_refresh(c);
	cr_assert(eq(sz, c->n_rows, 0), "a check makes nothing");
}

CONTRACT_TEST(contract_jobs, a_live_job_can_be_cancelled)
{
	contract_run(c, "a", CONTRACT_ENDLESS);
	contract_ok(c, backend_job_cancel(c->be, "a", &c->fault));
	contract_wait(c, "a", JOB_CANCELLED);
	cr_expect(gt(i64, contract_row(c, "a")->entry.ended_ns, 0));
	contract_fails(c, backend_job_cancel(c->be, "a", &c->fault), EBUSY);
}

CONTRACT_TEST(contract_jobs, an_ended_job_cannot_be_cancelled)
{
	contract_run(c, "a", CONTRACT_GOOD);
	contract_fails(c, backend_job_cancel(c->be, "a", &c->fault), EBUSY);
	contract_refresh(c);
	cr_assert(eq(int, (int)contract_row(c, "a")->entry.state, (int)JOB_SUCCEEDED));
}

CONTRACT_TEST(contract_jobs, a_waiting_job_can_be_cancelled)
{
	char id[] = "j0";

	for (int i = 0; i < 4; i++) { /* more than there are slots */
		id[1] = (char)('0' + i);
		contract_ok(c, contract_submit(c, id, CONTRACT_ENDLESS));
	}
	contract_ok(c, backend_job_cancel(c->be, "j3", &c->fault));
	contract_wait(c, "j3", JOB_CANCELLED);
}

CONTRACT_TEST(contract_jobs, the_log_is_complete_at_the_end)
{
	contract_run(c, "good", CONTRACT_GOOD);
	contract_run(c, "bad", CONTRACT_BAD);
	cleanup_free char *good = contract_log(c, "good"), *bad = contract_log(c, "bad");
	cr_expect(eq(str, good, "one\ntwo\n"));
	cr_expect(eq(str, bad, "broken\n"));
}

CONTRACT_TEST(contract_jobs, the_package_is_what_was_listed)
{
	cleanup_close int package = -1;
	struct stat st;
	char target[100] = "";

	contract_run(c, "a", CONTRACT_GOOD);
	cr_assert(zero(int, tree_remove(AT_FDCWD, c->package_dir)), "it is not needed any more");
	contract_ok(c, backend_job_package_dir(c->be, "a", &package, &c->fault));
	cr_expect(contract_has_text(package, "data/numbers", "1 2 3\n"));
	cr_expect(contract_has_text(package, "run.sh", "exit 0\n"));
	cr_expect(eq(int, (int)readlinkat(package, "link", target, sizeof(target)), 12));
	cr_expect(eq(str, target, "data/numbers"));
	cr_expect(eq(int, scratch_count(package), 3), "nothing that was not listed");
	cr_assert(zero(int, fstatat(package, "run.sh", &st, 0)));
	cr_expect(ne(int, st.st_mode & 0100, 0));
}

CONTRACT_TEST(contract_jobs, jobs_survive_their_backend)
{
	char kept[256];
	struct job_page page;
	unsigned found = 0;

	contract_run(c, "j1", CONTRACT_BAD);
	memcpy(kept, c->cursor, sizeof(kept));
	contract_reopen(c);
	int r = backend_job_list(c->be, kept, ids_of_listing, &found, &page, &c->fault);
	cr_expect(r == 0 || r == -ESTALE, "%s", c->fault.text);
	contract_forget(c);
	contract_refresh(c);
	cr_assert(ne(ptr, (void *)contract_row(c, "j1"), NULL));
	contract_fails(c, contract_submit(c, "j1", CONTRACT_BAD), EEXIST);
	cleanup_close int package = -1;
	contract_ok(c, backend_job_package_dir(c->be, "j1", &package, &c->fault));
	cr_expect(contract_has_text(package, "run.sh", "exit 0\n"));
}

CONTRACT_TEST(contract_jobs, exactly_one_way_to_the_log)
{
	cr_assert(ne(int, !c->be->type->jobs->log_file, !c->be->type->jobs->log_fetch));
}
