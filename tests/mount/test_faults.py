# SPDX-License-Identifier: MIT
"""kill -9 at each step, writers that stop, clocks that go back, full disks, huge logs, crowds, two mounts of one state."""
import errno
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from conftest import is_mounted, is_running, processes, wait_for
from jobtools import (ENDED, NEVER, QUICK, Caller, contents, copy, is_sanitized, jobs, only_job, package, state, stats, submit,
                      sync, wait_state)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
FILES = {"a.txt": "a" * 5000, "sub/b.bin": bytes(range(256)) * 40, "sub/empty": ""}


def once(tmp_path, **fields):
    """A package whose job tells the file `ran` that it has run."""
    return package(tmp_path / "src" / "digits", f"echo ran >> {tmp_path}/ran; echo said", FILES, **fields)


def has_run(tmp_path):
    ran = tmp_path / "ran"
    return len(ran.read_text().splitlines()) if ran.exists() else 0


def drafts(m):
    return sorted(os.listdir(m / "local/train") + os.listdir(m / "local/drafts"))


def is_one_whole_job(m, source, tmp_path, name="digits"):
    job = only_job(m)
    assert wait_state(m, job) == "SUCCEEDED", (m / f"local/jobs/{job}/why").read_text()
    assert contents(m / f"local/jobs/{job}/package") == contents(source)
    assert has_run(tmp_path) == 1
    wait_for(lambda: drafts(m) == [], what="the draft is gone")
    assert os.readlink(m / f"local/submitted/{name}") == f"../jobs/{job}"
    assert os.readlink(m / "local/latest") == f"jobs/{job}"
    assert (m / f"local/jobs/{job}/log").read_text() == "said\n"
    return job


def is_set_aside(m, source, tmp_path, name="digits"):
    """Incomplete, as far as trainfs knows: in drafts/, with what there was, and the reason."""
    wait_for(lambda: (m / f"local/drafts/{name}/.error").exists(), what=".error")
    assert jobs(m) == [] and has_run(tmp_path) == 0 and os.listdir(m / "local/train") == []
    there = contents(m / f"local/drafts/{name}")
    assert "incomplete" in there.pop(".error").decode()
    return there


# ---- kill -9

def begin(m, way, source):
    """Submits in one of the three ways; what it answers does not matter."""
    if way == "mv":
        copy(source, m / "local/drafts/digits")
        subprocess.run(["mv", m / "local/drafts/digits", m / "local/train/"], stderr=subprocess.DEVNULL, check=False)
        return
    copy(source, m / "local/train/digits")
    if way == "sync":
        subprocess.run(["sync", m / "local/train/digits"], stderr=subprocess.DEVNULL, check=False)


@pytest.mark.parametrize("point", ["frozen", "complete", "claimed", "sent", "done"])
@pytest.mark.parametrize("way", ["sync", "mv", "settle"])
def test_killed_between_two_steps_of_submitting(mount, tmp_path, way, point):
    source = once(tmp_path)
    m = mount(config=QUICK if way == "settle" else NEVER, env={"TRAINFS_CRASH_POINT": point})
    m.is_expected_dead = True
    begin(m, way, source)
    assert m.wait() == -signal.SIGKILL, "it did not come by this point"
    m = mount()
    if point == "frozen":
        assert is_set_aside(m, source, tmp_path) == contents(source)
        os.rename(m / "local/drafts/digits", m / "local/train/digits")
        is_one_whole_job(m, source, tmp_path)
        return
    job = is_one_whole_job(m, source, tmp_path)
    m.unmount()
    m = mount()
    assert is_one_whole_job(m, source, tmp_path) == job


@pytest.fixture
def kill_at(world, tmp_path):
    """arm(m, N): the daemon of a mount made with `kill_at.env` dies as it begins its Nth change of the disk from now on."""
    if not shutil.which("cc"):
        pytest.skip("no C compiler")
    library = tmp_path / "kill_at.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, Path(__file__).with_name("kill_at.c"), "-ldl"], check=True)

    class KillAt:
        file = tmp_path / "kill_at"
        env = {"LD_PRELOAD": str(library), "TRAINFS_TEST_KILL": str(file),
               "ASAN_OPTIONS": world.env["ASAN_OPTIONS"] + ":verify_asan_link_order=0"}

        def arm(self, m, number):
            new = self.file.with_suffix(".new")
            new.write_text(f"{m.pid} {number}\n")
            new.rename(self.file)
    return KillAt()


