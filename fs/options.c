// SPDX-License-Identifier: MIT
/*
 * The command line: one getopt pass, then a table of commands; -o goes through a table of known mount options, because
 * libfuse 3.14 swallows some that it does not know, and a misspelt option should not pass for one in effect.
 */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <pwd.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>

#include "cleanup.h"

/* ---- -o ---- */

enum option_use {
	OPTION_IGNORED, /* for mount(8), systemd or fstab; or in effect anyway */
	OPTION_PASSED,  /* libfuse and the kernel know it */
	OPTION_FLAG,    /* ours: a bool of struct options */
	OPTION_TEXT,    /* ours: NAME=VALUE, a char * of struct options */
};

struct mount_option {
	const char *name; /* "NAME=" takes a value */
	enum option_use use;
	size_t offset;
};

#define OURS(field) offsetof(struct options, field)

static const struct mount_option mount_option[] = {
	{"config=", OPTION_TEXT, OURS(config_path)},
	{"debug", OPTION_FLAG, OURS(is_debug)},
	{"ro", OPTION_FLAG, OURS(is_read_only)},
	{"setuid=", OPTION_TEXT, OURS(user)},
	{"xattr", OPTION_FLAG, OURS(has_xattr)},

	{"allow_other", OPTION_PASSED},
	{"async", OPTION_PASSED},
	{"auto_unmount", OPTION_PASSED},
	{"dirsync", OPTION_PASSED},
	{"exec", OPTION_PASSED},
	{"noatime", OPTION_PASSED},
	{"noexec", OPTION_PASSED},
	{"sync", OPTION_PASSED},

	{"_netdev", OPTION_IGNORED},
	{"_rnetdev", OPTION_IGNORED},
	{"atime", OPTION_IGNORED},
	{"auto", OPTION_IGNORED},
	{"comment=", OPTION_IGNORED},
	{"default_permissions", OPTION_IGNORED},
	{"defaults", OPTION_IGNORED},
	{"dev", OPTION_IGNORED},
	{"diratime", OPTION_IGNORED},
	{"gid=", OPTION_IGNORED},
	{"group", OPTION_IGNORED},
	{"iversion", OPTION_IGNORED},
	{"lazytime", OPTION_IGNORED},
	{"noauto", OPTION_IGNORED},
	{"nodev", OPTION_IGNORED},
	{"nodiratime", OPTION_IGNORED},
	{"nofail", OPTION_IGNORED},
	{"nogroup", OPTION_IGNORED},
	{"noiversion", OPTION_IGNORED},
	{"nolazytime", OPTION_IGNORED},
	{"nonempty", OPTION_IGNORED},
	{"noowner", OPTION_IGNORED},
	{"norelatime", OPTION_IGNORED},
	{"nostrictatime", OPTION_IGNORED},
	{"nosuid", OPTION_IGNORED},
	{"nouser", OPTION_IGNORED},
	{"nousers", OPTION_IGNORED},
	{"owner", OPTION_IGNORED},
	{"relatime", OPTION_IGNORED},
	{"rw", OPTION_IGNORED},
	{"silent", OPTION_IGNORED},
	{"strictatime", OPTION_IGNORED},
	{"suid", OPTION_IGNORED},
	{"uid=", OPTION_IGNORED},
	{"user", OPTION_IGNORED},
	{"user=", OPTION_IGNORED},
	{"users", OPTION_IGNORED},
};

static const struct mount_option *mount_option_find(const char *given)
{
	size_t len = strcspn(given, "=");

	if (given[len] == '=')
		len++;
	for (size_t i = 0; i < sizeof(mount_option) / sizeof(*mount_option); i++) {
		const char *name = mount_option[i].name;
		if (strlen(name) == len && strncmp(name, given, len) == 0)
			return &mount_option[i];
	}
	return NULL;
}

static int set_text(char **field, const char *value)
{
	char *copy = strdup(value);

	if (!copy)
		return -ENOMEM;
	free(*field);
	*field = copy;
	return 0;
}

