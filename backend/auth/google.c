/* SPDX-License-Identifier: MIT */
/* One remote's Google credentials: a token for each set of scopes, looked for anew at each renewal. */
#include "auth/google.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "auth/describe.h"
#include "auth/endpoints.h"
#include "cleanup.h"
#include "str.h"

enum { AHEAD_MS = 225000, SCOPES_MAX = 8 };

struct scoped {
	struct google_credentials *owner;
	char *scopes;
	struct renewal *renewal;
};

struct google_credentials {
	/* immutable after init */
	struct http_client *client;
	char *file, *project; /* of the options; NULL */
	bool is_anonymous;
	struct auth_endpoints endpoints;
	struct profile_env env;

	pthread_mutex_t lock;
	/* protected by lock; an entry never changes once it is counted */
	struct scoped scoped[SCOPES_MAX];
	size_t n_scoped;
};

static void cleanup_source_(struct google_source **source)
{
	google_source_free(*source);
}
#define cleanup_source __attribute__((cleanup(cleanup_source_)))

/* ---- tokens ---- */

static void fill_context(const struct google_credentials *credentials, int64_t now_ns,
			 struct http_cancel *cancel, struct google_context *ret)
{
	*ret = (struct google_context){.client = credentials->client,
				       .env = &credentials->env,
				       .endpoints = credentials->endpoints.single,
				       .now_ns = now_ns,
				       .cancel = cancel};
}

static int quota_project(const struct google_credentials *credentials, const struct google_source *source,
			 char **ret)
{
	const char *project =
		profile_env_get(&credentials->env, "GOOGLE_CLOUD_QUOTA_PROJECT") ?: source->quota_project;
	return str_dup(project, ret);
}

static int scoped_ask(void *arg, int64_t now_ns, struct http_cancel *cancel, struct auth_keys *ret,
		      struct fault *reterr)
{
	const struct scoped *scoped = arg;
	const struct google_credentials *credentials = scoped->owner;
	cleanup_source struct google_source *source = NULL;
	cleanup_auth_keys struct auth_keys keys = {0};
	struct google_context context;
	fill_context(credentials, now_ns, cancel, &context);
	int r = google_find(&credentials->env, credentials->file, &source, reterr);
	if (r == 0)
		r = google_fetch(&context, source, scoped->scopes, &keys, reterr);
	if (r == 0)
		r = quota_project(credentials, source, &keys.project);
	if (r < 0)
		return r;
	keys.from = STEAL(source->from);
	*ret = keys;
	keys = (struct auth_keys){0};
	return 0;
}

/* Needs lock. */
static int scoped_add_locked(struct google_credentials *credentials, const char *scopes)
{
	if (credentials->n_scoped == SCOPES_MAX)
		return -EINVAL;
	struct scoped *scoped = &credentials->scoped[credentials->n_scoped];
	cleanup_free char *copy = strdup(scopes);
	if (!copy)
		return -ENOMEM;
	int r = renewal_new(scoped_ask, scoped, AHEAD_MS, AHEAD_MS, &scoped->renewal);
	if (r < 0)
		return r;
	scoped->owner = credentials;
	scoped->scopes = STEAL(copy);
	credentials->n_scoped++;
	return 0;
}

static int find_scoped(struct google_credentials *credentials, const char *scopes, struct renewal **ret)
{
	LOCK_SCOPE(&credentials->lock);
	for (size_t i = 0;; i++) {
		int r = i < credentials->n_scoped ? 0 : scoped_add_locked(credentials, scopes);
		if (r < 0)
			return r;
		if (!strcmp(credentials->scoped[i].scopes, scopes)) {
			*ret = credentials->scoped[i].renewal;
			return 0;
		}
	}
}

static int get_token(struct google_credentials *credentials, const char *scopes, int64_t now_ns,
		     uint64_t refused, struct http_cancel *cancel, struct auth_keys *ret,
		     uint64_t *ret_generation, struct fault *reterr)
{
	struct renewal *renewal;
	int r = find_scoped(credentials, scopes, &renewal);
	if (r == -EINVAL)
		return fault_set(reterr, EINVAL, "more than %d different scopes are asked for", SCOPES_MAX);
	return r ?: renewal_get(renewal, now_ns, refused, cancel, ret, ret_generation, reterr);
}

