# SPDX-License-Identifier: MIT
"""Random operations, the same ones in a draft or bucket and in a plain directory: errno after errno, byte after byte.

The sequence follows from a seed that every failure names: TRAINFS_RANDOM_SEED repeats one, TRAINFS_RANDOM_OPS (default
600) makes it longer.
"""
import contextlib
import ctypes
import errno
import mmap
import os
import random
import shutil
import stat
from pathlib import Path

import pytest

OPS = int(os.environ.get("TRAINFS_RANDOM_OPS", "600"))
SEED = int(os.environ.get("TRAINFS_RANDOM_SEED") or random.randrange(1 << 32))
COMPARE_EVERY = 50
NAMES = ["a", "b", "c", "d", "e"]
MAX_SIZE = 300_000
LIBC = ctypes.CDLL(None, use_errno=True)


def rename2(old, new, flags):
    if LIBC.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags):
        raise OSError(ctypes.get_errno(), "renameat2")


class Tree:
    """One of the two directories. Each operation gives what a program can see of its result."""

    def __init__(self, root):
        self.root = root
        self.open_files = {}  # kept open over other operations, also when their name has gone

    def path(self, name):
        return str(self.root / name)

    def file(self, name, flags=os.O_RDWR):
        return os.open(self.path(name), flags | os.O_NONBLOCK, 0o644)

    @contextlib.contextmanager
    def opened(self, name, flags=os.O_RDWR):
        fd = self.file(name, flags)
        try:
            yield fd
        finally:
            os.close(fd)

    def create(self, name, mode, is_exclusive):
        flags = os.O_CREAT | os.O_RDWR | (os.O_EXCL if is_exclusive else 0)
        os.close(os.open(self.path(name), flags, mode))

    def write(self, name, offset, data):
        with self.opened(name, os.O_CREAT | os.O_RDWR) as fd:
            return os.pwrite(fd, data, offset)

    def append(self, name, data):
        with self.opened(name, os.O_WRONLY | os.O_APPEND) as fd:
            os.write(fd, data[:len(data) // 2])
            os.write(fd, data[len(data) // 2:])
            return os.fstat(fd).st_size

    def overwrite(self, name, data):
        with self.opened(name, os.O_WRONLY | os.O_TRUNC) as fd:
            return os.write(fd, data)

    def read(self, name, offset, length):
        with self.opened(name, os.O_RDONLY) as fd:
            return os.pread(fd, length, offset)

    def truncate(self, name, size):
        os.truncate(self.path(name), size)

    def map_read(self, name):
        with self.opened(name, os.O_RDONLY) as fd:
            size = os.fstat(fd).st_size
            if not size:
                return b""
            with mmap.mmap(fd, size, prot=mmap.PROT_READ) as m:
                return bytes(m)

    def map_write(self, name, offset, data):
        with self.opened(name) as fd:
            size = os.fstat(fd).st_size
            if not size or offset + len(data) > size:
                return size
            with mmap.mmap(fd, size) as m:
                m[offset:offset + len(data)] = data
            return os.pread(fd, size, 0)  # what was mapped is what is read

    def allocate(self, name, offset, length):
        with self.opened(name) as fd:
            os.posix_fallocate(fd, offset, length)

    def copy_range(self, source, target, at, to, length):
        with self.opened(source, os.O_RDONLY) as a, self.opened(target) as b:
            return os.copy_file_range(a, b, length, at, to)

    def rename(self, old, new):
        os.rename(self.path(old), self.path(new))

    def rename_flags(self, old, new, flags):
        rename2(self.path(old), self.path(new), flags)

    def link(self, old, new):
        os.link(self.path(old), self.path(new), follow_symlinks=False)

    def symlink(self, target, new):
        os.symlink(target, self.path(new))

    def readlink(self, name):
        return os.readlink(self.path(name))

    def unlink(self, name):
        os.unlink(self.path(name))

    def mkdir(self, name, mode):
        os.mkdir(self.path(name), mode)

    def rmdir(self, name):
        os.rmdir(self.path(name))

    def remove_all(self, name):
        if stat.S_ISDIR(os.lstat(self.path(name)).st_mode):  # rmtree of a fifo waits for a writer
            shutil.rmtree(self.path(name))

    def mkfifo(self, name):
        os.mkfifo(self.path(name))

    def chmod(self, name, mode):
        os.chmod(self.path(name), mode)

    def utimens(self, name, atime, mtime):
        os.utime(self.path(name), ns=(atime, mtime), follow_symlinks=False)
        return os.lstat(self.path(name)).st_mtime_ns

    def list(self, name):
        return sorted(os.listdir(self.path(name)))

    def stat(self, name):
        st = os.lstat(self.path(name))
        return st.st_mode, st.st_nlink if not stat.S_ISDIR(st.st_mode) else None

    def open(self, slot, name):
        self.close(slot)
        self.open_files[slot] = self.file(name)

    def close(self, slot):
        if slot in self.open_files:
            os.close(self.open_files.pop(slot))

    def open_write(self, slot, offset, data):
        if slot not in self.open_files:
            return None
        return os.pwrite(self.open_files[slot], data, offset)

    def open_read(self, slot, offset, length):
        return os.pread(self.open_files[slot], length, offset) if slot in self.open_files else None

    def open_truncate(self, slot, size):
        if slot in self.open_files:
            os.ftruncate(self.open_files[slot], size)

    def open_stat(self, slot):
        if slot not in self.open_files:
            return None
        st = os.fstat(self.open_files[slot])
        return st.st_mode, st.st_size, st.st_nlink

    def sync(self, slot):
        if slot in self.open_files:
            os.fsync(self.open_files[slot])

    def end(self):
        for slot in list(self.open_files):
            self.close(slot)


def outcome(tree, op, args):
    try:
        return getattr(tree, op)(*args)
    except OSError as e:
        return errno.errorcode[e.errno]


def name_of(rng):
    return "/".join(rng.choice(NAMES) for _ in range(rng.choice([1, 1, 1, 1, 2, 2, 3])))


def bytes_of(rng):
    return rng.randbytes(rng.choice([0, 1, 7, 100, 4096, 5000, 70_000]))


def offset_of(rng):
    return rng.choice([0, 0, 1, 4095, 4096, rng.randrange(MAX_SIZE)])


def mode_of(rng):
    """Never without what the owner needs: not everybody who runs this is root."""
    return 0o700 | rng.randrange(0o100)


OPERATIONS = {  # name: how often, and its arguments
    "create": (6, lambda r: (name_of(r), mode_of(r), r.random() < 0.5)),
    "write": (12, lambda r: (name_of(r), offset_of(r), bytes_of(r))),
    "append": (5, lambda r: (name_of(r), bytes_of(r))),
    "overwrite": (3, lambda r: (name_of(r), bytes_of(r))),
    "read": (6, lambda r: (name_of(r), offset_of(r), 65_536)),
    "truncate": (5, lambda r: (name_of(r), offset_of(r))),
    "map_read": (4, lambda r: (name_of(r),)),
    "map_write": (5, lambda r: (name_of(r), offset_of(r), bytes_of(r))),
    "copy_range": (9, lambda r: (name_of(r), name_of(r), offset_of(r), offset_of(r), 50_000)),
    "rename": (10, lambda r: (name_of(r), name_of(r))),
    "rename_flags": (4, lambda r: (name_of(r), name_of(r), r.choice([1, 2]))),
    "link": (6, lambda r: (name_of(r), name_of(r))),
    "symlink": (5, lambda r: (r.choice([name_of(r), "../" + name_of(r), "gone", "."]), name_of(r))),
    "readlink": (2, lambda r: (name_of(r),)),
    "unlink": (6, lambda r: (name_of(r),)),
    "mkdir": (8, lambda r: (name_of(r), mode_of(r))),
    "rmdir": (3, lambda r: (name_of(r),)),
    "remove_all": (4, lambda r: (name_of(r),)),
    "mkfifo": (1, lambda r: (name_of(r),)),
    "chmod": (4, lambda r: (name_of(r), mode_of(r))),
    "utimens": (4, lambda r: (name_of(r), r.randrange(1 << 60), r.randrange(1 << 60))),
    "list": (3, lambda r: (name_of(r),)),
    "stat": (5, lambda r: (name_of(r),)),
    "open": (6, lambda r: (r.randrange(3), name_of(r))),
    "close": (2, lambda r: (r.randrange(3),)),
    "open_write": (5, lambda r: (r.randrange(3), offset_of(r), bytes_of(r))),
    "open_read": (4, lambda r: (r.randrange(3), offset_of(r), 65_536)),
    "open_truncate": (3, lambda r: (r.randrange(3), offset_of(r))),
    "open_stat": (4, lambda r: (r.randrange(3),)),
    "sync": (1, lambda r: (r.randrange(3),)),
    "allocate": (4, lambda r: (name_of(r), offset_of(r), 1 + offset_of(r))),
}


def snapshot(root):
    """Everything below it that a program can see, but inode numbers, times of change, and what a directory takes."""
    found = {}
    for top, dirs, files in os.walk(root):
        for name in dirs + files:
            path = Path(top, name)
            st = path.lstat()
            entry = [oct(st.st_mode)]
            if stat.S_ISREG(st.st_mode):
                entry += [st.st_size, st.st_nlink, path.read_bytes()]
            elif stat.S_ISLNK(st.st_mode):
                entry += [os.readlink(path), st.st_nlink]
            found[str(path.relative_to(root))] = entry
    return found


def assert_same(mine, plain, what):
    a, b = snapshot(mine.root.parent), snapshot(plain.root.parent)
    assert sorted(a) == sorted(b), what
    for name, entry in a.items():
        assert entry[:3] == b[name][:3], f"{what}: {name}"
        if entry != b[name]:
            at = next(i for i, (x, y) in enumerate(zip(entry[3], b[name][3])) if x != y)
            pytest.fail(f"{what}: {name} differs at byte {at}")


def play(mine, plain, seed, count):
    rng = random.Random(seed)
    names = list(OPERATIONS)
    weights = [OPERATIONS[n][0] for n in names]
    done = []
    for i in range(count):
        op = rng.choices(names, weights)[0]
        args = OPERATIONS[op][1](rng)
        done.append((op, *(f"{len(x)} bytes" if isinstance(x, bytes) else x for x in args)))
        got, wanted = outcome(mine, op, args), outcome(plain, op, args)
        what = f"seed {seed}, operation {i}, after {done[-12:]}"
        assert type(got) is type(wanted) and (got == wanted or isinstance(got, bytes)), f"{what}: {got}, not {wanted}"
        assert got == wanted, f"{what}: other bytes"
        if i % COMPARE_EVERY == COMPARE_EVERY - 1:
            assert_same(mine, plain, what)
    assert_same(mine, plain, f"seed {seed}, at the end")


@pytest.mark.time_limit(120 + OPS // 50)
@pytest.mark.parametrize("place", ["drafts/work", "buckets/work"])
def test_random_operations(mnt, tmp_path, place):
    print(f"TRAINFS_RANDOM_SEED={SEED} TRAINFS_RANDOM_OPS={OPS}")
    mine, plain = Tree(mnt / "local" / place / "top"), Tree(tmp_path / "plain/top")  # links lead out of it, to ..
    for tree in (mine, plain):
        tree.root.parent.mkdir()
        tree.root.mkdir()
    try:
        play(mine, plain, SEED, OPS)
    finally:
        mine.end()
        plain.end()
    assert mnt.errors() == ""
