/* SPDX-License-Identifier: MIT */
/*
 * Sending a frozen draft. Steps, each on disk before the next (crash points in between):
 *
 *   complete  journal_draft_complete    it is to be submitted, whatever happens to us
 *   claimed   journal_draft_claim       its job id is decided; from here on the service is asked before it is sent again
 *   sent      the backend has it
 *   done      journal_draft_sent        the draft is gone; its directory is left for those who read it as the
 *                                       job's package, and removed LEFT_MS later
 */
#include "sending.h"

#include "backend.h"
#include "cleanup.h"
#include "clock.h"
#include "crash.h"
#include "drafts_private.h"
#include "file.h"
#include "jobs.h"
#include "kinds.h"
#include "log.h"
#include "models.h"
#include "notify.h"
#include "pool.h"
#include "remote.h"
#include "report.h"
#include "serve_private.h"
#include "settle.h"
#include "submission.h"
#include "submitted.h"
#include "timers.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { ID_MAX = 127, TRIES_FOR_AN_ID = 1000, ASK_AGAIN_MS = 5000, LEFT_MS = 60000 };

static void set_doing(struct draft *draft, const char *doing)
{
	drafts_lock(draft->remote->drafts);
	draft->doing = doing;
	draft->remote->drafts->changed_ns = clock_wall_ns();
	drafts_unlock(draft->remote->drafts);
	notify_attr(draft->remote->serve->notify, &kind_remote_file, draft->remote, REMOTE_FILE_TRANSFERS,
		    NULL);
}

/* In jobs/: the id without trailing [-_]digits; else the draft's name as a plain name. */
static int default_model(const struct draft *draft, char **ret)
{
	cleanup_free char *model = NULL;
	int r = str_make_plain_name(draft->name, &model);
	if (r < 0)
		return r;
	size_t len = strlen(model), end = len;
	while (draft->place == PLACE_JOBS && end > 0) {
		size_t digits = end;
		while (digits > 0 && isdigit((unsigned char)model[digits - 1]))
			digits--;
		if (digits == end || digits < 2 || (model[digits - 1] != '-' && model[digits - 1] != '_'))
			break;
		end = digits - 1;
	}
	model[end] = '\0';
	*ret = STEAL(model);
	return 0;
}

/* <model>_<YYYYMMDD>_<HHMMSS>, and from the second try on _2, _3 … */
static int made_up_id(const char *model, int64_t now_ns, int try, char **ret)
{
	char stamp[CLOCK_TEXT_MAX], suffix[16] = "";
	if (try > 1)
		snprintf(suffix, sizeof(suffix), "_%d", try);
	clock_stamp(now_ns, stamp);
	int room = ID_MAX - (int)strlen(stamp) - (int)strlen(suffix) - 1;
	return str_format(ret, "%.*s_%s%s", room, model, stamp, suffix);
}

static bool job_is_known(struct draft *draft, const char *id)
{
	struct job_row row;
	struct job *job = jobs_find(draft->remote->jobs, id);
	if (!job)
		return false;
	job_row_get(job, &row);
	return !row.is_gone;
}

static int claim(struct draft *draft, const char *id)
{
	if (job_is_known(draft, id))
		return -EEXIST;
	return journal_draft_claim(draft->remote->journal, draft->id, draft->remote->serve->id, id);
}

/* Decides the id on disk. */
static int decide_id(struct draft *draft, const char *model, char **ret, struct fault *reterr)
{
	int64_t now = clock_wall_ns();
	int r = -EEXIST;
	for (int try = 1; r == -EEXIST && try <= TRIES_FOR_AN_ID; try++) {
		cleanup_free char *id = NULL;
		bool is_given = draft->place == PLACE_JOBS;
		r = is_given ? str_format(&id, "%s", draft->name) : made_up_id(model, now, try, &id);
		if (r == 0)
			r = claim(draft, id);
		if (r == 0)
			*ret = STEAL(id);
		else if (r == -EEXIST && is_given)
			return fault_set(reterr, EEXIST, "a job %s exists already", draft->name);
	}
	return r < 0 ? fault_set(reterr, -r, "cannot journal the submission: %s", strerror(-r)) : 0;
}

