/* SPDX-License-Identifier: MIT */
/* From a specification to what is executed: command line, environment and directory of a job's program. */
#include "local/run.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "str.h"

extern char **environ;

/* A NULL-terminated list of strings under construction; `err` is sticky. */
struct list {
	char **item;
	size_t n;
	int err;
};

static void list_release(struct list *list)
{
	for (size_t i = 0; i < list->n; i++) {
		explicit_bzero(list->item[i], strlen(list->item[i])); /* it may be a secret */
		free(list->item[i]);
	}
	free(list->item);
	*list = (struct list){0};
}

/* Takes ownership of `item`; NULL counts as no memory. */
static void list_take(struct list *list, char *item)
{
	char **grown = item && !list->err ? realloc(list->item, (list->n + 2) * sizeof(*grown)) : NULL;
	if (!grown) {
		list->err = -ENOMEM;
		free(item);
		return;
	}
	list->item = grown;
	list->item[list->n++] = item;
	list->item[list->n] = NULL;
}

static void list_add(struct list *list, const char *item)
{
	list_take(list, strdup(item));
}

/* ---- the specification */

const char *run_text(const json_t *spec, const char *field)
{
	return json_string_value(json_object_get(spec, field));
}

int64_t run_timeout_ms(const json_t *spec)
{
	const json_t *timeout = json_object_get(spec, "timeout");
	int64_t ms;
	if (json_is_number(timeout))
		return (int64_t)(json_number_value(timeout) * 1000);
	if (json_is_string(timeout) && str_to_duration_ms(json_string_value(timeout), &ms) == 0)
		return ms;
	return 0;
}

int64_t run_retries(const json_t *spec)
{
	return json_integer_value(json_object_get(spec, "retries"));
}

/* "x.py:main" has its function after the colon; NULL if `entry` is not of that form. */
static const char *run_function_of(const char *entry)
{
	const char *colon = strrchr(entry, ':');
	return colon && colon - entry > 3 && !strncmp(colon - 3, ".py", 3) && colon[1] ? colon + 1 : NULL;
}

static bool run_is_module(const char *entry)
{
	bool is_start = true;
	for (const char *c = entry; *c; c++) {
		if (*c == '.' && !is_start)
			is_start = true;
		else if (isalpha((unsigned char)*c) || *c == '_' || (!is_start && isdigit((unsigned char)*c)))
			is_start = false;
		else
			return false;
	}
	return !is_start;
}

enum run_kind run_kind_of(const json_t *spec, bool (*has_file)(void *arg, const char *path), void *arg)
{
	const char *entry = run_text(spec, "entry");
	if (!entry)
		return RUN_COMMAND;
	if (run_function_of(entry))
		return RUN_FUNCTION;
	if (str_has_suffix(entry, ".py"))
		return RUN_SCRIPT;
	if (str_has_suffix(entry, ".ipynb"))
		return RUN_NOTEBOOK;
	if (str_has_suffix(entry, ".sh"))
		return RUN_SHELL;
	if (!has_file(arg, entry) && run_is_module(entry))
		return RUN_MODULE;
	return RUN_EXECUTABLE;
}

static bool run_has_file(void *arg, const char *path)
{
	const struct run_input *input = arg;
	cleanup_free char *full = NULL;
	struct stat st;
	return str_format(&full, "%s/%s", input->run_dir, path) == 0 && stat(full, &st) == 0 &&
	       S_ISREG(st.st_mode);
}

/* ---- texts */

static bool run_is_name_byte(char c)
{
	return isalnum((unsigned char)c) || c == '_';
}

/* The length of the reference to `name` at `at` ("$NAME", "${NAME}"), or 0. */
static size_t run_reference(const char *at, const char *name)
{
	size_t n = strlen(name);
	if (at[0] != '$')
		return 0;
	if (at[1] == '{')
		return !strncmp(at + 2, name, n) && at[2 + n] == '}' ? n + 3 : 0;
	return !strncmp(at + 1, name, n) && !run_is_name_byte(at[1 + n]) ? n + 1 : 0;
}

char *run_expand(const char *text, const struct run_variable *variable, size_t n)
{
	cleanup_str struct str out = {0};
	for (const char *at = text; *at;) {
		size_t skip = 0;
		for (size_t i = 0; i < n && !skip; i++) {
			skip = run_reference(at, variable[i].name);
			if (skip)
				str_append(&out, variable[i].value);
		}
		if (!skip) {
			str_append_n(&out, at, 1);
			skip = 1;
		}
		at += skip;
	}
	char *ret;
	return str_steal(&out, &ret) < 0 ? NULL : ret;
}

