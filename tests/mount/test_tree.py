# SPDX-License-Identifier: MIT
"""DESIGN 2, 7 and 8: the tree itself, and how good a file system its drafts and buckets are."""
import ctypes
import errno
import fcntl
import json
import mmap
import os
import re
import shutil
import stat
import subprocess

import pytest

from conftest import wait_for
from userkit import Gate, copy_in, error_lines, fsync_dir, package, rows, run, run_job, submit, submitted, succeeded

HELLO = "echo hello\n"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"


@pytest.fixture
def job(mnt, tmp_path):
    return run_job(mnt, tmp_path / "mnist", 'echo hello; echo m > "$OUTPUT/m"\n', files={"sub/data": "x" * 5000})


@pytest.fixture(params=["drafts", "buckets"])
def disk(mnt, request):
    """A directory that users write to."""
    d = mnt / "local" / request.param / "mine"
    d.mkdir()
    return d


def everything(top):
    return sorted(p for p in top.rglob("*"))


def fails(call):
    try:
        call()
    except OSError as e:
        return errno.errorcode[e.errno]
    return "ok"


# ---- what is there

def test_the_top(mnt):
    assert sorted(os.listdir(mnt)) == [".trainfs", "README.md", "local"]
    assert set(os.listdir(mnt / ".trainfs")) == {"version", "remotes.tsv", "errors", "events", "stats.tsv", "ctl"}
    assert {"train", "drafts", "submitted", "jobs", "jobs.tsv", "transfers.tsv", "models", "buckets"} <= \
        set(os.listdir(mnt / "local"))
    assert re.fullmatch(r"trainfs \d+\.\d+\.\d+\n", (mnt / ".trainfs/version").read_text())


def test_the_readme_is_for_this_mount(mnt):
    readme = (mnt / "README.md").read_text()
    assert str(mnt) in readme and "local/train" in readme and "sync" in readme


def test_the_commands_of_the_readme_work(mnt, tmp_path):
    """Its block of shell, as it stands: only ~/mnist must be there (and what follows a log must end)."""
    package(mnt.world.home / "mnist", script=HELLO + 'echo m > "$OUTPUT/m"\n')
    script = re.search(r"```sh\n(.*?)```", (mnt / "README.md").read_text(), re.S).group(1)
    script = script.replace("tail -f ", "head -n 1 ")
    wait = next(line for line in script.splitlines() if "/wait" in line)
    lines = script.splitlines()
    lines.remove(wait)
    at = next(i for i, line in enumerate(lines) if line.startswith("head"))
    lines.insert(at, wait)
    out = run(mnt, "sh", "-ec", "\n".join(lines))
    assert out.startswith("SUCCEEDED\n") and "hello" in out
    assert os.readlink(mnt / "local/models/mnist/default") == "v1"


def test_tables_have_their_headers(mnt, job):
    assert rows(mnt / ".trainfs/remotes.tsv")[0].keys() >= {"name", "type", "state"}
    remote = rows(mnt / ".trainfs/remotes.tsv")[0]
    assert (remote["name"], remote["type"], remote["state"]) == ("local", "local", "ok")
    assert rows(mnt / ".trainfs/stats.tsv")
    assert rows(mnt / "local/jobs.tsv")[0]["id"] == job.name
    assert rows(mnt / "local/transfers.tsv") == []


def test_space_used_is_told(mnt, tmp_path):
    run_job(mnt, tmp_path / "big", "true\n", files={"data": "x" * 3_000_000})
    used = list(rows(mnt / ".trainfs/remotes.tsv")[0].values())[-1]
    assert int(used) >= 3_000_000


def test_events_are_lines_of_json(mnt, job):
    found = [json.loads(line) for line in (mnt / ".trainfs/events").read_text().splitlines()]
    mine = [e for e in found if e["job"] == job.name]
    assert mine[-1]["to"] == "SUCCEEDED" and mine[-1]["remote"] == "local"
    assert all(set(e) == {"time", "remote", "job", "from", "to"} and re.fullmatch(TIME, e["time"]) for e in found)
    for before, after in zip(mine, mine[1:]):
        assert before["to"] == after["from"]


def test_every_failure_leaves_a_line(mnt, job):
    assert mnt.errors() == ""
    fails(lambda: (mnt / "local/jobs/-bad").mkdir())
    fails(lambda: (job / "log").write_text("x"))
    fails(lambda: (mnt / "local/train/f").write_text("x"))
    lines = error_lines(mnt)
    assert [(line[1], line[3]) for line in lines] == [("local", "EINVAL"), ("local", "EPERM"), ("local", "EPERM")]
    assert lines[0][2].endswith("local/jobs/-bad") and lines[1][2].endswith(f"{job.name}/log")
    assert all(re.fullmatch(TIME, line[0]) and len(line) == 5 and line[4] for line in lines)


