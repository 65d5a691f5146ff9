/* SPDX-License-Identifier: MIT */
/* Models, versions, aliases. */
#include "contract.h"

#include "scratch.h"

#include <errno.h>
#include <string.h>

static unsigned listed(struct contract *c, const char *name)
{
	struct contract_search search = {.name = name};

	contract_ok(c, backend_model_list(c->be, contract_search, &search, &c->fault));
	return search.n;
}

/* The version that an alias points at, "" if it is not there. Valid until the next call. */
static char *alias_of(struct contract *c, const char *model, const char *alias)
{
	static char version[160];
	struct model_detail detail;

	version[0] = '\0';
	contract_ok(c, backend_model_get(c->be, model, &detail, &c->fault));
	for (size_t i = 0; i < detail.n_aliases; i++) {
		if (strcmp(detail.alias[i].name, alias) == 0)
			snprintf(version, sizeof(version), "%s", detail.alias[i].version);
	}
	model_detail_release(&detail);
	return version;
}

/* VERSION_STATE_MAX if it is not there. */
static enum version_state state_of(struct contract *c, const char *model, const char *version)
{
	enum version_state state = VERSION_STATE_MAX;
	struct model_detail detail;

	contract_ok(c, backend_model_get(c->be, model, &detail, &c->fault));
	for (size_t i = 0; i < detail.n_versions; i++) {
		if (strcmp(detail.version[i].name, version) == 0)
			state = detail.version[i].state;
	}
	model_detail_release(&detail);
	return state;
}

static bool has_artifact(struct contract *c, const char *model, const char *version, const char *file,
			 const char *want)
{
	cleanup_close int fd = -1;

	contract_ok(c, backend_model_artifacts_dir(c->be, model, version, &fd, &c->fault));
	return contract_has_text(fd, file, want);
}

static void make_version(struct contract *c, const char *model, const char *version)
{
	contract_ok(c, backend_model_version_create(c->be, model, version, NULL, c->package_dir, &c->fault));
}

CONTRACT_TEST(contract_models, come_and_go)
{
	struct model_detail detail;

	contract_fails(c, backend_model_get(c->be, "m", &detail, &c->fault), ENOENT);
	contract_ok(c, backend_model_create(c->be, "m", &c->fault));
	cr_expect(eq(uint, listed(c, "m"), 1));
	contract_fails(c, backend_model_create(c->be, "m", &c->fault), EEXIST);
	contract_ok(c, backend_model_get(c->be, "m", &detail, &c->fault));
	cr_expect(zero(sz, detail.n_versions));
	cr_expect(zero(sz, detail.n_aliases));
	model_detail_release(&detail);
	contract_ok(c, backend_model_remove(c->be, "m", &c->fault));
	cr_expect(zero(uint, listed(c, "m")));
	contract_fails(c, backend_model_remove(c->be, "m", &c->fault), ENOENT);
}

CONTRACT_TEST(contract_models, bad_names_are_refused)
{
	static const char *const bad[] = {"..", "a/b", ".a", "a b", "-a"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		contract_fails(c, backend_model_create(c->be, bad[i], &c->fault), EINVAL);
		contract_fails(c, backend_model_check(c->be, bad[i], "v", &c->fault), EINVAL);
		contract_fails(c, backend_model_check(c->be, "m", bad[i], &c->fault), EINVAL);
		contract_fails(
			c, backend_model_version_create(c->be, "m", bad[i], NULL, c->package_dir, &c->fault),
			EINVAL);
	}
	contract_ok(c, backend_model_check(c->be, "m", "v1", &c->fault));
	cr_expect(zero(uint, listed(c, "m")), "a check makes nothing");
}

CONTRACT_TEST(contract_models, a_version_is_made_of_a_job)
{
	struct model_detail model;
	struct job_detail job;

	contract_run(c, "a", CONTRACT_GOOD);
	contract_ok(c, backend_model_version_create(c->be, "digits", "v1", "a", NULL, &c->fault));
	cr_expect(has_artifact(c, "digits", "v1", "model.txt", "model of a\n"));
	contract_ok(c, backend_model_get(c->be, "digits", &model, &c->fault));
	cr_assert(eq(sz, model.n_versions, 1));
	cr_expect(eq(str, model.version[0].name, "v1"));
	cr_expect(eq(int, (int)model.version[0].state, (int)VERSION_READY));
	cr_expect(eq(str, model.version[0].job ? model.version[0].job : "", "a"));
	cr_expect(gt(i64, model.version[0].created_ns, 0));
	model_detail_release(&model);
	contract_ok(c, backend_job_get(c->be, "a", &job, &c->fault));
	cr_expect(eq(str, job.version ? job.version : "", "digits/v1"));
	job_detail_release(&job);
}

