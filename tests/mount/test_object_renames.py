# SPDX-License-Identifier: MIT
"""Renames of objects and of directories of them: shown at once, finished behind, in order, and whole after a crash."""
import concurrent.futures
import errno
import os
import random
import signal
import subprocess
import time

import pytest

from conftest import is_mounted, wait_for
from jobtools import Caller, wait_parked
from test_objects import Cloud, cloud, err_of, pattern, sh  # pylint: disable=unused-import

HANG = 3600000


def records(cloud):
    """Renames that are not done yet."""
    return sorted(cloud.world.data.rglob("pending/*/*.rename"))


def settled(cloud, timeout=20):
    wait_for(lambda: records(cloud) == [] and cloud.pending() == [], timeout, "the renames are done")


def tree(cloud):
    """What the service has, as another mount of it sees it: after this one has forgotten all it knew."""
    cloud.refresh()
    found = {}
    for folder, dirs, files in os.walk(cloud.b):
        at = os.path.relpath(folder, cloud.b)
        for name in files:
            found[os.path.normpath(f"{at}/{name}")] = open(f"{folder}/{name}").read()
        for name in dirs:
            found[os.path.normpath(f"{at}/{name}") + "/"] = None
    return found


def again(cloud, *rules):
    """kill -9, and a mount that follows."""
    cloud.m.kill()
    cloud.m.force_down()
    cloud.events = ""  # what somebody else did is not to be done again
    cloud.rules(*rules)
    cloud.mount()


def transfers(cloud):
    lines = (cloud.m / "far/transfers.tsv").read_text().splitlines()
    return [line.split("\t") for line in lines[1:]]


def rename_within(source, target, limit=5):
    start = time.monotonic()
    os.rename(source, target)
    assert time.monotonic() - start < limit


def hung(cloud, op="object-copy"):
    cloud.rules(f"{op} hang {HANG}")


def happens_meanwhile(cloud, line, op="object-copy"):
    """Somebody else does that while `op` hangs on."""
    rules = cloud.rules
    cloud.rules = lambda: rules(f"{op} hang {HANG}")
    try:
        cloud.happens(line)
    finally:
        cloud.rules = rules


# ---- files

def test_it_is_shown_at_once_and_finished_behind(cloud):
    (cloud.b / "a").write_bytes(pattern(3 << 20))
    os.mkdir(cloud.b / "d")
    cloud.forget_pages(cloud.b / "a")
    cloud.rules(f"object-copy hang {HANG}")
    rename_within(cloud.b / "a", cloud.b / "d/b")
    assert transfers(cloud) == [["rename", "b/d/b", "copying", "0", str(3 << 20), ""]]
    for _ in range(2):
        assert not (cloud.b / "a").exists() and os.listdir(cloud.b) == ["d"] and os.listdir(cloud.b / "d") == ["b"]
        assert os.stat(cloud.b / "d/b").st_size == 3 << 20
        cloud.refresh()
    assert (cloud.b / "d/b").read_bytes() == pattern(3 << 20)
    caller = Caller("f = os.open(argv[0], os.O_RDONLY); os.fsync(f)", cloud.b / "d/b")
    caller.wait_blocked()
    cloud.rules()
    assert caller.result() == ["0"]
    assert records(cloud) == [] and transfers(cloud) == []
    cloud.refresh()
    assert (cloud.b / "d/b").read_bytes() == pattern(3 << 20) and os.listdir(cloud.b) == ["d"]


def test_a_failure_at_once_is_the_callers(cloud):
    (cloud.b / "a").write_text("A")
    for rule, expected in (("EPERM", errno.EPERM), ("EINVAL", errno.EBADMSG), ("EOPNOTSUPP", errno.EPERM), ("EIO", errno.EIO)):
        cloud.rules(f"object-copy fail {rule}")
        assert err_of(os.rename, cloud.b / "a", cloud.b / "b") == expected
        assert os.listdir(cloud.b) == ["a"] and (cloud.b / "a").read_text() == "A"
    cloud.rules()
    assert records(cloud) == [] and tree(cloud) == {"a": "A"}
    os.rename(cloud.b / "a", cloud.b / "b")
    assert tree(cloud) == {"b": "A"}


