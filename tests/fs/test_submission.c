/* SPDX-License-Identifier: MIT */
/* What a draft submits: recognised packages, reruns, secrets, and hostile drafts. */
#include "fixtures.h"

#include <jansson.h>

#include "fs/submission.h"

static void make_home(void)
{
	scratch_make();
	setenv("XDG_CONFIG_HOME", in_scratch("config"), 1);
}

TestSuite(submission, .timeout = 60, .init = make_home, .fini = scratch_remove);

static int prepare(const char *draft, char **ret_spec, struct fault *fault)
{
	struct submission submission = {0};
	int r = submission_prepare(in_scratch(draft), "dflt", 0, &submission, fault);
	if (r == 0 && ret_spec)
		*ret_spec = json_dumps(submission.spec, JSON_COMPACT);
	submission_release(&submission);
	cr_assert(submission.root == NULL && submission.spec == NULL && submission.path == NULL);
	return r;
}

static void gives(const char *draft, const char *expected)
{
	struct fault fault = {0};
	char *spec = NULL;
	cr_assert(prepare(draft, &spec, &fault) == 0, "%s: %s", draft, fault.text);
	cr_expect(strcmp(spec, expected) == 0, "%s gives %s", draft, spec);
	free(spec);
}

static void refuses(const char *draft, const char *words)
{
	struct fault fault = {0};
	int r = prepare(draft, NULL, &fault);
	cr_assert(r == -EBADMSG && fault.err == EBADMSG, "%s: %d %s", draft, r, fault.text);
	says(fault, words);
}

static void remove_draft(const char *draft)
{
	cr_assert(tree_remove(AT_FDCWD, in_scratch(draft)) == 0);
}

/* A fixture is a directory of the package and its specification or the sentence that refuses it. */
static void check_fixture(const char *dir, const char *name, bool is_ok, const char *text)
{
	char path[1024];
	struct submission submission = {0};
	struct fault fault = {0};
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	int r = submission_prepare(path, "dflt", 0, &submission, &fault);
	if (is_ok) {
		char *spec = json_dumps(submission.spec, JSON_INDENT(2));
		cr_expect(r == 0, "%s: %s", name, fault.text);
		cr_expect(spec && strcmp(spec, text) == 0, "%s gives\n%s", name, spec);
		free(spec);
	} else {
		cr_expect(r == -EBADMSG, "%s: %d", name, r);
		cr_expect(strcmp(fault.text, text) == 0, "%s says\n%s", name, fault.text);
	}
	submission_release(&submission);
}

Test(submission, fixtures_give_what_they_expect)
{
	fixtures_each("package", check_fixture);
}

Test(submission, a_request_is_lent_with_all_that_was_found)
{
	struct submission submission = {0};
	struct package package;
	struct job_request request;
	put("d/main.py", "print(1)\n");
	put("d/job.yaml", "model: m\nsecrets: [TRAINFS_TEST_SECRET]\n");
	setenv("TRAINFS_TEST_SECRET", "hush", 1);
	cr_assert(submission_prepare(in_scratch("d"), "dflt", 0, &submission, NULL) == 0);
	submission_as_request(&submission, "m_1", "{}", &package, &request);
	cr_assert_str_eq(request.id, "m_1");
	cr_assert_str_eq(request.model, "m");
	cr_assert_str_eq(request.git, "{}");
	cr_assert(request.package == &package && request.spec == submission.spec);
	cr_assert_str_eq(package.dir, submission.root);
	cr_assert(package.dir[0] == '/' && package.n_paths == 2 && package.size_bytes == 9 + 40);
	cr_assert_str_eq(package.path[0], "job.yaml");
	cr_assert(request.n_secrets == 1);
	cr_assert_str_eq(request.secret[0].name, "TRAINFS_TEST_SECRET");
	cr_assert_str_eq(request.secret[0].value, "hush");
	submission_release(&submission);
}

Test(submission, trainfs_comes_first_and_then_sorted_keys)
{
	put_empty("d/a.py", NULL);
	put("d/job.yaml", "model: m\nspot: true\nentry: ./a.py\nargs: [x]\n");
	gives("d", "{\"trainfs\":1,\"args\":[\"x\"],\"entry\":\"a.py\",\"model\":\"m\",\"spot\":true}");
}

