# SPDX-License-Identifier: MIT
"""DESIGN 3 and 4, as a user meets them: every way that a directory becomes a job, and every way that it does not."""
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from conftest import wait_for
from userkit import (TOOLS, Talker, copy_in, ended, error_lines, fsync_dir, jobs, package, rows, run, run_job, submit,
                     submitted, succeeded, tool_name)

HELLO = "echo hello\n"
QUICK = "settle: 300ms\n"


def hello(tmp_path, name="mnist", **kwargs):
    return package(tmp_path / name, script=HELLO, **kwargs)


def local(**options):
    return "remotes:\n  local: " + json.dumps({"type": "local", **options}) + "\n"


def settled(m, name):
    """Waits for the job that a draft of this name became."""
    wait_for(lambda: os.path.lexists(m / "local/submitted" / name), what=f"{name} has been submitted")
    return submitted(m, name)


def refused(m, name):
    """The draft in drafts/ that was refused: its reason."""
    path = m / "local/drafts" / name / ".error"
    wait_for(path.exists, what=f"{name} was refused")
    return path.read_text()


def after_others_settle(m, tmp_path, name="barrier"):
    """When this returns, whatever had to settle has: one that came later did."""
    return settled(m, copy_in(m, hello(tmp_path / "b", name)).name)


# ---- sync

@pytest.mark.parametrize("tool", TOOLS, ids=tool_name)
def test_cp_and_sync_submit(mnt, tmp_path, tool):
    pkg = hello(tmp_path)
    run(mnt, *tool, "cp", "-r", pkg, mnt / "local/train/")
    run(mnt, *tool, "sync", mnt / "local/train/mnist")
    assert os.listdir(mnt / "local/train") == []
    link = os.readlink(mnt / "local/submitted/mnist")
    assert re.fullmatch(r"\.\./jobs/mnist_\d{8}_\d{6}", link)
    assert os.readlink(mnt / "local/latest") == link.removeprefix("../")
    job = mnt / "local/submitted/mnist"
    assert (job / "wait").read_text() == "SUCCEEDED\n"
    assert (job / "log").read_text() == "hello\n"
    assert (job / "exit").read_text() == "0\n"
    assert mnt.errors() == ""


def test_a_trailing_slash_changes_nothing(mnt, tmp_path):
    run(mnt, "cp", "-r", hello(tmp_path), mnt / "local/train/")
    run(mnt, "sync", f"{mnt}/local/train/mnist/")
    succeeded(submitted(mnt, "mnist"))


def test_cp_a_keeps_modes_and_times_of_the_package(mnt, tmp_path):
    pkg = hello(tmp_path, files={"sub/tool": "#!/bin/sh\n"})
    os.chmod(pkg / "sub/tool", 0o755)
    os.symlink("tool", pkg / "sub/link")
    os.utime(pkg / "sub/tool", (1_000_000_000, 1_000_000_000))
    run(mnt, "cp", "-a", pkg, mnt / "local/train/")
    run(mnt, "sync", mnt / "local/train/mnist")
    tool = submitted(mnt, "mnist") / "package/sub/tool"
    assert tool.stat().st_mode & 0o777 == 0o755
    assert tool.stat().st_mtime == 1_000_000_000
    assert os.readlink(tool.parent / "link") == "tool"


def test_sync_of_an_empty_draft_is_refused_and_leaves_it(mnt):
    (mnt / "local/train/x").mkdir()
    with pytest.raises(OSError) as e:
        fsync_dir(mnt / "local/train/x")
    assert e.value.errno == errno.EBADMSG
    assert os.listdir(mnt / "local/train") == ["x"]
    (mnt / "local/train/x").rmdir()


def test_sync_in_drafts_submits_nothing(mnt, tmp_path):
    copy_in(mnt, hello(tmp_path), place="drafts")
    fsync_dir(mnt / "local/drafts/mnist")
    assert os.listdir(mnt / "local/drafts") == ["mnist"] and jobs(mnt) == []


def test_sync_of_a_directory_inside_submits_nothing(mnt, tmp_path):
    with Talker() as writer:
        to = mnt / "local/train/x"
        writer.mkdir(to)
        writer.mkdir(to / "sub")
        writer.write(to / "train.sh", HELLO)
        fsync_dir(to / "sub")
        assert jobs(mnt) == []
        fsync_dir(to)
        assert len(jobs(mnt)) == 1


def test_what_was_frozen_cannot_be_changed(mnt, tmp_path):
    to = copy_in(mnt, hello(tmp_path))
    fd = os.open(to / "train.sh", os.O_RDWR)
    try:
        fsync_dir(to)
        with pytest.raises(OSError) as e:
            os.write(fd, b"changed")
            os.fsync(fd)
        assert e.value.errno in (errno.EBUSY, errno.ESTALE)
    finally:
        os.close(fd)
    job = succeeded(submitted(mnt, "mnist"))
    assert (job / "package/train.sh").read_text() == HELLO


# ---- settling