static int prepare(struct draft *draft, struct submission *ret, struct fault *reterr)
{
	cleanup_free char *model = NULL;
	int r = default_model(draft, &model);
	if (r == 0)
		r = submission_prepare(draft->dir, model, draft->remote->conf->max_package_bytes, ret,
				       reterr);
	if (r == 0) {
		drafts_lock(draft->remote->drafts);
		draft->size_bytes = ret->size_bytes;
		drafts_unlock(draft->remote->drafts);
	}
	return r;
}

static int check(struct draft *draft, const struct submission *submission, const char *id,
		 struct fault *reterr)
{
	struct package package;
	struct job_request request;
	struct backend *be;
	int r = remote_backend(draft->remote, &be, reterr);
	if (r < 0)
		return r;
	submission_as_request(submission, id, NULL, &package, &request);
	return backend_job_check(be, &request, reterr);
}

/* `id` may be draft->job itself: a replay. */
static int show_pending(struct draft *draft, const char *id, const char *model)
{
	char *job = strdup(id);
	if (!job)
		return -ENOMEM;
	drafts_lock(draft->remote->drafts);
	free(draft->job);
	draft->job = job;
	drafts_unlock(draft->remote->drafts);
	models_note_job(draft->remote->models, model);
	int r = jobs_add_pending(draft->remote->jobs, job, model);
	return r == -EEXIST ? 0 : r; /* a replay: the backend has reported it */
}

static int begin_job(struct draft *draft, struct fault *reterr)
{
	cleanup_free char *id = NULL, *candidate = NULL;
	struct submission submission = {0};
	int r = prepare(draft, &submission, reterr);
	if (r == 0)
		r = draft->place == PLACE_JOBS ? str_format(&candidate, "%s", draft->name)
					       : made_up_id(submission.model, clock_wall_ns(), 1, &candidate);
	if (r == 0)
		r = check(draft, &submission, candidate, reterr);
	if (r == 0)
		r = decide_id(draft, submission.model, &id, reterr);
	if (r == 0)
		r = show_pending(draft, id, submission.model);
	submission_release(&submission);
	crash_point("claimed");
	return r;
}

static int begin_version(struct draft *draft, struct fault *reterr)
{
	cleanup_free char *key = NULL;
	struct backend *be;
	int r = remote_backend(draft->remote, &be, reterr);
	if (r == 0)
		r = backend_model_check(be, draft->model, draft->name, reterr);
	if (r == 0)
		r = str_format(&key, "version %s/%s", draft->model, draft->name);
	if (r == 0)
		r = journal_draft_claim(draft->remote->journal, draft->id, draft->remote->serve->id, key);
	if (r == 0)
		models_note_pending(draft->remote->models, draft->model, draft->name, true);
	return r;
}

/* What is not valid is so in the package (DESIGN 8); of EINVAL, mv would make something of its own. */
static int as_verdict(int r)
{
	return r == -EINVAL ? -EBADMSG : r;
}

static int refuse_incomplete(struct draft *draft, struct fault *reterr)
{
	drafts_lock(draft->remote->drafts);
	int failed = draft->failed;
	drafts_unlock(draft->remote->drafts);
	if (failed == 0)
		return 0;
	return fault_set(reterr, -failed,
			 "writing into %s failed (%s), so it may be incomplete: copy it again, or submit it "
			 "as it is with mv into train/",
			 draft->name, strerror(-failed));
}

int sending_begin(struct draft *draft, struct fault *reterr)
{
	int r = refuse_incomplete(draft, reterr);
	if (r < 0)
		return r;
	set_doing(draft, "checking");
	crash_point("frozen");
	/* claiming is what counts; this saves a copy */
	(void)journal_draft_complete(draft->remote->journal, draft->id);
	crash_point("complete");
	r = as_verdict(draft->place == PLACE_MODEL ? begin_version(draft, reterr) : begin_job(draft, reterr));
	if (r == 0 && draft->place != PLACE_MODEL)
		drafts_tell_entry(draft->remote->drafts, draft->place, draft->model, draft->name);
	if (r < 0 && reterr && !reterr->text[0])
		fault_set(reterr, -r, "cannot submit %s: %s", draft->name, strerror(-r));
	return r;
}

/* ---- the end ---- */

static void verdict_was_told(void *arg)
{
	struct draft *draft = arg;
	draft_tell_end(draft, draft->result);
}

/* After the kernel has been told what is new. */
static void end_with(struct draft *draft, int result)
{
	drafts_lock(draft->remote->drafts);
	draft->result = result;
	drafts_unlock(draft->remote->drafts);
	if (notify_then(draft->remote->serve->notify, verdict_was_told, draft) < 0)
		draft_tell_end(draft, result);
}

