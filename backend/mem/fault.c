/* SPDX-License-Identifier: MIT */
/*
 * How mem misbehaves on demand: the rules for operations, and the language that sets them.
 *
 * Every wait here is on the condition `changed`, ends after max_block_ms, and at a wake. While it lasts the control
 * file is looked at, since nobody else may come by to read it.
 */
#include "mem/mem.h"
#include "mem/state.h"

#include "cleanup.h"
#include "clock.h"
#include "file.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

enum { CONTROL_MAX = 1 << 20, CONTROL_POLL_MS = 20 };

static const char *const op_names[MEM_OP_MAX] = {
	[MEM_LIST] = "list",
	[MEM_GET] = "get",
	[MEM_CHECK] = "check",
	[MEM_SUBMIT] = "submit",
	[MEM_CANCEL] = "cancel",
	[MEM_REMOVE] = "remove",
	[MEM_LOG] = "log",
	[MEM_PACKAGE] = "package",
	[MEM_MODEL_LIST] = "model-list",
	[MEM_MODEL_GET] = "model-get",
	[MEM_MODEL_CREATE] = "model-create",
	[MEM_MODEL_REMOVE] = "model-remove",
	[MEM_MODEL_CHECK] = "model-check",
	[MEM_VERSION_CREATE] = "version-create",
	[MEM_VERSION_REMOVE] = "version-remove",
	[MEM_ARTIFACTS] = "artifacts",
	[MEM_ALIAS_SET] = "alias-set",
	[MEM_ALIAS_REMOVE] = "alias-remove",
	[MEM_BUCKET_LIST] = "bucket-list",
	[MEM_BUCKET_CREATE] = "bucket-create",
	[MEM_BUCKET_REMOVE] = "bucket-remove",
	[MEM_BUCKET_DIR] = "bucket-dir",
	[MEM_OBJECTS] = "objects",
	[MEM_OBJECT_GET] = "object-get",
	[MEM_OBJECT_READ] = "object-read",
	[MEM_OBJECT_CHECKSUM] = "object-checksum",
	[MEM_OBJECT_PUT] = "object-put",
	[MEM_OBJECT_PART] = "object-part",
	[MEM_OBJECT_COPY] = "object-copy",
	[MEM_OBJECT_REMOVE] = "object-remove",
};

int mem_op_find(const char *name)
{
	if (strcmp(name, "*") == 0)
		return MEM_OP_MAX;
	for (int i = 0; i < MEM_OP_MAX; i++) {
		if (strcmp(op_names[i], name) == 0)
			return i;
	}
	return -EINVAL;
}

unsigned mem_calls(struct backend *be, const char *op)
{
	struct mem *mem = mem_of(be);
	int i = mem_op_find(op);

	LOCK_SCOPE(&mem->lock);
	return i >= 0 && i < MEM_OP_MAX ? mem->n_calls[i] : 0;
}

/* ---- at each operation ---- */

static void wait_until_locked(struct mem *mem, int64_t mono_ms)
{
	int64_t left_ms = mono_ms - clock_mono_ms();

	if (mem->control_path && left_ms > CONTROL_POLL_MS)
		mono_ms -= left_ms - CONTROL_POLL_MS;
	(void)clock_wait(&mem->changed, &mem->lock, mono_ms); /* the caller looks at the clock */
}

/* Up to `ms`, and as long as `rule_ms` stands; true if it came to its end. */
static bool sit_out(struct mem *mem, const int *rule_ms, int ms)
{
	int64_t end_ms = clock_mono_ms() + (ms < mem->max_block_ms ? ms : mem->max_block_ms);
	uint64_t n_wakes;

	{
		LOCK_SCOPE(&mem->lock);
		n_wakes = mem->n_wakes;
	}
	for (;;) {
		mem_control_poll(mem);
		LOCK_SCOPE(&mem->lock);
		if (*rule_ms == 0)
			return false;
		if (clock_mono_ms() >= end_ms || mem->n_wakes != n_wakes)
			return true;
		wait_until_locked(mem, end_ms);
	}
}

int mem_enter(struct mem *mem, enum mem_op op, struct fault *reterr)
{
	struct mem_rule rule;
	unsigned n;

	mem_control_poll(mem);
	{
		LOCK_SCOPE(&mem->lock);
		n = ++mem->n_calls[op];
		rule = mem->rule[op];
	}
	if (rule.hang_ms > 0 && sit_out(mem, &mem->rule[op].hang_ms, rule.hang_ms))
		return fault_set(reterr, ETIMEDOUT, "%s: %s: no answer in time", mem->name, op_names[op]);
	if (rule.delay_ms > 0)
		(void)sit_out(mem, &mem->rule[op].delay_ms, rule.delay_ms);
	if (rule.fail_errno == 0)
		return 0;
	if ((rule.fail_every > 0 && n % rule.fail_every != 0) || (rule.fail_first > 0 && n > rule.fail_first))
		return 0;
	return fault_set(reterr, rule.fail_errno, "%s: %s: refused with %s, as the test wanted", mem->name,
			 op_names[op], fault_name(rule.fail_errno));
}