/* StarChart's token: replaced wherever it stands. */
static char *run_replace_token(const char *text, const char *token, const char *value)
{
	cleanup_str struct str out = {0};
	for (const char *hit; (hit = strstr(text, token)); text = hit + strlen(token)) {
		str_append_n(&out, text, (size_t)(hit - text));
		str_append(&out, value);
	}
	str_append(&out, text);
	char *ret;
	return str_steal(&out, &ret) < 0 ? NULL : ret;
}

const char *run_environ(char *const *envp, const char *name)
{
	size_t n = strlen(name);
	for (; envp && *envp; envp++)
		if (!strncmp(*envp, name, n) && (*envp)[n] == '=')
			return *envp + n + 1;
	return NULL;
}

int run_find_program(const char *name, const char *path, char **ret)
{
	if (strchr(name, '/')) {
		if (access(name, X_OK) < 0)
			return -errno;
		*ret = strdup(name);
		return *ret ? 0 : -ENOMEM;
	}
	if (!path)
		path = run_environ(environ, "PATH");
	if (!path)
		path = "/usr/local/bin:/usr/bin:/bin";
	while (*path) {
		size_t n = strcspn(path, ":");
		cleanup_free char *candidate = NULL;
		struct stat st;
		if (str_format(&candidate, "%.*s/%s", (int)n, path, name) < 0)
			return -ENOMEM;
		if (n && stat(candidate, &st) == 0 && S_ISREG(st.st_mode) && access(candidate, X_OK) == 0) {
			*ret = STEAL(candidate);
			return 0;
		}
		path += n + (path[n] == ':');
	}
	return -ENOENT;
}

/* ---- building */

struct plan_state {
	const struct run_input *input;
	char *dataset; /* NULL: no input of that name */
	struct run_variable variable[4];
	size_t n_variables;
	struct list argv;
	struct list envp;
};

static char *plan_expand(const struct plan_state *state, const char *text)
{
	return run_expand(text, state->variable, state->n_variables);
}

static bool plan_env_is(const char *entry, const char *name)
{
	size_t n = strlen(name);
	return !strncmp(entry, name, n) && entry[n] == '=';
}

static const char *plan_env_get(const struct plan_state *state, const char *name)
{
	for (size_t i = 0; i < state->envp.n; i++)
		if (plan_env_is(state->envp.item[i], name))
			return state->envp.item[i] + strlen(name) + 1;
	return NULL;
}

/* A value of the specification as a word, numbers as they are written; StarChart's token is one of arguments only. */
static char *plan_word(const struct plan_state *state, const json_t *value, bool is_arg)
{
	cleanup_free char *text =
		json_is_string(value) ? strdup(json_string_value(value)) : json_dumps(value, JSON_ENCODE_ANY);
	cleanup_free char *replaced =
		text && is_arg ? run_replace_token(text, "TRAIN_PATH", state->input->output_dir)
			       : STEAL(text);
	return replaced ? plan_expand(state, replaced) : NULL;
}

/* An input's place on this machine: a path of the package is one of the private copy. */
static int plan_input_path(const struct plan_state *state, const char *name, const char *value, char **ret,
			   struct fault *reterr)
{
	cleanup_free char *text = plan_expand(state, value);
	cleanup_free char *path = NULL;
	const char *rest = text;
	const char *base = state->input->run_dir;
	if (!text)
		return -ENOMEM;
	while (str_has_prefix(rest, "./"))
		rest += 2;
	if (str_has_prefix(text, "~/")) {
		base = plan_env_get(state, "HOME"); /* as the user's shell would read it */
		rest = text + 2;
	}
	int r = text[0] == '/' ? str_format(&path, "%s", text)
			       : str_format(&path, "%s%s%s", base ? base : "", *rest ? "/" : "", rest);
	if (r < 0)
		return r;
	if (access(path, F_OK) < 0)
		return fault_set(reterr, EBADMSG, "inputs.%s: %s: %s", name, value, strerror(errno));
	*ret = STEAL(path);
	return 0;
}

/* Takes ownership of `value`. */
static void plan_env_take(struct plan_state *state, const char *name, char *value)
{
	char *entry = NULL;
	int r = value ? str_format(&entry, "%s=%s", name, value) : -ENOMEM;
	if (value)
		explicit_bzero(value, strlen(value));
	free(value);
	if (r < 0) {
		state->envp.err = r;
		return;
	}
	for (size_t i = 0; i < state->envp.n; i++) {
		if (!plan_env_is(state->envp.item[i], name))
			continue;
		explicit_bzero(state->envp.item[i], strlen(state->envp.item[i]));
		free(state->envp.item[i]);
		state->envp.item[i] = entry;
		return;
	}
	list_take(&state->envp, entry);
}