@pytest.mark.parametrize("tool", TOOLS, ids=tool_name)
def test_a_copied_directory_settles(mount, tmp_path, tool):
    m = mount(config=QUICK)
    run(m, *tool, "cp", "-r", hello(tmp_path), m / "local/train/")
    succeeded(settled(m, "mnist"))


def test_settling_by_default_takes_a_second(mnt, tmp_path):
    copy_in(mnt, hello(tmp_path))
    succeeded(settled(mnt, "mnist"))


def test_an_empty_draft_never_settles(mount, tmp_path):
    m = mount(config=QUICK)
    run(m, "mkdir", m / "local/train/empty")
    run(m, "mkdir", "-p", m / "local/train/empty2/a/b")
    after_others_settle(m, tmp_path)
    assert sorted(os.listdir(m / "local/train")) == ["empty", "empty2"]
    assert os.listdir(m / "local/drafts") == []
    run(m, "cp", hello(tmp_path) / "train.sh", m / "local/train/empty/")
    succeeded(settled(m, "empty"))


def test_a_slow_writer_is_waited_for(mount, tmp_path):
    m = mount(config=QUICK)
    to = m / "local/train/slow"
    with Talker() as writer:
        writer.mkdir(to)
        writer.write(to / "train.sh", "cat part\n")
        after_others_settle(m, tmp_path)
        assert os.listdir(m / "local/train") == ["slow"]
        writer.write(to / "part", "whole\n")
        writer.end()
        job = succeeded(settled(m, "slow"))
    assert (job / "log").read_text() == "whole\n"


def test_a_stopped_writer_is_waited_for(mount, tmp_path):
    m = mount(config=QUICK)
    to = m / "local/train/stopped"
    with Talker() as writer:
        writer.mkdir(to)
        writer.write(to / "train.sh", HELLO)
        os.kill(writer.pid, signal.SIGSTOP)
        after_others_settle(m, tmp_path)
        assert os.listdir(m / "local/train") == ["stopped"]
        os.kill(writer.pid, signal.SIGCONT)
        writer.end()
        succeeded(settled(m, "stopped"))


def test_every_writer_is_waited_for(mount, tmp_path):
    m = mount(config=QUICK)
    to = m / "local/train/two"
    with Talker() as first, Talker() as second:
        first.mkdir(to)
        first.write(to / "train.sh", "cat part\n")
        second.write(to / "part", "one ")
        first.end()
        after_others_settle(m, tmp_path)
        assert os.listdir(m / "local/train") == ["two"]
        second.write(to / "part", "two\n")
        second.end()
        job = succeeded(settled(m, "two"))
    assert (job / "log").read_text() == "one two\n"


@pytest.mark.time_limit(240)
def test_a_writer_that_lives_on_has_a_minute(mount, tmp_path):
    """An editor or a notebook stays: after 60 s without a change its draft is complete, but not while it is stopped."""
    m = mount(config=QUICK)
    with Talker() as stopped, Talker() as lives:
        for name, writer in (("stopped", stopped), ("lives", lives)):
            writer.mkdir(m / "local/train" / name)
            begun = time.monotonic()
            writer.write(m / "local/train" / name / "train.sh", HELLO)
        os.kill(stopped.pid, signal.SIGSTOP)
        wait_for(lambda: os.path.lexists(m / "local/submitted/lives"), 90, "the quiet one has been submitted")
        assert time.monotonic() - begun >= 60
        assert os.listdir(m / "local/train") == ["stopped"]
        os.kill(stopped.pid, signal.SIGCONT)
        succeeded(settled(m, "stopped"))
        assert lives.process.poll() is None and stopped.process.poll() is None
    succeeded(m / "local/submitted/lives")


def test_nothing_settles_in_drafts(mount, tmp_path):
    m = mount(config=QUICK)
    copy_in(m, hello(tmp_path), place="drafts")
    after_others_settle(m, tmp_path)
    assert os.listdir(m / "local/drafts") == ["mnist"]


def test_settle_of_a_remote_counts_before_the_general_one(mount, tmp_path):
    m = mount(config="settle: 1000s\n" + local(settle="200ms"))
    copy_in(m, hello(tmp_path))
    succeeded(settled(m, "mnist"))


def test_with_confirm_nothing_settles(mount, tmp_path):
    other = "  other: " + json.dumps({"type": "local", "state_dir": str(tmp_path / "other"), "settle": "200ms"}) + "\n"
    m = mount(config=local(confirm=True, settle="100ms") + other)
    pkg = hello(tmp_path)
    copy_in(m, pkg)
    copy_in(m, pkg, place="jobs", name="mnist-1")
    copy_in(m, pkg, remote="other")
    wait_for(lambda: os.path.lexists(m / "other/submitted/mnist"), what="the other remote's has settled")
    assert os.listdir(m / "local/train") == ["mnist"]
    run(m, "sync", m / "local/train/mnist")
    run(m, "sync", m / "local/jobs/mnist-1")
    copy_in(m, pkg, place="drafts", name="moved")
    run(m, "mv", m / "local/drafts/moved", m / "local/train/")
    for name in "mnist", "mnist-1", "moved":
        succeeded(settled(m, name))


