/* SPDX-License-Identifier: MIT */
/* Records of renames: a first line that says what is to be done, then one for each thing that was. */
#include "renames_private.h"

#include "cleanup.h"
#include "file.h"
#include "log.h"
#include "remote.h"
#include "serve_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { RECORD_MAX = 4 << 20 };

static const char suffix[] = ".rename";

/* ---- writing ---- */

static json_t *pack_step(const struct rename_step *step)
{
	return json_pack("{ss* ss* ss* ss* ss* ss* sI sI}", "bucket", step->bucket, "key", step->key,
			 "to_bucket", step->to_bucket, "to_key", step->to_key, "if_version", step->if_version,
			 "version", step->version, "size", (json_int_t)step->size_bytes, "changed_ns",
			 (json_int_t)step->changed_ns);
}

static json_t *pack(const struct rename *rename)
{
	cleanup_json json_t *steps = json_array();
	for (size_t i = 0; steps && i < rename->n_steps; i++)
		if (json_array_append_new(steps, pack_step(&rename->step[i])) < 0)
			return NULL;
	return steps ? json_pack("{ss* ss* sO}", "from", rename->from, "to", rename->to, "steps", steps)
		     : NULL;
}

/* One line in one write: it is there as a whole, or not at all. A kill needs no more. */
static int add_line(const char *path, const json_t *line, int flags)
{
	cleanup_free char *text = line ? json_dumps(line, JSON_COMPACT) : NULL, *whole = NULL;
	int r = text ? str_format(&whole, "%s\n", text) : -ENOMEM;
	if (r < 0)
		return r;
	cleanup_close int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | flags, 0600);
	return fd < 0 ? -errno : file_write_fd(fd, whole, strlen(whole));
}

int rename_record(struct rename *rename)
{
	struct objects *objects = rename->objects;
	cleanup_json json_t *line = NULL;
	unsigned number;
	{
		LOCK_SCOPE(&objects->lock);
		number = ++objects->n_renames_made;
		line = pack(rename);
	}
	int r = str_format(&rename->path, "%s/%010u%s", objects->pending, number, suffix);
	if (r == 0)
		r = add_line(rename->path, line, O_CREAT | O_EXCL);
	if (r == -ENOENT && file_make_dirs(AT_FDCWD, objects->pending, 0700) == 0)
		r = add_line(rename->path, line, O_CREAT | O_EXCL);
	return r;
}

int rename_note(const struct rename *rename, const struct rename_step *step, const char *what,
		const char *version)
{
	cleanup_json json_t *line =
		step ? json_pack("{sI ss}", "step", (json_int_t)(step - rename->step), what, version)
		     : json_pack("{sb}", what, 1);
	return add_line(rename->path, line, 0);
}

void rename_forget(const struct rename *rename)
{
	if (rename->path)
		(void)unlink(rename->path); /* one that stays is repeated, which does no harm */
}

/* ---- reading ---- */

static int unpack_step(struct rename *rename, json_t *json)
{
	struct rename_step step = {0};
	json_int_t size = 0, changed_ns = 0;
	if (json_unpack(json, "{s?s s?s s?s s?s s?s s?s sI sI}", "bucket", &step.bucket, "key", &step.key,
			"to_bucket", &step.to_bucket, "to_key", &step.to_key, "if_version", &step.if_version,
			"version", &step.version, "size", &size, "changed_ns", &changed_ns) < 0 ||
	    (!step.bucket && step.key) || (!step.to_bucket && step.to_key) || (!step.key && !step.to_key))
		return -EINVAL;
	step.size_bytes = size;
	step.changed_ns = changed_ns;
	LOCK_SCOPE(&rename->objects->lock);
	return rename_add_locked(rename, &step);
}