def test_asking_for_what_is_not_there_is_no_failure(mnt, job):
    for path in ("nothing", "local/nothing", "local/jobs/nothing", "local/train/nothing", ".Trash", ".git", "local/.hidden",
                 "local/submitted/nothing", "local/buckets/nothing", f"local/jobs/{job.name}/nothing", "x" * 255):
        assert fails((mnt / path).stat) == "ENOENT", path
    assert fails((mnt / ("x" * 256)).stat) == fails(lambda: (mnt / "local/train" / ("x" * 256)).mkdir()) == "ENAMETOOLONG"
    assert fails((mnt / "README.md/x").stat) == "ENOTDIR"
    assert mnt.errors() == ""


def test_the_fixed_parts_refuse_changes(mnt):
    changes = [
        lambda: (mnt / "new").mkdir(), lambda: (mnt / "new").write_text("x"), lambda: os.rmdir(mnt / "local"),
        lambda: os.rmdir(mnt / "local/train"), lambda: os.unlink(mnt / "README.md"),
        lambda: os.rename(mnt / "local", mnt / "remote"), lambda: os.rename(mnt / "local/train", mnt / "local/other"),
        lambda: (mnt / "README.md").write_text("x"), lambda: (mnt / "local/jobs.tsv").write_text("x"),
        lambda: os.truncate(mnt / ".trainfs/errors", 0), lambda: os.chmod(mnt / "local", 0o700),
        lambda: (mnt / "local/new").mkdir(), lambda: os.symlink("x", mnt / "local/latest"),
        lambda: os.symlink("x", mnt / "local/submitted/x"), lambda: os.mkdir(mnt / ".trainfs/x"),
    ]
    found = [fails(c) for c in changes]
    assert set(found) <= {"EPERM", "EACCES", "EBUSY", "EROFS", "ENOTEMPTY"}, found


def test_the_mounts_ctl(mnt):
    ctl = mnt / ".trainfs/ctl"
    for line in ("refresh\n", "refresh local/jobs\n", "debug on\n", "debug off\n", "refresh"):
        ctl.write_text(line)
    assert fails(lambda: ctl.write_text("explode\n")) == "EINVAL"
    assert "refresh" in ctl.read_text()
    run(mnt, "sh", "-c", 'echo refresh > "$0"', ctl)


def test_one_remote_alone(mount, tmp_path):
    m = mount(source="local:")
    assert {"train", "jobs", "drafts", "jobs.tsv", "buckets"} <= set(os.listdir(m)) and "local" not in os.listdir(m)
    run(m, "cp", "-r", package(tmp_path / "mnist", script=HELLO), m / "train/")
    run(m, "sync", m / "train/mnist")
    assert (m / "submitted/mnist/wait").read_text() == "SUCCEEDED\n"
    assert (m / "latest/log").read_text() == "hello\n"
    assert (m / "README.md").exists() and (m / ".trainfs/version").exists()


# ---- numbers

def test_inode_numbers_are_stable(mount, tmp_path):
    m = mount()
    run_job(m, tmp_path / "mnist", HELLO)
    (m / "local/buckets/b").mkdir()
    (m / "local/buckets/b/f").write_text("x")

    def numbers():
        return {str(p): p.lstat().st_ino for p in everything(m.path)}
    before = numbers()
    m.unmount()
    mount()
    after = numbers()
    assert before == after
    assert len(set(before.values())) == len(before)


def test_directories_say_the_numbers_that_stat_says(mnt, job):
    for d in (mnt.path, mnt / "local", mnt / "local/jobs", mnt / ".trainfs"):
        for entry in os.scandir(d):
            assert entry.inode() == entry.stat(follow_symlinks=False).st_ino, entry.path


def test_types_in_listings_are_true(mnt, job):
    for d in (mnt.path, mnt / "local", mnt / "local/jobs", job, job / "package"):
        for entry in os.scandir(d):
            mode = entry.stat(follow_symlinks=False).st_mode
            assert (entry.is_dir(follow_symlinks=False), entry.is_symlink()) == (stat.S_ISDIR(mode), stat.S_ISLNK(mode))