def test_a_failure_behind_is_named_and_taken_back(cloud):
    (cloud.b / "a").write_text("A")
    hung(cloud)
    os.rename(cloud.b / "a", cloud.b / "b")
    caller = Caller("f = os.open(argv[0], os.O_RDONLY); os.fsync(f)", cloud.b / "b")
    wait_parked(cloud.m)
    happens_meanwhile(cloud, "object b put b theirs")
    cloud.rules()
    assert caller.result() == [str(errno.EEXIST)]
    wait_for(lambda: records(cloud) == [])
    assert tree(cloud) == {".tick": tree(cloud)[".tick"], "a": "A", "b": "theirs\n"}


def test_what_time_may_mend_is_tried_again(cloud):
    (cloud.b / "a").write_text("A")
    cloud.rules("object-copy delay 1300", "object-copy fail EHOSTUNREACH")
    os.rename(cloud.b / "a", cloud.b / "b")
    wait_for(lambda: "tried again" in cloud.m.errors())
    assert os.listdir(cloud.b) == ["b"] and (cloud.b / "b").read_text() == "A"
    assert "far/buckets/b/b" in cloud.m.errors()
    cloud.rules()
    settled(cloud)
    assert tree(cloud) == {"b": "A"}


@pytest.mark.parametrize("op", ["object-copy", "object-remove"])
def test_an_answer_that_got_lost(cloud, op):
    (cloud.b / "a").write_text("A")
    cloud.rules(f"{op} delay 1300", f"{op} lose-reply")
    os.rename(cloud.b / "a", cloud.b / "b")
    wait_for(lambda: "tried again" in cloud.m.errors())
    cloud.rules()
    settled(cloud)
    assert tree(cloud) == {"b": "A"}


def test_a_target_that_somebody_else_changed_is_looked_at_again(cloud):
    (cloud.b / "a").write_text("A")
    (cloud.b / "b").write_text("B")
    os.listdir(cloud.b)  # known, for a while
    cloud.happens("object b put b theirs")
    with cloud.cost() as spent:
        os.rename(cloud.b / "a", cloud.b / "b")  # the kernel asks once more after ESTALE
    assert spent["copy object"] == 2 and spent["list objects"] + spent.get("get object", 0) >= 1
    found = tree(cloud)
    assert found["b"] == "A" and "a" not in found


def test_a_source_that_somebody_else_changed_meanwhile(cloud):
    (cloud.b / "a").write_text("A")
    hung(cloud, "object-remove")
    os.rename(cloud.b / "a", cloud.b / "b")
    happens_meanwhile(cloud, "object b put a theirs", "object-remove")
    cloud.rules()
    settled(cloud)
    found = tree(cloud)
    assert found["a"] == "theirs\n" and found["b"] == "A"


# ---- one after another, the first still under way

def let_go(cloud):
    cloud.rules()
    settled(cloud)


@pytest.mark.parametrize("op,is_killed", [("object-copy", True), ("object-copy", False), ("object-remove", True)])
def test_what_follows_while_the_first_is_under_way(cloud, op, is_killed):
    rows = {  # what is there, what is done, what comes of it; each in a directory of its own, for they have a lock each
        "twice": ({"a": "A"}, "mv a b; mv b c", {"c": "A"}),
        "back": ({"a": "A"}, "mv a b; mv b a", {"a": "A"}),
        "gone": ({"a": "A"}, "mv a b; rm b", {}),
        "over": ({"a": "A", "b": "B"}, "mv a x; mv b a", {"x": "A", "a": "B"}),
        "into": ({"a": "A", "b": "B"}, "mv a x; mv b x", {"x": "B"}),
        "dir": ({"d/x": "X"}, "mv d/x d/y; mv d e; mv e/y e/z", {"e/": None, "e/z": "X"}),
        "made": ({"a": "A"}, "mv a b; mkdir a; rmdir a; mkdir a", {"b": "A", "a/": None}),
        "emptied": ({"d/x": "X"}, "mv d/x d/y; rm d/y; rmdir d", {})}
    if op == "object-remove":  # of directories it is no rename's
        del rows["made"], rows["emptied"]
    for row, (before, _, _) in rows.items():
        for name, text in before.items():
            (cloud.b / row / name).parent.mkdir(parents=True, exist_ok=True)
            (cloud.b / row / name).write_text(text)
    hung(cloud, op)
    running = [subprocess.Popen(["sh", "-ec", row[1]], cwd=cloud.b / name) for name, row in rows.items()]
    assert [process.wait(40) for process in running] == [0] * len(rows)
    wanted = {f"{row}/{name}": text for row, (_, _, after) in rows.items() for name, text in after.items()}
    for path in (cloud.b / row for row in rows):
        wanted[f"{path.name}/"] = None
    assert tree(cloud) == wanted and records(cloud)
    if is_killed:
        again(cloud)
        assert tree(cloud) == wanted
    let_go(cloud)
    assert tree(cloud) == wanted


