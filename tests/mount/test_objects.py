# SPDX-License-Identifier: MIT
"""Buckets of objects as directories and files, over the in-memory backend: what tools see, and what it costs in calls."""
import concurrent.futures
import errno
import hashlib
import json
import mmap
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from conftest import wait_for
from jobtools import Caller, is_sanitized, stats

METHODS = ("list objects", "get object", "read object", "put object", "copy object", "remove object")


class Cloud:
    """The remote `far`: type mem with objects, one bucket `b`, and what somebody else does to it."""

    def __init__(self, mount, world, extra="", **options):
        self.mount_factory, self.world = mount, world
        self.control = world.root / "far.control"
        self.events = ""
        self.rules()
        text = "".join(f", {k}: {v}" for k, v in {"max_block_ms": 60000, "metadata_time": "1h", **options}.items())
        world.write_config(f"{extra}remotes:\n  far: {{type: mem, objects: true, control: {self.control}{text}}}\n")
        state = world.data / "trainfs"
        self.state = state

    def mount(self, **kwargs):
        self.m = self.mount_factory(**kwargs)
        self.b = self.m / "far/buckets/b"
        if not self.b.exists():
            self.b.mkdir()
        return self.m

    def rules(self, *lines):
        """From now on these hold, and no others."""
        new = self.control.with_suffix(".new")
        new.write_text(self.events + "".join(line + "\n" for line in lines))
        new.rename(self.control)

    def happens(self, *lines):
        """Somebody else changes objects; returns when they have."""
        self.events += "".join(line + "\n" for line in lines)
        self.events += f"object b put .tick t{len(self.events)}\n"
        self.rules()
        log = next(self.world.data.rglob("objects.data"))
        wanted = f"t{len(self.events) - len(self.events.splitlines()[-1]) - 1}\n".encode()
        wait_for(lambda: wanted in log.read_bytes()[-200:], what="the backend has seen it")

    def forget_pages(self, path):
        """The next read of it asks the service: neither pages nor what was spooled (until the last close) is left."""
        wait_for(lambda: self.pending() == [], what="the spools are let go")
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)

    def refresh(self):
        (self.m / ".trainfs/ctl").write_text("refresh\n")

    def calls(self):
        rows = (line.split("\t") for line in (self.m / ".trainfs/stats.tsv").read_text().splitlines())
        counted = {row[1]: int(row[2]) for row in rows if row[0] == "far"}
        return {name: counted.get(name, 0) for name in METHODS}

    def cost(self):
        """with cloud.cost() as spent: ...; then spent["put object"]."""
        return Cost(self)

    def pending(self):
        """Files of bytes that were not delivered."""
        return sorted(p for p in self.world.data.rglob("pending/*/*") if not p.suffix)

    def wait_sending(self, *keys):
        """Until these, and no others, are closed and on their way: the next mount would send them."""
        def closed():
            records = (json.loads(p.read_text()) for p in self.world.data.rglob("pending/*/*.json"))
            return sorted(record["key"] for record in records if record["complete"])
        wait_for(lambda: closed() == sorted(keys), what=f"{keys} are being sent")


class Cost(dict):
    def __init__(self, cloud):
        super().__init__()
        self.cloud = cloud

    def __enter__(self):
        self.before = self.cloud.calls()
        return self

    def __exit__(self, *_):
        self.update({k: v - self.before[k] for k, v in self.cloud.calls().items() if v != self.before[k]})


@pytest.fixture
def cloud(mount, world):
    made = Cloud(mount, world)
    made.mount()
    yield made
    made.rules()  # whatever hangs goes on, so that the mount can end


def sh(command, cwd, **kwargs):
    kwargs = {"timeout": 50, **kwargs}
    done = subprocess.run(["sh", "-ec", command], cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          check=False, **kwargs)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done


def pattern(n, seed=1):
    return random.Random(seed).randbytes(n)


def err_of(call, *args):
    with pytest.raises(OSError) as caught:
        call(*args)
    return caught.value.errno


# ---- directories

def test_prefixes_are_directories(cloud):
    cloud.happens("object b put a A", "object b put d/x X", "object b put d/e/y Y", "object b put empty/ \\c")
    assert sorted(os.listdir(cloud.b)) == [".tick", "a", "d", "empty"]
    assert sorted(os.listdir(cloud.b / "d")) == ["e", "x"]
    assert os.listdir(cloud.b / "empty") == []
    assert (cloud.b / "d/e/y").read_text() == "Y\n"
    assert (cloud.b / "d").is_dir() and (cloud.b / "a").is_file()
    st = os.stat(cloud.b / "a")
    assert (st.st_size, st.st_mode & 0o777, st.st_nlink, st.st_blksize) == (2, 0o644, 1, 1 << 20)
    assert abs(st.st_mtime - time.time()) < 60
    found = sh("find . -type f | sort; find . -type d | sort", cloud.b).stdout.split()
    assert found == ["./.tick", "./a", "./d/e/y", "./d/x", ".", "./d", "./d/e", "./empty"]


def test_mkdir_outlives_the_mount(cloud):
    with cloud.cost() as spent:
        os.mkdir(cloud.b / "new")
    assert spent["put object"] == 1
    assert err_of(os.mkdir, cloud.b / "new") == errno.EEXIST
    os.makedirs(cloud.b / "p/q/r")
    cloud.m.unmount()
    cloud.mount()
    assert sorted(os.listdir(cloud.b)) == ["new", "p"]
    assert os.listdir(cloud.b / "p/q") == ["r"] and os.listdir(cloud.b / "new") == []


def test_rmdir(cloud):
    os.mkdir(cloud.b / "d")
    (cloud.b / "d/f").write_text("x")
    assert err_of(os.rmdir, cloud.b / "d") == errno.ENOTEMPTY
    os.unlink(cloud.b / "d/f")
    with cloud.cost() as spent:
        os.rmdir(cloud.b / "d")
    assert spent == {"list objects": 1, "remove object": 1}
    assert os.listdir(cloud.b) == []
    assert err_of(os.rmdir, cloud.b / "d") == errno.ENOENT
    cloud.happens("object b put e/f x")
    cloud.refresh()
    assert err_of(os.rmdir, cloud.b / "e") == errno.ENOTEMPTY
    assert err_of(os.rmdir, cloud.m / "far/buckets/b") == errno.ENOTEMPTY


