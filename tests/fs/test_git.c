/* SPDX-License-Identifier: MIT */
/* What is said about a package's .git, and that a hostile one neither runs, blocks nor crashes anything. */
#include "fixtures.h"

#include <git2.h>

#include "fs/submission.h"

/* A repository with one commit of main.py, made with libgit2 so that no git needs to be installed. */
static void make_repository(void)
{
	git_repository *repository;
	git_repository_init_options options = GIT_REPOSITORY_INIT_OPTIONS_INIT;
	git_index *index;
	git_oid tree_id, commit_id;
	git_tree *tree;
	git_signature *me;
	scratch_make();
	put("main.py", "print(1)\n");
	git_libgit2_init();
	options.flags = GIT_REPOSITORY_INIT_MKPATH;
	options.initial_head = "trunk";
	cr_assert(git_repository_init_ext(&repository, scratch, &options) == 0);
	cr_assert(git_repository_index(&index, repository) == 0 &&
		  git_index_add_bypath(index, "main.py") == 0);
	cr_assert(git_index_write(index) == 0 && git_index_write_tree(&tree_id, index) == 0);
	cr_assert(git_tree_lookup(&tree, repository, &tree_id) == 0);
	cr_assert(git_signature_new(&me, "me", "me@example.org", 1700000000, 0) == 0);
	cr_assert(git_commit_create(&commit_id, repository, "HEAD", me, me, NULL, "one", tree, 0, NULL) == 0);
	git_signature_free(me);
	git_tree_free(tree);
	git_index_free(index);
	git_repository_free(repository);
}

TestSuite(git, .timeout = 60, .init = make_repository, .fini = scratch_remove);

static char *facts(void)
{
	char *text = NULL;
	cr_assert(submission_git(scratch, &text) == 0);
	return text;
}

static void says_nothing(void)
{
	char *text = facts();
	cr_assert(text == NULL, "%s", text);
}

static void append(const char *name, const char *text)
{
	FILE *file = fopen(in_scratch(name), "ae");
	cr_assert(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

static bool is_dirty(void)
{
	char *text = facts();
	cr_assert(text != NULL);
	bool ret = strstr(text, "\"dirty\":true") != NULL;
	free(text);
	return ret;
}

Test(git, branch_commit_and_dirty_are_told)
{
	char *text = facts();
	cr_assert(text && str_has_prefix(text, "{\"branch\":\"trunk\",\"commit\":\""));
	cr_assert(str_has_suffix(text, "\",\"dirty\":false}"));
	cr_assert(strlen(text) == strlen("{\"branch\":\"trunk\",\"commit\":\"\",\"dirty\":false}") + 40);
	free(text);
}

Test(git, changed_and_new_files_are_dirty_and_ignored_ones_are_not)
{
	put(".error", "refused before");
	cr_assert(!is_dirty());
	append(".git/info/exclude", "*.log\n");
	put("a.log", "");
	cr_assert(!is_dirty());
	put("new.py", "");
	cr_assert(is_dirty());
	cr_assert(unlink(in_scratch("new.py")) == 0);
	put("main.py", "print(2)\n");
	cr_assert(is_dirty());
}

Test(git, a_detached_head_has_no_branch)
{
	char *text = facts();
	char hex[41];
	memcpy(hex, strstr(text, "commit\":\"") + 9, 40);
	hex[40] = '\0';
	free(text);
	put(".git/HEAD", hex);
	text = facts();
	cr_assert(text && str_has_prefix(text, "{\"branch\":null,\"commit\":\""), "%s", text);
	free(text);
}

Test(git, without_git_nothing_is_said)
{
	cr_assert(tree_remove(AT_FDCWD, in_scratch(".git")) == 0);
	says_nothing();
	put(".git", "gitdir: /\n");
	says_nothing();
	cr_assert(unlink(in_scratch(".git")) == 0 && symlink("/", in_scratch(".git")) == 0);
	says_nothing();
}

Test(git, pipes_do_not_block)
{
	static const char *const names[] = {".git/HEAD",        ".git/config", ".git/index",
					    ".git/packed-refs", ".gitignore",  ".gitattributes"};
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		(void)rename(in_scratch(names[i]), in_scratch("kept"));
		cr_assert(mkfifo(in_scratch(names[i]), 0600) == 0);
		says_nothing();
		cr_assert(unlink(in_scratch(names[i])) == 0);
		(void)rename(in_scratch("kept"), in_scratch(names[i]));
	}
}

Test(git, settings_that_lead_elsewhere_are_not_followed)
{
	static const char *const settings[] = {
		"[include]\npath = /dev/zero\n",
		"[includeIf \"gitdir:/\"]\npath=x\n",
		"[core]\nworktree = /\n",
		"[core] ExcludesFile=/dev/zero\n",
		"[core]\n\tattributesfile = /dev/zero\n",
	};
	char *config = NULL;
	cr_assert(file_read_all(AT_FDCWD, in_scratch(".git/config"), 1 << 20, &config, NULL) == 0);
	for (size_t i = 0; i < sizeof(settings) / sizeof(*settings); i++) {
		put(".git/config", config);
		append(".git/config", settings[i]);
		says_nothing();
	}
	put(".git/config", config);
	append(".git/config",
	       "[branch \"include-worktree\"]\n\tremote = https://example.org/worktree/include.git\n");
	char *text = facts();
	cr_assert(text != NULL);
	free(text);
	free(config);
}

Test(git, nothing_is_run)
{
	struct str text = {0};
	str_printf(&text,
		   "[core]\nfsmonitor = touch %s/ran\nhooksPath = %s\n[filter \"x\"]\nclean = touch %s/ran\n",
		   scratch, scratch, scratch);
	append(".git/config", text.data);
	put(".gitattributes", "* filter=x\n");
	put("main.py", "changed\n");
	cr_assert(is_dirty());
	cr_assert(access(in_scratch("ran"), F_OK) < 0);
	str_release(&text);
}

Test(git, garbage_is_survived)
{
	static const char *const names[] = {".git/HEAD", ".git/config", ".git/index",
					    ".git/refs/heads/trunk"};
	static const char *const garbage[] = {"",
					      "x",
					      "[[[",
					      "ref: HEAD\n",
					      "ref: ../../../../etc/passwd\n",
					      "DIRC\0\0\0\2\xff\xff\xff\xff",
					      "0000000000000000000000000000000000000000\n"};
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		char *kept = NULL;
		size_t n;
		cr_assert(file_read_all(AT_FDCWD, in_scratch(names[i]), 1 << 20, &kept, &n) == 0);
		for (size_t j = 0; j < sizeof(garbage) / sizeof(*garbage); j++) {
			char *text = NULL;
			put_bytes(names[i], garbage[j], j == 5 ? 12 : strlen(garbage[j]));
			cr_assert(submission_git(scratch, &text) == 0);
			free(text);
		}
		put_bytes(names[i], kept, n);
		free(kept);
	}
}

Test(git, links_within_git_and_named_for_it_are_not_followed)
{
	cr_assert(symlink("/dev/zero", in_scratch(".gitignore")) == 0);
	says_nothing();
	cr_assert(unlink(in_scratch(".gitignore")) == 0);
	cr_assert(symlink("/", in_scratch(".git/objects/zz")) == 0);
	says_nothing();
}