int google_authorize(void *arg, const struct http_request *request, int64_t now_ns, bool is_refused,
		     struct http_headers *ret, struct fault *reterr)
{
	struct google_bearer *bearer = arg;
	struct google_credentials *credentials = bearer->credentials;
	cleanup_auth_keys struct auth_keys keys = {0};
	cleanup_secret_str struct str value = {0};
	if (credentials->is_anonymous)
		return is_refused ? fault_set(reterr, EACCES, "anonymous access is refused") : 0;
	int r = get_token(credentials, bearer->scopes, now_ns, is_refused ? bearer->generation : 0,
			  request->cancel, &keys, &bearer->generation, reterr);
	if (r == 0)
		r = str_printf(&value, "Bearer %s", keys.token.text);
	if (r < 0)
		return r;
	r = http_headers_add(ret, "Authorization", value.data);
	if (r == 0 && keys.project)
		r = http_headers_add(ret, "x-goog-user-project", keys.project);
	if (r == -EINVAL)
		return fault_set(reterr, EINVAL, "%s: its token or project cannot be a header", keys.from);
	return r;
}

/* ---- life ---- */

static int credentials_init(struct google_credentials *credentials, const struct google_options *options,
			    struct fault *reterr)
{
	credentials->client = options->client;
	credentials->is_anonymous = options->is_anonymous;
	int r = str_dup(options->file, &credentials->file);
	if (r == 0)
		r = str_dup(options->project, &credentials->project);
	if (r == 0)
		r = auth_endpoints_init(options->endpoint, options->endpoints, &credentials->endpoints,
					reterr);
	if (r < 0)
		return r;
	return options->env ? profile_env_copy(options->env, &credentials->env)
			    : profile_env_read(&credentials->env);
}

int google_credentials_new(const struct google_options *options, struct google_credentials **ret,
			   struct fault *reterr)
{
	struct google_credentials *credentials = calloc(1, sizeof(*credentials));
	if (!credentials)
		return -ENOMEM;
	if (pthread_mutex_init(&credentials->lock, NULL) != 0) {
		free(credentials);
		return -ENOMEM;
	}
	int r = credentials_init(credentials, options, reterr);
	if (r < 0)
		google_credentials_free(credentials);
	else
		*ret = credentials;
	return r;
}

void google_credentials_free(struct google_credentials *credentials)
{
	if (!credentials)
		return;
	for (size_t i = 0; i < credentials->n_scoped; i++) {
		renewal_free(credentials->scoped[i].renewal);
		free(credentials->scoped[i].scopes);
	}
	auth_endpoints_release(&credentials->endpoints);
	profile_env_release(&credentials->env);
	free(credentials->file);
	free(credentials->project);
	pthread_mutex_destroy(&credentials->lock);
	free(credentials);
}

/* ---- project, endpoint ---- */

/* core/project of gcloud's active configuration. -ENOENT. */
static int gcloud_project(const struct profile_env *env, char **ret)
{
	const char *config = profile_env_get(env, "CLOUDSDK_CONFIG") ?: "~/.config/gcloud";
	cleanup_free char *dir = NULL, *path = NULL, *active_path = NULL;
	cleanup_secret_free char *active = NULL, *text = NULL;
	size_t n;
	int r = profile_expand_home(env, config, &dir);
	if (r == 0)
		r = str_format(&active_path, "%s/active_config", dir);
	if (r == 0 && profile_read(active_path, 256, &active, NULL, NULL) == 0)
		active[strcspn(active, "\r\n/")] = '\0';
	if (r == 0)
		r = str_format(&path, "%s/configurations/config_%s", dir,
			       profile_env_get(env, "CLOUDSDK_ACTIVE_CONFIG_NAME")
				       ?: active && *active ? active
							    : "default");
	if (r == 0)
		r = profile_read(path, GOOGLE_FILE_MAX, &text, &n, NULL);
	struct ini ini = {0};
	if (r == 0)
		r = ini_parse(text, n, &ini, NULL);
	const char *project = NULL;
	for (size_t i = 0; i < ini.n; i++) {
		if (!strcmp(ini.value[i].section, "core") && !strcmp(ini.value[i].key, "project"))
			project = ini.value[i].value;
	}
	if (r == 0)
		r = project && *project ? str_dup(project, ret) : -ENOENT;
	ini_release(&ini);
	return r;
}