@pytest.mark.parametrize("tool", [[], ["busybox"]], ids=["gnu", "busybox"])
def test_df(mnt, tool):
    line = run(mnt, *tool, "df", "-P", "-k", mnt).splitlines()[1].split()
    assert int(line[1]) > 0 and int(line[3]) > 0
    st = os.statvfs(mnt)
    assert st.f_namemax == 255 and st.f_bfree <= st.f_blocks and st.f_bavail <= st.f_bfree


def test_big_writes_are_asked_for(mnt, disk):
    (disk / "f").write_text("x")
    assert (disk / "f").stat().st_blksize >= 4096


# ---- crawlers

@pytest.mark.parametrize("command", [
    ["ls", "-lR"], ["find"], ["find", "-ls"], ["du", "-s"], ["du", "-sh", "--apparent-size"], ["tree"],
    ["busybox", "ls", "-lR"], ["busybox", "find"], ["busybox", "du", "-s"]], ids=" ".join)
def test_crawlers_go_through_all(mnt, job, command):
    if not shutil.which(command[0]):
        pytest.skip(f"no {command[0]}")
    path = [command[0], str(mnt), *command[1:]] if command[0] == "find" else [*command, str(mnt)]
    done = mnt.world.shell(path)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert mnt.errors() == ""


def test_find_finds(mnt, job, tmp_path):
    assert run(mnt, "find", mnt / "local/jobs", "-name", "done", "-newer", tmp_path / "mnist/train.sh") == f"{job}/done\n"
    assert run(mnt, "find", mnt, "-name", "train.sh", "-size", "1").strip().endswith("package/train.sh")


def test_the_whole_tree_can_be_copied_out(mnt, job, tmp_path):
    (mnt / "local/buckets/b").mkdir()
    (mnt / "local/buckets/b/f").write_text("bucket\n")
    done = mnt.world.shell(["cp", "-a", str(mnt), str(tmp_path / "copy")])
    assert done.returncode == 0 and done.stderr == "", done.stderr
    copy = tmp_path / "copy"
    assert (copy / "local/jobs" / job.name / "log").read_text() == "hello\n"
    assert (copy / "local/latest/log").read_text() == "hello\n"
    assert (copy / "local/buckets/b/f").read_text() == "bucket\n"
    volatile = {"stats.tsv", "remotes.tsv"}
    diff = [line for line in mnt.world.shell(["diff", "-r", str(mnt), str(copy)]).stdout.splitlines()
            if line.startswith("Only") or (line.startswith("diff") and line.rpartition("/")[2] not in volatile)]
    assert diff == []


def test_rsync_and_tar_take_the_whole_tree(mnt, job, tmp_path):
    run(mnt, "rsync", "-a", f"{mnt}/", tmp_path / "copy")
    assert (tmp_path / "copy/local/latest/log").read_text() == "hello\n"
    # those two are the present, and say so: tar would tell that they changed
    volatile = ["--exclude=remotes.tsv", "--exclude=stats.tsv"]
    done = mnt.world.shell(["tar", "-C", str(mnt), *volatile, "-cf", str(tmp_path / "all.tar"), "."])
    assert done.returncode == 0 and done.stderr == "", done.stderr


def test_ls_says_nothing_odd(mnt, job):
    """No error about extended attributes or labels, and no question of that kind answered but with "not here"."""
    done = mnt.world.shell(["ls", "-la", str(job)])
    assert done.stderr == "" and len(done.stdout.splitlines()) == len(os.listdir(job)) + 3
    assert fails(lambda: os.getxattr(job / "log", "user.x")) in ("ENOTSUP", "EOPNOTSUPP", "ENODATA")
    assert fails(lambda: os.listxattr(job / "log")) in ("ok", "ENOTSUP", "EOPNOTSUPP")


# ---- a directory of this machine in the tree

def test_hard_links_and_symlinks(mnt, disk):
    (disk / "a").write_text("a")
    os.link(disk / "a", disk / "b")
    assert (disk / "b").stat().st_nlink == 2 and (disk / "a").stat().st_ino == (disk / "b").stat().st_ino
    (disk / "b").write_text("b")
    assert (disk / "a").read_text() == "b"
    os.symlink("a", disk / "l")
    assert os.readlink(disk / "l") == "a" and (disk / "l").read_text() == "b"
    os.symlink("nowhere/at/all", disk / "dangling")
    assert os.path.lexists(disk / "dangling") and not (disk / "dangling").exists()
    (disk / "a").unlink()
    assert (disk / "b").stat().st_nlink == 1