def test_rmdir_sees_what_came_elsewhere(cloud):
    os.mkdir(cloud.b / "d")
    assert os.listdir(cloud.b / "d") == []
    cloud.happens("object b put d/theirs x")
    assert err_of(os.rmdir, cloud.b / "d") == errno.ENOTEMPTY
    cloud.refresh()
    assert (cloud.b / "d/theirs").read_text() == "x\n"


def test_an_object_beside_a_directory(cloud):
    cloud.happens("object b put foo object", "object b put foo/x inside", "object b put bar/ \\c", "object b put bar B")
    assert sorted(os.listdir(cloud.b)) == [".tick", "bar", "bar%object", "foo", "foo%object"]
    assert (cloud.b / "foo%object").read_text() == "object\n"
    assert (cloud.b / "foo/x").read_text() == "inside\n"
    os.unlink(cloud.b / "foo%object")
    assert sorted(os.listdir(cloud.b)) == [".tick", "bar", "bar%object", "foo"]
    cloud.refresh()
    assert (cloud.b / "bar%object").read_text() == "B\n"
    assert (cloud.b / "foo").is_dir()


def test_keys_that_cannot_be_names(cloud):
    long = "l" * 256
    keys = ["/lead", "a//b", "a/../up", "a/./dot", "..", ".", f"{long}", f"a/{long}/x", "a/good", "..../ok", "a%0Ab", "%FF"]
    cloud.happens(*(f"object b put {key} evil" for key in keys))
    assert sorted(os.listdir(os.fsencode(cloud.b))) == [b"....", b".tick", b"a", b"a\nb", b"\xff"]
    assert os.listdir(cloud.b / "a") == ["good"]
    for _ in range(3):
        cloud.refresh()
        os.listdir(cloud.b / "a")
        os.listdir(cloud.b)
    named = [line.split("\t")[2] for line in cloud.m.errors().splitlines() if "cannot be shown" in line]
    assert sorted(named) == sorted(f"far/buckets/b/{key}" for key in
                                   ("/", "a//", "a/../", "a/./", "..", ".", long, f"a/{long}/"))
    assert err_of(os.stat, cloud.b / ("n" * 256)) == errno.ENAMETOOLONG


def test_odd_names_work(cloud):
    for i, name in enumerate(["a b", "%", "%2F", "a+b", "a?b", "#", "ä日💩", "*[x]", "a\\b", "'\"", "-n", "~", "a\tb"]):
        (cloud.b / name).write_text(name)
        os.rename(cloud.b / name, cloud.b / (name + "2"))
        cloud.refresh()
        assert (cloud.b / (name + "2")).read_text() == name
        assert len(os.listdir(cloud.b)) == i + 1
    assert err_of(os.mkdir, os.fsencode(cloud.b) + b"/\xff") == errno.EINVAL
    deep = cloud.b
    for _ in range(4):
        deep = deep / ("d" * 250)
        os.mkdir(deep)
    assert err_of(os.mkdir, deep / ("e" * 30)) == errno.ENAMETOOLONG
    (deep / ("f" * 20)).write_text("deep")
    assert err_of(open, deep / ("g" * 21), "w") == errno.ENAMETOOLONG


def test_two_buckets_come_and_go(cloud):
    buckets = cloud.m / "far/buckets"
    os.mkdir(buckets / "second")
    assert sorted(os.listdir(buckets)) == ["b", "outputs", "second"]
    (cloud.b / "f").write_text("content")
    shutil.copy(cloud.b / "f", buckets / "second/f")
    os.rename(buckets / "second/f", cloud.b / "g")
    assert (cloud.b / "g").read_text() == "content"
    os.rmdir(buckets / "second")
    assert sorted(os.listdir(buckets)) == ["b", "outputs"]
    assert err_of(os.listdir, buckets / "none") == errno.ENOENT


# ---- what it costs

def test_a_listing_costs_pages_and_nothing_else(cloud):
    cloud.happens("object b fill many/k 3500")
    os.stat(cloud.b / "many")
    with cloud.cost() as spent:
        lines = sh(f"ls -l {cloud.b}/many | wc -l; find {cloud.b}/many -size +1000k; du -s {cloud.b}/many",
                   "/").stdout.split()
    assert lines[0] == "3501" and spent == {"list objects": 4}
    with cloud.cost() as spent:
        assert os.stat(cloud.b / "many/k000003499").st_size == len("many/k000003499")
        assert not (cloud.b / "many/none").exists()
        sh(f"ls -l {cloud.b}/many; ls {cloud.b}/many/k00000001*", "/")
    assert spent == {}


def test_a_name_costs_one_call_and_many_a_listing(cloud):
    cloud.happens("object b fill d/k 100", "object b put e/x/y z")
    os.stat(cloud.b / "d"), os.stat(cloud.b / "e")
    with cloud.cost() as spent:
        os.stat(cloud.b / "d/k000000050")
    assert spent == {"list objects": 1}
    with cloud.cost() as spent:
        assert (cloud.b / "e/x").is_dir()
        assert not (cloud.b / "e/none").exists()
        assert not (cloud.b / "e/none").exists()
    assert spent == {"list objects": 2}
    with cloud.cost() as spent:
        for i in range(60):
            os.stat(cloud.b / f"d/k0000000{i:02}")
    assert spent.pop("list objects") <= 3 and spent == {}


@pytest.mark.parametrize("n_beside", [3, 30])  # they fit in the call that asks for a name, and not
def test_a_name_that_others_begin_with(cloud, n_beside):
    cloud.happens(f"object b fill d/m- {n_beside}", f"object b fill e/m- {n_beside}", f"object b fill f/m- {n_beside}",
                  f"object b fill g/m {n_beside}", "object b put d/m object", "object b put e/m/x y", "object b put e/m object")
    for name in "defg":
        os.stat(cloud.b / name)
    assert (cloud.b / "d/m").read_text() == "object\n"
    assert (cloud.b / "e/m").is_dir()
    assert not (cloud.b / "f/m").exists()
    assert not (cloud.b / "g/m").exists()