def test_a_new_file_of_the_old_name(cloud):
    (cloud.b / "a").write_text("old")
    hung(cloud)
    os.rename(cloud.b / "a", cloud.b / "b")
    caller = Caller("f = open(argv[0], 'w'); f.write('new'); f.close()", cloud.b / "a")
    wait_for(lambda: sorted(os.listdir(cloud.b)) == ["a", "b"])
    caller.wait_blocked()
    cloud.rules()
    assert caller.result() == ["0"]
    settled(cloud)
    assert tree(cloud) == {"a": "new", "b": "old"}


def test_a_file_that_is_written_while_its_rename_is_under_way(cloud):
    (cloud.b / "a").write_text("old")
    hung(cloud)
    os.rename(cloud.b / "a", cloud.b / "b")
    caller = Caller("f = open(argv[0], 'r+'); f.write('NEW'); f.flush(); print('written', flush=True); f.close()", cloud.b / "b")
    assert caller.process.stdout.readline() == "written\n"
    assert (cloud.b / "b").read_text() == "NEW"
    cloud.rules()
    assert caller.result() == ["0"]
    settled(cloud)
    assert tree(cloud) == {"b": "NEW"}


def test_a_rename_never_waits_for_an_upload(cloud):
    (cloud.b / "old").write_text("old")
    cloud.rules(f"object-put hang {HANG}")
    callers = []
    for name, sending in (("new", ["new"]), ("old", ["new", "old"])):  # records keep the old name
        callers.append(Caller(f"open(argv[0], 'w').write('{name} bytes')", cloud.b / name))
        cloud.wait_sending(*sending)
        rename_within(cloud.b / name, cloud.b / (name + "2"))
    assert sorted(os.listdir(cloud.b)) == ["new2", "old2"] and (cloud.b / "new2").read_text() == "new bytes"
    cloud.rules()
    for caller in callers:
        assert caller.result() == ["0"]
    settled(cloud)
    assert tree(cloud) == {"new2": "new bytes", "old2": "old bytes"}


def test_what_is_only_here_changes_its_name(cloud):
    os.listdir(cloud.b)
    hung(cloud, "*")
    with open(cloud.b / "tmp", "w") as f:
        f.write("text")
        f.flush()
        rename_within(cloud.b / "tmp", cloud.b / "final")
        assert os.listdir(cloud.b) == ["final"]
        cloud.rules()
    assert tree(cloud) == {"final": "text"}


def test_editors_and_tools_that_save_by_rename(cloud, tmp_path):
    (cloud.b / "f").write_text("one\n")
    (tmp_path / "f").write_text("two lines\nof it\n")
    sh(f"sed -i s/one/two/ f; cat f; rsync -c {tmp_path}/f f; cp f g; mv g f; sed -i.bak s/two/2/ f", cloud.b)
    assert tree(cloud) == {"f": "2 lines\nof it\n", "f.bak": "two lines\nof it\n"}


# ---- many threads

DIRS = ("d0", "d1", "d2")
TURNS = 60