def test_rename_within(disk):
    (disk / "a").write_text("a")
    (disk / "b").write_text("b")
    os.rename(disk / "a", disk / "b")
    assert os.listdir(disk) == ["b"] and (disk / "b").read_text() == "a"
    (disk / "d/e").mkdir(parents=True)
    os.rename(disk / "b", disk / "d/e/c")
    os.rename(disk / "d", disk / "x")
    assert (disk / "x/e/c").read_text() == "a"
    assert fails(lambda: os.rename(disk / "x", disk / "x/e/x")) == "EINVAL"
    (disk / "full").mkdir()
    assert fails(lambda: os.rename(disk / "full", disk / "x")) == "ENOTEMPTY"


def renameat2(a, b, flags):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, os.fsencode(a), -100, os.fsencode(b), flags) < 0:
        raise OSError(ctypes.get_errno(), "renameat2")


def test_rename_with_flags(disk):
    (disk / "a").write_text("a")
    (disk / "b").write_text("b")
    assert fails(lambda: renameat2(disk / "a", disk / "b", 1)) == "EEXIST"
    renameat2(disk / "a", disk / "b", 2)
    assert (disk / "a").read_text() == "b" and (disk / "b").read_text() == "a"


def test_truncate_and_holes(disk):
    with open(disk / "f", "wb+") as f:
        f.truncate(1 << 30)
        f.seek(1 << 29)
        f.write(b"middle")
    st = (disk / "f").stat()
    assert st.st_size == 1 << 30 and st.st_blocks * 512 < 1 << 24
    os.truncate(disk / "f", 3)
    assert (disk / "f").read_bytes() == b"\0\0\0"
    with open(disk / "f", "a", encoding="ascii") as f:
        f.write("end")
    assert (disk / "f").read_bytes() == b"\0\0\0end"


def test_append_by_several(mnt, disk):
    run(mnt, "sh", "-c", 'for i in 1 2 3 4; do (for n in $(seq 50); do echo $i >> "$0"; done) & done; wait', disk / "f")
    lines = (disk / "f").read_text().splitlines()
    assert sorted(lines) == sorted(["1", "2", "3", "4"] * 50)