# ---- mv

@pytest.mark.parametrize("tool", TOOLS, ids=tool_name)
def test_mv_from_drafts_into_train_submits(mnt, tmp_path, tool):
    copy_in(mnt, hello(tmp_path), place="drafts")
    run(mnt, *tool, "mv", mnt / "local/drafts/mnist", mnt / "local/train/")
    wait_for(lambda: os.path.lexists(mnt / "local/submitted/mnist"), what="submitted")
    job = submitted(mnt, "mnist")
    succeeded(job)
    assert re.fullmatch(r"mnist_\d{8}_\d{6}", job.name)
    assert os.listdir(mnt / "local/drafts") == [] and os.listdir(mnt / "local/train") == []


@pytest.mark.parametrize("tool", TOOLS, ids=tool_name)
def test_mv_from_drafts_into_jobs_names_the_job(mnt, tmp_path, tool):
    copy_in(mnt, hello(tmp_path), place="drafts")
    run(mnt, *tool, "mv", mnt / "local/drafts/mnist", mnt / "local/jobs/exp-007")
    job = mnt / "local/jobs/exp-007"
    assert (job / "state").read_text().strip() in ("SUBMITTING", "QUEUED", "PREPARING", "RUNNING", "SUCCEEDED")
    succeeded(job)
    assert rows(mnt / "local/jobs.tsv")[0]["model"] == "exp"
    assert os.readlink(mnt / "local/latest") == "jobs/exp-007"


def test_mv_from_outside_copies_and_settles(mount, tmp_path):
    m = mount(config=QUICK)
    pkg = hello(tmp_path)
    run(m, "mv", pkg, m / "local/train/")
    assert not pkg.exists()
    succeeded(settled(m, "mnist"))


def test_mv_to_the_id_of_a_job_that_exists_is_refused(mnt, tmp_path):
    copy_in(mnt, hello(tmp_path), place="jobs", name="exp-1")
    fsync_dir(mnt / "local/jobs/exp-1")
    succeeded(mnt / "local/jobs/exp-1")
    copy_in(mnt, hello(tmp_path), place="drafts")
    with pytest.raises(OSError) as e:
        os.rename(mnt / "local/drafts/mnist", mnt / "local/jobs/exp-1")
    assert e.value.errno in (errno.EEXIST, errno.ENOTEMPTY)
    assert os.listdir(mnt / "local/drafts") == ["mnist"]
    assert jobs(mnt) == ["exp-1"]


def test_drafts_can_be_renamed_and_removed(mnt, tmp_path):
    copy_in(mnt, hello(tmp_path), place="drafts")
    os.rename(mnt / "local/drafts/mnist", mnt / "local/drafts/other")
    assert os.listdir(mnt / "local/drafts") == ["other"]
    run(mnt, "rm", "-r", mnt / "local/drafts/other")
    assert os.listdir(mnt / "local/drafts") == []


def test_a_draft_can_be_taken_back_before_it_settles(mount, tmp_path):
    m = mount(config=local(confirm=True))
    copy_in(m, hello(tmp_path))
    os.rename(m / "local/train/mnist", m / "local/drafts/mnist")
    assert os.listdir(m / "local/train") == [] and os.listdir(m / "local/drafts") == ["mnist"]


# ---- ids

def test_mkdir_in_jobs_keeps_the_id(mount, tmp_path):
    m = mount(config=QUICK)
    copy_in(m, hello(tmp_path), place="jobs", name="run-2024_0042")
    succeeded(settled(m, "run-2024_0042"))
    assert jobs(m) == ["run-2024_0042"]
    assert rows(m / "local/jobs.tsv")[0]["model"] == "run"
    assert json.loads((m / "local/jobs/run-2024_0042/spec.json").read_text())["model"] == "run"


def test_made_up_ids_are_unique_within_a_second(mnt, tmp_path):
    pkg = hello(tmp_path)
    for place in ("a", "b", "c", "d"):
        copy_in(mnt, pkg, place="drafts", name=place)
        (mnt / "local/drafts" / place / "job.yaml").write_text("model: same\n")
    for place in ("a", "b", "c", "d"):
        os.rename(mnt / "local/drafts" / place, mnt / "local/train" / place)
    assert len(jobs(mnt)) == 4
    assert all(re.fullmatch(r"same_\d{8}_\d{6}(_\d+)?", j) for j in jobs(mnt))
    for place in ("a", "b", "c", "d"):
        wait_for(lambda p=place: os.path.lexists(mnt / "local/submitted" / p), what="submitted")
    assert len({submitted(mnt, p).name for p in ("a", "b", "c", "d")}) == 4


def test_odd_names_in_train_make_plain_ids(mnt, tmp_path):
    pkg = hello(tmp_path)
    to = copy_in(mnt, pkg, name="my model (v2) ü")
    fsync_dir(to)
    job = submitted(mnt, "my model (v2) ü")
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", job.name)
    assert job.name.startswith("my_model__v2_")
    succeeded(job)