def whole(text):
    """One version of one file, from its first line to its last; an empty one is about to be written."""
    lines = text.splitlines()
    return not lines or (lines == [lines[0]] * len(lines) and len(lines) == 1 + int(lines[0].split(".")[-1]) % 50)


class Owner:
    """Does what it wants with its own files, in directories that others use as well, and finds them as it left them."""

    def __init__(self, b, name):
        self.b, self.name, self.rng = b, name, random.Random(name)
        self.files = {}  # path below b: its text
        self.n = 0

    def new_path(self):
        self.n += 1
        return f"{self.rng.choice(DIRS)}/{self.name}.{self.n}"

    def write(self, path):
        self.n += 1
        text = f"{self.name}.{self.n}\n" * (1 + self.n % 50)
        with open(self.b / path, "w") as f:
            f.write(text)
        self.files[path] = text

    def rename(self, path):
        target = self.rng.choice([self.new_path(), *self.files])
        with open(self.b / path) as f:
            os.rename(self.b / path, self.b / target)
            assert f.read() == self.files[path]
        if target != path:
            self.files[target] = self.files.pop(path)
            assert not (self.b / path).exists()
        assert (self.b / target).read_text() == self.files[target]

    def unlink(self, path):
        os.unlink(self.b / path)
        del self.files[path]
        assert not (self.b / path).exists()

    def run(self):
        for _ in range(TURNS):
            path = self.rng.choice([self.new_path(), *self.files])
            op = self.write if path not in self.files else \
                self.rng.choice([self.write, self.rename, self.rename, self.rename, self.unlink])
            op(path)


