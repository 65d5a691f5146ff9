# SPDX-License-Identifier: MIT
"""Random operations, the same ones in a bucket at a service that others wrote and in a plain directory; at the end another
client of the service reads what there is. TRAINFS_RANDOM_SEED and TRAINFS_RANDOM_OPS (default 150) as in test_random.py.

What an object store does otherwise is left to the bucket: it refuses, and then the plain directory is not asked.
"""
import hashlib
import os
import random
import stat
import subprocess
from pathlib import Path

import pytest

from cloudtools import BUCKET
from cloudtools import mounted, options, service  # noqa: F401, fixtures
from test_random import OPERATIONS, SEED, Tree, name_of, outcome

OPS = int(os.environ.get("TRAINFS_RANDOM_OPS", "150"))
COMPARE_EVERY = 50
BIG = 17 << 20  # is sent in parts

TAKEN = ["create", "write", "append", "overwrite", "read", "truncate", "map_read", "map_write", "copy_range", "rename", "unlink",
         "mkdir", "rmdir", "remove_all", "list", "stat", "open", "close", "open_write", "open_read", "open_truncate",
         "open_stat", "sync"]
OURS = {
    "copy": (8, lambda r: (name_of(r), name_of(r))),
    "big": (1, lambda r: (name_of(r), r.randrange(1 << 30))),
    "tool": (3, lambda r: (r.choice(["cp -a", "mv -T"]), name_of(r), name_of(r))),
    "refresh": (2, lambda r: ()),
    "remount": (1, lambda r: ()),
}
OPERATIONS = {**{name: OPERATIONS[name] for name in TAKEN}, **OURS}
REFUSED = ("EXDEV", "EBUSY")  # a rename by the bucket alone: of a directory; of a file that is not sent yet


class Directory(Tree):
    """The plain one, told as a bucket tells: no modes."""

    def stat(self, name):
        st = os.lstat(self.path(name))
        return stat.S_IFMT(st.st_mode), st.st_size if stat.S_ISREG(st.st_mode) else None

    def open_stat(self, slot):
        return os.fstat(self.open_files[slot]).st_size if slot in self.open_files else None

    def copy(self, source, target):
        with self.opened(source, os.O_RDONLY) as a, self.opened(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as b:
            while os.copy_file_range(a, b, 1 << 30):
                pass

    def big(self, name, seed):
        with open(self.path(name), "wb", buffering=1 << 20) as f:
            f.write(random.Random(seed).randbytes(BIG))

    def tool(self, command, source, target):
        if f"{target}/".startswith(f"{source}/"):
            return None  # how far cp gets when it copies a directory into itself follows from the order of its entries
        done = subprocess.run([*command.split(), self.path(source), self.path(target)], capture_output=True, timeout=60,
                              env={"LC_ALL": "C", "PATH": os.environ["PATH"]}, check=False)
        return str(done.returncode)

    def has_lost_its_name(self, slot):
        return slot in self.open_files and os.fstat(self.open_files[slot]).st_nlink == 0

    def refresh(self):
        pass

    def remount(self):
        self.end()


class Bucket(Directory):
    def __init__(self, mounted):
        self.mounted = mounted
        self.m = mounted()
        super().__init__(self.m / "far/buckets" / BUCKET)
        self.root.mkdir()

    def refresh(self):
        (self.m / ".trainfs/ctl").write_text("refresh\n")

    def remount(self):
        self.end()
        self.m.unmount()
        self.m = self.mounted()


def contents(root):
    """{path below it: bytes}; of a directory "path/": None."""
    found = {}
    for top, dirs, files in os.walk(root):
        here = Path(top).relative_to(root)
        found |= {f"{here / name}/": None for name in dirs} | {f"{here / name}": Path(top, name).read_bytes() for name in files}
    return found


def assert_same(mine, plain, what):
    a, b = contents(mine.root), contents(plain.root)
    assert sorted(a) == sorted(b), what
    for name, data in a.items():
        assert data == b[name], f"{what}: {name} has {len(data)} bytes, not the {len(b[name])} that it should"


def brief(value):
    return f"{len(value)} bytes" if isinstance(value, bytes) else value


def play(mine, plain, seed, count):
    rng = random.Random(seed)
    names, weights = list(OPERATIONS), [often for often, _ in OPERATIONS.values()]
    done = []
    for i in range(count):
        op = rng.choices(names, weights)[0]
        args = OPERATIONS[op][1](rng)
        if op in ("open_write", "open_read", "open_truncate", "open_stat", "sync") and plain.has_lost_its_name(args[0]):
            op = "close"  # the service has nothing more of it
            args = args[:1]
        if op == "tool":  # it may copy, and then an open file is another
            mine.end()
            plain.end()
        done.append((op, *map(brief, args)))
        got = outcome(mine, op, args)
        what = f"TRAINFS_RANDOM_SEED={seed}, operation {i}, after {done[-12:]}"
        if op == "rename" and got in REFUSED:
            continue
        wanted = outcome(plain, op, args)
        assert got == wanted, f"{what}: {brief(got)}, not {brief(wanted)}"
        if i % COMPARE_EVERY == COMPARE_EVERY - 1:
            assert_same(mine, plain, what)


@pytest.mark.time_limit(120 + OPS)
def test_random_operations_in_a_bucket(service, mounted, tmp_path):
    print(f"TRAINFS_RANDOM_SEED={SEED} TRAINFS_RANDOM_OPS={OPS}")
    mine, plain = Bucket(mounted), Directory(tmp_path / "plain")
    plain.root.mkdir()
    try:
        play(mine, plain, SEED, OPS)
    finally:
        mine.end()
        plain.end()
    assert_same(mine, plain, f"TRAINFS_RANDOM_SEED={SEED}, at the end")
    mine.remount()
    assert_same(mine, plain, f"TRAINFS_RANDOM_SEED={SEED}, in the next mount")
    wanted = {key: hashlib.sha256(data or b"").hexdigest() for key, data in contents(plain.root).items()}
    assert service.contents() == wanted