@pytest.mark.time_limit(240)
@pytest.mark.parametrize("way", ["sync", "mv"])
def test_killed_at_any_change_of_the_disk(mount, tmp_path, world, kill_at, way):
    """Whatever the step: one job, or the draft, and never both; and what was told to be submitted is."""
    number, died, place = 1, True, "train" if way == "sync" else "drafts"
    while died:
        source = package(tmp_path / f"src{number}" / "digits", f"echo ran >> {tmp_path}/ran{number}", FILES)
        m = mount(config=NEVER, env=kill_at.env)
        before = {row["id"] for row in jobs(m)}
        copy(source, m / f"local/{place}/digits")
        kill_at.arm(m, number)
        told = subprocess.run(["sync", m / "local/train/digits"] if way == "sync" else
                              ["mv", m / "local/drafts/digits", m / "local/train/"],
                              stderr=subprocess.DEVNULL, check=False).returncode

        def settled():
            """The daemon has died, or nothing is left to do."""
            try:
                return not m.is_alive() or (drafts(m) == [] and len(jobs(m)) > len(before) and
                                            all(row["state"] in ENDED for row in jobs(m)))
            except OSError:
                return False
        wait_for(settled)
        died = not m.is_alive()
        m.is_expected_dead = True
        if not died:
            m.kill()
        kill_at.file.unlink()
        m = mount()
        is_there_once(m, before, source, told, tmp_path / f"ran{number}")
        m.unmount()
        number += 4 if is_sanitized(world.program) else 1
    assert number > 9, "nothing was killed"


def is_there_once(m, before, source, told, ran):
    """A new job, or a draft that is whole and becomes one."""
    def new():
        return [row["id"] for row in jobs(m) if row["id"] not in before]
    wait_for(lambda: new() or os.listdir(m / "local/drafts"), what="a job or a draft")
    if not new():
        assert told != 0
        there = contents(m / "local/drafts/digits")
        there.pop(".error", None)
        assert there == contents(source)
        os.rename(m / "local/drafts/digits", m / "local/train/digits")
        wait_for(new, what="a job")
    assert len(new()) == 1
    assert wait_state(m, new()[0]) == "SUCCEEDED"
    assert contents(m / f"local/jobs/{new()[0]}/package") == contents(source)
    assert ran.read_text() == "ran\n"
    wait_for(lambda: drafts(m) == [], what="no draft")


def test_killed_while_a_draft_is_written(mount, tmp_path):
    source = once(tmp_path)
    m = mount(config=QUICK)
    copy(source, m / "local/train/digits")
    with open(m / "local/train/digits/a.txt", "r+b", buffering=0) as f:  # this process lives on: nothing settles
        f.write(b"HALF")
        m.kill()
        with pytest.raises(OSError):
            f.write(b"more")
    m = mount()
    there = is_set_aside(m, source, tmp_path)
    assert there.pop("a.txt") == b"HALF" + b"a" * 4996
    assert there == {k: v for k, v in contents(source).items() if k != "a.txt"}
    (m / "local/drafts/digits/a.txt").write_text("a" * 5000)
    os.rename(m / "local/drafts/digits", m / "local/train/digits")
    is_one_whole_job(m, source, tmp_path)


def test_killed_with_drafts_of_every_kind(mount, tmp_path):
    """In drafts/ they wait as they were; an empty one in train/ and names that are taken are no obstacle."""
    source = once(tmp_path)
    m = mount(config=NEVER)
    for place in ("drafts/digits", "train/digits", "jobs/job-1", "drafts/job-1"):
        copy(source, m / f"local/{place}")
    os.mkdir(m / "local/train/empty")
    m.kill()
    m = mount()
    wait_for(lambda: os.listdir(m / "local/train") == [])
    assert jobs(m) == [] and not (m / "local/drafts/digits/.error").exists()
    found = os.listdir(m / "local/drafts")
    assert set(found) >= {"digits", "digits_2", "job-1", "job-1_2"}
    assert (m / "local/drafts/digits_2/.error").exists() and (m / "local/drafts/job-1_2/.error").exists()
    for name in ("digits", "job-1"):
        assert contents(m / f"local/drafts/{name}") == contents(source)
    told = wait_for(lambda: m.errors().splitlines(), what="the errors have it")
    assert os.path.basename(told[-1].split("\t")[2]) in found


def slow_job(tmp_path, code=7):
    return package(tmp_path / "src" / "slow", f"echo one; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; "
                   f"for i in $(seq 500); do echo line $i; done; echo last; exit {code}")