def move_to_and_fro(b):
    for i in range(TURNS // 6):
        os.rename(b / f"moved{i % 2}", b / f"moved{(i + 1) % 2}")
        assert (b / f"moved{(i + 1) % 2}/x").read_text() == "x.0\n"


def look_around(b, owners):
    n_read = 0
    while not all(owner.done() for owner in owners):
        for folder in (*DIRS, "moved0", "moved1"):
            try:
                for name in os.listdir(b / folder):
                    text = (b / folder / name).read_text()
                    assert whole(text), f"{folder}/{name}: {text}"
                    n_read += 1
            except OSError as e:
                assert e.errno in (errno.ENOENT, errno.ESTALE), e
    return n_read


@pytest.mark.time_limit(240)
def test_renames_writes_reads_and_lists_at_once(cloud):
    for name in (*DIRS, "moved0"):
        os.mkdir(cloud.b / name)
    (cloud.b / "moved0/x").write_text("x.0\n")
    cloud.rules("object-copy delay 3", "object-put delay 2")
    owners = [Owner(cloud.b, f"o{i}") for i in range(4)]
    with concurrent.futures.ThreadPoolExecutor(7) as pool:
        changes = [pool.submit(owner.run) for owner in owners] + [pool.submit(move_to_and_fro, cloud.b)]
        looks = [pool.submit(look_around, cloud.b, changes) for _ in range(2)]
        for done in changes:
            done.result()
        assert all(look.result() for look in looks)
    cloud.rules()
    settled(cloud)
    wanted = {path: text for owner in owners for path, text in owner.files.items()}
    wanted |= {f"{name}/": None for name in (*DIRS, "moved0")} | {"moved0/x": "x.0\n"}
    assert tree(cloud) == wanted
    again(cloud)
    assert tree(cloud) == wanted


# ---- directories

def fill(cloud, n, name="d"):
    cloud.happens(f"object b fill {name}/s/k {n}")
    cloud.refresh()


def test_a_directory_of_a_hundred(cloud):
    fill(cloud, 99)
    cloud.happens("object b put d/ \\c")
    with cloud.cost() as spent:
        os.rename(cloud.b / "d", cloud.b / "e")
        sh("sync e", cloud.b)
    assert spent.pop("list objects") <= 4 and spent.pop("get object", 0) <= 1
    assert spent == {"copy object": 99, "put object": 1, "remove object": 100}  # its marker is made anew
    found = tree(cloud)
    assert len([name for name in found if name.startswith("e/s/")]) == 100
    assert not [name for name in found if name.startswith("d")]


def test_a_bigger_one_is_moved_file_by_file_at_the_service(cloud):
    fill(cloud, 150)
    assert err_of(os.rename, cloud.b / "d", cloud.b / "e") == errno.EXDEV
    with cloud.cost() as spent:
        sh("mv d e", cloud.b)
    assert "read object" not in spent and spent["copy object"] == 150
    found = tree(cloud)
    assert len([name for name in found if name.startswith("e/s/k")]) == 150
    assert not [name for name in found if name.startswith("d")]


def test_a_directory_under_way_is_the_new_one(cloud):
    cloud.happens("object b put d/x X", "object b put d/s/y Y", "object b put d/ \\c")
    cloud.refresh()
    os.mkdir(cloud.b / "e")
    inside = os.open(cloud.b / "d", os.O_RDONLY)
    assert (cloud.b / "d/s/y").read_text() == "Y\n"
    hung(cloud)
    rename_within(cloud.b / "d", cloud.b / "e")
    for _ in range(2):
        assert not (cloud.b / "d").exists() and sorted(os.listdir(cloud.b)) == [".tick", "e"]
        assert sorted(os.listdir(cloud.b / "e")) == ["s", "x"] == sorted(os.listdir(inside))
        assert (cloud.b / "e/s/y").read_text() == "Y\n"
        cloud.refresh()
    assert err_of(os.rmdir, cloud.b / "e") == errno.ENOTEMPTY
    os.mkdir(cloud.b / "d")
    os.rename(cloud.b / "e/s", cloud.b / "d/s")
    assert os.listdir(cloud.b / "d/s") == ["y"]
    os.close(inside)
    let_go(cloud)
    found = tree(cloud)
    del found[".tick"]
    assert found == {"d/": None, "d/s/": None, "d/s/y": "Y\n", "e/": None, "e/x": "X\n"}


def test_targets_of_directories(cloud):
    for name in ("d", "empty", "full"):
        os.mkdir(cloud.b / name)
    (cloud.b / "full/x").write_text("x")
    (cloud.b / "file").write_text("f")
    assert err_of(os.rename, cloud.b / "d", cloud.b / "full") == errno.ENOTEMPTY
    assert err_of(os.rename, cloud.b / "d", cloud.b / "file") == errno.ENOTDIR
    assert err_of(os.rename, cloud.b / "full", cloud.b / "full/below") == errno.EINVAL
    os.rename(cloud.b / "full", cloud.b / "empty")
    os.rename(cloud.b / "d", cloud.b / "e")
    assert tree(cloud) == {"e/": None, "empty/": None, "empty/x": "x", "file": "f"}
    os.mkdir(cloud.m / "far/buckets/second")
    os.rename(cloud.b / "empty", cloud.m / "far/buckets/second/over")
    assert (cloud.m / "far/buckets/second/over/x").read_text() == "x"
    assert tree(cloud) == {"e/": None, "file": "f"}


def test_a_directory_that_is_refused_half_way(cloud):
    cloud.happens(*(f"object b put d/{i} {i}" for i in range(6)))
    cloud.refresh()
    before = tree(cloud)
    cloud.rules("object-copy fail EPERM every 4")
    assert err_of(os.rename, cloud.b / "d", cloud.b / "e") == errno.EPERM
    cloud.rules()
    settled(cloud)
    assert tree(cloud) == before
    assert sorted(os.listdir(cloud.b / "d")) == [str(i) for i in range(6)]


def test_what_is_only_here_goes_with_its_directory(cloud):
    os.mkdir(cloud.b / "d")
    (cloud.b / "d/there").write_text("there")
    with open(cloud.b / "d/here", "w") as f:
        f.write("here")
        f.flush()
        os.rename(cloud.b / "d", cloud.b / "e")
        assert sorted(os.listdir(cloud.b / "e")) == ["here", "there"]
    settled(cloud)
    assert tree(cloud) == {"e/": None, "e/here": "here", "e/there": "there"}


# ---- the end of the mount

@pytest.mark.parametrize("rule", [f"object-copy hang {HANG}", f"object-remove hang {HANG}"])
def test_killed_and_finished_by_the_next_mount(cloud, rule):
    (cloud.b / "a").write_text("A")
    (cloud.b / "b").write_text("B")
    cloud.happens(*(f"object b put d/{i} {i}" for i in range(5)))
    cloud.refresh()
    cloud.rules(rule)
    os.rename(cloud.b / "a", cloud.b / "b")
    os.rename(cloud.b / "d", cloud.b / "e")
    again(cloud)
    assert sorted(os.listdir(cloud.b)) == [".tick", "b", "e"]
    settled(cloud)
    found = tree(cloud)
    del found[".tick"]
    assert found == {"b": "A", "e/": None, **{f"e/{i}": f"{i}\n" for i in range(5)}}


@pytest.mark.parametrize("op", ["object-copy", "object-remove"])
def test_killed_half_way_through_a_directory(cloud, op):
    cloud.happens(*(f"object b put d/{i} {i}" for i in range(30)))
    cloud.refresh()
    cloud.rules(f"{op} delay 400")
    caller = Caller("os.rename(argv[0], argv[1])", cloud.b / "d", cloud.b / "e")
    before = cloud.calls()
    name = op.replace("object-", "") + " object"
    wait_for(lambda: cloud.calls()[name] >= before[name] + 9)
    again(cloud)
    caller.kill()
    settled(cloud)
    found = tree(cloud)
    assert {k: v for k, v in found.items() if k != ".tick"} == {"e/": None, **{f"e/{i}": f"{i}\n" for i in range(30)}}


def test_killed_between_an_upload_and_its_rename(cloud):
    os.listdir(cloud.b)
    cloud.rules(f"object-put hang {HANG}")
    caller = Caller("open(argv[0], 'w').write('whole')", cloud.b / "tmp")
    cloud.wait_sending("tmp")
    os.rename(cloud.b / "tmp", cloud.b / "final")
    again(cloud)
    caller.kill()
    assert (cloud.b / "final").read_text() == "whole" and os.listdir(cloud.b) == ["final"]
    settled(cloud)
    assert tree(cloud) == {"final": "whole"}


def test_unmount_waits_for_renames(cloud):
    (cloud.b / "a").write_text("A")
    (cloud.b / "x").write_text("X")
    cloud.rules("object-copy delay 2500")
    os.rename(cloud.b / "a", cloud.b / "b")
    os.rename(cloud.b / "b", cloud.b / "c")
    assert records(cloud)
    cloud.m.unmount()
    assert records(cloud) == []
    cloud.rules()
    cloud.mount()
    assert tree(cloud) == {"c": "A", "x": "X"}


def test_what_hangs_at_the_end_is_named_and_finished_by_the_next_mount(cloud):
    """The second SIGTERM stands for the end of the time that a daemon gives to what is on its way."""
    (cloud.b / "a").write_text("A")
    hung(cloud)
    rename_within(cloud.b / "a", cloud.b / "b")
    cloud.m.signal(signal.SIGTERM)
    wait_for(lambda: not is_mounted(cloud.m), what="the first has been heard")
    cloud.m.signal(signal.SIGTERM)
    assert cloud.m.wait() == 0
    assert "b/a to b/b is not finished; the next mount goes on with it" in cloud.m.log()
    cloud.rules()
    cloud.mount()
    settled(cloud)
    assert tree(cloud) == {"b": "A"}


def test_what_unmount_leaves_is_named(cloud):
    (cloud.b / "a").write_text("A")
    cloud.rules("object-copy delay 1300", "object-copy fail EHOSTUNREACH")
    os.rename(cloud.b / "a", cloud.b / "b")
    wait_for(lambda: "tried again" in cloud.m.errors())
    cloud.m.unmount()
    assert "b/a to b/b is not finished; the next mount goes on with it" in cloud.m.log()
    cloud.rules()
    cloud.mount()
    settled(cloud)
    assert tree(cloud) == {"b": "A"}
