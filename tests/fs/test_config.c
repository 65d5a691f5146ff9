/* SPDX-License-Identifier: MIT */
/* config.yaml: fixtures, where it is looked for, what stands in for it, and state directories. */
#include "fixtures.h"

#include <jansson.h>

#include "fs/config.h"

static void make_home(void)
{
	scratch_make();
	setenv("HOME", "/home/u", 1);
	setenv("XDG_CONFIG_HOME", "/xc", 1);
	setenv("XDG_DATA_HOME", "/xd", 1);
	setenv("XDG_CACHE_HOME", "/xk", 1);
	unsetenv("TRAINFS_CONFIG");
}

TestSuite(config, .timeout = 60, .init = make_home, .fini = scratch_remove);

static void check_fixture(const char *dir, const char *name, bool is_ok, const char *text)
{
	struct config config = {0};
	struct fault fault = {0};
	char *dumped = NULL;
	cr_assert(chdir(dir) == 0); /* so that faults show the bare name */
	int r = config_load(name, &config, &fault);
	if (is_ok) {
		cr_assert(r == 0, "%s: %s", name, fault.text);
		cr_assert(config_dump(&config, &dumped) == 0);
		dumped[strlen(dumped) - 1] = '\0';
		cr_expect(strcmp(dumped, text) == 0, "%s gives\n%s", name, dumped);
		cr_expect(!strstr(dumped, "hunter2"));
	} else {
		cr_expect(r == -EINVAL && fault.err == EINVAL, "%s: %d", name, r);
		cr_expect(strcmp(fault.text, text) == 0, "%s says\n%s", name, fault.text);
	}
	free(dumped);
	config_release(&config);
}

Test(config, fixtures_give_what_they_expect)
{
	fixtures_each("config", check_fixture);
}

Test(config, without_a_file_there_is_local_with_its_defaults)
{
	struct config config = {0};
	cr_assert(config_load(NULL, &config, NULL) == 0);
	cr_assert(config.path == NULL && config.n_remotes == 1);
	const struct remote_conf *local = &config.remote[0];
	cr_assert_str_eq(local->name, "local");
	cr_assert_str_eq(local->type, "local");
	cr_assert(str_has_prefix(local->state_dir, "/xd/trainfs/local/") && strlen(local->state_dir) > 18);
	cr_assert(local->settle_ms == 1000 && local->metadata_ms == 10000 && local->max_package_bytes == 0 &&
		  !local->confirm);
	cr_assert(json_is_object(local->options) && json_object_size(local->options) == 0);
	config_release(&config);
	cr_assert(config.remote == NULL && config.n_remotes == 0);
}

Test(config, a_remote_of_another_type_has_a_limit_and_a_directory_of_its_name)
{
	struct config config = {0};
	put("c.yaml", "remotes: {m: {type: mem, x: 1}, l2: {type: local}}\n");
	cr_assert(config_load(in_scratch("c.yaml"), &config, NULL) == 0);
	cr_assert(config.n_remotes == 3);
	cr_assert_str_eq(config.remote[0].state_dir, "/xd/trainfs/m");
	cr_assert(config.remote[0].max_package_bytes == 500000000);
	cr_assert(json_integer_value(json_object_get(config.remote[0].options, "x")) == 1);
	cr_assert(json_object_size(config.remote[0].options) == 1);
	cr_assert(str_has_prefix(config.remote[1].state_dir, "/xd/trainfs/l2/"));
	cr_assert_str_eq(config.remote[2].name, "local");
	config_release(&config);
}

Test(config, the_metadata_time_is_of_all_or_of_one)
{
	struct config config = {0};
	struct fault fault = {0};
	put("m.yaml", "remotes: {a: {type: mem}, b: {type: mem, metadata_time: 1m}}\nmetadata_time: 2s\n");
	cr_assert(config_load(in_scratch("m.yaml"), &config, NULL) == 0);
	cr_assert(config.remote[0].metadata_ms == 2000 && config.remote[1].metadata_ms == 60000);
	config_release(&config);
	put("m.yaml", "metadata_time: 999ms\n");
	cr_assert(config_load(in_scratch("m.yaml"), &config, &fault) == -EINVAL);
	says(fault, "a time of 1s or more");
}