static void leaving_is_due(void *arg)
{
	struct draft *draft = arg;
	(void)pool_submit(draft->remote->pool, draft_remove_left, draft); /* full: the unmount removes it */
}

static void became(struct draft *draft)
{
	struct remote *remote = draft->remote;
	bool is_version = draft->place == PLACE_MODEL;
	int64_t now = clock_wall_ns();
	crash_point("sent");
	int r = journal_draft_sent(remote->journal, draft->id, draft->job, is_version ? NULL : draft->name,
				   now);
	if (r < 0) /* the next mount asks the service, and finds it there */
		log_warning("cannot journal that %s was sent: %s, ignoring", draft->name, strerror(-r));
	crash_point("done");
	drafts_lock(remote->drafts);
	draft->is_gone = draft->is_left = true;
	remote->drafts->changed_ns = now;
	drafts_unlock(remote->drafts);
	drafts_tell_entry(remote->drafts, draft->place, draft->model, draft->name);
	if (!is_version) {
		jobs_confirm(remote->jobs, draft->job);
		/* the journal has it; else the next mount shows it */
		(void)submitted_load(remote->submitted);
	}
	if (is_version) /* who waits for it looks at it next; what cannot be read now is read later */
		(void)models_refresh(remote->models, NULL);
	remote_poke(remote);
	end_with(draft, 0);
	(void)timers_in(remote->serve->timers, LEFT_MS, leaving_is_due,
			draft); /* else the unmount removes it */
}

/* The service has it, or has not, or does not say: 0, -ENOENT, another error. */
static int ask(struct draft *draft, struct fault *reterr)
{
	struct backend *be;
	struct job_detail detail = {0};
	int r = remote_backend(draft->remote, &be, reterr);
	if (r == 0)
		r = backend_job_get(be, draft->job, &detail, reterr);
	job_detail_release(&detail);
	return r;
}

static bool is_uncertain(int r)
{
	return r == -ETIMEDOUT || r == -EHOSTUNREACH || r == -EIO || r == -EALREADY;
}

/* A submission without a clear answer: asks once. */
static int settle_uncertainty(struct draft *draft, int r, struct fault *reterr)
{
	struct fault answer = {0};
	int found = r == -EALREADY ? r : ask(draft, &answer);
	if (found == 0)
		return 0;
	if (found == -ENOENT)
		return r;
	cleanup_free char *why = strdup(reterr->text);
	return fault_set(reterr, EALREADY,
			 "job %s may exist, look at jobs/%s before submitting this again: %.700s", draft->job,
			 draft->job, why ? why : strerror(-r));
}

static int submit(struct draft *draft, const struct submission *submission, struct fault *reterr)
{
	cleanup_free char *git = NULL;
	struct package package;
	struct job_request request;
	struct backend *be;
	int r = remote_backend(draft->remote, &be, reterr);
	if (r < 0)
		return r;
	(void)submission_git(submission->root, &git); /* nice to know, no reason to refuse */
	submission_as_request(submission, draft->job, git, &package, &request);
	r = backend_job_submit(be, &request, reterr);
	if (r == -EEXIST && draft->is_replayed)
		return 0;
	return is_uncertain(r) ? settle_uncertainty(draft, r, reterr) : r;
}

static int send_job(struct draft *draft, struct fault *reterr)
{
	struct submission submission = {0};
	if (draft->is_replayed) {
		int r = ask(draft, reterr);
		if (r != -ENOENT)
			return r == 0 ? 0 : -EINPROGRESS;
	}
	int r = prepare(draft, &submission, reterr);
	if (r == 0 && draft->is_replayed)
		r = show_pending(draft, draft->job, submission.model);
	if (r == 0)
		r = submit(draft, &submission, reterr);
	submission_release(&submission);
	return r;
}

static int send_version(struct draft *draft, struct fault *reterr)
{
	struct backend *be;
	int r = remote_backend(draft->remote, &be, reterr);
	if (r == 0)
		r = backend_model_version_create(be, draft->model, draft->name, NULL, draft->dir, reterr);
	return r == -EEXIST && draft->is_replayed ? 0 : r;
}

