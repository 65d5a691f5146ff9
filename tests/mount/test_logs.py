# SPDX-License-Identifier: MIT
"""DESIGN 2 and 7: logs that grow, waiting for the end of a job, and being told of changes."""
import ctypes
import mmap
import os
import select
import struct
import subprocess
import threading

import pytest

from conftest import wait_for
from userkit import TOOLS, Gate, ended, package, run, run_job, running, submit, succeeded, tool_name

IN_MODIFY, IN_ATTRIB = 0x2, 0x4


class Stepped:
    """A job that does one thing each time it is told to: a line of shell through a pipe."""

    def __init__(self, m, tmp_path, name="stepped"):
        self.pipe = tmp_path / f"{name}.pipe"
        os.mkfifo(self.pipe)
        # opened for both, so that it never sees an end before it is told
        script = f'exec 3<>"{self.pipe}"\nwhile read -r line <&3; do test "$line" = end && exit 0; eval "$line"; done\n'
        self.job = running(submit(m, package(tmp_path / name, script=script)))
        self.fd = wait_for(self._open, what="the job listens")

    def _open(self):
        try:
            return os.open(self.pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return None

    def do(self, line):
        os.write(self.fd, line.encode() + b"\n")

    def end(self):
        self.do("end")
        assert ended(self.job) == "SUCCEEDED"


@pytest.fixture
def stepped(mnt, tmp_path):
    s = Stepped(mnt, tmp_path)
    yield s
    os.close(s.fd)


class Reader:
    """A program whose output is looked at while it runs."""

    def __init__(self, *command, pty=False):
        self.process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        stdin=subprocess.DEVNULL)
        self.text = ""
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        while chunk := os.read(self.process.stdout.fileno(), 65536):
            self.text += chunk.decode(errors="replace")

    def expect(self, text, timeout=30):
        wait_for(lambda: text in self.text, timeout, f"{text!r} in what was read: {self.text!r}")

    def wait(self, timeout=30):
        code = self.process.wait(timeout)
        self.thread.join(timeout)
        return code

    def __enter__(self):
        return self

    def __exit__(self, *args):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
        self.thread.join(30)
        self.process.stdout.close()


def text(path):
    return path.read_text()


# ---- growing

@pytest.mark.parametrize("command", [
    ["tail", "-n", "+1", "-f"], ["tail", "-F", "-n", "+1"], ["tail", "--follow=name", "-n", "+1"],
    ["tail", "-n", "+1", "-f", "---disable-inotify"],
    ["busybox", "tail", "-n", "+1", "-f"], ["busybox", "tail", "-n", "+1", "-F"]], ids=" ".join)
def test_tail_follows(stepped, command):
    stepped.do("echo one")
    with Reader(*command, stepped.job / "log") as tail:
        tail.expect("one\n")
        stepped.do("echo two")
        tail.expect("two\n")
        stepped.do("echo three")
        tail.expect("three\n")
        assert tail.text == "one\ntwo\nthree\n"
        stepped.end()


def test_tail_of_a_job_that_has_not_begun(mnt, tmp_path):
    gate = Gate(tmp_path / "gate")
    first = running(submit(mnt, package(tmp_path / "first", script=f'read x < "{gate.path}"\n')))
    second = submit(mnt, package(tmp_path / "second", script="echo at last\n"))
    with Reader("tail", "-f", second / "log") as tail:
        gate.open()
        tail.expect("at last\n")
    succeeded(first)


def test_tail_with_pid_ends_with_its_process(stepped):
    stepped.do("echo one")
    with Reader("cat", stepped.job / "wait") as cat:
        with Reader("tail", "-n", "+1", "-f", f"--pid={cat.process.pid}", stepped.job / "log") as tail:
            tail.expect("one\n")
            stepped.do("echo two")
            stepped.end()
            assert cat.wait() == 0 and cat.text == "SUCCEEDED\n"
            assert tail.wait() == 0 and tail.text == "one\ntwo\n"