int mem_leave(struct mem *mem, enum mem_op op, int r, struct fault *reterr)
{
	int lose_errno;

	{
		LOCK_SCOPE(&mem->lock);
		lose_errno = mem->rule[op].lose_errno;
	}
	if (r < 0 || lose_errno == 0)
		return r;
	return fault_set(reterr, lose_errno, "%s: %s: the answer got lost", mem->name, op_names[op]);
}

/* ---- the control language ---- */

/* "EAGAIN" -> EAGAIN. */
static int errno_parse(const char *name)
{
	for (int i = 1; i < 256; i++) {
		if (strcmp(fault_name(i), name) == 0)
			return i;
	}
	return -EINVAL;
}

/* "every 3", "first 2", or nothing. */
static int parse_how_often(char **word, struct mem_rule *rule)
{
	int64_t n;

	rule->fail_every = rule->fail_first = 0;
	if (!word[0])
		return 0;
	if (!word[1] || str_to_int(word[1], 1, 1000000, &n) < 0)
		return -EINVAL;
	if (strcmp(word[0], "every") == 0)
		rule->fail_every = (unsigned)n;
	else if (strcmp(word[0], "first") == 0)
		rule->fail_first = (unsigned)n;
	else
		return -EINVAL;
	return 0;
}

/* word: OP VERB [...], NULL at the end. */
static int parse_rule(char **word, struct mem_rule *rule)
{
	int64_t ms = 0;

	if (strcmp(word[1], "fail") == 0) {
		int err = word[2] ? errno_parse(word[2]) : -EINVAL;
		if (err < 0)
			return err;
		rule->fail_errno = err;
		return parse_how_often(word + 3, rule);
	}
	if (strcmp(word[1], "lose-reply") == 0) {
		int err = word[2] ? errno_parse(word[2]) : ETIMEDOUT;
		if (err < 0)
			return err;
		rule->lose_errno = err;
		return 0;
	}
	if (strcmp(word[1], "repeat") == 0) {
		rule->is_repeating = true;
		return 0;
	}
	if (strcmp(word[1], "ok") == 0) {
		*rule = (struct mem_rule){0};
		return 0;
	}
	if (!word[2] || str_to_int(word[2], 0, 3600000, &ms) < 0)
		return -EINVAL;
	if (strcmp(word[1], "delay") == 0)
		rule->delay_ms = (int)ms;
	else if (strcmp(word[1], "hang") == 0)
		rule->hang_ms = (int)ms;
	else
		return -EINVAL;
	return 0;
}

/* `rules` are those in force, or the ones that a control file is about to put in their place. */
static int set_rule(struct mem *mem, struct mem_rule *rules, int op, char **word)
{
	int first = op == MEM_OP_MAX ? 0 : op, last = op == MEM_OP_MAX ? MEM_OP_MAX - 1 : op;

	LOCK_SCOPE(&mem->lock);
	for (int i = first; i <= last; i++) {
		struct mem_rule rule = rules[i];
		int r = parse_rule(word, &rule);
		if (r < 0)
			return r;
		rules[i] = rule;
	}
	pthread_cond_broadcast(&mem->changed);
	return 0;
}

void mem_unescape(char *text)
{
	char *to = text;
	bool has_newline = true;

	for (const char *from = text; *from; from++) {
		if (*from != '\\' || !from[1]) {
			*to++ = *from;
			continue;
		}
		from++;
		if (*from == 'c')
			has_newline = false;
		else
			*to++ = *from == 'n' ? '\n' : *from == 't' ? '\t' : *from;
	}
	if (has_newline)
		*to++ = '\n';
	*to = '\0';
}

/* "ID state RUNNING": word[0] is "job". `text` is the rest of the line behind the verb. */
static int job_command(struct mem *mem, char **word, const char *text, struct fault *reterr)
{
	const char *verb = word[2];

	if (strcmp(verb, "remove") == 0)
		return mem_job_remove(mem, word[1], reterr);
	if (strcmp(verb, "state") == 0) {
		enum job_state state;
		int64_t exit = JOB_EXIT_UNKNOWN;
		if (!word[3] || job_state_parse(word[3], &state) < 0 ||
		    (word[4] && str_to_int(word[4], 0, 255, &exit) < 0))
			return -EINVAL;
		return mem_job_drive(mem, word[1], state, (int)exit, reterr);
	}
	if (strcmp(verb, "why") == 0)
		return mem_job_why(mem, word[1], text, reterr);
	if (strcmp(verb, "log") != 0)
		return -EINVAL;
	cleanup_free char *copy = NULL;
	int r = str_format(&copy, "%s ", text);
	if (r < 0)
		return r;
	copy[strlen(copy) - 1] = '\0';
	mem_unescape(copy);
	return mem_job_log(mem, word[1], copy, reterr);
}