def test_a_service_that_repeats_itself_for_ever(cloud):
    cloud.happens("object b put d/x y")
    os.stat(cloud.b / "d")
    cloud.rules("objects repeat")
    with cloud.cost() as spent:
        assert err_of(os.listdir, cloud.b / "d") == errno.EIO
    assert spent["list objects"] < 10 and "again and again" in cloud.m.errors()
    cloud.rules()
    assert os.listdir(cloud.b / "d") == ["x"]


def test_small_pages(mount, world):
    cloud = Cloud(mount, world, page=3)
    cloud.mount()
    for i in range(20):
        (cloud.b / f"f{i:02}").write_text(str(i))
        os.mkdir(cloud.b / f"d{i:02}")
    cloud.refresh()
    assert sorted(os.listdir(cloud.b)) == [f"{c}{i:02}" for c in "df" for i in range(20)]
    os.mkdir(cloud.b / "d00/x")
    assert err_of(os.rmdir, cloud.b / "d00") == errno.ENOTEMPTY
    sh(f"rm -r {cloud.b}/*", "/")
    cloud.refresh()
    assert os.listdir(cloud.b) == []


def test_one_fetch_for_all_who_wait(cloud):
    cloud.happens("object b fill d/k 10")
    os.stat(cloud.b / "d")
    cloud.rules("objects delay 1500")
    with cloud.cost() as spent, concurrent.futures.ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda _: len(os.listdir(cloud.b / "d")), range(12)))
    assert found == [10] * 12 and spent == {"list objects": 1}


def test_a_write_costs_one_put(cloud):
    os.listdir(cloud.b)
    with cloud.cost() as spent:
        (cloud.b / "new").write_bytes(b"x" * 300000)
    assert spent == {"put object": 1}
    with cloud.cost() as spent:
        assert (cloud.b / "new").read_bytes() == b"x" * 300000
        assert os.stat(cloud.b / "new").st_size == 300000
        (cloud.b / "new").write_bytes(b"y")
        os.unlink(cloud.b / "new")
    assert spent.pop("read object", 0) <= 1
    assert spent == {"put object": 1, "remove object": 1}


def test_a_change_after_the_last_byte(cloud):
    """The bytes are those of one version: neither they nor what is known of the object are given up."""
    put_big(cloud, b"x" * 300000)
    cloud.forget_pages(cloud.b / "big")
    cloud.rules("object-read lose-reply ESTALE")
    (cloud.m / ".trainfs/ctl").write_text("debug on\n")
    with cloud.cost() as spent:
        assert (cloud.b / "big").read_bytes() == b"x" * 300000
        wait_for(lambda: "ESTALE" in cloud.m.log(), what="the answer has come")
        assert os.stat(cloud.b / "big").st_size == 300000
        assert (cloud.b / "big").read_bytes() == b"x" * 300000
    assert spent == {"read object": 1}


def test_a_handle_of_what_a_copy_has_replaced(cloud):
    """It shows the new bytes, as after any writing here, and none of the old ones."""
    old, new = pattern(24 << 20), pattern(24 << 20, 2)
    (cloud.b / "t").write_bytes(old)
    (cloud.b / "s").write_bytes(new)
    cloud.forget_pages(cloud.b / "t")
    with open(cloud.b / "t", "rb", buffering=0) as f:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for at in (0, 8 << 20):
            assert os.pread(f.fileno(), 4096, at) == old[at:at + 4096]
        sh("cp s t", cloud.b)
        assert all(os.pread(f.fileno(), 4096, at) == new[at:at + 4096] for at in (0, 4096, 8 << 20, 20 << 20))
    assert (cloud.b / "t").read_bytes() == new


def test_copies_and_renames_send_no_bytes(cloud):
    (cloud.b / "f").write_bytes(pattern(3 << 20))
    with cloud.cost() as spent:
        sh("mv f g; cp g h", cloud.b)
    assert spent.pop("list objects", 0) <= 3 and spent.pop("get object", 0) <= 3
    assert spent == {"copy object": 2, "remove object": 1}
    cloud.refresh()
    assert (cloud.b / "h").read_bytes() == (cloud.b / "g").read_bytes() == pattern(3 << 20)