def test_less_follows(stepped, tmp_path):
    stepped.do("echo one")
    socket = tmp_path / "tmux"
    tmux = ["tmux", "-S", str(socket), "-f", "/dev/null"]
    subprocess.run([*tmux, "new-session", "-d", "-x", "80", "-y", "24", f"less +F '{stepped.job}/log'"], check=True)

    def screen():
        return subprocess.run([*tmux, "capture-pane", "-p"], capture_output=True, text=True, check=False).stdout
    try:
        wait_for(lambda: "one\n" in screen(), what="less shows the first line")
        stepped.do("echo two")
        wait_for(lambda: "two\n" in screen(), what="less follows")
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)


def test_the_log_grows_for_a_reader_that_asks_again(stepped):
    path = stepped.job / "log"
    with open(path, "rb") as f:
        assert f.read() == b""
        stepped.do("echo one")
        assert wait_for(f.read, what="the first line") == b"one\n"
        stepped.do("echo two")
        assert wait_for(f.read, what="the second line") == b"two\n"
        assert os.fstat(f.fileno()).st_size == 8
    stepped.do("echo three")
    wait_for(lambda: path.stat().st_size == 14, what="a size that grows though nobody reads")
    assert text(path) == "one\ntwo\nthree\n"


def test_a_log_is_whole_the_moment_its_job_has_ended(mnt, tmp_path):
    """`wait` is answered after the kernel knows all of it."""
    for i in range(5):
        job = submit(mnt, package(tmp_path / f"j{i}", script=f"echo begun; seq {20000 + i}\n"))
        with open(job / "log", "rb") as f:
            f.read()
            assert ended(job) == "SUCCEEDED"
            assert (job / "log").stat().st_size == os.fstat(f.fileno()).st_size
            assert text(job / "log").splitlines()[-1] == str(20000 + i)
            assert text(job / "state") == "SUCCEEDED\n" and text(job / "exit") == "0\n" and (job / "done").exists()


@pytest.mark.parametrize("tool", TOOLS, ids=tool_name)
def test_sizes_are_what_wc_counts(mnt, tmp_path, tool):
    job = run_job(mnt, tmp_path / "mnist", "seq 100000\n")
    size = (job / "log").stat().st_size
    assert run(mnt, *tool, "wc", "-c", job / "log").split()[0] == str(size) == str(sum(len(str(i)) + 1 for i in range(1, 100001)))
    assert run(mnt, *tool, "wc", "-l", job / "log").split()[0] == "100000"
    assert run(mnt, *tool, "tail", "-n", "1", job / "log") == "100000\n"
    assert run(mnt, *tool, "grep", "-c", "99$", job / "log") == "1000\n"


def test_wc_of_a_growing_log(mnt, stepped):
    stepped.do("seq 1000")
    wait_for(lambda: run(mnt, "wc", "-l", stepped.job / "log").split()[0] == "1000", what="all of its lines")
    assert run(mnt, "grep", "-c", "", stepped.job / "log") == "1000\n"
    assert run(mnt, "tail", "-n", "1", stepped.job / "log") == "1000\n"


def test_a_log_without_a_last_newline(mnt, tmp_path):
    job = run_job(mnt, tmp_path / "mnist", "printf 'no newline'\n")
    assert text(job / "log") == "no newline" and (job / "log").stat().st_size == 10
    assert text(job / "follow") == "no newline"


def test_an_empty_log(mnt, tmp_path):
    job = run_job(mnt, tmp_path / "mnist", "true\n")
    assert text(job / "log") == "" and (job / "log").stat().st_size == 0 and text(job / "follow") == ""


def test_bytes_of_any_kind(mnt, tmp_path):
    job = run_job(mnt, tmp_path / "mnist", r"printf 'a\000b\377\r50%%\r100%%\n'" + "\nhead -c 300000 /dev/zero\n")
    assert (job / "log").read_bytes() == b"a\0b\xff\r50%\r100%\n" + b"\0" * 300000