Test(submission, the_name_of_a_draft_is_made_a_model)
{
	struct submission submission = {0};
	put_empty("d/main.py", NULL);
	cr_assert(submission_prepare(in_scratch("d"), "my net (2)", 0, &submission, NULL) == 0);
	cr_assert_str_eq(submission.model, "my_net__2_");
	submission_release(&submission);
}

Test(submission, main_with_both_directories_is_called)
{
	put("d/main.py",
	    "import x\n\ndef main(dataset_dir: str,\n         model_output_dir: str):\n    pass\n");
	gives("d", "{\"trainfs\":1,\"entry\":\"main.py:main\",\"model\":\"dflt\"}");
}

Test(submission, an_entry_must_be_in_the_package)
{
	static const struct {
		const char *entry, *words;
	} refused[] = {
		{"trian.py", "job.yaml:1:8: entry `trian.py` is neither a file nor a module of the package"},
		{"pkg", "a directory is run when it holds __main__.py"},
		{"a.pkg", "a Python package is run when it holds __main__.py"},
		{"/etc/passwd", "it must be a path in the package"},
		{"../main.py", "is neither a file nor a module"},
		{"python main.py", "written as `command: [program, argument]`"},
		{"main.py:", "a function is named as FILE.py:FUNCTION"},
		{"gone.py:main", "there is no such file in the package"},
		{"numpy.f2py", "is neither a file nor a module"},
	};
	put_empty("d/main.py", "d/pkg/__init__.py", "d/a/pkg/__init__.py", NULL);
	for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++) {
		struct str text = {0};
		str_printf(&text, "entry: \"%s\"\n", refused[i].entry);
		put("d/job.yaml", text.data);
		refuses("d", refused[i].words);
		str_release(&text);
	}
	put_empty("d/requirements.txt", NULL);
	put("d/job.yaml", "entry: numpy.f2py\n");
	gives("d", "{\"trainfs\":1,\"entry\":\"numpy.f2py\",\"model\":\"dflt\"}");
}

Test(submission, a_rerun_takes_its_specification_and_its_package_only)
{
	struct submission submission = {0};
	put("d/spec.json", "{\"trainfs\": 1, \"model\": \"old\", \"entry\": \"m.py\", \"args\": [\"1\"]}");
	put("d/package/job.yaml", "not: read\n");
	put_empty("d/package/m.py", "d/state", "d/log", "d/job.yaml", NULL);
	cr_assert(mkfifo(in_scratch("d/odd"), 0600) == 0);
	cr_assert(submission_prepare(in_scratch("d"), "NEW", 0, &submission, NULL) == 0);
	cr_assert_str_eq(submission.model, "old");
	cr_assert(str_has_suffix(submission.root, "/d/package") && submission.n_paths == 2);
	submission_release(&submission);
	gives("d", "{\"trainfs\":1,\"args\":[\"1\"],\"entry\":\"m.py\",\"model\":\"old\"}");
}

Test(submission, a_rerun_that_was_edited_badly_is_told)
{
	put_empty("d/package/main.py", NULL);
	put("d/spec.json", "{\"trainfs\": 1,}");
	refuses("d", "spec.json:1:15: ");
	put("d/spec.json", "{\"trainfs\": 1,\n \"modle\": \"x\"}");
	refuses("d", "spec.json:2:2: unknown field `modle` (did you mean `model`?)");
	put("d/spec.json", "{\"trainfs\": 3}");
	refuses("d", "`trainfs` must be 1, not `3`");
	put("d/spec.json", "{\"trainfs\": 1}");
	remove_draft("d/package");
	refuses("d", "there is no package/ beside it");
	put_empty("d/package", NULL);
	refuses("d", "package is not a directory");
	cr_assert(unlink(in_scratch("d/package")) == 0 && symlink("/etc", in_scratch("d/package")) == 0);
	refuses("d", "package is a symbolic link");
}

Test(submission, a_spec_json_of_the_users_own_is_a_file_like_others)
{
	put_empty("d/main.py", NULL);
	put("d/spec.json", "{\"mine\": 1}");
	gives("d", "{\"trainfs\":1,\"entry\":\"main.py\",\"model\":\"dflt\"}");
	put("d/spec.json", "not json");
	gives("d", "{\"trainfs\":1,\"entry\":\"main.py\",\"model\":\"dflt\"}");
}