def test_a_very_long_name_makes_an_id_that_fits(mnt, tmp_path):
    to = copy_in(mnt, hello(tmp_path), name="m" * 250)
    fsync_dir(to)
    job = submitted(mnt, "m" * 250)
    assert len(job.name) <= 128
    succeeded(job)


@pytest.mark.parametrize("name", ["-x", "a b", "a:b", ".x", "ü", "x" * 129])
def test_bad_ids_are_refused_at_mkdir(mnt, name):
    with pytest.raises(OSError) as e:
        os.mkdir(mnt / "local/jobs" / name)
    assert e.value.errno == errno.EINVAL


def test_submitted_and_latest_follow_the_newest(mnt, tmp_path):
    first = submit(mnt, hello(tmp_path))
    other = submit(mnt, hello(tmp_path, "other"))
    second = submit(mnt, hello(tmp_path))
    assert first != second and submitted(mnt, "mnist") == second and submitted(mnt, "other") == other
    assert os.readlink(mnt / "local/latest") == f"jobs/{second.name}"
    assert sorted(os.listdir(mnt / "local/submitted")) == ["mnist", "other"]
    for job in (first, second, other):
        succeeded(job)
    second.rmdir()
    assert submitted(mnt, "mnist") == first


def test_latest_is_not_there_before_the_first_job(mnt):
    assert "latest" not in os.listdir(mnt / "local")
    assert not os.path.lexists(mnt / "local/latest")


# ---- what tools do

def test_tar_unpacks_into_train(mount, tmp_path):
    m = mount(config=QUICK)
    hello(tmp_path)
    run(m, "tar", "-C", tmp_path, "-cf", tmp_path / "p.tar", "mnist")
    run(m, "tar", "-C", m / "local/train", "-xf", tmp_path / "p.tar")
    succeeded(settled(m, "mnist"))


def test_busybox_tar_unpacks_into_train(mount, tmp_path):
    m = mount(config=QUICK)
    hello(tmp_path)
    run(m, "tar", "-C", tmp_path, "-czf", tmp_path / "p.tgz", "mnist")
    run(m, "busybox", "tar", "-C", m / "local/train", "-xzf", tmp_path / "p.tgz")
    succeeded(settled(m, "mnist"))


def test_rsync_of_a_package(mount, tmp_path):
    m = mount(config=QUICK)
    pkg = hello(tmp_path, files={"a/b/c.txt": "c\n"})
    run(m, "rsync", "-a", pkg, m / "local/train/")
    job = succeeded(settled(m, "mnist"))
    assert sorted(p.name for p in (job / "package").rglob("*")) == ["a", "b", "c.txt", "train.sh"]


def test_rsync_of_a_packages_content_is_explained_and_set_aside(mount, tmp_path):
    m = mount(config=QUICK)
    pkg = hello(tmp_path, files={"a/one.py": "1\n", "z/two.py": "2\n"})
    done = m.world.shell(["rsync", "-a", f"{pkg}/", f"{m}/local/train/"])
    assert done.returncode != 0 and "Operation not permitted" in done.stderr
    after_others_settle(m, tmp_path)
    assert os.listdir(m / "local/train") == []
    assert set(os.listdir(m / "local/drafts")) <= {"a", "z"} and os.listdir(m / "local/drafts")
    assert jobs(m) == [submitted(m, "barrier").name]
    assert any(line[3] == "EPERM" and "rsync -a pkg" in line[4] for line in error_lines(m))


def test_cp_of_files_into_train_is_explained(mnt, tmp_path):
    pkg = hello(tmp_path)
    done = mnt.world.shell(["cp", str(pkg / "train.sh"), str(mnt / "local/train/")])
    assert done.returncode == 1 and "Operation not permitted" in done.stderr
    done = mnt.world.shell(["cp", str(pkg / "train.sh"), str(mnt / "local/jobs/")])
    assert done.returncode == 1 and "Operation not permitted" in done.stderr
    for make in (lambda p: os.symlink("x", p), os.mkfifo):
        with pytest.raises(PermissionError):
            make(mnt / "local/train/x")
    line = error_lines(mnt)[0]
    assert line[1] == "local" and line[2].endswith("local/train/train.sh") and line[3] == "EPERM" and line[4]


def test_install_makes_a_package(mount, tmp_path):
    m = mount(config=QUICK)
    pkg = package(tmp_path / "mnist", files={"run": "#!/bin/sh\necho installed\n", "job.yaml": "entry: run\n"})
    run(m, "install", "-D", "-m", "755", pkg / "run", m / "local/train/inst/run")
    run(m, "install", "-m", "644", pkg / "job.yaml", m / "local/train/inst/job.yaml")
    job = succeeded(settled(m, "inst"))
    assert (job / "log").read_text() == "installed\n"


