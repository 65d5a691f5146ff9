/* SPDX-License-Identifier: MIT */
/*
 * model.json is StarChart's: a list of versions, each with the job it was made from, where whoever sets another
 * `isDefault` switches. All but `name` and `isDefault` is for reading.
 */
#include "model_json.h"

#include "backend.h"
#include "cleanup.h"
#include "clock.h"
#include "jobs.h"
#include "remote.h"

#include <errno.h>
#include <string.h>

/* ---- jobs ---- */

static int set_time(json_t *object, const char *key, int64_t at_ns)
{
	char text[CLOCK_TEXT_MAX];
	if (!at_ns)
		return 0;
	return json_object_set_new(object, key, json_string(clock_format(at_ns, text)));
}

static json_t *training_input(struct remote *remote, const char *id)
{
	struct backend *be;
	struct job_detail detail = {0};
	if (remote_backend(remote, &be, NULL) < 0 || !backend_has_jobs(be) ||
	    backend_job_get(be, id, &detail, NULL) < 0)
		return NULL; /* the job is gone: its version stays */
	cleanup_json json_t *spec = detail.spec ? json_loads(detail.spec, 0, NULL) : NULL;
	job_detail_release(&detail);
	json_t *input = spec ? json_object() : NULL;
	json_t *entry = json_object_get(spec, "entry"), *args = json_object_get(spec, "args");
	json_t *command = json_object_get(spec, "command");
	if (entry)
		json_object_set(input, "pythonModule", entry);
	if (command)
		json_object_set(input, "command", command);
	if (args)
		json_object_set(input, "args", args);
	return input;
}

json_t *model_json_job(struct remote *remote, const char *id)
{
	struct job_row row = {.is_gone = true};
	struct job *job = jobs_find(remote->jobs, id);
	if (job)
		job_row_get(job, &row);
	json_t *record = json_pack("{ss}", "jobId", id);
	if (!record || row.is_gone)
		return record;
	json_object_set_new(record, "state", json_string(job_state_name(row.state)));
	set_time(record, "createTime", row.created_ns);
	set_time(record, "startTime", row.started_ns);
	set_time(record, "endTime", row.ended_ns);
	json_t *input = training_input(remote, id);
	if (input)
		json_object_set_new(record, "trainingInput", input);
	return record;
}

/* ---- rendering ---- */

static int older_first(const void *a, const void *b)
{
	const struct version *x = *(struct version *const *)a, *y = *(struct version *const *)b;
	if (x->created_ns != y->created_ns)
		return x->created_ns < y->created_ns ? -1 : 1;
	return strcmp(x->name, y->name);
}

static json_t *version_json_locked(const struct version *v)
{
	const struct model *m = v->model;
	const char *now = alias_find_locked(m, "default");
	bool is_default = now && strcmp(now, v->name) == 0;
	cleanup_free char *name = NULL, *uri = NULL;
	if (str_format(&name, "models/%s/versions/%s", m->name, v->name) < 0 ||
	    str_format(&uri, "models/%s/%s/artifacts", m->name, v->name) < 0)
		return NULL;
	json_t *version = json_pack("{ss ss}", "name", name, "deploymentUri", uri);
	set_time(version, "createTime", v->created_ns);
	json_object_set_new(version, "state", json_string(version_state_name(version_state_locked(v))));
	json_object_set_new(version, "isDefault", json_boolean(is_default));
	if (v->job_record)
		json_object_set(version, "job", v->job_record);
	else if (v->job)
		json_object_set_new(version, "job", json_pack("{ss}", "jobId", v->job));
	return version ? json_pack("{so}", "version", version) : NULL;
}

static int dump(const json_t *value, size_t flags, struct str *ret)
{
	cleanup_free char *text = value ? json_dumps(value, flags) : NULL;
	return text ? str_printf(ret, "%s\n", text) : -ENOMEM;
}

int model_json_render_locked(struct model *m, struct str *ret)
{
	cleanup_json json_t *versions = json_array();
	cleanup_free struct version **sorted = calloc(m->n_versions + 1, sizeof(*sorted));
	if (!versions || !sorted)
		return -ENOMEM;
	size_t n = 0;
	for (size_t i = 0; i < m->n_versions; i++)
		if (version_is_there_locked(m->version[i]))
			sorted[n++] = m->version[i];
	qsort(sorted, n, sizeof(*sorted), older_first);
	for (size_t i = 0; i < n; i++)
		if (json_array_append_new(versions, version_json_locked(sorted[i])) < 0)
			return -ENOMEM;
	cleanup_json json_t *file = json_pack("{ss sO}", "model", m->name, "versions", versions);
	return dump(file, JSON_INDENT(2), ret);
}

int version_info_render_locked(struct version *v, struct str *ret)
{
	const struct model *m = v->model;
	char created[CLOCK_TEXT_MAX];
	cleanup_json json_t *aliases = json_array();
	for (size_t i = 0; i < m->n_aliases; i++)
		if (strcmp(m->alias[i].version, v->name) == 0)
			json_array_append_new(aliases, json_string(m->alias[i].name));
	cleanup_json json_t *info =
		json_pack("{sO* ss ss? ss ss ss}", "aliases", aliases, "created",
			  clock_format(v->created_ns, created), "job", v->job, "model", m->name, "name",
			  v->name, "state", version_state_name(version_state_locked(v)));
	return dump(info, JSON_INDENT(2) | JSON_SORT_KEYS, ret);
}

/* ---- saving ---- */

/* The version's own name: the last part of "models/M/versions/V". */
static const char *own_name(const json_t *version)
{
	const char *name = json_string_value(json_object_get(version, "name"));
	const char *slash = name ? strrchr(name, '/') : NULL;
	return slash ? slash + 1 : name;
}

int model_json_parse(const char *text, size_t len, char **ret, struct fault *reterr)
{
	json_error_t error;
	cleanup_json json_t *file = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	if (!file)
		return fault_set(reterr, EBADMSG, "model.json is not JSON: line %d, column %d: %s",
				 error.line, error.column, error.text);
	const json_t *versions = json_object_get(file, "versions"), *item;
	const char *found = NULL;
	size_t i;
	if (!json_is_array(versions))
		return fault_set(reterr, EBADMSG, "model.json has no list `versions`");
	json_array_foreach (versions, i, item) {
		const json_t *version = json_object_get(item, "version");
		const char *name = own_name(version);
		if (!name)
			return fault_set(reterr, EBADMSG,
					 "model.json: the entry %zu of `versions` has no version.name",
					 i + 1);
		if (!json_is_true(json_object_get(version, "isDefault")))
			continue;
		if (found)
			return fault_set(reterr, EBADMSG,
					 "model.json: isDefault is true for %s and for %s; exactly one "
					 "version is the default",
					 found, name);
		found = name;
	}
	if (!found)
		return fault_set(
			reterr, EBADMSG,
			"model.json: isDefault is true for no version; exactly one version is the default");
	*ret = strdup(found);
	return *ret ? 0 : -ENOMEM;
}