Test(submission, a_specification_that_is_no_plain_file_is_refused)
{
	put_empty("d/main.py", NULL);
	cr_assert(symlink("/etc/passwd", in_scratch("d/job.yaml")) == 0);
	refuses("d", "job.yaml is a symbolic link");
	cr_assert(unlink(in_scratch("d/job.yaml")) == 0 && mkdir(in_scratch("d/job.yaml"), 0700) == 0);
	refuses("d", "job.yaml must be a plain file");
	cr_assert(rmdir(in_scratch("d/job.yaml")) == 0 && mkfifo(in_scratch("d/job.yaml"), 0600) == 0);
	refuses("d", "`job.yaml` in the package is a named pipe");
	put("d/.trainfsignore", "job.yaml\n");
	refuses("d", "job.yaml must be a plain file");
}

Test(submission, a_main_that_is_a_link_is_not_read)
{
	put("secret.py", "def main(dataset_dir, model_output_dir): pass\n");
	cr_assert(mkdir(in_scratch("d"), 0700) == 0);
	cr_assert(symlink("../secret.py", in_scratch("d/main.py")) == 0);
	gives("d", "{\"trainfs\":1,\"entry\":\"main.py\",\"model\":\"dflt\"}");
}

Test(submission, a_secret_comes_from_the_environment_or_a_private_file)
{
	struct submission submission = {0};
	put_empty("d/main.py", NULL);
	put("d/job.yaml", "secrets: [TRAINFS_TEST_A, TRAINFS_TEST_B]\n");
	setenv("TRAINFS_TEST_A", "from the environment", 1);
	put("config/trainfs/secrets/TRAINFS_TEST_A", "not this\n");
	put("config/trainfs/secrets/TRAINFS_TEST_B", "from a file\n");
	cr_assert(submission_prepare(in_scratch("d"), "m", 0, &submission, NULL) == 0);
	cr_assert(submission.n_secrets == 2);
	cr_assert_str_eq(submission.secret[0].value, "from the environment");
	cr_assert_str_eq(submission.secret[1].value, "from a file");
	submission_release(&submission);
}

Test(submission, a_secret_that_is_missing_or_public_is_told_without_its_value)
{
	static char large[70000];
	struct fault fault = {0};
	put_empty("d/main.py", NULL);
	put("d/job.yaml", "secrets: [TRAINFS_TEST_X]\n");
	refuses("d", "the secret `TRAINFS_TEST_X` has no value: it is neither in the environment of trainfs "
		     "nor in ");
	refuses("d", "/config/trainfs/secrets/TRAINFS_TEST_X");
	put("config/trainfs/secrets/TRAINFS_TEST_X", "hunter2\n");
	cr_assert(chmod(in_scratch("config/trainfs/secrets/TRAINFS_TEST_X"), 0640) == 0);
	refuses("d", "can be read by others; say: chmod 600 /");
	cr_assert(prepare("d", NULL, &fault) < 0 && !strstr(fault.text, "hunter2"));
	memset(large, 'x', sizeof(large));
	put_bytes("config/trainfs/secrets/TRAINFS_TEST_X", large, sizeof(large));
	cr_assert(chmod(in_scratch("config/trainfs/secrets/TRAINFS_TEST_X"), 0600) == 0);
	refuses("d", "is larger than 64 KiB");
	put_bytes("config/trainfs/secrets/TRAINFS_TEST_X", "a\0b", 3);
	refuses("d", "has a NUL byte in it");
}

Test(submission, a_draft_that_is_gone_or_a_link_is_an_error)
{
	struct submission submission = {0};
	struct fault fault = {0};
	cr_assert(submission_prepare(in_scratch("nowhere"), "m", 0, &submission, &fault) == -ENOENT);
	says(fault, "cannot be opened: No such file or directory");
	cr_assert(symlink("/", in_scratch("link")) == 0);
	cr_assert(submission_prepare(in_scratch("link"), "m", 0, &submission, &fault) < 0);
	cr_assert(!submission_is_empty(in_scratch("nowhere")));
}