enum { WORDS_MAX = 8 };

/* Cuts `line` into words; the text behind the third one is *ret_rest. */
static size_t split_words(char *line, char *ret[static WORDS_MAX], const char *whole, const char **ret_rest)
{
	size_t n = 0;
	char *p = line;

	*ret_rest = "";
	for (;;) {
		p += strspn(p, " \t");
		if (n == 3)
			*ret_rest = whole + (p - line);
		if (!*p || n == WORDS_MAX - 1)
			break;
		ret[n++] = p;
		p += strcspn(p, " \t");
		if (*p)
			*p++ = '\0';
	}
	ret[n] = NULL;
	return n;
}

static int run_command(struct mem *mem, struct mem_rule *rules, const char *command, struct fault *reterr)
{
	char *word[WORDS_MAX];
	const char *rest;
	cleanup_free char *line = strdup(command);
	if (!line)
		return -ENOMEM;
	size_t n = split_words(line, word, command, &rest);
	if (n == 0 || word[0][0] == '#')
		return 0;
	int r = -EINVAL;
	if (n == 2 && strcmp(word[0], "cursors") == 0 && strcmp(word[1], "stale") == 0) {
		LOCK_SCOPE(&mem->lock);
		mem->epoch++;
		r = 0;
	} else if (n >= 3 && strcmp(word[0], "job") == 0) {
		r = job_command(mem, word, rest, reterr);
		if (r < 0 && r != -EINVAL)
			return r;
	} else if (n >= 4 && strcmp(word[0], "object") == 0) {
		r = mem_object_command(mem, word, rest, reterr);
		if (r < 0 && r != -EINVAL)
			return r;
	} else if (n >= 2) {
		int op = mem_op_find(word[0]);
		r = op < 0 ? op : set_rule(mem, rules, op, word);
	}
	return r < 0 ? fault_set(reterr, -r, "%s: not understood: %s", mem->name, command) : 0;
}

int mem_control(struct backend *be, const char *command, struct fault *reterr)
{
	struct mem *mem = mem_of(be);

	return run_command(mem, mem->rule, command, reterr);
}

/* ---- the control file ---- */

/* Is `line` the next of those that were carried out already? Else it is remembered, and what came after forgotten. */
static bool is_done(struct mem *mem, size_t at, const char *line)
{
	if (at < mem->n_done && strcmp(mem->done[at], line) == 0)
		return true;
	while (mem->n_done > at)
		free(mem->done[--mem->n_done]);
	char **done = realloc(mem->done, (at + 1) * sizeof(*done));
	if (!done)
		return false;
	mem->done = done;
	mem->done[at] = strdup(line);
	mem->n_done = mem->done[at] ? at + 1 : at;
	return false;
}

static bool has_changed(struct mem *mem)
{
	struct stat st;

	if (stat(mem->control_path, &st) < 0)
		return false;
	if (st.st_mtim.tv_sec == mem->control_mtime.tv_sec &&
	    st.st_mtim.tv_nsec == mem->control_mtime.tv_nsec && st.st_size == mem->control_size &&
	    st.st_ino == mem->control_ino)
		return false;
	mem->control_mtime = st.st_mtim;
	mem->control_size = st.st_size;
	mem->control_ino = st.st_ino;
	return true;
}

/* Commands for jobs and objects, and "cursors", are events, carried out once; rules are what holds. */
static void control_line(struct mem *mem, struct mem_rule *rules, const char *line, size_t *n_events)
{
	struct fault fault = {0};
	bool is_event = str_has_prefix(line, "job ") || str_has_prefix(line, "object ") ||
			str_has_prefix(line, "cursors ");

	if (is_event && is_done(mem, (*n_events)++, line))
		return;
	if (run_command(mem, rules, line, &fault) < 0)
		log_warning("%s: %s, ignoring", mem->control_path, fault.text);
}

void mem_control_poll(struct mem *mem)
{
	cleanup_free char *text = NULL;
	struct mem_rule rules[MEM_OP_MAX] = {0};
	size_t n_events = 0;

	if (!mem->control_path)
		return;
	LOCK_SCOPE(&mem->control_lock);
	if (!has_changed(mem))
		return;
	int r = file_read_all(AT_FDCWD, mem->control_path, CONTROL_MAX, &text, NULL);
	if (r < 0) {
		log_warning("%s: %s, ignoring", mem->control_path, fault_name(-r));
		return;
	}
	for (char *line = text; *line;) {
		size_t len = strcspn(line, "\n");
		bool is_last = line[len] == '\0';
		line[len] = '\0';
		control_line(mem, rules, line, &n_events);
		line += is_last ? len : len + 1;
	}
	LOCK_SCOPE(&mem->lock);
	memcpy(mem->rule, rules, sizeof(rules));
	pthread_cond_broadcast(&mem->changed);
}