static void ask_again(void *arg)
{
	struct draft *draft = arg;
	if (!draft->remote->serve->is_stopping)
		/* full: the next mount goes on */
		(void)pool_submit(draft->remote->pool, sending_finish, draft);
}

void sending_finish(void *arg)
{
	struct draft *draft = arg;
	struct fault fault = {0};
	set_doing(draft, "sending");
	int r = as_verdict(draft->place == PLACE_MODEL ? send_version(draft, &fault)
						       : send_job(draft, &fault));
	if (r == 0) {
		became(draft);
	} else if (r == -EINPROGRESS) { /* sent by a mount before this one, and the service does not answer */
		set_doing(draft, "asking");
		/* else the next mount */
		(void)timers_in(draft->remote->serve->timers, ASK_AGAIN_MS, ask_again, draft);
	} else {
		sending_refuse(draft, r, fault.text);
	}
}

/* ---- refusing ---- */

static void write_error(struct draft *draft, const char *sentence)
{
	cleanup_free char *line = NULL;
	cleanup_close int dir = open(draft->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = str_format(&line, "%s\n", sentence);
	if (r == 0)
		r = dir < 0 ? -errno : file_write_atomic(dir, SUBMISSION_ERROR, line, strlen(line), 0644);
	if (r < 0)
		log_warning("cannot write .error of %s: %s, ignoring", draft->name, strerror(-r));
}

/* To drafts/, under its own name if that is free. Gives back where it was; caller frees. */
static int move_back(struct draft *draft, const char *sentence, char **ret_old_name, char **ret_old_model)
{
	struct drafts *drafts = draft->remote->drafts;
	cleanup_free char *name = NULL, *old_model = strdup(draft->model);
	drafts_lock(drafts);
	int r = old_model ? 0 : -ENOMEM;
	if (r == 0)
		r = draft->place == PLACE_DRAFTS ? str_format(&name, "%s", draft->name)
						 : drafts_free_name_locked(drafts, draft->name, &name);
	if (r == 0)
		r = journal_draft_refuse(draft->remote->journal, draft->id, name);
	if (r == 0) {
		*ret_old_name = draft->name;
		*ret_old_model = STEAL(old_model);
		draft->name = STEAL(name);
		draft->model[0] = '\0';
		draft->place = PLACE_DRAFTS;
		drafts->changed_ns = clock_wall_ns();
		free(draft->job);
		draft->job = NULL;
		free(draft->verdict);
		draft->verdict = strdup(sentence); /* without it the errno has to do */
		draft->is_replayed = false;
		draft->failed = 0;
	}
	drafts_unlock(drafts);
	return r;
}

/* No room for the journal: it stays where it is, open, so that it can be removed, and is refused again later. */
static void refuse_later(struct draft *draft, const char *sentence)
{
	LOCK_SCOPE(&draft->remote->drafts->lock);
	free(draft->verdict);
	draft->verdict = strdup(sentence);
	settle_watch_locked(draft, ASK_AGAIN_MS);
}

void sending_refuse(struct draft *draft, int err, const char *sentence)
{
	struct remote *remote = draft->remote;
	enum place place = draft->place;
	cleanup_free char *old_name = NULL, *old_model = NULL, *path = NULL;
	cleanup_free char *job = draft->job ? strdup(draft->job) : NULL;
	if (!sentence[0])
		sentence = strerror(-err);
	write_error(draft, sentence);
	int r = move_back(draft, sentence, &old_name, &old_model);
	if (r < 0)
		log_warning("cannot journal that a draft was refused: %s, ignoring", strerror(-r));
	draft_thaw(draft);
	if (r < 0)
		refuse_later(draft, sentence);
	if (job)
		jobs_drop_pending(remote->jobs, job);
	if (r == 0) {
		drafts_tell_entry(remote->drafts, place, old_model, old_name);
		drafts_tell_entry(remote->drafts, PLACE_DRAFTS, "", draft->name);
	}
	if (str_format(&path, "%s/drafts/%s", remote->conf->name, draft->name) == 0)
		report_error(remote->serve->report, remote->conf->name, path, -err, sentence);
	log_info("%s: %s: %s", draft->name, fault_name(-err), sentence);
	end_with(draft, err);
}

void sending_run(void *arg)
{
	struct draft *draft = arg;
	struct fault fault = {0};
	int r = sending_begin(draft, &fault);
	if (r == 0)
		sending_finish(draft);
	else
		sending_refuse(draft, r, fault.text);
}