Test(config, the_file_is_found_by_the_environment)
{
	struct config config = {0};
	struct fault fault = {0};
	setenv("XDG_CONFIG_HOME", in_scratch("xc"), 1);
	put("xc/trainfs/config.yaml", "remotes: {a: {type: mem}}\n");
	cr_assert(config_load(NULL, &config, NULL) == 0);
	cr_assert_str_eq(config.path, in_scratch("xc/trainfs/config.yaml"));
	config_release(&config);
	put("other.yaml", "settle: 3s\n");
	setenv("TRAINFS_CONFIG", in_scratch("other.yaml"), 1);
	cr_assert(config_load(NULL, &config, NULL) == 0);
	cr_assert_str_eq(config.path, in_scratch("other.yaml"));
	cr_assert(config.remote[0].settle_ms == 3000);
	config_release(&config);
	setenv("TRAINFS_CONFIG", in_scratch("missing.yaml"), 1);
	cr_assert(config_load(NULL, &config, &fault) == -ENOENT);
	says(fault, "missing.yaml cannot be read: No such file or directory");
}

Test(config, without_xdg_it_is_below_home)
{
	struct config config = {0};
	unsetenv("XDG_CONFIG_HOME");
	unsetenv("XDG_DATA_HOME");
	setenv("XDG_CACHE_HOME", "relative/is/ignored", 1);
	setenv("HOME", scratch, 1);
	put(".config/trainfs/config.yaml", "remotes: {a: {type: mem}}\n");
	cr_assert(config_load(NULL, &config, NULL) == 0);
	cr_assert_str_eq(config.remote[0].state_dir, in_scratch(".local/share/trainfs/a"));
	cr_assert_str_eq(json_string_value(json_object_get(config.cache, "dir")),
			 in_scratch(".cache/trainfs"));
	config_release(&config);
}

Test(config, hostile_files_are_refused)
{
	struct config config = {0};
	struct fault fault = {0};
	char *large = malloc(10 << 20);
	memset(large, 'x', 10 << 20);
	put_bytes("c.yaml", large, 10 << 20);
	free(large);
	cr_assert(config_load(in_scratch("c.yaml"), &config, &fault) == -EFBIG);
	says(fault, "larger than 1 MiB");
	put_bytes("c.yaml", "remotes:\0", 9);
	cr_assert(config_load(in_scratch("c.yaml"), &config, &fault) == -EINVAL);
	says(fault, "c.yaml:1:9: the control byte 0x00");
	cr_assert(mkfifo(in_scratch("pipe"), 0600) == 0);
	cr_assert(config_load(in_scratch("pipe"), &config, &fault) == -EINVAL);
	says(fault, "no plain file");
	cr_assert(config_load(scratch, &config, &fault) < 0);
}

Test(config, the_dump_is_a_configuration_again)
{
	struct config config = {0}, again = {0};
	char *first = NULL, *second = NULL;
	put("c.yaml", "remotes: {a: {type: mem, x: [1, {y: 'z: #'}], n: 07}}\nsettle: 1500ms\n");
	cr_assert(config_load(in_scratch("c.yaml"), &config, NULL) == 0);
	cr_assert(config_dump(&config, &first) == 0);
	put("c.yaml", first);
	cr_assert(config_load(in_scratch("c.yaml"), &again, NULL) == 0);
	cr_assert(config_dump(&again, &second) == 0);
	cr_assert_str_eq(first, second);
	free(first);
	free(second);
	config_release(&config);
	config_release(&again);
}

Test(config, a_state_directory_is_made_private_with_its_parents)
{
	struct stat st;
	struct fault fault = {0};
	struct remote_conf remote = {.name = "local", .state_dir = (char *)in_scratch("a/b/c")};
	cr_assert(config_make_state_dir(&remote, &fault) == 0, "%s", fault.text);
	cr_assert(stat(remote.state_dir, &st) == 0 && (st.st_mode & 07777) == 0700);
	cr_assert(chmod(remote.state_dir, 0755) == 0);
	cr_assert(config_make_state_dir(&remote, &fault) == 0);
	cr_assert(stat(remote.state_dir, &st) == 0 && (st.st_mode & 07777) == 0700);
}

Test(config, a_state_directory_that_cannot_be_is_told)
{
	struct fault fault = {0};
	put("file", "");
	struct remote_conf remote = {.name = "local", .state_dir = (char *)in_scratch("file/x")};
	cr_assert(config_make_state_dir(&remote, &fault) == -ENOTDIR);
	says(fault, "state_dir");
	remote.state_dir = (char *)in_scratch("file");
	cr_assert(config_make_state_dir(&remote, &fault) < 0);
	says(fault, "state_dir");
}
