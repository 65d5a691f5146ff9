# SPDX-License-Identifier: MIT
"""What someone meets who has read only the README."""
import errno
import os
import shutil
import subprocess

import pytest

from conftest import TRAINFS, wait_for
from jobtools import package, submit, sync, wait_state


def test_a_place_that_takes_nothing_tells_where_to_read(mnt):
    with pytest.raises(OSError) as refused:
        (mnt / "gcp").mkdir()
    assert refused.value.errno == errno.EPERM
    sentence = (mnt / ".trainfs/errors").read_text().splitlines()[-1]
    assert "README.md" in sentence
    assert (mnt / "README.md").exists()


def test_the_help_names_remotes_that_there_are():
    text = subprocess.run([TRAINFS, "help", "mount"], capture_output=True, text=True, check=True).stdout
    assert "trainfs mount local: " in text
    assert "gcp" not in text


def test_shutil_copies_a_job_with_its_links(mnt, tmp_path):
    job = submit(mnt, package(tmp_path / "p", "mkdir -p $OUTPUT/model; echo x > $OUTPUT/model/w"))
    wait_state(mnt, job)
    os.symlink(f"../../jobs/{job}", mnt / "local/models/p/v1")
    wait_for(lambda: (mnt / "local/models/p/v1/state").read_text() == "READY\n", what="v1 is READY")
    copy = tmp_path / "copy"
    shutil.copytree(mnt / "local/jobs" / job, copy, symlinks=True)
    assert (copy / "state").read_text() == "SUCCEEDED\n"
    assert os.path.islink(copy / "model")  # and not followed: it leads back, by the version's `job`


def test_mount_names_the_remotes_that_did_not_open(world, tmp_path):
    there = tmp_path / "ml"
    there.mkdir()
    world.write_config("remotes:\n  local: {slots: two}\n  away: {type: nosuch}\n  good: {type: mem}\n")
    done = world.run("mount", there)
    try:
        assert done.returncode == 0, done.stderr
        lines = sorted(done.stderr.splitlines())
        assert len(lines) == 2, lines
        assert "remote away " in lines[0] and "nosuch" in lines[0]
        assert "remote local " in lines[1] and "slots: a number" in lines[1]
        assert os.listdir(there / "good")
    finally:
        assert world.run("unmount", there).returncode == 0


def test_a_mount_inside_a_mount_is_refused_with_the_reason(mnt):
    done = mnt.world.run("mount", mnt / "local/drafts")
    assert done.returncode == 32
    assert f"inside the trainfs mount at {mnt}" in done.stderr


def test_a_remote_that_does_not_open_says_so_in_errors(mount):
    m = mount(config="remotes:\n  local: {type: local, slots: two}\n")
    line = (m / ".trainfs/errors").read_text().split("\t")
    assert line[1] == "local" and line[3] == "EINVAL" and "slots" in line[4]
    assert (m / ".trainfs/remotes.tsv").read_text().count("slots") == 1


def test_an_id_that_is_used_again_is_another_job(mnt, tmp_path):
    place = mnt / "local/jobs/again"
    shutil.copytree(package(tmp_path / "one", "echo first; echo first", model="old"), place)
    assert sync(place) == 0
    assert (place / "wait").read_text() == "SUCCEEDED\n"
    assert (place / "log").read_text() == "first\nfirst\n"
    place.rmdir()
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    shutil.copytree(package(tmp_path / "two", f"echo second; cat {gate}", model="new"), place)
    assert sync(place) == 0
    wait_for(lambda: (place / "state").read_text() == "RUNNING\n", what="it runs again")
    assert (mnt / "local/jobs.tsv").read_text().splitlines()[1].split("\t")[:3] == ["again", "RUNNING", "new"]
    waiting = subprocess.Popen(["cat", place / "wait"], stdout=subprocess.PIPE, text=True)
    following = subprocess.Popen(["cat", place / "follow"], stdout=subprocess.PIPE, text=True)
    assert following.stdout.readline() == "second\n"
    assert waiting.poll() is None and not (place / "done").exists()
    gate.write_text("end\n")
    assert waiting.communicate(timeout=60)[0] == "SUCCEEDED\n"
    assert following.communicate(timeout=60)[0] == "end\n"
    assert (place / "log").read_text() == "second\nend\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a mount namespace")
def test_check_says_that_unmounting_needs_mtab(user_world):
    as_nobody = f"exec setpriv --reuid {user_world.uid} --regid {user_world.uid} --clear-groups"
    command = f"mount -t tmpfs none /etc && {as_nobody} {user_world.program} check"
    done = subprocess.run(["unshare", "--mount", "sh", "-c", command], env=user_world.env, capture_output=True,
                          text=True, timeout=30)
    assert done.returncode == 1, done.stderr
    assert "wrong fuse      /etc/mtab cannot be read" in done.stdout
    assert "ln -s /proc/self/mounts /etc/mtab" in done.stdout


def test_the_file_that_is_missing_is_said_in_words(world):
    done = world.run("mount", "-c", world.root / "none.yaml", world.root)
    assert done.returncode == 1
    assert "none.yaml cannot be read: No such file or directory" in done.stderr


def test_why_names_the_python_that_has_not_the_module(mnt, tmp_path):
    source = tmp_path / "p"
    source.mkdir()
    (source / "train.py").write_text("import no_such_module_here\n")
    job = submit(mnt, source)
    wait_state(mnt, job, "FAILED")
    why = (mnt / f"local/jobs/{job}/why").read_text()
    assert "no_such_module_here" in why and f"it ran with {shutil.which('python3')}, " in why