CONTRACT_TEST(contract_models, a_version_is_made_of_a_directory)
{
	make_version(c, "m", "v1");
	cr_expect(eq(uint, listed(c, "m"), 1), "and the model with it");
	cr_expect(eq(int, (int)state_of(c, "m", "v1"), (int)VERSION_READY));
	cr_expect(has_artifact(c, "m", "v1", "data/numbers", "1 2 3\n"));
	cr_expect(has_artifact(c, "m", "v1", "ignored", "x"), "the whole content");
}

CONTRACT_TEST(contract_models, a_job_must_have_succeeded)
{
	contract_run(c, "lives", CONTRACT_ENDLESS);
	contract_run(c, "bad", CONTRACT_BAD);
	contract_fails(c, backend_model_version_create(c->be, "m", "v1", "none", NULL, &c->fault), ENOENT);
	cr_expect(lt(int, backend_model_version_create(c->be, "m", "v1", "lives", NULL, &c->fault), 0));
	cr_expect(ne(str, c->fault.text, ""));
	cr_expect(lt(int, backend_model_version_create(c->be, "m", "v1", "bad", NULL, &c->fault), 0));
	make_version(c, "m", "v1");
}

CONTRACT_TEST(contract_models, a_version_is_made_once)
{
	make_version(c, "m", "v1");
	contract_run(c, "a", CONTRACT_GOOD);
	contract_fails(c, backend_model_version_create(c->be, "m", "v1", NULL, c->package_dir, &c->fault),
		       EEXIST);
	contract_fails(c, backend_model_version_create(c->be, "m", "v1", "a", NULL, &c->fault), EEXIST);
	cr_expect(has_artifact(c, "m", "v1", "data/numbers", "1 2 3\n"));
}

CONTRACT_TEST(contract_models, a_version_never_changes)
{
	char path[400];

	contract_run(c, "a", CONTRACT_GOOD);
	contract_ok(c, backend_model_version_create(c->be, "m", "v1", "a", NULL, &c->fault));
	make_version(c, "m", "v2");
	snprintf(path, sizeof(path), "%s/data/numbers", c->package_dir);
	/* written in place: a hard link would show it */
	cleanup_close int fd = open(path, O_WRONLY | O_TRUNC);
	cr_assert(zero(int, file_write_fd(fd, "other", 5)));
	contract_ok(c, backend_job_remove(c->be, "a", &c->fault));
	cr_expect(has_artifact(c, "m", "v2", "data/numbers", "1 2 3\n"));
	cr_expect(has_artifact(c, "m", "v1", "model.txt", "model of a\n"));
}

CONTRACT_TEST(contract_models, a_version_outlives_its_job_and_its_output)
{
	struct job_detail job;

	if (!backend_bucket_is_dir(c->be))
		return;
	contract_run(c, "a", CONTRACT_GOOD);
	contract_ok(c, backend_model_version_create(c->be, "m", "v1", "a", NULL, &c->fault));
	contract_ok(c, backend_job_get(c->be, "a", &job, &c->fault));
	cleanup_close int bucket = -1;
	char *slash = strchr(job.output, '/');
	*slash = '\0';
	contract_ok(c, backend_bucket_dir(c->be, job.output, &bucket, &c->fault));
	char path[400];
	snprintf(path, sizeof(path), "%s/model/model.txt", slash + 1);
	cleanup_close int fd = openat(bucket, path, O_WRONLY | O_TRUNC);
	cr_assert(zero(int, file_write_fd(fd, "other", 5)));
	cr_expect(has_artifact(c, "m", "v1", "model.txt", "model of a\n"));
	job_detail_release(&job);
}

CONTRACT_TEST(contract_models, what_failed_can_be_tried_again)
{
	char path[400];

	snprintf(path, sizeof(path), "%s/pipe", c->package_dir);
	cr_assert(zero(int, mkfifo(path, 0600)));
	c->fault = (struct fault){0};
	cr_assert(
		lt(int, backend_model_version_create(c->be, "m", "v1", NULL, c->package_dir, &c->fault), 0));
	cr_expect(ne(ptr, strstr(c->fault.text, "pipe"), NULL), "%s", c->fault.text);
	struct model_detail detail;
	int r = backend_model_get(c->be, "m", &detail, &c->fault);
	cr_assert(r == 0 || r == -ENOENT);
	if (r == 0) {
		model_detail_release(&detail);
		enum version_state state = state_of(c, "m", "v1");
		cr_expect(state == VERSION_FAILED || state == VERSION_STATE_MAX);
		cr_expect(eq(str, alias_of(c, "m", "default"), ""));
		contract_fails(c, backend_model_alias_set(c->be, "m", "default", "v1", &c->fault),
			       state == VERSION_FAILED ? EBUSY : ENOENT);
	}
	cr_assert(zero(int, unlink(path)));
	make_version(c, "m", "v1");
	cr_expect(eq(int, (int)state_of(c, "m", "v1"), (int)VERSION_READY));
	cr_expect(eq(str, alias_of(c, "m", "default"), "v1"));
}