SLOW_LOG = "one\n" + "".join(f"line {i}\n" for i in range(1, 501)) + "last\n"


def test_killed_while_a_job_runs_that_ends_meanwhile(mount, tmp_path):
    m = mount(config=NEVER)
    job = submit(m, slow_job(tmp_path))
    wait_for(lambda: (m / f"local/jobs/{job}/log").read_text() == "one\n", what="the first line")
    m.kill()
    strays = m.world.strays()
    assert strays, "the job has died with its daemon"
    (tmp_path / "go").touch()
    wait_for(lambda: not m.world.strays(), what="the job has ended")
    m = mount()
    assert wait_state(m, job) == "FAILED"
    assert (m / f"local/jobs/{job}/exit").read_text() == "7\n"
    assert (m / f"local/jobs/{job}/log").read_text() == SLOW_LOG
    assert "exit code 7" in (m / f"local/jobs/{job}/why").read_text()


def test_killed_while_a_job_runs_that_goes_on(mount, tmp_path):
    m = mount(config=NEVER)
    job = submit(m, slow_job(tmp_path, 0))
    following = package(tmp_path / "src" / "next", "echo next")
    wait_state(m, job, "RUNNING")
    queued = submit(m, following)
    m.kill()
    m = mount()
    wait_for(lambda: state(m, job) == "RUNNING")
    assert state(m, queued) == "QUEUED"
    follower = Caller("sys.stdout.write(open(argv[0] + '/follow').read())\n"
                      "sys.stdout.write(open(argv[0] + '/wait').read())", m / f"local/jobs/{job}")
    follower.wait_blocked()
    (tmp_path / "go").touch()
    out = follower.result()
    assert "\n".join(out) == SLOW_LOG + "SUCCEEDED\n0"
    assert wait_state(m, queued) == "SUCCEEDED"
    assert (m / f"local/jobs/{job}/exit").read_text() == "0\n"


def test_killed_while_a_cancel_is_on_its_way(mount, tmp_path):
    m = mount(config=NEVER)
    job = submit(m, package(tmp_path / "src" / "deaf", "trap '' TERM; echo up; while :; do sleep 0.1; done"))
    wait_for(lambda: (m / f"local/jobs/{job}/log").read_text() == "up\n")
    (m / f"local/jobs/{job}/ctl").write_text("cancel\n")
    m.kill()
    m = mount()
    assert wait_state(m, job) == "CANCELLED"


# ---- writers that stop, are slow, or are git

def settles_another(m, tmp_path, name):
    """Proof that settling works and time has passed: another draft has come and gone."""
    source = package(tmp_path / "other" / name, "true")
    copy(source, m / f"local/train/{name}")
    wait_for(lambda: name in os.listdir(m / "local/submitted"), what=f"{name} has settled")


WRITER = """
top = argv[0]
os.mkdir(top)
def put(name, text):
    with open(os.path.join(top, name), 'w') as f:
        f.write(text)
put('job.yaml', argv[1])
print('half', flush=True)
if argv[2] == 'read': sys.stdin.readline()
put('a.txt', 'a' * 5000)
put('sub.txt', 'b')
"""


def whole(m, tmp_path):
    found = wait_for(lambda: [r for r in jobs(m) if r["model"] == "slowly"], what="the job")
    assert len(found) == 1
    wait_state(m, found[0]["id"])
    assert set(os.listdir(m / f"local/jobs/{found[0]['id']}/package")) == {"job.yaml", "a.txt", "sub.txt"}
    assert has_run(tmp_path) == 1


def test_a_copy_that_is_slow_is_one_job(mount, tmp_path):
    m = mount(config=QUICK)
    writer = Caller(WRITER, m / "local/train/slowly", f"command: [sh, -c, 'echo ran >> {tmp_path}/ran']\n", "read")
    assert writer.process.stdout.readline() == "half\n"
    for name in ("first", "second"):
        settles_another(m, tmp_path, name)
    assert os.listdir(m / "local/train") == ["slowly"]
    writer.process.stdin.write("\n")
    assert writer.result() == ["0"]
    whole(m, tmp_path)


def test_a_copy_that_is_stopped_is_one_job(mount, tmp_path):
    m = mount(config=QUICK)
    writer = Caller(WRITER, m / "local/train/slowly", f"command: [sh, -c, 'echo ran >> {tmp_path}/ran']\n", "read")
    assert writer.process.stdout.readline() == "half\n"
    writer.process.send_signal(signal.SIGSTOP)
    for name in ("first", "second"):
        settles_another(m, tmp_path, name)
    assert os.listdir(m / "local/train") == ["slowly"]
    writer.process.stdin.write("\n")
    writer.process.stdin.flush()
    writer.process.send_signal(signal.SIGCONT)
    assert writer.result() == ["0"]
    whole(m, tmp_path)