def test_the_log_can_be_mapped(mnt, tmp_path):
    job = run_job(mnt, tmp_path / "mnist", "seq 5000\n")
    for name in ("log", "spec.json", "package/train.sh", "events.jsonl"):
        with open(job / name, "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as map_:
            assert map_[:] == (job / name).read_bytes(), name


def test_files_of_a_live_job_can_be_mapped(stepped):
    stepped.do("seq 1000")
    wait_for(lambda: text(stepped.job / "log").endswith("\n1000\n"))
    for name in ("log", "spec.json", "created", "package/train.sh"):
        with open(stepped.job / name, "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as map_:
            assert map_[:] == (stepped.job / name).read_bytes(), name
    kernel = tuple(int(n) for n in os.uname().release.split(".")[:2])
    flags = mmap.MAP_SHARED if kernel >= (6, 6) else mmap.MAP_PRIVATE
    for name in ("events.jsonl", "attempts.tsv", "../../jobs.tsv"):  # they change as a whole, and bypass the page cache
        with open(stepped.job / name, "rb") as f, mmap.mmap(f.fileno(), 0, flags=flags, prot=mmap.PROT_READ) as map_:
            assert map_[:].endswith(b"\n"), name


def test_fifty_readers(mnt, stepped):
    readers = [Reader("tail", "-n", "+1", "-f", stepped.job / "log") for _ in range(25)] + \
        [Reader("cat", stepped.job / "follow") for _ in range(25)]
    try:
        stepped.do("echo one")
        for r in readers:
            r.expect("one\n")
        stepped.do("echo two")
        for r in readers:
            r.expect("two\n")
        stepped.end()
        for r in readers[25:]:
            assert r.wait() == 0
        assert {r.text for r in readers} == {"one\ntwo\n"}
    finally:
        for r in readers:
            r.__exit__()


# ---- follow and wait

def test_follow_ends_with_the_job(stepped):
    stepped.do("echo one")
    with Reader("cat", stepped.job / "follow") as cat:
        cat.expect("one\n")
        stepped.do("echo two")
        cat.expect("two\n")
        assert cat.process.poll() is None
        stepped.do("echo last")
        stepped.end()
        assert cat.wait() == 0 and cat.text == "one\ntwo\nlast\n"


@pytest.mark.parametrize("tool", TOOLS, ids=tool_name)
@pytest.mark.parametrize("to", ["| cat", "> out; cat out", "| busybox cat"])
def test_cat_of_what_waits(mnt, tmp_path, tool, to):
    """busybox copies by sendfile(2), which ends at a file's size."""
    for i, name in enumerate(("wait", "follow")):
        job = submit(mnt, package(tmp_path / f"j{i}", script="seq 20000\n"))
        out = run(mnt, "sh", "-c", f'{" ".join(tool)} cat "$0/{name}" {to}', job, cwd=tmp_path)
        assert out == ("SUCCEEDED\n" if name == "wait" else "".join(f"{n}\n" for n in range(1, 20001)))
        assert run(mnt, *tool, "cat", job / "state", job / "exit") == "SUCCEEDED\n0\n"


def test_busybox_cat_of_state_is_the_present(mnt, stepped):
    assert run(mnt, "busybox", "cat", stepped.job / "state") == "RUNNING\n"
    with open(stepped.job / "state", "rb"):
        assert run(mnt, "busybox", "cat", stepped.job / "state") == "RUNNING\n"
        stepped.end()
        assert run(mnt, "busybox", "cat", stepped.job / "state") == "SUCCEEDED\n"


def test_follow_of_an_ended_job_is_its_log(mnt, tmp_path):
    job = run_job(mnt, tmp_path / "mnist", "seq 3\n")
    assert text(job / "follow") == "1\n2\n3\n"


def test_follow_ends_for_a_cancelled_job(stepped):
    stepped.do("echo one")
    with Reader("cat", stepped.job / "follow") as cat:
        cat.expect("one\n")
        (stepped.job / "ctl").write_text("cancel\n")
        assert cat.wait() == 0
    assert ended(stepped.job) == "CANCELLED"


@pytest.mark.parametrize("name", ["wait", "follow"])
def test_waiting_can_be_interrupted(stepped, name):
    with Reader("cat", stepped.job / name) as cat:
        wait_for(lambda: waits_for_us(cat.process.pid), what="cat is in read(2)")
        cat.process.terminate()
        assert cat.wait(5) == -15


def waits_for_us(pid):
    with open(f"/proc/{pid}/syscall", encoding="ascii") as f:
        call = f.read().split()
    return call[0] == "0" and call[1] != "0x0" and os.readlink(f"/proc/{pid}/fd/{int(call[1], 16)}").endswith(("wait", "follow"))


def test_wait_and_follow_are_not_listed_but_there(stepped):
    names = os.listdir(stepped.job)
    assert "wait" not in names and "follow" not in names
    assert (stepped.job / "wait").exists() and (stepped.job / "follow").exists()


@pytest.mark.parametrize("command", [["grep", "-r", "nothing-like-it"], ["grep", "-R", "nothing-like-it"], ["find"], ["du", "-a"],
                                     ["busybox", "grep", "-r", "nothing-like-it"]], ids=" ".join)
def test_crawlers_do_not_hang_on_a_running_job(mnt, stepped, command):
    command = [*command, str(mnt)] if command[0] != "find" else ["find", str(mnt), "-type", "f", "-size", "+1G"]
    assert mnt.world.shell(command, timeout=20).returncode in (0, 1)


# ---- being told

def test_state_is_always_the_present(stepped):
    with open(stepped.job / "state", "rb", buffering=0) as f:
        assert f.read(100) == b"RUNNING\n"
        stepped.end()
        assert os.pread(f.fileno(), 100, 0) == b"SUCCEEDED\n"
        f.seek(0)
        assert f.read(100) == b"SUCCEEDED\n"


def test_poll_of_state(stepped):
    fd = os.open(stepped.job / "state", os.O_RDONLY)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLPRI | select.POLLERR)
        assert os.pread(fd, 100, 0) == b"RUNNING\n"
        assert poll.poll(0) == []
        stepped.do("end")
        found = poll.poll(10000)
        assert found and found[0][1] & select.POLLPRI
        assert os.pread(fd, 100, 0) == b"SUCCEEDED\n"
        assert not [e for _, e in poll.poll(0) if e & select.POLLPRI]
    finally:
        os.close(fd)


def test_select_of_state(stepped):
    fd = os.open(stepped.job / "state", os.O_RDONLY)
    try:
        os.read(fd, 100)
        assert select.select([], [], [fd], 0)[2] == []
        stepped.do("end")
        assert select.select([], [], [fd], 30)[2] == [fd]
    finally:
        os.close(fd)


class Inotify:
    def __init__(self):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self.libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self.fd >= 0
        self.seen = set()

    def add(self, path, mask):
        wd = self.libc.inotify_add_watch(self.fd, os.fsencode(path), mask)
        assert wd >= 0, os.strerror(ctypes.get_errno())
        return wd

    def expect(self, wd, mask, timeout=30):
        def has_come():
            try:
                data = os.read(self.fd, 65536)
            except BlockingIOError:
                data = b""
            while data:
                found, bits, _, n = struct.unpack_from("iIII", data)
                self.seen.add((found, bits))
                data = data[16 + n:]
            return any(found == wd and bits & mask for found, bits in self.seen)
        wait_for(has_come, timeout, f"an event of watch {wd}")

    def __enter__(self):
        return self

    def __exit__(self, *args):
        os.close(self.fd)


def test_inotify_of_state(stepped):
    with Inotify() as i:
        wd = i.add(stepped.job / "state", IN_MODIFY)
        stepped.do("end")
        i.expect(wd, IN_MODIFY)
    assert ended(stepped.job) == "SUCCEEDED"


def test_inotify_of_events_and_jobs(mnt, tmp_path):
    run_job(mnt, tmp_path / "first", "true\n")
    with Inotify() as i:
        events = i.add(mnt / ".trainfs/events", IN_MODIFY)
        listing = i.add(mnt / "local/jobs", IN_MODIFY | IN_ATTRIB)
        run_job(mnt, tmp_path / "second", "true\n")
        i.expect(events, IN_MODIFY)
        i.expect(listing, IN_MODIFY | IN_ATTRIB)


def test_tail_of_events(mnt, tmp_path):
    with Reader("tail", "-n", "+1", "-f", mnt / ".trainfs/events") as tail:
        job = run_job(mnt, tmp_path / "mnist", "true\n")
        tail.expect(f'"{job.name}"')
        tail.expect('"SUCCEEDED"')


def test_tail_of_errors(mnt):
    with Reader("tail", "-n", "+1", "-f", mnt / ".trainfs/errors") as tail:
        with pytest.raises(OSError):
            (mnt / "local/jobs/-bad").mkdir()
        tail.expect("EINVAL")
