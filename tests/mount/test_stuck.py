# SPDX-License-Identifier: MIT
"""A remote that hangs, fails or loses replies: nothing else is held up, every wait ends, nothing is sent twice."""
import errno
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from conftest import is_mounted, is_running, wait_for
from jobtools import Caller, contents, copy, jobs, package, state, stats, submit, sync, wait_parked, wait_state

AT_ONCE = 10.0  # seconds: a busy machine with sanitizers needs less, who waits for a service 15 at least


class Far:
    """The remote `far`, of type mem, and what it does (backend/mem/mem.h)."""

    def __init__(self, mount, world, settle="1h", **options):
        self.mount_factory, self.world = mount, world
        self.control = world.root / "far.control"
        self.events = ""
        self.rules()
        text = "".join(f", {k}: {v}" for k, v in {"max_block_ms": 60000, **options}.items())
        world.write_config(f"settle: {settle}\nremotes:\n  local: {{type: local, slots: 4}}\n"
                           f"  far: {{type: mem, control: {self.control}{text}}}\n")

    def mount(self, **kwargs):
        return self.mount_factory(**kwargs)

    def rules(self, *lines):
        """From now on these hold, and no others."""
        new = self.control.with_suffix(".new")
        new.write_text(self.events + "".join(line + "\n" for line in lines))
        new.rename(self.control)

    def happens(self, *lines):
        """Job commands: carried out once; the rules are dropped."""
        self.events += "".join(line + "\n" for line in lines)
        self.rules()

    def accepted(self):
        """Ids that were submitted, as the service has them."""
        path = self.world.data / "trainfs/far/accepted.jsonl"
        return [json.loads(line)["id"] for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def far(mount, world):
    made = Far(mount, world)
    yield made
    made.rules()  # whatever hangs goes on, so that the mount can end


def running_job(m, far, job="j1"):
    far.happens(f"job {job} state RUNNING", f"job {job} log first")
    wait_for(lambda: job in os.listdir(m / "far/jobs"), what=f"{job} is shown")
    return m / f"far/jobs/{job}"


def in_time(limit=AT_ONCE):
    class Watch:
        def __enter__(self):
            self.start = time.monotonic()

        def __exit__(self, kind, *rest):
            took = time.monotonic() - self.start
            assert kind or took < limit, f"it took {took:.1f} s"
    return Watch()


def is_quiet(m):
    """Nothing is parked, no handle is open but the one that reads this."""
    return stats(m, "", "parked") == 0 and stats(m, "", "handles") <= 1


# ---- nothing else is held up

def use_local(m, tmp_path, name):
    """A whole submission on `local`, listings and a log; each step at once."""
    with in_time():
        for at in (m.path, m / "local", m / "local/jobs", m / "local/train", m / ".trainfs"):
            os.listdir(at)
    with in_time():
        (m / ".trainfs/remotes.tsv").read_text()
        (m / ".trainfs/stats.tsv").read_text()
    source = package(tmp_path / "src" / name, f"echo {name}")
    with in_time():
        job = submit(m, source)
    with in_time():
        assert (m / f"local/jobs/{job}/follow").read_text() == f"{name}\n"
        assert (m / f"local/jobs/{job}/wait").read_text() == "SUCCEEDED\n"
    with in_time():
        copy(source, m / f"local/drafts/{name}2")
        os.rename(m / f"local/drafts/{name}2", m / f"local/train/{name}2")
    with in_time():
        os.rmdir(m / f"local/jobs/{job}")


def test_twelve_blocked_readers_and_a_listing(far, tmp_path):
    m = far.mount()
    job = running_job(m, far)
    far.rules("* hang 3600000")
    callers = [Caller("open(argv[0]).read()", job / "api.json") for _ in range(12)]
    try:
        for caller in callers:
            caller.wait_blocked()
        with in_time():
            assert os.listdir(m / "far/jobs") == ["j1"]
            assert (job / "state").read_text() == "RUNNING\n"
            assert jobs(m, "far")[0]["id"] == "j1"
        use_local(m, tmp_path, "beside")
        for i, caller in enumerate(callers):
            caller.ends_by(signal.SIGKILL if i % 2 else signal.SIGINT, AT_ONCE)  # in any order
        assert wait_for(lambda: stats(m, "", "parked") == 0, what="nothing is parked")
        use_local(m, tmp_path, "after")
    finally:
        for caller in callers:
            caller.kill()
        far.rules()
    wait_for(lambda: is_quiet(m), what="all handles are closed")
    assert json.loads((job / "api.json").read_text())


def test_a_remote_that_hangs_from_the_start(far, tmp_path):
    far.rules("* hang 3600000")
    with in_time():
        m = far.mount()
    use_local(m, tmp_path, "alone")
    callers = [Caller("os.listdir(argv[0])", m / "far/jobs"), Caller("open(argv[0]).read()", m / "far/jobs.tsv"),
               Caller("os.stat(argv[0])", m / "far/jobs/j1")]
    with in_time():
        assert "far" in os.listdir(m) and "jobs" in os.listdir(m / "far")
    for caller in callers:
        caller.wait_blocked()
    use_local(m, tmp_path, "beside")
    far.happens("job j1 state RUNNING")
    assert [caller.result() for caller in callers] == [["0"], ["0"], ["0"]]
    wait_for(lambda: is_quiet(m))


def test_a_remote_that_fails_from_the_start(far, tmp_path):
    """Its error is told by what needs it, and in remotes.tsv; when it comes back so does all."""
    far.rules("* fail EHOSTUNREACH")
    m = far.mount()
    use_local(m, tmp_path, "alone")
    with pytest.raises(OSError) as e:
        os.listdir(m / "far/jobs")
    assert e.value.errno == errno.EHOSTUNREACH
    assert "EHOSTUNREACH" in [line for line in (m / ".trainfs/remotes.tsv").read_text().splitlines()
                              if line.startswith("far\t")][0]
    far.happens("job j1 state RUNNING")

    def is_back():
        try:
            return os.listdir(m / "far/jobs") == ["j1"]
        except OSError:
            return False
    wait_for(is_back, what="the listing is back")
    assert [line.split("\t")[2] for line in (m / ".trainfs/remotes.tsv").read_text().splitlines()
            if line.startswith("far\t")] == ["ok"]


def test_what_is_known_stays_readable_when_the_network_goes(far):
    m = far.mount()
    job = running_job(m, far)
    far.rules("* fail EHOSTUNREACH")
    wait_for(lambda: "EHOSTUNREACH" in (m / ".trainfs/remotes.tsv").read_text(), what="the failure is noticed")
    assert os.listdir(m / "far/jobs") == ["j1"] and (job / "state").read_text() == "RUNNING\n"
    assert jobs(m, "far")[0]["state"] == "RUNNING"
    age = [line for line in (m / ".trainfs/remotes.tsv").read_text().splitlines() if line.startswith("far\t")][0]
    assert age.split("\t")[3].endswith("s")


def test_a_table_is_one_moments_text_while_it_grows(far):
    """Also when its size is asked for while it is read, which makes the kernel fill up with zeros what it caches."""
    m = far.mount()
    code = "text = b''\nwhile b'\\nlast\\t' not in text:\n    text = open(argv[0], 'rb').read()\n" \
           "    if text and text.count(b'\\t') != 7 * text.count(b'\\n') or b'\\0' in text: print(text)"
    asks = "while b'\\nlast\\t' not in open(argv[0], 'rb').read():\n    for _ in range(100): os.stat(argv[0])"
    callers = [Caller(code, m / "far/jobs.tsv") for _ in range(3)] + [Caller(asks, m / "far/jobs.tsv")]
    for i in range(40):
        far.happens(f"job j{i} state RUNNING")
        wait_for(lambda i=i: f"j{i}" in os.listdir(m / "far/jobs"))
    assert [caller.process.poll() for caller in callers] == [None] * 4
    far.happens("job last state RUNNING")
    assert [caller.result() for caller in callers] == [["0"]] * 4


def test_models_that_jobs_are_of_are_not_missed_after_a_mount(far):
    """They are known when the first list of jobs is there, and who asks before that waits for it."""
    far.rules("list hang 3600000")
    m = far.mount()
    callers = [Caller("os.stat(argv[0])", m / "far/models/elsewhere"),
               Caller("print(*os.listdir(argv[0]))", m / "far/models")]
    for caller in callers:
        caller.wait_blocked()
    far.happens("job j1 state RUNNING")  # of the model `elsewhere`
    assert [caller.result() for caller in callers] == [["0"], ["elsewhere", "0"]]


# ---- every blocked caller can be killed

def draft_in(m, tmp_path, name, place="train"):
    source = tmp_path / "src" / name
    if not source.exists():
        package(source, "true")
    copy(source, m / f"far/{place}/{name}")
    return m / f"far/{place}/{name}"


def phases(m):
    """What becomes of each draft: open, queued, checking, sending."""
    rows = (m / "far/transfers.tsv").read_text().splitlines()[1:]
    return {row.split("\t")[1]: row.split("\t")[2] for row in rows}


def blocked_calls(m, far, tmp_path, tag):
    """Callers that wait for the remote, each in a directory of its own; name -> Caller."""
    far.happens(*(f"job {tag}{i} state RUNNING" for i in range(4)), f"job {tag}e state SUCCEEDED",
                f"job {tag}d state FAILED")
    wait_for(lambda: f"{tag}d" in os.listdir(m / "far/jobs"))
    ended = wait_for(lambda: (m / f"far/jobs/{tag}d/state").read_text() == "FAILED\n" and m / f"far/jobs/{tag}d")
    draft = draft_in(m, tmp_path, f"{tag}draft")
    job = [m / f"far/jobs/{tag}{i}" for i in range(4)]
    far.rules("* hang 3600000", "check ok", "model-check ok")
    callers = {
        "wait": Caller("open(argv[0]).read()", job[0] / "wait"),
        "follow": Caller("open(argv[0]).read()", job[0] / "follow"),
        "cat": Caller("open(argv[0]).read()", job[1] / "api.json"),
        "cat spec": Caller("open(argv[0]).read()", job[1] / "spec.json"),
        "log": Caller("open(argv[0]).read()", job[1] / "log"),
        "stat": Caller("os.stat(argv[0])", job[2] / "package"),
        "ls": Caller("os.listdir(argv[0])", m / "far/buckets"),
        "ctl": Caller("os.write(os.open(argv[0], os.O_WRONLY), b'cancel')", job[3] / "ctl"),
        "mkdir": Caller("os.mkdir(argv[0])", m / f"far/buckets/{tag}"),
        "rmdir": Caller("os.rmdir(argv[0])", ended),
        "sync": Caller("fd = os.open(argv[0], os.O_RDONLY); print('opened', flush=True); os.fsync(fd)", draft),
    }
    assert callers["sync"].process.stdout.readline() == "opened\n"  # from here on it is the fsync that it waits in
    return callers


@pytest.mark.time_limit(180)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_every_blocked_caller_can_be_killed(far, tmp_path, number):
    m = far.mount()
    callers = blocked_calls(m, far, tmp_path, "a")
    try:
        waiting = {name: caller for name, caller in callers.items() if name not in ("mkdir", "ls")}
        for name, caller in waiting.items():
            caller.wait_blocked()
        # a request that the daemon has not read yet is taken back when its caller is killed
        wait_for(lambda: phases(m)["adraft"] != "open", what="the daemon has been asked to submit")
        late = []
        for name, caller in callers.items():
            caller.process.send_signal(number)
        end = time.monotonic() + AT_ONCE
        for name, caller in callers.items():
            try:
                assert caller.process.wait(max(0.0, end - time.monotonic())) == -number, name
            except subprocess.TimeoutExpired:
                late.append(name)
        assert late == []
        wait_for(lambda: stats(m, "", "parked") == 0, what="nothing is parked")
        use_local(m, tmp_path, "after")
    finally:
        far.rules()
        for caller in callers.values():
            caller.kill()
    far.happens(*(f"job a{i} state FAILED" for i in range(4)))  # whose waiting is over
    wait_for(lambda: is_quiet(m), what="all handles are closed")
    # a change that was sent is not undone: the submission goes on without its caller
    wait_for(lambda: len(far.accepted()) == 1 and os.listdir(m / "far/train") == [], what="the job is accepted")


def test_followers_that_were_killed_leave_the_log_to_others(mount, tmp_path):
    """What is left of one is let go when the next one waits in its place."""
    m = mount()
    job = submit(m, package(tmp_path / "src" / "slow", f"echo said; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done"))
    follow, go = m / f"local/jobs/{job}/follow", tmp_path / "go"
    try:
        for _ in range(4):
            caller = Caller("f = open(argv[0]); f.readline(); f.readline()", follow)
            wait_parked(m)
            caller.ends_by(signal.SIGKILL, AT_ONCE)
            wait_for(lambda: stats(m, "", "parked") == 0, what="its request is answered")
        last = Caller("open(argv[0]).read()", follow)
        wait_parked(m)
        with in_time():
            assert (m / f"local/jobs/{job}/log").read_text() == "said\n"
    finally:
        go.touch()
    assert last.result() == ["0"]
    wait_for(lambda: is_quiet(m), what="all handles are closed")


@pytest.mark.time_limit(240)
def test_every_wait_ends_by_itself(far, tmp_path):
    """Those that wait for a service, not for an event: within 30 s, with ETIMEDOUT; nothing is left behind."""
    m = far.mount()
    callers = blocked_calls(m, far, tmp_path, "t")
    for name in ("wait", "follow", "sync"):
        callers.pop(name).kill()
    try:
        results = {name: caller.result(timeout=45)[-1] for name, caller in callers.items()}
        took = time.monotonic() - min(caller.started for caller in callers.values())
        assert results == {**{name: str(errno.ETIMEDOUT) for name in callers}, "log": results["log"]}
        assert results["log"] in ("0", str(errno.ETIMEDOUT), str(errno.EIO)) and took < 40
        wait_for(lambda: stats(m, "", "parked") == 0, what="nothing is parked")
    finally:
        far.rules()
        for caller in callers.values():
            caller.kill()
    far.happens(*(f"job t{i} state FAILED" for i in range(4)))
    wait_for(lambda: is_quiet(m), what="all handles are closed")


def test_a_renames_lock_is_never_held_for_a_network(far, tmp_path):
    """The kernel has one lock for renames across directories: mv into train/ of a remote that hangs returns."""
    m = far.mount()
    running_job(m, far)
    draft = draft_in(m, tmp_path, "moved", "drafts")
    far.rules("* hang 3600000", "check ok")
    with in_time():
        os.rename(draft, m / "far/train/moved")
    with in_time():
        found = [row["id"] for row in jobs(m, "far") if row["model"] == "moved"]
        assert state(m, found[0], "far") == "SUBMITTING"
    use_local(m, tmp_path, "beside")
    far.rules()
    wait_for(lambda: far.accepted() == found, what="it is sent")
    wait_for(lambda: state(m, found[0], "far") == "QUEUED")


def test_who_reads_a_package_while_its_job_is_accepted(far, world, tmp_path):
    """A directory below jobs/ID/package that was opened before the service had the job stays readable after."""
    m = far.mount()
    source = package(tmp_path / "src" / "read", "true", {"a.txt": "A", "sub/b.txt": "B"})
    copy(source, m / "far/drafts/read")
    far.rules("* hang 3600000", "check ok")
    os.rename(m / "far/drafts/read", m / "far/train/read")
    job, = [row["id"] for row in jobs(m, "far") if row["model"] == "read"]
    at = os.open(m / f"far/jobs/{job}/package", os.O_RDONLY | os.O_DIRECTORY)
    far.rules()
    wait_for(lambda: state(m, job, "far") == "QUEUED")
    assert sorted(os.listdir(at)) == ["a.txt", "job.yaml", "sub"]
    for name, content in (("a.txt", b"A"), ("sub/b.txt", b"B")):
        fd = os.open(name, os.O_RDONLY, dir_fd=at)
        assert os.read(fd, 9) == content
        os.close(fd)
    os.close(at)
    m.unmount()
    assert list(world.data.rglob("drafts/*")) == [], "what was read is removed at the end"


def test_transfers_name_what_waits(far, tmp_path):
    """More drafts than a remote sends at once: the rest are queued."""
    m = far.mount()
    far.rules("* hang 3600000")
    callers = [Caller("os.fsync(os.open(argv[0], os.O_RDONLY))", draft_in(m, tmp_path, f"d{i}")) for i in range(20)]

    try:
        wait_for(lambda: set(phases(m).values()) == {"checking", "queued"}, what="some are checked, the others wait")
        assert sorted(phases(m)) == sorted(f"d{i}" for i in range(20))
    finally:
        far.rules()
    assert [caller.result() for caller in callers] == [["0"]] * 20
    assert phases(m) == {}


# ---- unmounting

def test_unmount_while_a_reader_waits(mount, world, tmp_path):
    m = mount()
    job = submit(m, package(tmp_path / "src" / "slow", "while :; do sleep 0.1; done"))
    waiter = Caller("open(argv[0]).read()", m / f"local/jobs/{job}/wait")
    try:
        wait_parked(m)
        done = world.run("unmount", m)
        assert done.returncode == 32 and f"  {waiter.process.pid} " in done.stderr, done.stderr
        assert is_mounted(m) and m.is_alive() and waiter.process.poll() is None
        done = world.run("unmount", "--lazy", m)
        assert done.returncode == 0, done.stderr
        with in_time():
            assert waiter.result()[-1] in (str(errno.EINTR), str(errno.ENOTCONN), str(errno.ECONNABORTED))
        assert m.wait() == 0 and not is_mounted(m)
    finally:
        waiter.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_what_waits(mount, tmp_path, number):
    m = mount()
    job = submit(m, package(tmp_path / "src" / "slow", "while :; do sleep 0.1; done"))
    callers = [Caller("open(argv[0]).read()", m / f"local/jobs/{job}/{name}") for name in ("wait", "follow", "wait")]
    wait_parked(m, len(callers))
    m.signal(number)
    with in_time():
        for caller in callers:
            assert caller.result()[-1] in (str(errno.EINTR), str(errno.ENOTCONN), str(errno.ECONNABORTED))
        assert m.wait() == 0 and not is_mounted(m)


@pytest.mark.time_limit(180)
def test_a_signal_ends_a_mount_whose_remote_hangs(far, tmp_path):
    """Its callers go at once; it waits 30 s for what is on its way, and the journal has the rest."""
    m = far.mount()
    job = running_job(m, far)
    draft = draft_in(m, tmp_path, "sent", "drafts")
    far.rules("* hang 3600000", "check ok")
    os.rename(draft, m / "far/train/sent")
    caller = Caller("open(argv[0]).read()", job / "api.json")
    wait_parked(m)
    m.signal(signal.SIGTERM)
    with in_time():
        assert caller.result()[-1] in (str(errno.EINTR), str(errno.ENOTCONN), str(errno.ECONNABORTED))
    assert m.wait(40) == 0 and not is_mounted(m)
    assert far.accepted() == []
    far.rules()
    m = far.mount()
    wait_for(lambda: len(far.accepted()) == 1, what="the next mount has sent it")
    wait_for(lambda: os.listdir(m / "far/train") == [] and jobs(m, "far")[0]["state"] == "QUEUED")


def test_a_second_sigterm_does_not_wait(far):
    m = far.mount()
    job = running_job(m, far)
    far.rules("* hang 3600000")
    caller = Caller("open(argv[0]).read()", job / "api.json")
    wait_parked(m)
    m.signal(signal.SIGTERM)
    assert caller.result()[-1] != "0"
    m.signal(signal.SIGTERM)
    with in_time():
        assert m.wait() == 0 and not is_mounted(m)


# ---- submissions that fail, or may have

REFUSALS = {"EBADMSG": "EBADMSG", "EINVAL": "EBADMSG", "EACCES": "EACCES", "EPERM": "EPERM", "ENOENT": "ENOENT",
            "EEXIST": "EEXIST", "ESTALE": "ESTALE", "EDQUOT": "EDQUOT", "EFBIG": "EFBIG", "EAGAIN": "EAGAIN", "EIO": "EIO",
            "EHOSTUNREACH": "EHOSTUNREACH", "ETIMEDOUT": "ETIMEDOUT", "EOPNOTSUPP": "EOPNOTSUPP", "ENOSPC": "ENOSPC"}


def is_refused(m, name, err):
    why = wait_for(lambda: (m / f"far/drafts/{name}/.error").exists() and
                   (m / f"far/drafts/{name}/.error").read_text(), what=".error")
    assert why.strip()
    told = wait_for(lambda: [line.split("\t") for line in m.errors().splitlines() if f"far/drafts/{name}" in line],
                    what="the errors have it")
    assert len(told) == 1 and told[0][1] == "far" and told[0][3] == err and told[0][4] == why.strip("\n")
    return why


def test_each_errno_of_a_submission(far, tmp_path):
    """Told by sync as DESIGN 8 says; the draft is whole in drafts/, and nothing was accepted or is shown as a job."""
    m = far.mount()
    for given, wanted in REFUSALS.items():
        far.rules(f"submit fail {given}")
        name = "d" + given.lower()
        draft = draft_in(m, tmp_path, name)
        assert sync(draft) == getattr(errno, wanted), given
        is_refused(m, name, wanted)
        there = contents(m / f"far/drafts/{name}")
        there.pop(".error")
        assert there == contents(tmp_path / "src" / name)
    assert os.listdir(m / "far/train") == [] and jobs(m, "far") == [] and far.accepted() == []
    far.rules()
    os.rename(m / "far/drafts/deagain", m / "far/train/deagain")
    wait_for(lambda: len(far.accepted()) == 1, what="with the service well again, it is sent")


RENAME = {"EINVAL": "EBADMSG", "EOPNOTSUPP": "EPERM", "ENOSYS": "EPERM", "EBADMSG": "EBADMSG", "EDQUOT": "EDQUOT"}


def test_each_errno_of_a_check_by_mv(far, tmp_path):
    """mv has ways of its own with EINVAL, ENOSYS and EOPNOTSUPP: a refusal is none of them."""
    m = far.mount()
    for given, wanted in RENAME.items():
        name = "m" + given.lower()
        far.rules(f"check fail {given}")
        draft = draft_in(m, tmp_path, name, "drafts")
        with pytest.raises(OSError) as e:
            os.rename(draft, m / f"far/train/{name}")
        assert e.value.errno == getattr(errno, wanted), given
        assert (m / f"far/drafts/{name}/.error").read_text().strip()
    assert os.listdir(m / "far/train") == [] and far.accepted() == []


def test_each_errno_after_mv(far, tmp_path):
    """mv has long returned: the job was SUBMITTING, now the draft is back with the reason."""
    m = far.mount()
    for given in ("EDQUOT", "EACCES", "EHOSTUNREACH"):
        far.rules(f"submit fail {given}")
        name = "b" + given.lower()
        os.rename(draft_in(m, tmp_path, name, "drafts"), m / f"far/train/{name}")
        is_refused(m, name, given)
    wait_for(lambda: jobs(m, "far") == [] and os.listdir(m / "far/jobs") == [])


@pytest.mark.parametrize("err", ["ETIMEDOUT", "EHOSTUNREACH", "EIO"])
def test_a_lost_reply_is_asked_for(far, tmp_path, err):
    m = far.mount()
    far.rules(f"submit lose-reply {err}")
    assert sync(draft_in(m, tmp_path, "digits")) == 0, m.errors()
    assert len(far.accepted()) == 1 and os.listdir(m / "far/drafts") == []
    job = os.path.basename(os.readlink(m / "far/submitted/digits"))
    assert far.accepted() == [job] and wait_state(m, job, "QUEUED", remote="far")


@pytest.mark.parametrize("rules", [("submit lose-reply", "get fail EHOSTUNREACH"), ("submit fail EALREADY",),
                                   ("submit lose-reply EALREADY",)], ids=["silent", "unsure", "unsure-accepted"])
def test_what_may_exist_is_never_sent_again(far, tmp_path, rules):
    m = far.mount()
    far.rules(*rules)
    assert sync(draft_in(m, tmp_path, "digits")) == errno.EALREADY
    why = is_refused(m, "digits", "EALREADY")
    assert "may exist" in why and "look at" in why
    n = len(far.accepted())
    assert n == (0 if rules == ("submit fail EALREADY",) else 1)
    m.kill()
    far.rules()
    m = far.mount()
    wait_for(lambda: len(jobs(m, "far")) == n, what="what the service has is shown")
    assert (m / "far/drafts/digits/.error").read_text() == why
    draft_in(m, tmp_path, "another")
    assert sync(m / "far/train/another") == 0
    assert len(far.accepted()) == n + 1  # that one, and nothing of the other
    os.rename(m / "far/drafts/digits", m / "far/train/digits")  # its owner has looked, and wants it
    wait_for(lambda: len(far.accepted()) == n + 2)


@pytest.mark.parametrize("point", ["claimed", "sent", "done"])
@pytest.mark.parametrize("at_first", ["ok", "get fail EHOSTUNREACH", "get hang 3600000"])
def test_killed_and_replayed_against_a_service(far, tmp_path, point, at_first):
    """The service is asked before it is sent again, and as long as it does not answer nothing is sent."""
    m = far.mount(env={"TRAINFS_CRASH_POINT": point})
    m.is_expected_dead = True
    subprocess.run(["sync", draft_in(m, tmp_path, "digits")], stderr=subprocess.DEVNULL, check=False)
    assert m.wait() == -signal.SIGKILL
    before = far.accepted()
    assert len(before) == (0 if point == "claimed" else 1)
    if at_first != "ok":
        far.rules(at_first)
    m = far.mount()
    if at_first != "ok":
        if point != "done":
            wait_for(lambda: "asking" in (m / "far/transfers.tsv").read_text() or "hang" in at_first)
        use_local(m, tmp_path, "beside")
        assert far.accepted() == before
        far.rules()
    wait_for(lambda: len(far.accepted()) == 1, what="it is there")
    wait_for(lambda: os.listdir(m / "far/train") == [] and os.listdir(m / "far/drafts") == [])
    job = far.accepted()[0]
    assert os.readlink(m / "far/submitted/digits") == f"../jobs/{job}"
    wait_state(m, job, "QUEUED", remote="far")
    m.unmount()
    m = far.mount()
    wait_for(lambda: [row["id"] for row in jobs(m, "far")] == [job])
    assert far.accepted() == [job]


def test_200_drafts_to_a_service_that_fails_now_and_then(far, tmp_path):
    """Every third submission is refused, every reply that comes is slow: each is there once, or in drafts/."""
    m = far.mount()
    far.rules("submit fail EAGAIN every 3", "submit delay 5")
    for i in range(60):
        draft_in(m, tmp_path, f"p{i}", "drafts")
    for i in range(60):
        os.rename(m / f"far/drafts/p{i}", m / f"far/train/p{i}")
    wait_for(lambda: len(far.accepted()) + len(os.listdir(m / "far/drafts")) == 60 and
             os.listdir(m / "far/train") == [], 30, "all are decided")
    assert len(far.accepted()) == len(set(far.accepted())) == 40
    wait_for(lambda: len(jobs(m, "far")) == 40)


def test_kill_of_the_daemon_frees_every_caller(far, tmp_path):
    m = far.mount()
    callers = blocked_calls(m, far, tmp_path, "k")
    try:
        for name in ("wait", "cat", "ctl", "rmdir"):
            callers[name].wait_blocked()
        m.kill()
        for caller in callers.values():
            assert caller.result()[-1] != "0"
        assert not any(is_running(caller.process.pid) for caller in callers.values())
    finally:
        for caller in callers.values():
            caller.kill()
    far.rules()
    m = far.mount()
    wait_for(lambda: is_quiet(m))