def test_a_pipeline_of_writers_is_one_job(mount, tmp_path):
    """tar's process ends while its parent, that made the directory, goes on."""
    source = once(tmp_path)
    m = mount(config=QUICK)
    subprocess.run(f"mkdir '{m}/local/train/digits' && tar -C '{source}' -cf - . | tar -C '{m}/local/train/digits' -xf -",
                   shell=True, check=True)
    is_one_whole_job(m, source, tmp_path)


@pytest.mark.skipif(not shutil.which("git"), reason="no git")
def test_git_clone_into_train(mount, tmp_path):
    source = once(tmp_path)
    git = ["git", "-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], cwd=source, check=True)
    m = mount(config=QUICK)
    subprocess.run(["git", "clone", "-q", f"file://{source}", m / "local/train/digits"], check=True, timeout=60)
    job = only_job(m)
    assert wait_state(m, job) == "SUCCEEDED" and has_run(tmp_path) == 1
    expected = {k: v for k, v in contents(source).items() if not k.startswith(".git/")}
    assert contents(m / f"local/jobs/{job}/package") == expected
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=source, check=True, stdout=subprocess.PIPE, text=True).stdout
    facts = (m / f"local/jobs/{job}/git.json").read_text()
    assert head.strip() in facts and re.search(r'"dirty": *false', facts)


# ---- the clock