@pytest.mark.time_limit(240)
def test_a_hundred_thousand_keys(cloud):
    n = 20000 if is_sanitized(cloud.world.program) else 100000

    def memory():
        text = Path(f"/proc/{cloud.m.pid}/status").read_text()
        return int(text.split("VmRSS:")[1].split()[0]) << 10
    cloud.happens(f"object b fill many/k {n}")
    os.stat(cloud.b / "many")
    before = memory()
    with cloud.cost() as spent:
        assert int(sh("ls -lU many | wc -l", cloud.b, timeout=200).stdout) == n + 1
    assert spent == {"list objects": n // 1000}
    if not is_sanitized(cloud.world.program):
        assert memory() - before < 120 << 20


# ---- reading

@pytest.fixture(scope="session")
def big():
    return pattern(40 << 20, 7)


def put_big(cloud, big, name="big"):
    (cloud.b / name).write_bytes(big)
    return cloud.b / name


def digest(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else \
            hashlib.sha256(f.read()).hexdigest()


def test_reading_in_order(cloud, big):
    path = put_big(cloud, big)

    def cost(is_cold):
        if is_cold:
            cloud.forget_pages(path)
        with cloud.cost() as spent:
            assert path.read_bytes() == big
        return spent.get("read object", 0)

    # a kernel that is told to save memory (DAMON) may drop pages amid a read, which is then asked for again
    assert 1 <= min(cost(True) for _ in range(3)) <= 12
    wait_for(lambda: cost(False) == 0, what="the same content: the kernel's pages are kept")


def test_reading_at_random(cloud, big):
    path = put_big(cloud, big)
    cloud.forget_pages(path)
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    places = random.Random(3)
    for _ in range(200):
        at, n = places.randrange(len(big)), places.randrange(1, 300000)
        assert os.pread(fd, n, at) == big[at:at + n]
    os.close(fd)


def test_random_reads_fetch_little(cloud):
    size = 1 << 30
    path = cloud.b / "sparse"
    with open(path, "wb") as f:
        f.truncate(size)
    cloud.forget_pages(path)
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    with cloud.cost() as spent:
        for i in range(40):
            assert os.pread(fd, 4096, (i * 617 % 41) * (24 << 20)) == bytes(4096)
    os.close(fd)
    assert spent["read object"] <= 45


def test_the_ends_of_files(cloud):
    for n in (0, 1, 4095, 4096, 131071, 131072, 131073, (1 << 20) + 131072, (1 << 20) + 131073):
        data = pattern(n, n)
        (cloud.b / "f").write_bytes(data)
        cloud.forget_pages(cloud.b / "f")
        assert (cloud.b / "f").read_bytes() == data
        with open(cloud.b / "f", "rb") as f:
            f.seek(max(0, n - 3))
            assert f.read() == data[max(0, n - 3):]
            assert f.read() == b""


def test_eight_readers_side_by_side(cloud, big):
    path = put_big(cloud, big)
    cloud.rules("object-read delay 20")
    names = [path]
    for i in range(7):
        names.append(cloud.b / f"copy{i}")
        shutil.copy(path, names[-1])
    for name in names:
        cloud.forget_pages(name)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert set(pool.map(digest, names)) == {hashlib.sha256(big).hexdigest()}
    text = (cloud.m / ".trainfs/stats.tsv").read_text()
    assert "\tparked\t0\n" in text


def at_random(path):
    """A descriptor for which the kernel reads nothing ahead."""
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    return fd


def test_what_is_here_already_is_read_without_the_service(cloud, big):
    path = put_big(cloud, big)
    cloud.forget_pages(path)
    fd = at_random(path)
    assert os.pread(fd, 4096, 0) == big[:4096]
    assert os.pread(fd, 4096, 1 << 20) == big[1 << 20:(1 << 20) + 4096]  # the first range has come
    cloud.rules("object-read fail EHOSTUNREACH")
    assert os.pread(fd, 4096, 512 << 10) == big[512 << 10:(512 << 10) + 4096]
    start = time.monotonic()
    assert err_of(os.pread, fd, 4096, 30 << 20) in (errno.EHOSTUNREACH, errno.EIO)
    assert time.monotonic() - start < 20
    cloud.rules()
    assert os.pread(fd, 4096, 30 << 20) == big[30 << 20:(30 << 20) + 4096]
    os.close(fd)
    assert "EHOSTUNREACH" in cloud.m.errors()


def test_readers_of_one_object_share_what_was_fetched(cloud, big):
    path = put_big(cloud, big)
    cloud.forget_pages(path)
    first, second = at_random(path), at_random(path)
    with cloud.cost() as spent:
        assert os.pread(first, 4096, 0) == big[:4096]
        for at in range(8192, 1 << 20, 64 << 10):
            assert os.pread(second, 4096, at) == big[at:at + 4096]
    os.close(first)
    os.close(second)
    assert spent == {"read object": 1}


def test_mmap_reads(cloud, big):
    path = put_big(cloud, big)
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as view:
        for at in (0, 5, 30 << 20, len(big) - 9):
            assert view[at:at + 9] == big[at:at + 9]


def put_damaged(cloud, big):
    """It was put with another byte in its middle than reads give."""
    path = put_big(cloud, big)
    cloud.forget_pages(path)
    cloud.happens(f"object b damage big {20 << 20}")
    return path


def n_asked(cloud):
    rows = (line.split("\t") for line in (cloud.m / ".trainfs/stats.tsv").read_text().splitlines())
    return sum(int(row[2]) for row in rows if row[:2] == ["far", "get checksum"])


def test_the_end_of_what_has_another_checksum_is_not_given(cloud, big):
    path = put_damaged(cloud, big)
    with open(path, "rb", buffering=0) as f:
        given = bytearray()
        while len(given) < len(big) - (2 << 20):
            given += f.read(1 << 20)
        assert given[:20 << 20] == big[:20 << 20] and given[(20 << 20) + 1:] == big[(20 << 20) + 1:len(given)]
        assert err_of(digest, path) == errno.EIO
        assert err_of(os.pread, f.fileno(), 10, len(big) - 10) == errno.EIO
    assert "have the CRC32C " in cloud.m.errors()
    put_big(cloud, big)
    cloud.forget_pages(path)
    assert digest(path) == hashlib.sha256(big).hexdigest()


def test_only_the_end_waits_for_the_checksum(cloud, big):
    path = put_damaged(cloud, big)
    cloud.rules("object-checksum hang 3600000")
    with open(path, "rb", buffering=0) as f:
        for _ in range(38):
            assert len(f.read(1 << 20)) == 1 << 20
        caller = Caller("os.pread(os.open(argv[0], os.O_RDONLY), 10, int(argv[1]))", path, len(big) - 10)
        wait_for(lambda: "\tparked\t0\n" not in (cloud.m / ".trainfs/stats.tsv").read_text(), what="it waits")
        cloud.rules()
        assert caller.result()[-1] == str(errno.EIO)


def test_without_a_checksum_it_is_read_as_it_comes(cloud, big):
    path = put_damaged(cloud, big)
    cloud.rules("object-checksum fail EIO")
    with open(path, "rb") as f:
        given = f.read()
    assert len(given) == len(big) and given[20 << 20] == big[20 << 20] ^ 1
    assert n_asked(cloud) == 1


def test_the_checksum_of_a_version_is_asked_for_once(cloud, big):
    path = put_big(cloud, big)
    cloud.forget_pages(path)
    assert digest(path) == hashlib.sha256(big).hexdigest()
    cloud.happens(f"object b damage big {20 << 20}")
    cloud.forget_pages(path)
    assert err_of(digest, path) == errno.EIO
    assert n_asked(cloud) == 1
    put_big(cloud, big[::-1])
    cloud.forget_pages(path)
    assert digest(path) == hashlib.sha256(big[::-1]).hexdigest()
    assert n_asked(cloud) == 2


def test_what_is_read_here_and_there_asks_for_no_checksum(cloud, big):
    path = put_big(cloud, big)
    cloud.forget_pages(path)
    fd = at_random(path)
    for at in (0, 30 << 20, 5 << 20, len(big) - 4096):
        assert os.pread(fd, 4096, at) == big[at:at + 4096]
    os.close(fd)
    assert n_asked(cloud) == 0


def test_a_reader_sees_one_version(cloud, big):
    path = put_big(cloud, big)
    cloud.forget_pages(path)
    with open(path, "rb", buffering=0) as f:
        assert f.read(1000) == big[:1000]
        cloud.happens("object b put big other")
        f.seek(38 << 20)
        assert err_of(f.read, 1000) == errno.ESTALE
        assert err_of(f.read, 1000) == errno.ESTALE
    assert path.read_text() == "other\n"
    assert "ESTALE" in cloud.m.errors()


def test_changed_elsewhere_with_the_same_size(cloud):
    cloud.happens("object b put f old")
    assert (cloud.b / "f").read_text() == "old\n"
    cloud.happens("object b put f new")
    cloud.refresh()
    assert (cloud.b / "f").read_text() == "new\n"


def test_changes_elsewhere_show_after_the_metadata_time(mount, world):
    cloud = Cloud(mount, world, metadata_time="2s")
    cloud.mount()
    cloud.happens("object b put f old", "object b put gone x")
    assert sorted(os.listdir(cloud.b)) == [".tick", "f", "gone"]
    cloud.happens("object b put f longer", "object b put new y", "object b remove gone")
    wait_for(lambda: sorted(os.listdir(cloud.b)) == [".tick", "f", "new"], 30)
    wait_for(lambda: (cloud.b / "f").read_text() == "longer\n", 30)


def test_a_service_that_hangs_while_it_is_read(cloud, big):
    path = put_big(cloud, big)
    cloud.forget_pages(path)
    cloud.rules("object-read hang 3600000")
    start = time.monotonic()
    with open(path, "rb", buffering=0) as f:
        assert err_of(f.read, 100) in (errno.ETIMEDOUT, errno.EIO)
        assert 10 < time.monotonic() - start < 25
        assert sorted(os.listdir(cloud.b)) == ["big"]
        cloud.rules()
        assert wait_for(lambda: path.read_bytes() == big)


def test_a_service_that_fails_while_it_is_read(cloud, big):
    path = put_big(cloud, big)
    cloud.forget_pages(path)
    cloud.rules("object-read fail EACCES")
    assert err_of(path.read_bytes) in (errno.EACCES, errno.EIO)
    assert "EACCES" in cloud.m.errors()
    cloud.rules()
    assert path.read_bytes() == big


def test_listings_while_the_service_is_away(cloud):
    (cloud.b / "f").write_text("x")
    assert os.listdir(cloud.b) == ["f"]
    cloud.rules("* fail EHOSTUNREACH")
    cloud.refresh()
    assert os.listdir(cloud.b) == ["f"]
    assert err_of(os.listdir, cloud.m / "far/buckets/outputs") == errno.EHOSTUNREACH
    cloud.rules()
    assert os.listdir(cloud.m / "far/buckets/outputs") == []


def remote_state(cloud):
    rows = [line.split("\t") for line in (cloud.m / ".trainfs/remotes.tsv").read_text().splitlines()]
    return next(row[2] for row in rows if row[0] == "far")


def test_what_is_known_while_the_service_is_away(cloud):
    (cloud.b / "d").mkdir()
    (cloud.b / "d/f").write_text("known")
    assert os.listdir(cloud.m / "far/buckets") == ["b", "outputs"] and os.listdir(cloud.b / "d") == ["f"]
    assert (cloud.b / "d/f").read_text() == "known" and os.listdir(cloud.b) == ["d"] and remote_state(cloud) == "ok"
    cloud.rules("* fail EHOSTUNREACH")
    cloud.refresh()
    assert sorted(os.listdir(cloud.m / "far/buckets")) == ["b", "outputs"]
    assert (cloud.b / "d/f").read_text() == "known" and (cloud.b / "d/f").stat().st_size == 5
    assert os.listdir(cloud.b / "d") == ["f"] and os.listdir(cloud.b) == ["d"]
    assert "EHOSTUNREACH" in remote_state(cloud)
    assert err_of(os.stat, cloud.m / "far/buckets/never") == errno.EHOSTUNREACH
    cloud.rules()
    cloud.refresh()
    assert err_of(os.stat, cloud.m / "far/buckets/never") == errno.ENOENT and remote_state(cloud) == "ok"


# ---- writing

def test_what_is_closed_is_at_the_service(cloud):
    data = pattern(5 << 20)
    (cloud.b / "f").write_bytes(data)
    cloud.m.kill()
    cloud.m.force_down()
    cloud.mount()
    assert (cloud.b / "f").read_bytes() == data
    wait_for(lambda: cloud.pending() == [])


def test_fsync_delivers(cloud):
    with open(cloud.b / "f", "wb", buffering=0) as f:
        f.write(b"one")
        with cloud.cost() as spent:
            os.fsync(f.fileno())
        assert spent == {"put object": 1}
        with cloud.cost() as spent:
            os.fsync(f.fileno())
        assert spent == {}
        f.write(b"two")
        f.seek(0)
    assert (cloud.b / "f").read_bytes() == b"onetwo"


def test_shells_write(cloud):
    out = sh("""echo x > f; cat f; echo y >> f; cat f; : > f; wc -c < f; touch t; wc -c < t; echo z | tee f t; cat f t
        dd if=/dev/zero of=z bs=1000 count=3 2>/dev/null; dd if=f of=z bs=1 seek=1500 conv=notrunc 2>/dev/null; wc -c < z
        truncate -s 1700 z; wc -c < z; truncate -s 5 z; wc -c < z; truncate -s 0 z; wc -c < z""", cloud.b).stdout
    assert out.split() == "x x y 0 0 z z z 3000 1700 5 0".split()
    cloud.refresh()
    assert sorted(os.listdir(cloud.b)) == ["f", "t", "z"]


def test_an_empty_file_that_was_never_written(cloud):
    open(cloud.b / "e", "w").close()
    os.close(os.open(cloud.b / "x", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    cloud.m.unmount()
    cloud.mount()
    assert sorted(os.listdir(cloud.b)) == ["e", "x"]


def test_random_writes_against_a_plain_file(cloud, tmp_path):
    rng = random.Random(11)
    ours, plain = cloud.b / "f", tmp_path / "plain"
    for path in (ours, plain):
        path.write_bytes(pattern(3 << 20))
    for _ in range(6):
        mode = rng.choice(["r+b", "ab", "wb", "r+b"])
        seed = rng.random()
        for path in (ours, plain):
            own = random.Random(seed)
            with open(path, mode, buffering=0) as f:
                for _ in range(own.randrange(1, 15)):
                    what = own.randrange(5)
                    if what == 0:
                        f.truncate(own.randrange(4 << 20))
                    else:
                        f.seek(own.randrange(4 << 20))
                        f.write(pattern(own.randrange(200000), own.random()))
                if own.random() < 0.3:
                    os.fsync(f.fileno())
        if rng.random() < 0.5:
            cloud.refresh()
        assert ours.read_bytes() == plain.read_bytes()


def test_truncate_by_path(cloud):
    (cloud.b / "f").write_text("0123456789")
    os.truncate(cloud.b / "f", 4)
    cloud.refresh()
    assert (cloud.b / "f").read_text() == "0123"
    os.truncate(cloud.b / "f", 6)
    assert (cloud.b / "f").read_bytes() == b"0123\0\0"
    wait_for(lambda: cloud.pending() == [])


def test_mmap_writes(cloud):
    (cloud.b / "f").write_bytes(bytes(100000))
    with open(cloud.b / "f", "r+b") as f, mmap.mmap(f.fileno(), 0) as view:
        view[50000:50004] = b"here"
        view.flush()
    cloud.refresh()
    cloud.forget_pages(cloud.b / "f")
    assert (cloud.b / "f").read_bytes()[49999:50005] == b"\0here\0"


def test_a_reader_of_what_is_being_written(cloud):
    with open(cloud.b / "f", "w") as w:
        w.write("first ")
        w.flush()
        assert (cloud.b / "f").read_text() == "first "
        assert os.listdir(cloud.b) == ["f"] and os.stat(cloud.b / "f").st_size == 6
        cloud.refresh()
        assert os.listdir(cloud.b) == ["f"] and os.stat(cloud.b / "f").st_size == 6
        with open(cloud.b / "f", "a") as second:
            second.write("second")
        assert (cloud.b / "f").read_text() == "first second"


def test_tools_that_save(cloud, tmp_path):
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "a").write_text("alpha\n")
    (tree / "sub/b").write_bytes(pattern(200000))
    (tree / "run").write_text("#!/bin/sh\n")
    (tree / "run").chmod(0o755)
    sh(f"""cp -r {tree} c; cp -p {tree}/a p; cp -a {tree} ca; tar -C {tmp_path} -cf - tree | tar -xf -
        rsync -a {tree}/ r; rsync -a --inplace {tree}/ ri; install -m 600 {tree}/a i
        mv {tree}/a moved; echo alpha > {tree}/a; mv c c2; chmod 600 i; touch -d 2001-01-01 i
        sed -i s/alpha/beta/ c2/a; sed s/a/b/ p > q; sort -o q q""", cloud.b)
    for name in ("c2", "ca", "tree", "r", "ri"):
        assert sorted(os.listdir(cloud.b / name)) == ["a", "run", "sub"], name
        assert (cloud.b / name / "sub/b").read_bytes() == pattern(200000), name
    assert (cloud.b / "c2/a").read_text() == "beta\n" and (cloud.b / "moved").read_text() == "alpha\n"
    sh(f"tar -C {cloud.b} -cf {tmp_path}/out.tar ca r && mkdir {tmp_path}/x && tar -C {tmp_path}/x -xf {tmp_path}/out.tar; "
       f"diff -r {tmp_path}/x/ca {tree}", cloud.b)
    sh("rm -r c2 ca tree r ri; rm moved p q i", cloud.b)
    assert os.listdir(cloud.b) == []


@pytest.mark.skipif(not shutil.which("vim"), reason="no vim")
def test_vim_saves(cloud):
    (cloud.b / "f.txt").write_text("one\n")
    sh("vim -es -u NONE -c 'set backup backupskip= swapfile' -c 's/one/two/' -c wq f.txt", cloud.b)
    cloud.refresh()
    assert (cloud.b / "f.txt").read_text() == "two\n"
    assert (cloud.b / "f.txt~").read_text() == "one\n"


# ---- names that change

def test_rename(cloud):
    (cloud.b / "a").write_text("A")
    (cloud.b / "b").write_text("B")
    os.mkdir(cloud.b / "d")
    ino = os.stat(cloud.b / "a").st_ino
    os.rename(cloud.b / "a", cloud.b / "d/c")
    assert not (cloud.b / "a").exists() and (cloud.b / "d/c").read_text() == "A"
    (cloud.b / "a").write_text("A2")
    assert os.stat(cloud.b / "a").st_ino != os.stat(cloud.b / "d/c").st_ino
    os.replace(cloud.b / "d/c", cloud.b / "b")
    assert (cloud.b / "b").read_text() == "A" and os.listdir(cloud.b / "d") == []
    os.rename(cloud.b / "d", cloud.b / "e")
    os.rename(cloud.b / "e", cloud.b / "d")
    cloud.refresh()
    assert (cloud.b / "b").read_text() == "A" and os.stat(cloud.b / "a").st_ino == ino
    sh("mv -n a b; test -e a; echo x > d/f; mv d e; test ! -e d; cat e/f", cloud.b)
    assert (cloud.b / "b").read_text() == "A"


def test_rename_of_an_open_new_file(cloud):
    (cloud.b / "final").write_text("old")
    with open(cloud.b / "tmp", "w") as f:
        f.write("new")
        f.flush()
        os.rename(cloud.b / "tmp", cloud.b / "final")
        assert (cloud.b / "final").read_text() == "new"
    cloud.refresh()
    assert os.listdir(cloud.b) == ["final"] and (cloud.b / "final").read_text() == "new"


def test_rename_of_a_file_that_is_being_read(cloud, big):
    path = put_big(cloud, big)
    cloud.forget_pages(path)
    with open(path, "rb") as f:
        assert f.read(10) == big[:10]
        os.rename(path, cloud.b / "moved")
        assert f.read() == big[10:]


def test_unlink_of_an_open_file(cloud):
    with open(cloud.b / "f", "w+") as f:
        f.write("text")
        f.flush()
        os.unlink(cloud.b / "f")
        assert os.listdir(cloud.b) == []
        f.write(" and more")
        f.flush()
        f.seek(0)
        assert f.read() == "text and more" and os.fstat(f.fileno()).st_size == 13
        (cloud.b / "f").write_text("another")
        f.seek(0)
        assert f.read() == "text and more" and (cloud.b / "f").read_text() == "another"
        os.unlink(cloud.b / "f")
    assert os.listdir(cloud.b) == []
    cloud.refresh()
    assert os.listdir(cloud.b) == []
    wait_for(lambda: cloud.pending() == [])


# ---- two writers, and failures

def test_a_save_over_somebody_elses_change(cloud):
    (cloud.b / "f").write_text("base")
    append = open(cloud.b / "f", "a")
    f = open(cloud.b / "f", "w")
    cloud.happens("object b put f theirs")
    f.write("mine")
    assert err_of(f.close) == errno.ESTALE
    append.write("too late")
    assert err_of(append.close) == errno.ESTALE
    cloud.refresh()
    assert (cloud.b / "f").read_text() == "theirs\n"
    kept = cloud.pending()
    assert len(kept) == 1 and kept[0].read_text() == "mine"
    assert str(kept[0]) in cloud.m.errors()
    (cloud.b / "f").write_text("again")
    cloud.refresh()
    assert (cloud.b / "f").read_text() == "again"


def test_a_new_file_that_somebody_else_has_made(cloud):
    os.listdir(cloud.b)
    f = open(cloud.b / "f", "x")
    f.write("mine")
    cloud.happens("object b put f theirs")
    assert err_of(f.close) == errno.ESTALE
    cloud.refresh()
    assert (cloud.b / "f").read_text() == "theirs\n"


def save(path, text):
    with open(path, "w") as f:
        f.write(text)


def test_a_failed_upload_is_told_kept_and_sent_again(cloud):
    (cloud.b / "f").write_text("old")
    cloud.rules("object-put fail EHOSTUNREACH")
    assert err_of(save, cloud.b / "f", "new") == errno.EHOSTUNREACH
    assert (cloud.b / "f").read_text() == "new"  # here it is what was written
    kept = cloud.pending()
    assert [p.read_text() for p in kept] == ["new"] and kept[0].stat().st_mode & 0o777 == 0o600
    assert str(kept[0]) in cloud.m.errors()
    cloud.rules()
    wait_for(lambda: cloud.pending() == [], what="it is sent again")
    cloud.refresh()
    assert (cloud.b / "f").read_text() == "new"


def test_a_failed_upload_is_sent_by_the_next_mount(cloud):
    cloud.rules("object-put fail EIO")
    assert err_of(save, cloud.b / "f", "kept") == errno.EIO
    cloud.m.unmount()
    assert "could not be delivered" in cloud.m.log()
    cloud.rules()
    cloud.mount()
    assert (cloud.b / "f").read_text() == "kept"
    wait_for(lambda: cloud.pending() == [])


def test_a_newer_save_wins_over_a_failed_one(cloud):
    cloud.rules("object-put fail EIO")
    assert err_of(save, cloud.b / "f", "older") == errno.EIO
    assert err_of(save, cloud.b / "g", "unwanted") == errno.EIO
    cloud.rules()
    save(cloud.b / "f", "newer")
    os.unlink(cloud.b / "g")
    wait_for(lambda: cloud.pending() == [])
    cloud.m.kill()
    cloud.m.force_down()
    cloud.mount()
    assert os.listdir(cloud.b) == ["f"] and (cloud.b / "f").read_text() == "newer"


def test_an_upload_whose_answer_got_lost(cloud):
    cloud.rules("object-put lose-reply")
    assert err_of(save, cloud.b / "f", "once") == errno.ETIMEDOUT
    cloud.rules()
    wait_for(lambda: cloud.pending() == [], what="it is seen to be there")
    assert (cloud.b / "f").read_text() == "once"
    assert "changed by somebody else" not in cloud.m.errors()


@pytest.mark.parametrize("is_closed", [True, False])
def test_kill_with_dirty_data(cloud, is_closed):
    (cloud.b / "old").write_text("old")
    cloud.rules("object-put fail EIO")
    if is_closed:
        assert err_of(save, cloud.b / "old", "new") == errno.EIO
    else:
        f = open(cloud.b / "old", "w")
        f.write("half of it")
        f.flush()
    cloud.m.kill()
    cloud.m.force_down()
    cloud.rules()
    cloud.mount()
    if is_closed:
        assert (cloud.b / "old").read_text() == "new"
        wait_for(lambda: cloud.pending() == [])
    else:
        assert (cloud.b / "old").read_text() == "old"
        kept = cloud.pending()
        assert [p.read_text() for p in kept] == ["half of it"] and str(kept[0]) in cloud.m.errors()


def test_kill_during_an_upload(cloud):
    cloud.rules("object-put hang 3600000")
    caller = Caller("open(argv[0], 'w').write('whole')", cloud.b / "f")
    cloud.wait_sending("f")
    cloud.m.kill()
    cloud.m.force_down()
    caller.kill()
    cloud.rules()
    cloud.mount()
    assert (cloud.b / "f").read_text() == "whole"
    wait_for(lambda: cloud.pending() == [])


def test_an_upload_that_hangs_holds_up_nothing(cloud):
    (cloud.b / "other").write_text("x")
    cloud.rules("object-put hang 3600000")
    callers = [Caller(f"open(argv[0], 'w').write('{i}')", cloud.b / f"f{i}") for i in range(6)]
    cloud.wait_sending(*(f"f{i}" for i in range(6)))
    start = time.monotonic()
    with cloud.cost() as spent:
        assert os.listdir(cloud.m / "far/buckets/outputs") == []
    assert spent["list objects"] > 0
    assert len(os.listdir(cloud.b)) == 7 and (cloud.b / "other").read_text() == "x"
    assert time.monotonic() - start < 10
    for caller in callers:
        caller.ends_by(signal.SIGKILL, 10)
    cloud.rules()
    wait_for(lambda: cloud.pending() == [])


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small tmpfs")
def test_no_room_for_what_is_written(mount, world):
    small = world.root / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", small], check=True)
    try:
        cloud = Cloud(mount, world, state_dir=small / "far")
        cloud.mount()
        (cloud.b / "f").write_text("small")
        assert err_of((cloud.b / "g").write_bytes, bytes(20 << 20)) == errno.ENOSPC
        assert (cloud.b / "f").read_text() == "small"
        os.unlink(cloud.b / "g")
        (cloud.b / "h").write_text("room again")
        assert (cloud.b / "h").read_text() == "room again"
        cloud.m.unmount()
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def test_nothing_is_left_open(cloud):
    (cloud.b / "f").write_bytes(pattern(1 << 20))
    cloud.forget_pages(cloud.b / "f")
    (cloud.b / "f").read_bytes()
    wait_for(lambda: stats(cloud.m, "", "handles") <= 1)
    assert stats(cloud.m, "", "parked") == 0
    wait_for(lambda: list(cloud.world.data.rglob("pending/*/*")) == [])


def test_what_tools_set_after_they_wrote_is_accepted(cloud, tmp_path):
    (tmp_path / "from/deep").mkdir(parents=True)
    (tmp_path / "from/deep/f").write_text("x")
    if os.geteuid() == 0:
        os.chown(tmp_path / "from/deep", 1234, 1235)
        os.chown(tmp_path / "from/deep/f", 1234, 1235)
    os.chmod(tmp_path / "from/deep/f", 0o640)
    sh(f"cp -a {tmp_path}/from a; rsync -a {tmp_path}/from/ b; tar cf - -C {tmp_path}/from . | (mkdir c && tar xf - -C c);"
       "touch -d 2020-02-02 a/deep/f; touch c/deep/f; chmod 600 b/deep/f", cloud.b)
    st = os.stat(cloud.b / "a/deep/f")
    assert (st.st_uid, st.st_mode & 0o777) == (os.geteuid(), 0o644) and time.time() - st.st_mtime < 600
    assert cloud.m.errors() == ""


def test_an_open_file_without_a_name_has_no_link(cloud):
    with open(cloud.b / "f", "w+") as f:
        f.write("x")
        f.flush()
        assert os.fstat(f.fileno()).st_nlink == 1
        os.unlink(cloud.b / "f")
        assert os.fstat(f.fileno()).st_nlink == 0


# ---- extended attributes

def test_without_xattr_there_are_none_and_nobody_is_asked(cloud):
    (cloud.b / "f").write_text("x")
    with cloud.cost() as spent:
        for ask in (lambda p: os.getxattr(p, "user.etag"), os.listxattr, lambda p: os.setxattr(p, "user.a", b"1")):
            with pytest.raises(OSError) as e:
                ask(cloud.b / "f")
            assert e.value.errno == errno.ENOTSUP
    assert spent == {}


@pytest.fixture
def told(mount, world):
    """A cloud with -o xattr, and objects f0 to f4 in a fresh listing."""
    made = Cloud(mount, world)
    made.mount(args=["-o", "xattr"])
    for i in range(5):
        (made.b / f"f{i}").write_text("x")
    made.refresh()
    os.listdir(made.b)
    yield made
    made.rules()


def xattrs(path):
    return {name: os.getxattr(path, name) for name in os.listxattr(path)}


def test_attributes_cost_one_call_an_object(told):
    with told.cost() as spent:
        assert os.getxattr(told.b / "f0", "user.etag").startswith(b"v")
        subprocess.run(["ls", "-lA", "--color=always"], cwd=told.b, check=True, stdout=subprocess.DEVNULL, timeout=20)
        for name in ("user.error", "user.other", "security.selinux", "user.generation"):
            with pytest.raises(OSError) as e:
                os.getxattr(told.b / "f0", name)
            assert e.value.errno == errno.ENODATA
    assert spent == {}
    with told.cost() as spent:
        for _ in range(3):
            found = xattrs(told.b / "f1")
    assert spent == {"get object": 1}
    assert list(found) == ["user.etag", "user.content-type"] and found["user.content-type"] == b"application/octet-stream"
    assert os.listxattr(told.b) == os.listxattr(told.b.parent) == []


def test_attributes_follow_the_object(told):
    before = xattrs(told.b / "f0")
    told.happens("object b put f0 newer")
    told.refresh()
    after = xattrs(told.b / "f0")
    assert before["user.etag"] != after["user.etag"]
    with open(told.b / "f0", "a") as f:
        f.write("more")
        f.flush()
        assert os.listxattr(told.b / "f0") == []  # what is there is not what is shown
    assert xattrs(told.b / "f0")["user.etag"] not in (before["user.etag"], after["user.etag"])


def test_attributes_cannot_be_set_and_no_copy_fails_for_that(told, tmp_path):
    (tmp_path / "from").write_text("x")
    try:
        os.setxattr(tmp_path / "from", "user.color", b"red")
    except OSError:
        pytest.skip("no extended attributes here")
    for ask in (lambda p: os.setxattr(p, "user.color", b"red"), lambda p: os.removexattr(p, "user.etag")):
        with pytest.raises(OSError) as e:
            ask(told.b / "f0")
        assert e.value.errno == errno.ENOTSUP
    sh(f"cp -a {tmp_path}/from copied; cp -a f1 again; mv {tmp_path}/from moved", told.b)
    assert sorted(os.listdir(told.b))[:3] == ["again", "copied", "f0"]