static int find_project(struct google_credentials *credentials, char **ret, const char **ret_from,
			struct fault *reterr)
{
	static const char *const variable[] = {"GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT",
					       "CLOUDSDK_CORE_PROJECT"};
	const struct profile_env *env = &credentials->env;
	cleanup_source struct google_source *source = NULL;
	struct google_context context;
	*ret_from = "the remote's options";
	if (credentials->project)
		return str_dup(credentials->project, ret);
	for (size_t i = 0; i < sizeof(variable) / sizeof(variable[0]); i++) {
		*ret_from = variable[i];
		if (profile_env_get(env, variable[i]))
			return str_dup(profile_env_get(env, variable[i]), ret);
	}
	*ret_from = "the credentials";
	int r = google_find(env, credentials->file, &source, NULL);
	if (r == 0 && source->project)
		return str_dup(source->project, ret);
	*ret_from = "gcloud's configuration";
	if (gcloud_project(env, ret) == 0)
		return 0;
	*ret_from = "the metadata server";
	fill_context(credentials, 0, NULL, &context);
	if (r == 0 && source->kind == GOOGLE_METADATA && google_metadata_project(&context, ret, NULL) == 0)
		return 0;
	return fault_set(
		reterr, EINVAL,
		"no Google Cloud project is set: give the remote `project: NAME`, set GOOGLE_CLOUD_PROJECT, "
		"or `gcloud config set project NAME`");
}

int google_credentials_project(struct google_credentials *credentials, char **ret, struct fault *reterr)
{
	const char *from;
	return find_project(credentials, ret, &from, reterr);
}

int google_credentials_endpoint(struct google_credentials *credentials, const char *service, char **ret,
				bool *ret_is_custom, struct fault *reterr)
{
	const char *url = auth_endpoints_get(&credentials->endpoints, service, NULL);
	const char *emulator = strcmp(service, "storage") != 0
				       ? NULL
				       : profile_env_get(&credentials->env, "STORAGE_EMULATOR_HOST");
	cleanup_free char *text = NULL;
	int r = 0;
	if (!url && emulator)
		r = str_format(&text, "%s%s", strstr(emulator, "://") ? "" : "http://", emulator);
	else if (!url)
		r = str_format(&text, "https://%s.googleapis.com", service);
	if (r == 0 && !url && !auth_is_http_url(text))
		return fault_set(reterr, EINVAL, "%s is no http or https URL",
				 emulator ? "STORAGE_EMULATOR_HOST" : service);
	if (r == 0)
		r = auth_base_url(url ?: text, ret);
	if (r == 0)
		*ret_is_custom = url || emulator;
	return r;
}

/* ---- for `trainfs check` ---- */

static void describe_token(struct google_credentials *credentials, const char *scopes, int64_t now_ns,
			   auth_sink sink, void *arg)
{
	cleanup_auth_keys struct auth_keys keys = {0};
	struct fault fault = {0};
	uint64_t generation;
	char until[DESCRIBE_UNTIL_MAX];
	int r = get_token(credentials, scopes, now_ns, 0, NULL, &keys, &generation, &fault);
	if (r < 0)
		describe_failure(r, &fault, sink, arg);
	else
		describe_line(sink, arg, true, "credentials: %s, a token %s%s%s", keys.from,
			      describe_until(keys.expires_ns, now_ns, until),
			      keys.project ? ", billed to " : "", keys.project ?: "");
}

void google_credentials_describe(struct google_credentials *credentials, const char *scopes, int64_t now_ns,
				 auth_sink sink, void *arg)
{
	cleanup_free char *project = NULL;
	const char *from = NULL;
	struct fault fault = {0};
	if (credentials->is_anonymous)
		describe_line(sink, arg, true, "credentials: none, access is anonymous");
	else
		describe_token(credentials, scopes, now_ns, sink, arg);
	int r = find_project(credentials, &project, &from, &fault);
	if (r < 0)
		describe_failure(r, &fault, sink, arg);
	else
		describe_line(sink, arg, true, "project: %s, by %s", project, from);
}