@pytest.fixture
def clock(world, tmp_path):
    """set(seconds) moves the wall clock of mounts made with `clock.env`; monotonic ones stay."""
    # A preloaded library that allocates before AddressSanitizer has started hangs clang's: a plain build then.
    plain = os.environ.get("TRAINFS_PLAIN")
    if not plain and b"__asan_init" in Path(world.program).read_bytes():
        pytest.skip("a sanitized build takes no libfaketime, and $TRAINFS_PLAIN names no other")
    world.program = plain or world.program
    libraries = list(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not libraries:
        pytest.skip("no libfaketime (package faketime)")

    class Clock:
        file = tmp_path / "clock"
        env = {"LD_PRELOAD": str(libraries[0]), "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1",
               "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_DISABLE_SHM": "1"}

        def set(self, seconds):
            new = self.file.with_suffix(".new")
            new.write_text(f"{seconds:+d}s\n")
            new.rename(self.file)
    made = Clock()
    made.set(0)
    return made


def test_the_clock_is_set_back(mount, tmp_path, clock):
    m = mount(config=QUICK, env=clock.env)
    slow = submit(m, slow_job(tmp_path, 0))
    wait_state(m, slow, "RUNNING")
    clock.set(-7200)
    (tmp_path / "go").touch()
    assert wait_state(m, slow) == "SUCCEEDED"
    assert (m / f"local/jobs/{slow}/log").read_text() == SLOW_LOG
    copy(once(tmp_path), m / "local/train/digits")  # settles by a clock that only goes on
    wait_for(lambda: "digits" in os.listdir(m / "local/submitted"), what="it has settled")
    job = os.path.basename(os.readlink(m / "local/submitted/digits"))
    assert os.readlink(m / "local/latest") == f"jobs/{job}"
    assert wait_state(m, job) == "SUCCEEDED"
    hour = time.strftime("_%Y%m%d_%H", time.gmtime(time.time() - 7200))
    assert hour in job or time.strftime("_%Y%m%d_%H", time.gmtime(time.time() - 7260)) in job
    m.unmount()
    m = mount(env=clock.env)
    assert os.readlink(m / "local/submitted/digits") == f"../jobs/{job}"
    assert os.readlink(m / "local/latest") == f"jobs/{job}"


def test_the_clock_is_set_back_to_a_second_that_was(mount, tmp_path, clock):
    """Ids are made of the time: the same second again makes another id."""
    source = once(tmp_path)
    m = mount(config=NEVER, env=clock.env)
    clock.file.write_text("2030-01-01 00:00:00\n")
    first = submit(m, source)
    second = submit(m, source)
    assert first != second and second.startswith(first.rpartition("_")[0])
    for job in (first, second):
        assert wait_state(m, job) == "SUCCEEDED"
    assert has_run(tmp_path) == 2
    assert os.readlink(m / "local/latest") == f"jobs/{second}"


# ---- a full disk

@pytest.fixture
def small_disk(world):
    """The state of `local` on 24 MB."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=700", "none", str(world.data)], check=True)
    yield world.data
    subprocess.run(["umount", "-l", str(world.data)], check=True)


def fill(path):
    """Writes until there is no room; leaves what was written."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    size = 1 << 20
    try:
        while True:
            try:
                os.write(fd, bytes(size))
            except OSError as e:
                assert e.errno == errno.ENOSPC
                if size == 1:
                    return e.errno
                size = max(1, size // 16)
    finally:
        os.close(fd)


def test_a_copy_that_fails_for_want_of_room_is_not_submitted(small_disk, mount, tmp_path):
    """What there is of it waits in drafts/ and says why; nothing settles, and sync tells the error."""
    source = package(tmp_path / "src" / "digits", f"echo ran >> {tmp_path}/ran; echo said",
                     {"a": bytes(1 << 20), "b": bytes(1 << 20)})
    m = mount(config=QUICK)
    for name, tell in ("settles", lambda path: None), ("synced", sync):
        fill(small_disk / "filler")
        os.truncate(small_disk / "filler", (small_disk / "filler").stat().st_size - (1 << 20))
        done = subprocess.run(["cp", "-r", source, m / f"local/train/{name}"], stderr=subprocess.PIPE, check=False)
        assert done.returncode != 0 and b"No space left" in done.stderr
        assert tell(m / f"local/train/{name}") in (None, errno.ENOSPC)
        os.unlink(small_disk / "filler")
        wait_for(lambda: name in os.listdir(m / "local/drafts"), what="it is set aside")
        wait_for(lambda: any(f"drafts/{name}" in line and "may be incomplete" in line
                             for line in m.errors().splitlines()), what="the reason is told")
    assert jobs(m) == [] and not (tmp_path / "ran").exists() and os.listdir(m / "local/train") == []
    shutil.rmtree(m / "local/drafts/synced")
    copy(f"{source}/.", m / "local/drafts/settles")  # again, with room
    os.unlink(m / "local/drafts/settles/.error")
    os.rename(m / "local/drafts/settles", m / "local/train/settles")
    is_one_whole_job(m, source, tmp_path, "settles")


def test_a_full_disk_while_a_draft_is_written(small_disk, mount, tmp_path):
    source = once(tmp_path)
    m = mount(config=NEVER)
    earlier = submit(m, source, "earlier")
    wait_state(m, earlier)
    copy(source, m / "local/drafts/kept")
    os.mkdir(m / "local/train/digits")
    assert fill(m / "local/train/digits/big") == errno.ENOSPC
    with pytest.raises(OSError) as e:
        (m / "local/drafts/kept/more").write_bytes(bytes(100000))
    assert e.value.errno == errno.ENOSPC
    assert sync(m / "local/train/digits") != 0  # no room for a submission either; what it says is its business
    name = "train" if os.path.exists(m / "local/train/digits") else "drafts"
    assert (m / f"local/{name}/digits/big").stat().st_size > 4 << 20
    # nothing else is lost, and all can be read
    assert contents(m / "local/drafts/kept") == {**contents(source), "more": (m / "local/drafts/kept/more").read_bytes()}
    assert (m / f"local/jobs/{earlier}/log").read_text() == "said\n"
    assert contents(m / f"local/jobs/{earlier}/package") == contents(source)
    # with room it goes on
    os.unlink(m / "local/drafts/kept/more")
    os.unlink(m / f"local/{name}/digits/big")
    wait_for(lambda: os.statvfs(small_disk).f_bavail * 4096 > 4 << 20, what="the kernel has forgotten the file")
    os.rename(m / "local/drafts/kept", m / "local/train/kept")
    wait_for(lambda: "kept" in os.listdir(m / "local/submitted"))
    job = os.path.basename(os.readlink(m / "local/submitted/kept"))
    assert wait_state(m, job) == "SUCCEEDED" and has_run(tmp_path) == 2
    assert contents(m / f"local/jobs/{job}/package") == contents(source)
    m.unmount()
    m = mount()
    assert {r["id"] for r in jobs(m)} == {earlier, job}


def test_a_full_disk_while_a_job_logs(small_disk, mount, tmp_path):
    """The job is not harmed, its end is known, and what of the log had no room is told."""
    source = package(tmp_path / "src" / "loud", "echo begun; head -c 40M /dev/zero | tr '\\0' x; echo; echo end >&2; "
                     f"touch {tmp_path}/through; exit 5")
    m = mount(config=NEVER)
    job = submit(m, source)
    assert wait_state(m, job, timeout=50) == "FAILED"
    assert (tmp_path / "through").exists()
    assert (m / f"local/jobs/{job}/exit").read_text() == "5\n"
    why = (m / f"local/jobs/{job}/why").read_text()
    assert "exit code 5" in why and "disk full" in why, why
    with open(m / f"local/jobs/{job}/log", "rb") as f:
        assert f.read(10) == b"begun\nxxxx"
    os.rmdir(m / f"local/jobs/{job}")
    after = submit(m, once(tmp_path))
    assert wait_state(m, after) == "SUCCEEDED" and has_run(tmp_path) == 1


def test_a_full_disk_that_has_room_again_while_a_job_logs(small_disk, mount, tmp_path):
    source = package(tmp_path / "src" / "loud", f"echo begun; while [ ! -e {tmp_path}/full ]; do sleep 0.05; done; "
                     f"for i in $(seq 2000); do echo line $i of many; done; touch {tmp_path}/said; "
                     f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; echo last")
    m = mount(config=NEVER)
    job = submit(m, source)
    wait_for(lambda: (m / f"local/jobs/{job}/log").read_text() == "begun\n")
    fill(small_disk / "ballast")
    (tmp_path / "full").touch()
    wait_for(lambda: (tmp_path / "said").exists(), what="the job was not held up")
    os.unlink(small_disk / "ballast")
    (tmp_path / "go").touch()
    assert wait_state(m, job) == "SUCCEEDED"
    assert (m / f"local/jobs/{job}/log").read_text() == \
        "begun\n" + "".join(f"line {i} of many\n" for i in range(1, 2001)) + "last\n"


# ---- jobs that do too much

def log_size(world):
    return int(os.environ.get("TRAINFS_TEST_LOG_MB", "200" if is_sanitized(world.program) else "1024")) << 20


@pytest.mark.time_limit(240)
@pytest.mark.parametrize("made_by", ["head -c {size} /dev/zero | tr '\\0' x", "yes 'a line of a log' | head -c {size}"],
                         ids=["without-newline", "lines"])
def test_a_huge_log(mount, tmp_path, world, made_by):
    size = log_size(world)
    m = mount(config=NEVER)
    job = submit(m, package(tmp_path / "src" / "loud", made_by.format(size=size)))
    assert wait_state(m, job, timeout=100) == "SUCCEEDED", (m / f"local/jobs/{job}/why").read_text()
    log = m / f"local/jobs/{job}/log"
    with open(log, "rb") as f:
        assert os.fstat(f.fileno()).st_size == size
        f.seek(size // 2)
        assert f.read(100) == (b"x" * 100 if "tr" in made_by else
                               (b"a line of a log\n" * 14)[size // 2 % 16:][:100])
    counted = subprocess.run(f"cat '{log}' | wc -c", shell=True, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert int(counted) == size
    rss = int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{m.pid}/status").read_text()).group(1))
    assert is_sanitized(world.program) or rss < 200 << 10, f"{rss} KB of memory"


LEFT_BEHIND = """
sleep 98761 &
setsid sleep 98761 &
(setsid sh -c 'sleep 98761 & sleep 98761' &)
env -i setsid nohup sleep 98761 > /dev/null 2>&1 &
echo begun
"""


def left_behind():
    def is_ours(pid):
        return Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x0098761\0" and is_running(pid)
    return processes(is_ours)


@pytest.mark.parametrize("end", ["exit", "cancel", "kill"])
def test_a_job_that_forks_leaves_no_children(mount, tmp_path, end):
    text = LEFT_BEHIND + {"exit": "exit 3", "cancel": "wait", "kill": "kill -9 $$"}[end]
    m = mount(config=NEVER)
    job = submit(m, package(tmp_path / "src" / "forks", text.strip().replace("\n", "; ").replace("&;", "&")))
    if end == "cancel":
        wait_for(lambda: len(left_behind()) >= 5, what="all children are up")
        (m / f"local/jobs/{job}/ctl").write_text("cancel")
    assert wait_state(m, job) == ("CANCELLED" if end == "cancel" else "FAILED")
    assert left_behind() == []
    assert (m / f"local/jobs/{job}/exit").read_text() == {"exit": "3\n", "kill": "137\n"}.get(
        end, (m / f"local/jobs/{job}/exit").read_text())
    assert (m / f"local/jobs/{job}/log").read_text().startswith("begun\n")


# ---- crowds

@pytest.mark.time_limit(240)
def test_200_drafts_at_once(mount, tmp_path, world):
    crowd = tmp_path / "crowd"
    for i in range(200):
        package(crowd / f"p{i:03}", f"echo p{i:03} >> {tmp_path}/ran")
    m = mount(config=QUICK + "remotes: {local: {type: local, slots: 8}}\n")
    copy(f"{crowd}/.", m / "local/train/")
    wait_for(lambda: len(jobs(m)) >= 200 and os.listdir(m / "local/train") == [], 60, "all are submitted")
    rows = jobs(m)
    assert len(rows) == len({r["id"] for r in rows}) == 200
    assert sorted(r["model"] for r in rows) == [f"p{i:03}" for i in range(200)]
    assert os.listdir(m / "local/drafts") == [] and len(os.listdir(m / "local/submitted")) == 200
    assert sorted(os.listdir(m / "local/jobs")) == sorted(r["id"] for r in rows)
    wait_for(lambda: all(r["state"] == "SUCCEEDED" for r in jobs(m)), 100, "all have run")
    assert sorted((tmp_path / "ran").read_text().split()) == [f"p{i:03}" for i in range(200)]


def test_many_of_one_name_by_sync_and_mv(mount, tmp_path):
    """The same second and the same model: each has an id of its own."""
    m = mount(config=NEVER + "remotes: {local: {type: local, slots: 8}}\n")
    source = once(tmp_path, model="same")
    for i in range(20):
        copy(source, m / f"local/{'train' if i % 2 else 'drafts'}/d{i}")
    callers = [subprocess.Popen(["sync", m / f"local/train/d{i}"] if i % 2 else
                                ["mv", m / f"local/drafts/d{i}", m / "local/train/"]) for i in range(20)]
    assert [p.wait(30) for p in callers] == [0] * 20, m.errors()
    wait_for(lambda: len(jobs(m)) == 20 and all(r["state"] == "SUCCEEDED" for r in jobs(m)), 40)
    assert has_run(tmp_path) == 20


# ---- two mounts of one state

def test_two_mounts_see_the_same(mount, tmp_path):
    source = once(tmp_path)
    a, b = mount(config=NEVER, name="a"), mount(name="b")
    copy(source, a / "local/drafts/digits")
    wait_for(lambda: "digits" in os.listdir(b / "local/drafts"), what="the other mount shows the draft")
    assert contents(b / "local/drafts/digits") == contents(source)
    with pytest.raises(OSError) as e:
        (b / "local/drafts/digits/new").write_text("x")
    assert e.value.errno == errno.EBUSY
    os.rename(a / "local/drafts/digits", a / "local/train/digits")
    job = only_job(a)
    assert only_job(b) == job
    assert wait_state(b, job) == wait_state(a, job) == "SUCCEEDED"
    for m in (a, b):
        wait_for(lambda: drafts(m) == [], what="the draft is gone")
        assert (m / f"local/jobs/{job}/log").read_text() == "said\n"
        wait_for(lambda: os.path.lexists(m / "local/submitted/digits"), what="submitted/ of both")
        assert os.readlink(m / "local/submitted/digits") == f"../jobs/{job}"
        assert os.readlink(m / "local/latest") == f"jobs/{job}"
    assert has_run(tmp_path) == 1


def test_two_mounts_submit_at_once(mount, tmp_path):
    a, b = mount(config=QUICK, name="a"), mount(name="b")
    for i in range(5):
        for m, name in ((a, "a"), (b, "b")):
            copy(package(tmp_path / "src" / f"{name}{i}", f"echo {name}{i} >> {tmp_path}/ran"),
                 m / f"local/train/{name}{i}")
    names = sorted(f"{n}{i}" for n in "ab" for i in range(5))
    for m in (a, b):
        wait_for(lambda: sorted(r["model"] for r in jobs(m)) == names and
                 all(r["state"] == "SUCCEEDED" for r in jobs(m)), 40, "ten jobs, in both")
        wait_for(lambda: sorted(os.listdir(m / "local/submitted")) == names, what="all submitted names")
    assert sorted((tmp_path / "ran").read_text().split()) == names


def test_cancel_and_delete_through_the_other_mount(mount, tmp_path):
    a, b = mount(config=NEVER, name="a"), mount(name="b")
    job = submit(a, slow_job(tmp_path))
    wait_for((b / f"local/jobs/{job}/state").exists, what="the job is known to the other mount")
    wait_state(b, job, "RUNNING")
    (b / f"local/jobs/{job}/ctl").write_text("cancel")
    assert wait_state(a, job) == wait_state(b, job) == "CANCELLED"
    os.rmdir(b / f"local/jobs/{job}")
    wait_for(lambda: not os.path.exists(a / f"local/jobs/{job}") and jobs(a) == [], what="gone in both")


@pytest.mark.parametrize("point", ["complete", "claimed", "sent"])
def test_the_other_mount_takes_over_what_was_complete(mount, tmp_path, point):
    """Also when it knew the draft while that was still being written."""
    source = once(tmp_path)
    b = mount(config=NEVER, name="b")
    a = mount(name="a", env={"TRAINFS_CRASH_POINT": point})
    a.is_expected_dead = True
    copy(source, a / "local/train/digits")
    wait_for(lambda: "digits" in os.listdir(b / "local/train"), what="the other mount knows the draft")
    subprocess.run(["sync", a / "local/train/digits"], stderr=subprocess.DEVNULL, check=False)
    assert a.wait() == -signal.SIGKILL
    is_one_whole_job(b, source, tmp_path)


def test_the_other_mount_takes_over_what_was_incomplete(mount, tmp_path):
    source = once(tmp_path)
    b = mount(config=NEVER, name="b")
    a = mount(name="a")
    copy(source, a / "local/train/digits")
    copy(source, a / "local/drafts/kept")
    wait_for(lambda: "digits" in os.listdir(b / "local/train"))
    a.kill()
    assert is_set_aside(b, source, tmp_path) == contents(source)
    (b / "local/drafts/kept/new").write_text("x")
    os.rename(b / "local/drafts/digits", b / "local/train/digits")
    job = only_job(b)
    assert wait_state(b, job) == "SUCCEEDED" and has_run(tmp_path) == 1


# ---- switching a default

def versions(m, model="digits"):
    return m / f"local/models/{model}"


def make_versions(m, tmp_path, names):
    source = package(tmp_path / "src" / "digits", 'mkdir -p "$OUTPUT/model"; echo weights > "$OUTPUT/model/w"')
    job = submit(m, source)
    assert wait_state(m, job) == "SUCCEEDED"
    for name in names:
        os.symlink(f"../../jobs/{job}", versions(m) / name)
        wait_for(lambda: (versions(m) / name / "state").read_text() == "READY\n", what=f"{name} is READY")
    return job


def test_killed_while_a_default_is_switched(mount, tmp_path):
    m = mount(config=NEVER)
    make_versions(m, tmp_path, ["v1", "v2"])
    assert os.readlink(versions(m) / "default") == "v1"
    m.unmount()
    m = mount(env={"TRAINFS_CRASH_POINT": "switched"})
    m.is_expected_dead = True
    subprocess.run(["ln", "-sfn", "v2", versions(m) / "default"], stderr=subprocess.DEVNULL, check=False)
    assert m.wait() == -signal.SIGKILL
    m = mount()
    assert os.readlink(versions(m) / "default") == "v2"
    assert sorted(n for n in os.listdir(versions(m)) if os.path.islink(versions(m) / n)) == ["default", "previous"]
    assert os.readlink(versions(m) / "previous") == "v1"
    last = (versions(m) / "history.tsv").read_text().splitlines()[-1].split("\t")
    assert last[1:3] == ["v1", "v2"]


@pytest.mark.parametrize("point", ["planned", "made"])
def test_killed_while_a_version_is_made(mount, tmp_path, point):
    m = mount(config=NEVER)
    job = make_versions(m, tmp_path, ["v1"])
    m.unmount()
    m = mount(env={"TRAINFS_CRASH_POINT": point})
    m.is_expected_dead = True
    try:
        os.symlink(f"../../jobs/{job}", versions(m) / "v2")
    except OSError:
        pass
    assert m.wait() == -signal.SIGKILL
    m = mount()
    wait_for(lambda: (versions(m) / "v2/state").read_text() == "READY\n", what="v2 is READY")
    assert (versions(m) / "v2/artifacts/w").read_text() == "weights\n"
    assert os.readlink(versions(m) / "default") == "v1"
    assert sorted(n for n in os.listdir(versions(m)) if n.startswith("v")) == ["v1", "v2"]


def test_a_dead_mount_leaves_nothing_mounted(mount):
    m = mount()
    m.kill()
    m = mount()
    assert is_mounted(m) and stats(m, "", "parked") == 0
