# SPDX-License-Identifier: MIT
"""Drafts and local buckets are directories like any other: modes, owners, times, kinds of files, links."""
import mmap
import os
import shutil
import stat
from pathlib import Path

import pytest

from conftest import wait_for

PLACES = ["drafts/work", "buckets/work"]


@pytest.fixture(params=PLACES)
def place(request):
    return request.param


def made(m, place):
    path = m / "local" / place
    path.mkdir()
    return path


def mode_of(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


@pytest.fixture
def umask():
    """A umask for this process and what it starts."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def test_only_the_umask_of_who_makes_a_file_counts(mount, umask, place):
    umask(0o077)  # the daemon's
    to = made(mount(), place)
    umask(0o002)
    (to / "file").touch(0o666)
    (to / "directory").mkdir(0o777)
    os.mkfifo(to / "fifo", 0o666)
    os.mknod(to / "node", stat.S_IFREG | 0o666)
    umask(0)
    os.close(os.open(to / "all", os.O_CREAT | os.O_WRONLY, 0o4777))
    assert {p.name: oct(mode_of(p)) for p in to.iterdir()} == {
        "file": "0o664", "directory": "0o775", "fifo": "0o664", "node": "0o664", "all": "0o4777"}


def test_the_umask_counts_for_a_draft_itself(mount, umask):
    umask(0o077)  # the daemon's
    m = mount()
    umask(0o002)
    (m / "local/drafts/work").mkdir(0o777)
    assert oct(mode_of(m / "local/drafts/work")) == "0o775"


def as_other(function):
    """Calls it as nobody; 0 if it raises nothing."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            function()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may own for others")
def test_others_own_what_they_make(mount, place, monkeypatch):
    to = made(mount(args=["-o", "allow_other"]), place)
    for name, mode in (("plain", 0o777), ("group", 0o2777)):
        (to / name).mkdir()
        os.chown(to / name, 0, 1000)
        os.chmod(to / name, mode)
    def make():
        for name in ("plain", "group"):
            Path(name, "file").touch()
            Path(name, "directory").mkdir()
            Path(name, "link").symlink_to("file")
    monkeypatch.chdir(to)  # the way there is closed to others
    assert as_other(make) == 0
    monkeypatch.undo()

    def owners(name):
        return {(st.st_uid, st.st_gid) for st in map(os.lstat, (to / name).iterdir())}
    assert owners("plain") == {(65534, 65534)}
    assert owners("group") == {(65534, 1000)}
    assert mode_of(to / "group/directory") & stat.S_ISGID


def test_direct_io(mnt, place):
    to = made(mnt, place)
    with mmap.mmap(-1, 8192) as page:  # aligned
        page.write(b"x" * 4096)
        for flags in (os.O_CREAT, 0):
            fd = os.open(to / "file", os.O_RDWR | os.O_DIRECT | flags, 0o644)
            assert os.pwrite(fd, memoryview(page)[:4096], 4096) == 4096
            assert os.preadv(fd, [memoryview(page)[4096:]], 4096) == 4096
            os.close(fd)
        assert page[4096:] == b"x" * 4096
    assert (to / "file").read_bytes() == bytes(4096) + b"x" * 4096


def test_removed_drafts_hold_no_descriptor(mount):
    m = mount()
    for _ in range(20):
        os.mkdir(m / "local/drafts/passing")
        (m / "local/drafts/passing/file").write_text("x")
        shutil.rmtree(m / "local/drafts/passing")

    def held():
        paths = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{m.pid}/fd") if os.path.islink(entry.path)]
        return [path for path in paths if "/drafts/" in path]
    wait_for(lambda: held() == [], what="none is open")