def git_repository(m, where, **kwargs):
    package(where, script=HELLO, **kwargs)
    for command in (["init", "-q", "-b", "trunk"], ["add", "."], ["commit", "-qm", "first"]):
        run(m, "git", "-C", where, "-c", "user.name=n", "-c", "user.email=e@x", *command)
    return run(m, "git", "-C", where, "rev-parse", "HEAD").strip()


def test_git_clone_into_train(mount, tmp_path):
    m = mount(config="settle: 1s\n")
    commit = git_repository(m, tmp_path / "repo")
    run(m, "git", "clone", "-q", tmp_path / "repo", m / "local/train/cloned")
    job = succeeded(settled(m, "cloned"))
    git = json.loads((job / "git.json").read_text())
    assert git["commit"] == commit and git["branch"] == "trunk" and git["dirty"] is False
    assert ".git" not in os.listdir(job / "package")


def test_git_init_in_drafts(mnt, tmp_path):
    to = mnt / "local/drafts/mine"
    commit = git_repository(mnt, to)
    run(mnt, "git", "-C", to, "status", "--short")
    (to / "train.sh").write_text("echo changed\n")
    os.rename(to, mnt / "local/train/mine")
    wait_for(lambda: os.path.lexists(mnt / "local/submitted/mine"), what="submitted")
    job = succeeded(submitted(mnt, "mine"))
    git = json.loads((job / "git.json").read_text())
    assert git["commit"] == commit and git["dirty"] is True
    assert (job / "log").read_text() == "changed\n"


def test_no_git_json_without_a_work_tree(mnt, tmp_path):
    assert "git.json" not in os.listdir(submit(mnt, hello(tmp_path)))


def test_vim_edits_a_draft(mnt, tmp_path):
    to = copy_in(mnt, hello(tmp_path), place="drafts")
    run(mnt, "vim", "-es", "-u", "NONE", "-c", "set backup writebackup | %s/hello/edited/", "-c", "wq", to / "train.sh")
    assert (to / "train.sh").read_text() == "echo edited\n"
    os.rename(to, mnt / "local/train/mnist")
    wait_for(lambda: os.path.lexists(mnt / "local/submitted/mnist"), what="submitted")
    job = succeeded(submitted(mnt, "mnist"))
    assert (job / "log").read_text() == "edited\n"
    assert os.listdir(job / "package") == ["train.sh"]


@pytest.mark.parametrize("tool", TOOLS, ids=tool_name)
def test_sed_edits_a_draft(mnt, tmp_path, tool):
    to = copy_in(mnt, hello(tmp_path), place="drafts")
    run(mnt, *tool, "sed", "-i", "s/hello/sedded/", to / "train.sh")
    assert (to / "train.sh").read_text() == "echo sedded\n"
    assert os.listdir(to) == ["train.sh"]


def test_names_in_passing_are_not_submitted(mnt, tmp_path):
    names = [".train.sh.swp", ".x.swo", "4913", "sedAbC123", ".train.sh.Xy12Zq", "sub/.a.swp"]
    pkg = hello(tmp_path, files={n: "x" for n in names} | {"sub/kept": "x", "sedan": "x"})
    job = succeeded(submit(mnt, pkg))
    found = {str(p.relative_to(job / "package")) for p in (job / "package").rglob("*") if not p.is_dir()}
    assert found == {"train.sh", "sub/kept", "sedan"}


def test_trainfsignore_and_what_stays_out_by_default(mnt, tmp_path):
    pkg = hello(tmp_path, files={
        ".trainfsignore": "data/\n*.bin\n!keep.bin\n", "data/big": "x", "a.bin": "x", "keep.bin": "x",
        ".venv/bin/python": "x", "src/__pycache__/m.pyc": "x", "src/m.pyc": "x", "src/m.py": "x", ".git/HEAD": "x"})
    job = succeeded(submit(mnt, pkg))
    found = {str(p.relative_to(job / "package")) for p in (job / "package").rglob("*") if not p.is_dir()}
    assert found - {".trainfsignore"} == {"train.sh", "keep.bin", "src/m.py"}


# ---- reruns

def test_a_copy_of_a_job_runs_it_again(mnt, tmp_path):
    old = run_job(mnt, tmp_path / "mnist", 'echo "v=$V"; cat data\n', spec={"env": {"V": "1"}, "model": "digits"},
                  files={"data": "data\n"})
    run(mnt, "cp", "-r", old, mnt / "local/train/again")
    run(mnt, "sync", mnt / "local/train/again")
    new = succeeded(submitted(mnt, "again"))
    assert new.name.startswith("digits_") and new.name != old.name
    assert (new / "log").read_text() == "v=1\ndata\n"
    assert (new / "spec.json").read_text() == (old / "spec.json").read_text()
    assert sorted(os.listdir(new / "package")) == sorted(os.listdir(old / "package"))