def test_mmap_shared_writes(disk):
    (disk / "f").write_bytes(b"\0" * 10000)
    with open(disk / "f", "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
        m[0:5] = b"first"
        m[9995:] = b"final"
        m.flush()
        assert os.pread(f.fileno(), 5, 0) == b"first"
    assert (disk / "f").read_bytes()[9995:] == b"final"


def test_fallocate(disk):
    with open(disk / "f", "wb") as f:
        os.posix_fallocate(f.fileno(), 0, 100000)
    assert (disk / "f").stat().st_size == 100000


def test_permissions(disk):
    (disk / "f").write_text("x")
    os.chmod(disk / "f", 0o754)
    assert stat.S_IMODE((disk / "f").stat().st_mode) == 0o754
    os.chmod(disk / "f", 0o444)
    assert os.access(disk / "f", os.R_OK)
    os.utime(disk / "f", ns=(1, 123456789))
    assert (disk / "f").stat().st_mtime_ns == 123456789 and (disk / "f").stat().st_atime_ns == 1
    if os.geteuid() == 0:
        os.chown(disk / "f", 1234, 1235)
        assert ((disk / "f").stat().st_uid, (disk / "f").stat().st_gid) == (1234, 1235)
    old = os.umask(0o027)
    try:
        (disk / "g").write_text("x")
        (disk / "d").mkdir()
    finally:
        os.umask(old)
    assert stat.S_IMODE((disk / "g").stat().st_mode) == 0o640 and stat.S_IMODE((disk / "d").stat().st_mode) == 0o750


def test_unlink_while_open(disk):
    with open(disk / "f", "w+b") as f:
        f.write(b"kept")
        f.flush()
        os.unlink(disk / "f")
        assert os.listdir(disk) == []
        f.write(b" and more")
        f.seek(0)
        assert f.read() == b"kept and more"
        assert os.fstat(f.fileno()).st_nlink == 0
        f.truncate(2)
        assert os.fstat(f.fileno()).st_size == 2


def test_rename_over_an_open_file(disk):
    (disk / "f").write_text("old")
    with open(disk / "f", encoding="ascii") as f:
        (disk / "g").write_text("new")
        os.rename(disk / "g", disk / "f")
        assert f.read() == "old" and (disk / "f").read_text() == "new"


def test_flock(mnt, disk):
    (disk / "f").write_text("x")
    with open(disk / "f", "r+", encoding="ascii") as f, open(disk / "f", "r+", encoding="ascii") as g:
        fcntl.flock(f, fcntl.LOCK_EX)
        assert fails(lambda: fcntl.flock(g, fcntl.LOCK_EX | fcntl.LOCK_NB)) == "EAGAIN"
        assert mnt.world.shell(["flock", "-n", str(disk / "f"), "true"]).returncode == 1
        fcntl.flock(f, fcntl.LOCK_UN)
        fcntl.lockf(g, fcntl.LOCK_EX)


def test_copy_file_range(disk):
    data = os.urandom(200000)
    (disk / "a").write_bytes(data)
    with open(disk / "a", "rb") as a, open(disk / "b", "wb") as b:
        done = 0
        while done < len(data):
            n = os.copy_file_range(a.fileno(), b.fileno(), len(data) - done)
            assert n > 0
            done += n
    assert (disk / "b").read_bytes() == data


def test_seek_data_and_hole(disk):
    with open(disk / "f", "wb+") as f:
        f.truncate(1 << 20)
        f.seek(1 << 19)
        f.write(b"x" * 4096)
        f.flush()
        os.fsync(f.fileno())
        assert fails(lambda: os.lseek(f.fileno(), 0, os.SEEK_DATA)) in ("ok", "EINVAL", "EOPNOTSUPP")
        assert os.lseek(f.fileno(), 0, os.SEEK_END) == 1 << 20


def test_many_files(mnt, disk):
    run(mnt, "sh", "-c", 'cd "$0" && for i in $(seq 1500); do echo $i > f$i; done', disk)
    assert len(os.listdir(disk)) == 1500
    assert run(mnt, "sh", "-c", 'cat "$0"/* | wc -l', disk).strip() == "1500"
    names = []
    for entry in os.scandir(disk):
        names.append(entry.name)
        os.unlink(entry.path)
    assert len(set(names)) == 1500 and os.listdir(disk) == []


def test_odd_names(disk):
    names = ["-rf", "a b", "new\nline", "tab\t", "ü", "*", "x" * 255, "'\"", "\\"]
    for name in names:
        (disk / name).write_text(name)
    assert sorted(os.listdir(disk)) == sorted(names)
    assert all((disk / n).read_text() == n for n in names)
    raw = os.fsencode(disk) + b"/\xff\xfe"
    with open(raw, "wb") as f:
        f.write(b"x")
    assert b"\xff\xfe" in os.listdir(os.fsencode(disk))
    assert fails(lambda: (disk / ("x" * 256)).write_text("")) == "ENAMETOOLONG"


def test_fsync_and_o_direct(disk):
    with open(disk / "f", "wb") as f:
        f.write(b"x")
        f.flush()
        os.fsync(f.fileno())
        os.fdatasync(f.fileno())
    fd = os.open(disk / "f", os.O_RDONLY | os.O_DIRECT)
    os.close(fd)
    (disk / "sub").mkdir()
    fsync_dir(disk / "sub")


def test_sqlite_works(mnt, disk):
    code = ("import sqlite3, sys\ndb = sqlite3.connect(sys.argv[1])\ndb.execute('create table t (x)')\n"
            "db.executemany('insert into t values (?)', [(i,) for i in range(1000)])\ndb.commit()\n"
            "print(db.execute('select sum(x) from t').fetchone()[0])\n")
    assert run(mnt, "/usr/bin/python3", "-c", code, disk / "db") == "499500\n"


def test_exec_of_a_file(mnt, disk):
    (disk / "tool").write_text("#!/bin/sh\necho ran\n")
    assert fails(lambda: subprocess.run([disk / "tool"], check=False)) == "EACCES"
    os.chmod(disk / "tool", 0o755)
    assert run(mnt, disk / "tool") == "ran\n"


# ---- buckets

def test_buckets_are_made_and_removed(mnt):
    b = mnt / "local/buckets"
    assert "outputs" in os.listdir(b)
    (b / "mine").mkdir()
    (b / "mine/a/b").mkdir(parents=True)
    (b / "mine/a/b/f").write_text("x")
    assert fails((b / "mine").rmdir) == "ENOTEMPTY"
    run(mnt, "rm", "-r", b / "mine")
    assert "mine" not in os.listdir(b)
    assert fails(lambda: (b / "file").write_text("x")) in ("EPERM", "EINVAL")
    assert fails(lambda: (b / "outputs").rmdir()) in ("EPERM", "ENOTEMPTY", "EBUSY")
    assert fails(lambda: (b / "-bad").mkdir()) == "EINVAL"


def test_buckets_survive_a_remount(mount):
    m = mount()
    (m / "local/buckets/mine").mkdir()
    (m / "local/buckets/mine/f").write_text("kept")
    m.unmount()
    m = mount()
    assert (m / "local/buckets/mine/f").read_text() == "kept"


def test_mv_between_a_draft_and_a_bucket_copies(mnt):
    draft, bucket = mnt / "local/drafts/d", mnt / "local/buckets/b"
    draft.mkdir()
    bucket.mkdir()
    (draft / "f").write_text("f")
    (draft / "dir").mkdir()
    (draft / "dir/g").write_text("g")
    assert fails(lambda: os.rename(draft / "f", bucket / "f")) == "EXDEV"
    for tool in ([], ["busybox"]):
        run(mnt, *tool, "mv", draft / "f", bucket / "f")
        assert (bucket / "f").read_text() == "f" and not (draft / "f").exists()
        run(mnt, *tool, "mv", draft / "dir", bucket / "dir")
        assert (bucket / "dir/g").read_text() == "g"
        run(mnt, *tool, "mv", bucket / "f", bucket / "dir", draft)
        assert (draft / "dir/g").read_text() == "g" and os.listdir(bucket) == []


def test_rename_between_buckets(mnt):
    a, b = mnt / "local/buckets/a", mnt / "local/buckets/b"
    a.mkdir()
    b.mkdir()
    (a / "f").write_text("f")
    run(mnt, "mv", a / "f", b / "g")
    assert os.listdir(a) == [] and (b / "g").read_text() == "f"


def test_a_bucket_is_an_input_and_outputs_are_a_bucket(mnt, tmp_path):
    data = mnt / "local/buckets/data"
    data.mkdir()
    (data / "f").write_text("from a bucket\n")
    job = run_job(mnt, tmp_path / "mnist", 'cat "$DATASET/f"; cp "$DATASET/f" "$OUTPUT/copy"\n',
                  {"inputs": {"dataset": str(data)}})
    assert (job / "log").read_text() == "from a bucket\n"
    assert (mnt / "local/buckets/outputs/mnist" / job.name / "copy").read_text() == "from a bucket\n"
    assert os.path.samefile(job / "output", mnt / "local/buckets/outputs/mnist" / job.name)


def test_what_a_running_job_writes_is_seen(mnt, tmp_path):
    gates = [Gate(tmp_path / f"g{i}") for i in range(2)]
    script = (f'echo one > "$OUTPUT/f"; read x < "{gates[0].path}"; echo two >> "$OUTPUT/f"; : > "$OUTPUT/new"; '
              f'read x < "{gates[1].path}"\n')
    job = submit(mnt, package(tmp_path / "mnist", script=script))
    out = job / "output"
    wait_for(lambda: (out / "f").exists() and (out / "f").read_text() == "one\n")
    assert "new" not in os.listdir(out)
    gates[0].open()
    wait_for(lambda: (out / "f").read_text() == "one\ntwo\n", what="what was appended behind the mount")
    wait_for(lambda: (out / "new").exists(), what="a file made behind the mount")
    assert "new" in os.listdir(out)
    gates[1].open()
    succeeded(job)


# ---- drafts are directories like others

def test_drafts_can_be_edited_like_anything(mnt, tmp_path):
    d = copy_in(mnt, package(tmp_path / "p", script=HELLO), place="drafts")
    os.chmod(d, 0o700)
    assert stat.S_IMODE(d.stat().st_mode) == 0o700
    assert fails(lambda: os.rename(d, mnt / "local/buckets/p")) == "EXDEV"
    (mnt / "local/drafts/other").mkdir()
    os.rename(d / "train.sh", mnt / "local/drafts/other/train.sh")
    assert os.listdir(d) == [] and (mnt / "local/drafts/other/train.sh").read_text() == HELLO
    d.rmdir()
    assert os.listdir(mnt / "local/drafts") == ["other"]


def test_a_read_only_mount_refuses_changes(mount, tmp_path):
    m = mount()
    job = run_job(m, tmp_path / "mnist", HELLO)
    m.unmount()
    m = mount(args=["-o", "ro"])
    assert (job / "log").read_text() == "hello\n"
    for change in (lambda: (m / "local/train/x").mkdir(), job.rmdir, lambda: (job / "ctl").write_text("delete\n"),
                   lambda: (m / "local/buckets/b").mkdir()):
        assert fails(change) == "EROFS"