static void plan_env_set(struct plan_state *state, const char *name, const char *value)
{
	plan_env_take(state, name, strdup(value));
}

/* Puts a directory before what the variable holds already. */
static void plan_env_prepend(struct plan_state *state, const char *name, const char *dir)
{
	const char *old = plan_env_get(state, name);
	char *value = NULL;
	if (str_format(&value, old && *old ? "%s:%s" : "%s", dir, old) < 0)
		value = NULL;
	plan_env_take(state, name, value);
}

static int plan_env_inputs(struct plan_state *state, struct fault *reterr)
{
	const char *name;
	json_t *value;
	json_object_foreach (json_object_get(state->input->spec, "inputs"), name, value) {
		cleanup_free char *path = NULL;
		cleanup_free char *variable = NULL;
		if (!json_is_string(value))
			continue;
		int r = plan_input_path(state, name, json_string_value(value), &path, reterr);
		if (r < 0)
			return r;
		r = str_format(&variable, "SM_CHANNEL_%s", name);
		if (r < 0)
			return r;
		for (char *c = variable; *c; c++)
			*c = run_is_name_byte(*c) ? (char)toupper((unsigned char)*c) : '_';
		plan_env_set(state, variable, path);
		if (!strcmp(name, "dataset")) {
			plan_env_set(state, "DATASET", path);
			state->variable[state->n_variables++] = (struct run_variable){"DATASET", path};
			state->dataset = STEAL(path);
		}
	}
	return 0;
}

static void plan_env_fixed(struct plan_state *state)
{
	const struct run_input *input = state->input;
	cleanup_free char *model_dir = NULL;
	plan_env_set(state, "OUTPUT", input->output_dir);
	plan_env_set(state, "TRAINFS_JOB_ID", input->id);
	if (input->key)
		plan_env_set(state, "TRAINFS_JOB_KEY", input->key);
	if (str_format(&model_dir, "%s/model", input->output_dir) < 0) {
		state->envp.err = -ENOMEM;
		return;
	}
	plan_env_set(state, "AIP_MODEL_DIR", model_dir);
	plan_env_set(state, "SM_MODEL_DIR", model_dir);
	plan_env_prepend(state, "PYTHONPATH", input->run_dir);
	if (input->gpus)
		plan_env_set(state, "CUDA_VISIBLE_DEVICES", input->gpus);
	if (input->venv_dir) {
		cleanup_free char *bin = NULL;
		plan_env_set(state, "VIRTUAL_ENV", input->venv_dir);
		if (str_format(&bin, "%s/bin", input->venv_dir) < 0)
			state->envp.err = -ENOMEM;
		else
			plan_env_prepend(state, "PATH", bin);
	}
}

/* Inherited, then the specification's, then secrets, then what every engine promises. */
static int plan_make_env(struct plan_state *state, struct fault *reterr)
{
	const struct run_input *input = state->input;
	for (char *const *entry = input->environ; entry && *entry; entry++)
		if (!str_has_prefix(*entry, "TRAINFS_") && !plan_env_is(*entry, "DATASET") &&
		    strchr(*entry, '='))
			list_add(&state->envp, *entry);
	plan_env_set(state, "PYTHONUNBUFFERED", "1");
	if (!plan_env_get(state, "PATH"))
		plan_env_set(state, "PATH", "/usr/local/bin:/usr/bin:/bin");
	int r = plan_env_inputs(state, reterr);
	if (r < 0)
		return r;
	const char *name;
	json_t *value;
	json_object_foreach (json_object_get(input->spec, "env"), name, value) {
		plan_env_take(state, name, plan_word(state, value, false));
	}
	for (size_t i = 0; i < input->n_secrets; i++)
		plan_env_set(state, input->secret[i].name, input->secret[i].value);
	plan_env_fixed(state);
	return state->envp.err;
}

static const char *plan_python(const struct plan_state *state)
{
	/* with an environment, its bin/ is first on PATH */
	return state->input->venv_dir ? "python" : state->input->python;
}