CONTRACT_TEST(contract_models, a_directory_must_be_there)
{
	char path[400];

	snprintf(path, sizeof(path), "%s/none", c->package_dir);
	contract_fails(c, backend_model_version_create(c->be, "m", "v1", NULL, path, &c->fault), ENOENT);
}

CONTRACT_TEST(contract_models, the_first_version_is_default)
{
	make_version(c, "m", "v5");
	cr_expect(eq(str, alias_of(c, "m", "default"), "v5"));
	make_version(c, "m", "v4");
	cr_expect(eq(str, alias_of(c, "m", "default"), "v5"));
}

CONTRACT_TEST(contract_models, aliases_move)
{
	make_version(c, "m", "v1");
	make_version(c, "m", "v2");
	contract_ok(c, backend_model_alias_set(c->be, "m", "default", "v2", &c->fault));
	cr_expect(eq(str, alias_of(c, "m", "default"), "v2"));
	contract_ok(c, backend_model_alias_set(c->be, "m", "default", "v2", &c->fault));
	contract_ok(c, backend_model_alias_set(c->be, "m", "canary", "v1", &c->fault));
	cr_expect(eq(str, alias_of(c, "m", "canary"), "v1"));
	contract_fails(c, backend_model_alias_set(c->be, "m", "canary", "v9", &c->fault), ENOENT);
	contract_fails(c, backend_model_alias_set(c->be, "none", "canary", "v1", &c->fault), ENOENT);
	contract_fails(c, backend_model_alias_set(c->be, "m", "a b", "v1", &c->fault), EINVAL);
	cr_expect(eq(str, alias_of(c, "m", "canary"), "v1"));
	contract_ok(c, backend_model_alias_remove(c->be, "m", "canary", &c->fault));
	cr_expect(eq(str, alias_of(c, "m", "canary"), ""));
	contract_fails(c, backend_model_alias_remove(c->be, "m", "canary", &c->fault), ENOENT);
	contract_fails(c, backend_model_alias_remove(c->be, "none", "canary", &c->fault), ENOENT);
}

CONTRACT_TEST(contract_models, a_version_in_use_stays)
{
	int fd = -1;

	make_version(c, "m", "v1");
	make_version(c, "m", "v2");
	contract_fails(c, backend_model_remove(c->be, "m", &c->fault), EBUSY);
	contract_fails(c, backend_model_version_remove(c->be, "m", "v1", &c->fault), EBUSY);
	contract_ok(c, backend_model_alias_set(c->be, "m", "default", "v2", &c->fault));
	contract_ok(c, backend_model_version_remove(c->be, "m", "v1", &c->fault));
	contract_fails(c, backend_model_version_remove(c->be, "m", "v1", &c->fault), ENOENT);
	contract_fails(c, backend_model_artifacts_dir(c->be, "m", "v1", &fd, &c->fault), ENOENT);
	cr_expect(eq(int, (int)state_of(c, "m", "v1"), (int)VERSION_STATE_MAX));
	make_version(c, "m", "v1");
	cr_expect(eq(int, (int)state_of(c, "m", "v1"), (int)VERSION_READY), "the name is free again");
}

CONTRACT_TEST(contract_models, details_are_sorted)
{
	static const char *const name[] = {"v3", "b", "v10", "A", "v2"};
	struct model_detail detail;
	char alias[] = "alias-0";

	for (size_t i = 0; i < 5; i++) {
		make_version(c, "m", name[i]);
		alias[6] = (char)('9' - i);
		contract_ok(c, backend_model_alias_set(c->be, "m", alias, name[i], &c->fault));
	}
	contract_ok(c, backend_model_get(c->be, "m", &detail, &c->fault));
	cr_assert(eq(sz, detail.n_versions, 5));
	cr_assert(eq(sz, detail.n_aliases, 6));
	for (size_t i = 1; i < detail.n_versions; i++)
		cr_expect(lt(int, strcmp(detail.version[i - 1].name, detail.version[i].name), 0));
	for (size_t i = 1; i < detail.n_aliases; i++)
		cr_expect(lt(int, strcmp(detail.alias[i - 1].name, detail.alias[i].name), 0));
	model_detail_release(&detail);
}