def test_a_copy_of_a_job_can_be_edited_in_drafts(mnt, tmp_path):
    old = run_job(mnt, tmp_path / "mnist", 'echo "v=$V $*"\n', spec={"env": {"V": "1"}, "args": ["a"]})
    to = mnt / "local/drafts/again"
    run(mnt, "cp", "-r", old, to)
    run(mnt, "sed", "-i", 's/"V": "1"/"V": "2"/', to / "spec.json")
    run(mnt, "mv", to, mnt / "local/train/")
    wait_for(lambda: os.path.lexists(mnt / "local/submitted/again"), what="submitted")
    new = succeeded(submitted(mnt, "again"))
    assert (new / "log").read_text() == "v=2 a\n"
    assert new.name.startswith("mnist_")
    assert rows(mnt / "local/jobs.tsv")[0]["model"] == "mnist"
    diff = mnt.world.shell(["diff", str(old / "spec.json"), str(new / "spec.json")]).stdout
    changed = [line for line in diff.splitlines() if line[0] in "<>"]
    assert len(changed) == 2 and '"V": "1"' in changed[0] and '"V": "2"' in changed[1], diff


def test_a_rerun_without_its_package_is_refused(mnt, tmp_path):
    old = run_job(mnt, tmp_path / "mnist", HELLO)
    to = mnt / "local/drafts/again"
    run(mnt, "cp", "-r", old, to)
    run(mnt, "rm", "-r", to / "package")
    with pytest.raises(OSError) as e:
        os.rename(to, mnt / "local/train/again")
    assert e.value.errno == errno.EBADMSG
    assert "package/" in refused(mnt, "again")


# ---- refusals