static void plan_add_function(struct plan_state *state, const char *entry)
{
	/* as an import of the file's name, so that pickled classes are found again */
	static const char bootstrap[] = "import importlib.util as u, os, sys\n"
					"path, name, dataset, model = sys.argv[1:5]\n"
					"del sys.argv[1:5]\n"
					"sys.argv[0] = path\n"
					"sys.path.insert(0, os.path.dirname(os.path.abspath(path)))\n"
					"os.makedirs(model, exist_ok=True)\n"
					"stem = os.path.splitext(os.path.basename(path))[0]\n"
					"spec = u.spec_from_file_location(stem, path)\n"
					"module = u.module_from_spec(spec)\n"
					"sys.modules[stem] = module\n"
					"spec.loader.exec_module(module)\n"
					"getattr(module, name)(dataset, model)\n";
	const char *function = run_function_of(entry);
	char *model = NULL;
	if (str_format(&model, "%s/model", state->input->output_dir) < 0)
		model = NULL;
	list_add(&state->argv, plan_python(state));
	list_add(&state->argv, "-c");
	list_add(&state->argv, bootstrap);
	list_take(&state->argv, strndup(entry, (size_t)(function - 1 - entry)));
	list_add(&state->argv, function);
	list_add(&state->argv, state->dataset ? state->dataset : state->input->run_dir);
	list_take(&state->argv, model);
}

static void plan_add_notebook(struct plan_state *state, const char *entry)
{
	static const char *const words[] = {"-m",       "nbconvert", "--to",
					    "notebook", "--execute", "--ExecutePreprocessor.timeout=-1"};
	list_add(&state->argv, plan_python(state));
	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		list_add(&state->argv, words[i]);
	list_add(&state->argv, "--output-dir");
	list_add(&state->argv, state->input->output_dir);
	list_add(&state->argv, entry);
}

static int plan_add_file(struct plan_state *state, const char *entry, bool is_shell, struct fault *reterr)
{
	char *path;
	int r = str_format(&path, "%s/%s", state->input->run_dir, entry);
	if (r < 0)
		return r;
	if (is_shell && access(path, X_OK) < 0)
		list_add(&state->argv, "sh");
	else if (access(path, F_OK) < 0)
		r = fault_set(reterr, EBADMSG, "entry: %s is not in the package", entry);
	else if (access(path, X_OK) < 0)
		r = fault_set(reterr, EBADMSG, "entry: %s is not executable; chmod +x it, or name a command",
			      entry);
	list_take(&state->argv, path);
	return r;
}

static int plan_add_entry(struct plan_state *state, enum run_kind kind, struct fault *reterr)
{
	const char *entry = run_text(state->input->spec, "entry");
	switch (kind) {
	case RUN_COMMAND: {
		size_t i;
		json_t *word;
		json_array_foreach (json_object_get(state->input->spec, "command"), i, word) {
			list_take(&state->argv, plan_word(state, word, false));
		}
		return state->argv.n ? 0 : fault_set(reterr, EBADMSG, "neither entry nor command is given");
	}
	case RUN_MODULE:
		list_add(&state->argv, plan_python(state));
		list_add(&state->argv, "-m");
		list_add(&state->argv, entry);
		return 0;
	case RUN_SCRIPT:
		list_add(&state->argv, plan_python(state));
		list_add(&state->argv, entry);
		return 0;
	case RUN_FUNCTION:
		plan_add_function(state, entry);
		return 0;
	case RUN_NOTEBOOK:
		plan_add_notebook(state, entry);
		return 0;
	case RUN_SHELL:
	case RUN_EXECUTABLE:
		return plan_add_file(state, entry, kind == RUN_SHELL, reterr);
	}
	return -EINVAL;
}

static void plan_add_args(struct plan_state *state)
{
	size_t i;
	json_t *arg;
	json_array_foreach (json_object_get(state->input->spec, "args"), i, arg)
		list_take(&state->argv, plan_word(state, arg, true));
}

void run_plan_release(struct run_plan *plan)
{
	struct list list = {0};
	for (list.item = plan->argv; list.item && list.item[list.n];)
		list.n++;
	list_release(&list);
	for (list.item = plan->envp; list.item && list.item[list.n];)
		list.n++;
	list_release(&list);
	*plan = (struct run_plan){0};
}

static void cleanup_plan_state_(struct plan_state *state)
{
	list_release(&state->argv);
	list_release(&state->envp);
	free(state->dataset);
}

int run_plan_make(const struct run_input *input, struct run_plan *ret, struct fault *reterr)
{
	__attribute__((cleanup(cleanup_plan_state_))) struct plan_state state = {
		.input = input,
		.variable = {{"ID", input->id}, {"OUTPUT", input->output_dir}, {"TRAINFS_JOB_ID", input->id}},
		.n_variables = 3,
	};
	int r = plan_make_env(&state, reterr);
	if (r < 0)
		return r;
	enum run_kind kind = run_kind_of(input->spec, run_has_file, (void *)input);
	r = plan_add_entry(&state, kind, reterr);
	if (r < 0)
		return r;
	plan_add_args(&state);
	if (state.argv.err < 0)
		return state.argv.err;
	*ret = (struct run_plan){kind, STEAL(state.argv.item), STEAL(state.envp.item)};
	state.argv.n = 0;
	state.envp.n = 0;
	return 0;
}
