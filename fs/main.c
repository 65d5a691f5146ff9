// SPDX-License-Identifier: MIT
/* The program: helpers first (this executable under another name), then the command. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "backend.h"
#include "check.h"
#include "cleanup.h"
#include "config.h"
#include "fault.h"
#include "helper.h"
#include "helper_touch.h"
#include "mount.h"
#include "options.h"
#include "unmount.h"

static int run_helper(int argc, char **argv)
{
	if (argc < 2)
		return EXIT_CODE_USAGE;
	if (strcmp(argv[1], "touch") == 0)
		return touch_helper_main();
	const struct helper *helper = helper_find(argv[1]);
	return helper ? helper->main(argc - 1, argv + 1) : EXIT_CODE_USAGE;
}

static int complain(const struct fault *fault, int r)
{
	fprintf(stderr, "trainfs: %s\n", fault->text[0] ? fault->text : strerror(-r));
	return r == -ENOMEM ? EXIT_CODE_SYSTEM : EXIT_CODE_USAGE;
}

static int run_help(const struct options *options)
{
	const char *text = options_help(options->topic);

	if (!text) {
		fprintf(stderr, "trainfs: there is no help on \"%s\" (see trainfs --help)\n", options->topic);
		return EXIT_CODE_USAGE;
	}
	return fputs(text, stdout) < 0 ? EXIT_CODE_SYSTEM : EXIT_CODE_OK;
}

/* The options that a remote's type has defaults for. What is wrong among them is for `trainfs check` to tell. */
static int write_out_defaults(struct config *config)
{
	for (size_t i = 0; i < config->n_remotes; i++) {
		struct remote_conf *remote = &config->remote[i];
		cleanup_json json_t *defaults = NULL;
		int r = backend_defaults(remote->type, remote->options, &defaults, NULL);
		if (r == -EINVAL)
			continue;
		if (r < 0 || json_object_update_missing(remote->options, defaults) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int dump_config(struct config *config)
{
	cleanup_free char *text = NULL;
	int r = write_out_defaults(config);
	if (r == 0)
		r = config_dump(config, &text);
	if (r < 0)
		return complain(&(struct fault){0}, r);
	return fputs(text, stdout) < 0 ? EXIT_CODE_SYSTEM : EXIT_CODE_OK;
}

static int run_with_config(const struct options *options)
{
	struct config config = {0};
	struct fault fault = {0};

	int r = config_load(options->config_path, &config, &fault);
	if (r < 0)
		return complain(&fault, r);
	int code = options->command == COMMAND_MOUNT ? mount_command(options, &config) : dump_config(&config);
	config_release(&config);
	return code;
}

static int run_command(const struct options *options)
{
	switch (options->command) {
	case COMMAND_MOUNT:
	case COMMAND_CONFIG:
		return run_with_config(options);
	case COMMAND_UNMOUNT:
		return unmount_command(options);
	case COMMAND_CHECK:
		return check_command(options);
	case COMMAND_HELP:
		return run_help(options);
	case COMMAND_VERSION:
		return puts("trainfs " TRAINFS_VERSION) < 0 ? EXIT_CODE_SYSTEM : EXIT_CODE_OK;
	case COMMAND_NOTHING:
		return EXIT_CODE_OK;
	}
	return EXIT_CODE_INTERNAL;
}

/* A descriptor opened as 0, 1 or 2 by chance would be taken for a standard one. */
static int fill_standard_files(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR); /* children keep it, too */
	while (fd >= 0 && fd <= 2);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

int main(int argc, char **argv)
{
	struct options options = {0};
	struct fault fault = {0};

	if (fill_standard_files() < 0) {
		fputs("trainfs: /dev/null cannot be opened; make it with `mknod -m 666 /dev/null c 1 3`\n",
		      stderr);
		return EXIT_CODE_SYSTEM;
	}
	if (argc > 0 && strcmp(argv[0], HELPER_ARGV0) == 0)
		return run_helper(argc, argv);
	int r = options_read(argc, argv, &options, &fault);
	if (r == 0)
		r = options_settle_environment(options.user, &fault);
	int code = r < 0 ? complain(&fault, r) : run_command(&options);
	options_release(&options);
	if (fflush(stdout) != 0 && code == EXIT_CODE_OK)
		code = EXIT_CODE_SYSTEM; /* what was to be printed has not been */
	return code;
}