static int take_mount_option(struct options *options, const char *given, struct fault *reterr)
{
	if (given[0] == '\0' || str_has_prefix(given, "x-") || str_has_prefix(given, "X-"))
		return 0;

	const struct mount_option *known = mount_option_find(given);
	if (!known)
		return fault_set(reterr, EINVAL, "unknown option -o %s (trainfs help mount lists them)",
				 given);
	void *field = (char *)options + known->offset;
	switch (known->use) {
	case OPTION_IGNORED:
		return 0;
	case OPTION_PASSED:
		return str_printf(&options->fuse, ",%s", given);
	case OPTION_FLAG:
		*(bool *)field = true;
		return 0;
	case OPTION_TEXT:
		return set_text(field, strchr(given, '=') + 1);
	}
	return 0;
}

static int take_mount_options(struct options *options, const char *list, struct fault *reterr)
{
	cleanup_free char *copy = strdup(list);
	char *rest = copy, *given;

	if (!copy)
		return -ENOMEM;
	while ((given = strsep(&rest, ","))) {
		int r = take_mount_option(options, given, reterr);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- argv ---- */

static const struct command_row {
	const char *name;
	enum command command;
	int min, max;        /* positional arguments */
	const char *allowed; /* short options beyond -c, -h, -V */
	const char *usage;
} command_row[] = {
	{"mount", COMMAND_MOUNT, 1, 2, "dfo", "trainfs mount [REMOTE:] DIR [-o OPTION,...] [-f] [-d]"},
	{"unmount", COMMAND_UNMOUNT, 1, 1, "l", "trainfs unmount [--lazy] DIR"},
	{"umount", COMMAND_UNMOUNT, 1, 1, "l", "trainfs unmount [--lazy] DIR"},
	{"check", COMMAND_CHECK, 0, 1, "", "trainfs check [REMOTE]"},
	{"config", COMMAND_CONFIG, 0, 0, "", "trainfs config"},
	{"version", COMMAND_VERSION, 0, 0, "", "trainfs --version"},
	{"help", COMMAND_HELP, 0, 1, "", "trainfs help [COMMAND]"},
};

static const struct option long_option[] = {
	{"config", required_argument, NULL, 'c'}, {"debug", no_argument, NULL, 'd'},
	{"foreground", no_argument, NULL, 'f'},   {"help", no_argument, NULL, 'h'},
	{"lazy", no_argument, NULL, 'l'},         {"options", required_argument, NULL, 'o'},
	{"version", no_argument, NULL, 'V'},      {NULL, 0, NULL, 0},
};

/* What was seen before the command was known. */
struct raw {
	char seen[16]; /* the short options that not every command takes */
	bool wants_help, wants_version;
	bool is_helper; /* argv[0] is mount.trainfs or the like: -f means fake, -s, -n, -v, -N, -t come too */
};

static void raw_note(struct raw *raw, char letter)
{
	size_t n = strlen(raw->seen);

	if (!strchr(raw->seen, letter) && n + 1 < sizeof(raw->seen))
		raw->seen[n] = letter;
}

static int take_short_option(struct options *options, struct raw *raw, int letter, struct fault *reterr)
{
	switch (letter) {
	case 'c':
		return set_text(&options->config_path, optarg);
	case 'h':
		raw->wants_help = true;
		return 0;
	case 'V':
		raw->wants_version = true;
		return 0;
	case 'd':
		options->is_debug = true;
		options->is_foreground = true;
		break;
	case 'f':
		options->is_foreground = true;
		break;
	case 'l':
		options->is_lazy = true;
		break;
	case 'o':
		raw_note(raw, 'o');
		return take_mount_options(options, optarg, reterr);
	default: /* s, n, v, N, t of mount(8) */
		return 0;
	}
	raw_note(raw, (char)letter);
	return 0;
}

static int take_options(int argc, char **argv, struct options *options, struct raw *raw, struct fault *reterr)
{
	const char *letters = raw->is_helper ? ":fhsnvVo:N:t:" : ":c:dfhlo:V";
	int letter;

	optind = 1;
	opterr = 0;
	while ((letter = getopt_long(argc, argv, letters, long_option, NULL)) != -1) {
		const char *given = optind > 0 && optind <= argc ? argv[optind - 1] : "";
		if (letter == ':')
			return fault_set(reterr, EINVAL, "option %s needs a value", given);
		if (letter == '?' && optopt)
			return fault_set(reterr, EINVAL, "unknown option -%c (see trainfs --help)", optopt);
		if (letter == '?')
			return fault_set(reterr, EINVAL, "unknown option %s (see trainfs --help)", given);
		int r = take_short_option(options, raw, letter, reterr);
		if (r < 0)
			return r;
	}
	return 0;
}

/* "gcp:" names a remote; "none", "trainfs" and "fuse" stand for all of them, as in fstab. */
static bool is_source(const char *s)
{
	return str_has_suffix(s, ":") || strcmp(s, "none") == 0 || strcmp(s, "trainfs") == 0 ||
	       strcmp(s, "fuse") == 0;
}

static int take_source(struct options *options, const char *source, struct fault *reterr)
{
	if (!is_source(source)) {
		const char *colon = strchr(source, ':');
		if (colon)
			return fault_set(reterr, EINVAL,
					 "%s: a source is the name of a remote and a colon, "
					 "with nothing behind it",
					 source);
		return fault_set(reterr, EINVAL,
				 "%s: no such command or source (a source is the name of a remote "
				 "and a colon, as in `trainfs mount local: DIR`)",
				 source);
	}
	if (!str_has_suffix(source, ":"))
		return 0;
	options->remote = strndup(source, strlen(source) - 1);
	if (!options->remote)
		return -ENOMEM;
	if (!str_is_plain_name(options->remote))
		return fault_set(reterr, EINVAL, "\"%s\" cannot be the name of a remote", options->remote);
	return 0;
}

static int take_mount_arguments(struct options *options, int n, char **argument, struct fault *reterr)
{
	if (n == 2) {
		int r = take_source(options, argument[0], reterr);
		if (r < 0)
			return r;
	}
	if (str_has_suffix(argument[n - 1], ":"))
		return fault_set(reterr, EINVAL, "where shall %s be mounted? (trainfs mount %s DIR)",
				 argument[n - 1], argument[n - 1]);
	return set_text(&options->dir, argument[n - 1]);
}

static int take_arguments(struct options *options, int n, char **argument, struct fault *reterr)
{
	switch (options->command) {
	case COMMAND_MOUNT:
	case COMMAND_NOTHING:
		return take_mount_arguments(options, n, argument, reterr);
	case COMMAND_UNMOUNT:
		return set_text(&options->dir, argument[0]);
	case COMMAND_CHECK: {
		if (n == 0)
			return 0;
		size_t len = strlen(argument[0]); /* with or without the colon */
		options->remote = strndup(argument[0], len - (str_has_suffix(argument[0], ":") ? 1 : 0));
		return options->remote ? 0 : -ENOMEM;
	}
	case COMMAND_HELP:
		return n ? set_text(&options->topic, argument[0]) : 0;
	default:
		return 0;
	}
}

static const struct command_row *command_find(const char *name)
{
	for (size_t i = 0; i < sizeof(command_row) / sizeof(*command_row); i++)
		if (strcmp(command_row[i].name, name) == 0)
			return &command_row[i];
	return NULL;
}

static int check_usage(const struct command_row *row, const struct raw *raw, int n, struct fault *reterr)
{
	for (const char *letter = raw->seen; *letter; letter++)
		if (!strchr(row->allowed, *letter))
			return fault_set(reterr, EINVAL, "%s takes no option -%c; usage: %s", row->name,
					 *letter, row->usage);
	if (n < row->min || n > row->max)
		return fault_set(reterr, EINVAL, "usage: %s", row->usage);
	return 0;
}

/* What is left in argv after the options: the command and its arguments, or a source and a directory. */
static int take_command(struct options *options, const struct raw *raw, int n, char **argument,
			struct fault *reterr)
{
	if (raw->wants_version) {
		options->command = COMMAND_VERSION;
		return 0;
	}
	const struct command_row *row = !raw->is_helper && n > 0 ? command_find(argument[0]) : NULL;
	if (raw->wants_help) {
		options->command = COMMAND_HELP;
		return row ? set_text(&options->topic, row->name) : 0;
	}
	if (n == 0)
		return fault_set(reterr, EINVAL,
				 "what shall be done? (mount, unmount, check, config; see trainfs --help)");
	if (row) {
		n--;
		argument++;
	} else {
		row = command_find("mount");
		if (n == 1)
			return fault_set(reterr, EINVAL, "%s: no such command (see trainfs --help)",
					 argument[0]);
		if (n > 2)
			return take_source(options, argument[0], reterr)
				       ?: fault_set(reterr, EINVAL, "usage: %s", row->usage);
	}
	int r = check_usage(row, raw, n, reterr);
	if (r < 0)
		return r;
	options->command = row->command;
	if (raw->is_helper && options->is_foreground) {
		options->command = COMMAND_NOTHING;
		options->is_foreground = false;
	}
	return take_arguments(options, n, argument, reterr);
}

static int finish_fuse_options(struct options *options)
{
	cleanup_str struct str given = options->fuse;

	options->fuse = (struct str){0};
	str_append(&options->fuse, "fsname=");
	str_append(&options->fuse, options->remote ? options->remote : "trainfs");
	str_append(&options->fuse, options->remote ? ":" : "");
	str_append(&options->fuse, ",subtype=trainfs,default_permissions,nosuid,nodev");
	str_append(&options->fuse, options->is_read_only ? ",ro" : ",rw");
	str_append(&options->fuse, given.data ? given.data : "");
	return options->fuse.err ? options->fuse.err : given.err;
}

void options_release(struct options *options)
{
	free(options->remote);
	free(options->dir);
	free(options->topic);
	free(options->config_path);
	free(options->user);
	str_release(&options->fuse);
	*options = (struct options){0};
}

int options_read(int argc, char **argv, struct options *ret, struct fault *reterr)
{
	struct options options = {0};
	struct raw raw = {0};
	const char *self = argc > 0 ? strrchr(argv[0], '/') : NULL;

	self = self ? self + 1 : argc > 0 ? argv[0] : "";
	raw.is_helper = str_has_prefix(self, "mount.");
	int r = take_options(argc, argv, &options, &raw, reterr);
	if (r == 0)
		r = take_command(&options, &raw, argc - optind, argv + optind, reterr);
	if (r == 0)
		r = finish_fuse_options(&options);
	if (r < 0) {
		options_release(&options);
		return r;
	}
	*ret = options;
	return 0;
}

/* ---- help ---- */

static const char help_all[] =
	"trainfs shows machine-learning jobs, logs, models and buckets as files.\n"
	"\n"
	"  trainfs mount [REMOTE:] DIR [-o OPTION,...] [-f]   show them at DIR\n"
	"  trainfs unmount [--lazy] DIR                       and no longer\n"
	"  trainfs check [REMOTE]                             what works, and how to mend what does not\n"
	"  trainfs config                                     the configuration in effect\n"
	"  trainfs help COMMAND                               more about one of them\n"
	"\n"
	"  -c, --config FILE   instead of ~/.config/trainfs/config.yaml\n"
	"  -h, --help          -V, --version\n"
	"\n"
	"Nothing needs to be configured to begin; the remote `local` runs jobs on this machine:\n"
	"\n"
	"  mkdir -p ~/ml && trainfs mount ~/ml\n"
	"  cp -r mnist ~/ml/local/train/      a directory with a train.py becomes a job\n"
	"  tail -f ~/ml/local/latest/log      its log\n"
	"  cat ~/ml/local/latest/state        QUEUED, RUNNING, SUCCEEDED, FAILED ...\n"
	"  trainfs unmount ~/ml               jobs run on\n"
	"\n"
	"~/ml/README.md explains the rest.\n";

static const char help_mount[] =
	"trainfs mount [REMOTE:] DIR [-o OPTION,...] [-f] [-d]\n"
	"\n"
	"Shows every remote as a directory of DIR, or with REMOTE: that one as DIR itself. DIR must exist.\n"
	"Returns when the tree answers; if it cannot, says why and exits as mount(8) does.\n"
	"\n"
	"  -f, --foreground   stay in front, log to standard error\n"
	"  -d, --debug        as -f, and log every step\n"
	"  -c, --config FILE  instead of ~/.config/trainfs/config.yaml\n"
	"  -o ro              change nothing, submit nothing\n"
	"  -o allow_other     share with other users (user_allow_other must stand in /etc/fuse.conf)\n"
	"  -o xattr           extended attributes user.*; makes ls -l slower\n"
	"  -o config=FILE     as -c, for fstab\n"
	"  -o setuid=USER     mount as that user (for fstab)\n"
	"  -o debug           log every step, to syslog\n"
	"  -o auto_unmount    unmount when the daemon dies\n"
	"  and of mount(8): noexec exec sync async dirsync noatime; nosuid and nodev always hold\n"
	"\n"
	"  trainfs mount ~/ml\n"
	"  trainfs mount local: ~/jobs -o ro\n"
	"  local: /mnt/ml fuse.trainfs _netdev,user 0 0         a line of /etc/fstab\n";

static const char help_unmount[] =
	"trainfs unmount [--lazy] DIR\n"
	"\n"
	"Unmounts and waits for the daemon's end. If DIR is in use, nothing happens and the users are "
	"named.\n"
	"Running jobs run on.\n"
	"\n"
	"  -l, --lazy   let go of DIR now, whoever uses it; their next access fails\n";

static const char help_check[] = "trainfs check [REMOTE]\n"
				 "\n"
				 "Looks at FUSE, the configuration and each remote (or that one): a line "
				 "each, `ok` or `wrong` and how to\n"
				 "mend it. Exits 0 when all is well.\n";

static const char help_config[] =
	"trainfs config\n"
	"\n"
	"Prints the configuration in effect as YAML, defaults written out, secrets masked.\n";

const char *options_help(const char *topic)
{
	static const struct {
		const char *topic, *text;
	} help[] = {{"mount", help_mount}, {"unmount", help_unmount}, {"umount", help_unmount},
		    {"check", help_check}, {"config", help_config},   {"help", help_all},
		    {"version", help_all}};

	if (!topic)
		return help_all;
	for (size_t i = 0; i < sizeof(help) / sizeof(*help); i++)
		if (strcmp(help[i].topic, topic) == 0)
			return help[i].text;
	return NULL;
}

/* ---- environment ---- */

static int become_user(const char *name, struct fault *reterr)
{
	struct passwd *pw = getpwnam(name);

	if (!pw)
		return fault_set(reterr, EINVAL, "-o setuid=%s: there is no such user", name);
	if (pw->pw_uid == geteuid())
		return 0;
	if (initgroups(pw->pw_name, pw->pw_gid) < 0 || setgid(pw->pw_gid) < 0 || setuid(pw->pw_uid) < 0)
		return fault_set(reterr, errno, "-o setuid=%s: only root may mount as another user", name);
	if (setenv("HOME", pw->pw_dir, 1) < 0 || setenv("USER", pw->pw_name, 1) < 0)
		return -ENOMEM;
	return 0;
}

int options_settle_environment(const char *user, struct fault *reterr)
{
	if (user) {
		int r = become_user(user, reterr);
		if (r < 0)
			return r;
	}
	if (setenv("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", 0) < 0)
		return -ENOMEM;
	const char *home = getenv("HOME");
	bool is_roots =
		geteuid() != 0 && home && strcmp(home, "/root") == 0; /* mount.fuse3 sets that for all */
	if (home && home[0] == '/' && !is_roots)
		return 0;
	const struct passwd *pw = getpwuid(geteuid());
	if (!pw || pw->pw_dir[0] != '/')
		return fault_set(reterr, ENOENT, "HOME is not set, and user %u has no home directory",
				 (unsigned)geteuid());
	return setenv("HOME", pw->pw_dir, 1) < 0 ? -ENOMEM : 0;
}

int options_state_dir(char **ret)
{
	const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");

	if (xdg && xdg[0] == '/')
		return str_format(ret, "%s/trainfs", xdg);
	if (!home || home[0] != '/')
		return -ENOENT;
	return str_format(ret, "%s/.local/state/trainfs", home);
}

int options_find_program(const char *name, char **ret)
{
	const char *path = getenv("PATH");
	cleanup_free char *copy = strdup(path ? path : "/usr/local/bin:/usr/bin:/bin");
	char *rest = copy, *dir;

	if (!copy)
		return -ENOMEM;
	while ((dir = strsep(&rest, ":"))) {
		cleanup_free char *file = NULL;
		struct stat st;
		if (dir[0] != '/') /* the working directory will be another one when it is used */
			continue;
		int r = str_format(&file, "%s/%s", dir, name);
		if (r < 0)
			return r;
		if (access(file, X_OK) == 0 && stat(file, &st) == 0 && S_ISREG(st.st_mode)) {
			*ret = STEAL(file);
			return 0;
		}
	}
	return -ENOENT;
}

int options_take_notify_socket(char **ret)
{
	const char *value = getenv("NOTIFY_SOCKET");
	char *copy = value ? strdup(value) : NULL;

	if (value && !copy)
		return -ENOMEM;
	(void)unsetenv("NOTIFY_SOCKET"); /* fails for bad names only */
	*ret = copy;
	return 0;
}

const char *options_container(void)
{
	return getenv("container");
}