static int unpack(struct objects *objects, const char *line, struct rename **ret)
{
	const char *from = NULL, *to = NULL;
	json_t *steps, *json;
	size_t i;
	cleanup_json json_t *root = json_loads(line, 0, NULL);
	if (json_unpack(root, "{s?s s?s so}", "from", &from, "to", &to, "steps", &steps) < 0 ||
	    json_array_size(steps) == 0 || json_array_size(steps) > RENAME_STEPS_MAX || !from != !to)
		return -EINVAL;
	struct rename *rename = rename_new(objects, json_array_size(steps));
	int r = rename ? 0 : -ENOMEM;
	if (r == 0 && from) {
		rename->from = strdup(from);
		rename->to = strdup(to);
	}
	if (r == 0 && from && (!rename->from || !rename->to))
		r = -ENOMEM;
	json_array_foreach (steps, i, json)
		r = r < 0 ? r : unpack_step(rename, json);
	if (r < 0)
		rename_free(rename);
	else
		*ret = rename;
	return r;
}

/* A line that is not whole was being written when the mount ended: then it was not done either. */
static void apply_note(struct rename *rename, const char *line)
{
	json_int_t i = -1;
	const char *made = NULL, *version = NULL;
	int is_undone = 0;
	cleanup_json json_t *json = json_loads(line, 0, NULL);
	if (!json || json_unpack(json, "{s?I s?s s?s s?b}", "step", &i, "made", &made, "version", &version,
				 "undo", &is_undone) < 0)
		return;
	if (is_undone)
		rename->phase = RENAME_UNDOING;
	if (i < 0 || (size_t)i >= rename->n_steps)
		return;
	struct rename_step *step = &rename->step[i];
	char **to = made ? &step->made : &step->version;
	char *copy = made || version ? strdup(made ? made : version) : NULL;
	if (copy) {
		free(*to);
		*to = copy;
	}
}

static int load(struct objects *objects, const char *path, struct rename **ret)
{
	cleanup_free char *text = NULL;
	int r = file_read_all(AT_FDCWD, path, RECORD_MAX, &text, NULL);
	if (r < 0)
		return r;
	char *rest = text, *line = strsep(&rest, "\n");
	r = unpack(objects, line, ret);
	while (r == 0 && (line = strsep(&rest, "\n")))
		apply_note(*ret, line);
	return r;
}

/* The files of before are not known to anybody yet: they get what the record knows of them. */
static void know_files_locked(struct rename *rename)
{
	for (size_t i = 0; i < rename->n_steps; i++) {
		struct rename_step *step = &rename->step[i];
		step->may_be_there = true;
		if (!step->key || str_has_suffix(step->key, "/"))
			continue;
		step->file = object_file_get_locked(rename->objects, step->bucket, step->key);
		if (step->file && step->version && !step->file->version)
			(void)object_file_set_locked(step->file, step->version, step->size_bytes,
						     step->changed_ns, true); /* else it is asked for */
		if (step->file && !step->file->version)
			step->file->size_bytes = step->size_bytes;
	}
}

static void know_copies_locked(struct rename *rename)
{
	for (size_t i = 0; i < rename->n_steps; i++) {
		struct rename_step *step = &rename->step[i];
		if (!step->made || !step->file)
			continue;
		object_file_home_locked(step->file, step->to_bucket, step->to_key);
		(void)object_file_set_locked(step->file, step->made, step->size_bytes, step->changed_ns,
					     true); /* else it is asked for */
	}
}

static void take_up(struct objects *objects, const char *dir, const char *name)
{
	struct rename *rename = NULL;
	cleanup_free char *path = NULL;
	int r = str_format(&path, "%s/%s", dir, name);
	if (r == 0)
		r = load(objects, path, &rename);
	if (r < 0) {
		log_warning("%s cannot be read (%s), ignoring", path ? path : name, strerrordesc_np(-r));
		return;
	}
	rename->path = STEAL(path);
	LOCK_SCOPE(&objects->lock);
	if (rename->phase == RENAME_UNDOING) {
		rename_queue_locked(rename);
		return;
	}
	know_files_locked(rename);
	rename_enter_locked(rename);
	know_copies_locked(rename);
}

static int is_record(const struct dirent *e)
{
	return str_has_suffix(e->d_name, suffix);
}

bool renames_is_record(const char *name)
{
	return str_has_suffix(name, suffix);
}

void renames_take_up(struct objects *objects, const char *dir)
{
	struct dirent **name = NULL;
	int n = scandir(dir, &name, is_record, alphasort);
	for (int i = 0; i < n; i++) {
		take_up(objects, dir, name[i]->d_name);
		free(name[i]);
	}
	free(name);
}