REFUSED = {
    "unknown field": ({"train.sh": HELLO, "job.yaml": "model: m\nfrobnicate: 1\n"}, r"job\.yaml:2:1: .*frobnicate"),
    "unknown nested field": ({"train.sh": HELLO, "job.yaml": "resources:\n  gpus: 2\n"}, r"job\.yaml:2:3: .*gpus"),
    "wrong type": ({"train.sh": HELLO, "job.yaml": "retries: many\n"}, r"job\.yaml:1:10: "),
    "bad yaml": ({"train.sh": HELLO, "job.yaml": "a: [1,\nb: }\n"}, r"job\.yaml:2:\d+: "),
    "bad json": ({"train.sh": HELLO, "job.json": '{"model": "m",\n  "env" 1}\n'}, r"job\.json:2:\d+: "),
    "bad model": ({"train.sh": HELLO, "job.yaml": "model: a/b\n"}, r"job\.yaml:1:8: "),
    "entry and command": ({"train.sh": HELLO, "job.yaml": "entry: train.sh\ncommand: [a]\n"}, r"job\.yaml:2:1: .*exclude"),
    "entry missing": ({"train.sh": HELLO, "job.yaml": "entry: other.sh\n"}, r"job\.yaml:1:8: .*other\.sh"),
    "both specifications": ({"train.sh": HELLO, "job.yaml": "", "job.json": "{}"}, r"job\.yaml and job\.json"),
    "job.yml": ({"train.sh": HELLO, "job.yml": "model: m\n"}, r"job\.yml"),
    "nothing to run": ({"README": "x", "foo.py": "x"}, r"README.*foo\.py|foo\.py.*README"),
    "two modules": ({"setup.py": "", "a/task.py": "", "b/task.py": ""}, r"a/task\.py.*b/task\.py"),
    "requirements missing": ({"train.sh": HELLO, "job.yaml": "requirements: r.txt\n"}, r"job\.yaml:1:15: .*r\.txt"),
    "no such python": ({"main.py": "1\n", "job.yaml": "python: python9.99\n"}, r"python9\.99"),
    "secret without value": ({"train.sh": HELLO, "job.yaml": "secrets: [NO_SUCH_SECRET]\n"}, r"NO_SUCH_SECRET"),
    "input missing": ({"train.sh": HELLO, "job.yaml": "inputs: {dataset: ./nowhere}\n"}, r"nowhere"),
    "input elsewhere": ({"train.sh": HELLO, "job.yaml": "inputs: {dataset: 'gs://b/x'}\n"}, r"gs://b/x"),
    "too many accelerators": ({"train.sh": HELLO, "job.yaml": "resources: {accelerators: 5000}\n"}, r"accelerators"),
    "resume of nothing": ({"train.sh": HELLO, "job.yaml": "resume: nothing\n"}, r"nothing"),
    "bad timeout": ({"train.sh": HELLO, "job.yaml": "timeout: soon\n"}, r"job\.yaml:1:10: "),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_by_sync(mnt, tmp_path, kind):
    files, reason = REFUSED[kind]
    to = copy_in(mnt, package(tmp_path / "bad", files))
    with pytest.raises(OSError) as e:
        fsync_dir(to)
    assert e.value.errno == errno.EBADMSG, e.value
    assert os.listdir(mnt / "local/train") == [] and jobs(mnt) == []
    text = (mnt / "local/drafts/bad/.error").read_text()
    assert re.search(reason, text) and text.endswith("\n") and text.count("\n") == 1
    kept = {str(p.relative_to(mnt / "local/drafts/bad")) for p in (mnt / "local/drafts/bad").rglob("*") if p.is_file()}
    assert kept == set(files) | {".error"}
    lines = error_lines(mnt)
    assert len(lines) == 1, lines
    time, remote, path, name, sentence = lines[0]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", time)
    assert remote == "local" and "bad" in path and name == "EBADMSG" and re.search(reason, sentence)


def test_refused_by_mv_stays_in_drafts(mnt, tmp_path):
    to = copy_in(mnt, hello(tmp_path, files={"job.yaml": "frob: 1\n"}), place="drafts")
    for tool in TOOLS:
        done = mnt.world.shell([*tool, "mv", str(to), str(mnt / "local/train/")])
        assert done.returncode == 1 and "Bad message" in done.stderr, done
        assert os.listdir(mnt / "local/train") == [] and os.listdir(mnt / "local/drafts") == ["mnist"]
    assert refused(mnt, "mnist").startswith("job.yaml:1:1: ")
    done = mnt.world.shell(["mv", str(to), str(mnt / "local/jobs/exp-1")])
    assert done.returncode == 1 and "Bad message" in done.stderr
    assert jobs(mnt) == [] and os.listdir(mnt / "local/drafts") == ["mnist"]


def test_refused_tells_why_in_an_attribute(mount, tmp_path):
    m = mount(args=["-o", "xattr"])
    draft = copy_in(m, package(tmp_path / "bad", spec={"comand": ["x"]}), place="drafts")
    assert os.listxattr(draft) == []
    with pytest.raises(OSError):
        os.rename(draft, m / "local/train/bad")
    assert os.listxattr(draft) == ["user.error"] and os.listxattr(draft / "job.yaml") == []
    assert os.getxattr(draft, "user.error") == (draft / ".error").read_bytes().rstrip(b"\n")


def test_refused_again_for_another_reason(mount, tmp_path):
    m = mount()
    copy_in(m, package(tmp_path / "bad", spec={"comand": ["x"]}), place="drafts")
    draft = m / "local/drafts/bad"
    for reason in "comand", "must be a list", "nothing to run":
        with pytest.raises(OSError) as e:
            os.rename(draft, m / "local/train/bad")
        assert e.value.errno == errno.EBADMSG and reason in (draft / ".error").read_text()
        (draft / "job.yaml").write_text("command: 5\n" if reason == "comand" else "{}\n")


def test_refused_when_it_settles(mount, tmp_path):
    m = mount(config=QUICK)
    copy_in(m, hello(tmp_path, files={"job.yaml": "a:\n  - b\nfrob: 1\n"}))
    assert re.search(r"job\.yaml:1:1: ", refused(m, "mnist"))
    assert os.listdir(m / "local/train") == []


def test_a_refused_draft_can_be_mended(mnt, tmp_path):
    to = copy_in(mnt, hello(tmp_path, files={"job.yaml": "frob: 1\n"}))
    with pytest.raises(OSError):
        fsync_dir(to)
    draft = mnt / "local/drafts/mnist"
    run(mnt, "sed", "-i", "s/frob: 1/model: digits/", draft / "job.yaml")
    run(mnt, "mv", draft, mnt / "local/train/")
    wait_for(lambda: os.path.lexists(mnt / "local/submitted/mnist"), what="submitted")
    job = succeeded(submitted(mnt, "mnist"))
    assert ".error" not in os.listdir(job / "package")
    assert os.listdir(mnt / "local/drafts") == []


def test_refused_drafts_of_one_name_are_all_kept(mnt, tmp_path):
    for i in range(3):
        to = copy_in(mnt, package(tmp_path / f"{i}/bad", {"which": str(i)}))
        with pytest.raises(OSError):
            fsync_dir(to)
    found = sorted(os.listdir(mnt / "local/drafts"))
    assert len(found) == 3 and found[0] == "bad"
    assert sorted((mnt / "local/drafts" / d / "which").read_text() for d in found) == ["0", "1", "2"]


def test_a_pipe_in_the_package_is_refused(mnt, tmp_path):
    to = copy_in(mnt, hello(tmp_path))
    os.mkfifo(to / "pipe")
    with pytest.raises(OSError) as e:
        fsync_dir(to)
    assert e.value.errno == errno.EBADMSG and "`pipe`" in refused(mnt, "mnist")


def test_max_package_names_the_largest(mount, tmp_path):
    m = mount(config=local(max_package="10kB"))
    pkg = hello(tmp_path, files={"small": "x", "data/large.bin": "x" * 9000, "data/larger.bin": "x" * 9500})
    to = copy_in(m, pkg)
    with pytest.raises(OSError) as e:
        fsync_dir(to)
    assert e.value.errno == errno.EFBIG
    text = refused(m, "mnist")
    assert "max_package" in text and text.index("data/larger.bin") < text.index("data/large.bin")
    assert error_lines(m)[0][3] == "EFBIG"
    with pytest.raises(OSError) as e:
        os.rename(m / "local/drafts/mnist", m / "local/train/mnist")
    assert e.value.errno == errno.EFBIG


def test_a_link_that_leaves_the_package_is_kept_here(mnt, tmp_path):
    (tmp_path / "outside").write_text("outside\n")
    pkg = package(tmp_path / "mnist", script="cat link\n")
    os.symlink(tmp_path / "outside", pkg / "link")
    run(mnt, "cp", "-a", pkg, mnt / "local/train/")
    run(mnt, "sync", mnt / "local/train/mnist")
    job = succeeded(submitted(mnt, "mnist"))
    assert (job / "log").read_text() == "outside\n"
    assert os.readlink(job / "package/link") == str(tmp_path / "outside")


def test_job_json_is_as_good(mnt, tmp_path):
    pkg = package(tmp_path / "mnist", {"job.json": '{"model": "digits", "command": ["echo", "json"]}'})
    job = succeeded(submit(mnt, pkg))
    assert job.name.startswith("digits_") and (job / "log").read_text() == "json\n"


# ---- tables

def test_jobs_tsv(mnt, tmp_path):
    path = mnt / "local/jobs.tsv"
    header = "id\tstate\tmodel\tcreated\tstarted\tended\texit\tcost\n"
    assert path.read_text() == header
    first = run_job(mnt, tmp_path / "a", HELLO)
    second = submit(mnt, package(tmp_path / "b", script="exit 3\n"))
    assert ended(second) == "FAILED"
    found = rows(path)
    assert path.read_text().startswith(header)
    assert [r["id"] for r in found] == [second.name, first.name]
    assert [r["state"] for r in found] == ["FAILED", "SUCCEEDED"]
    assert [r["exit"] for r in found] == ["3", "0"] and [r["model"] for r in found] == ["b", "a"]
    for r in found:
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", r[k]) for k in ("created", "started", "ended"))
        assert r["created"] <= r["started"] <= r["ended"]
    assert path.stat().st_size == len(path.read_bytes())


def test_transfers_tsv(mount, tmp_path):
    m = mount(config=local(confirm=True))
    path = m / "local/transfers.tsv"
    assert path.read_text() == "kind\tname\tphase\tbytes\ttotal\terror\n"
    copy_in(m, hello(tmp_path))
    assert [(r["kind"], r["name"]) for r in rows(path)] == [("job", "mnist")]
    copy_in(m, package(tmp_path / "bad", {"x": ""}))
    with pytest.raises(OSError):
        fsync_dir(m / "local/train/bad")
    row = next(r for r in rows(path) if r["name"] == "bad")
    assert row["phase"] == "refused" and "nothing to run" in row["error"]
    fsync_dir(m / "local/train/mnist")
    assert [r["name"] for r in rows(path)] == ["bad"]
    (m / "local/drafts/bad/train.sh").write_text(HELLO)
    assert rows(path)[0]["phase"] != "refused" and rows(path)[0]["error"] == ""


# ---- crashes, other mounts

def test_an_incomplete_draft_waits_in_drafts_after_a_crash(mount, tmp_path):
    m = mount()
    with Talker() as writer:
        writer.mkdir(m / "local/train/half")
        writer.write(m / "local/train/half/train.sh", HELLO)
        m.kill()
        m = mount()
        assert os.listdir(m / "local/train") == []
        assert (m / "local/drafts/half/train.sh").read_text() == HELLO
        assert "incomplete" in refused(m, "half")
    assert jobs(m) == []
    run(m, "mv", m / "local/drafts/half", m / "local/train/")
    succeeded(settled(m, "half"))


def test_drafts_and_jobs_survive_a_remount(mount, tmp_path):
    m = mount()
    copy_in(m, hello(tmp_path, "waiting"), place="drafts")
    job = run_job(m, tmp_path / "done", HELLO)
    before = {p.name: p.read_text() for p in job.iterdir() if p.is_file()}
    m.unmount()
    m = mount()
    assert {p.name: p.read_text() for p in job.iterdir() if p.is_file()} == before
    assert submitted(m, "done") == job and os.readlink(m / "local/latest") == f"jobs/{job.name}"
    assert (m / "local/drafts/waiting/train.sh").read_text() == HELLO


def test_two_mounts_of_one_state(mount, tmp_path):
    one, two = mount(name="one"), mount(name="two")
    copy_in(one, hello(tmp_path, "shared"), place="drafts")
    wait_for(lambda: (two / "local/drafts/shared/train.sh").exists(), what="the other mount shows the draft")
    with pytest.raises(OSError) as e:
        (two / "local/drafts/shared/train.sh").write_text("x")
    assert e.value.errno == errno.EBUSY
    job = submit(one, hello(tmp_path))
    wait_for(lambda: job.name in jobs(two), what="the other mount shows the job")
    assert ended(two / "local/jobs" / job.name) == "SUCCEEDED"
    wait_for(lambda: os.path.lexists(two / "local/submitted/mnist"), what="and where it came from")
