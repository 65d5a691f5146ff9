# SPDX-License-Identifier: MIT
"""Packages and jobs, as the tests of faults need them: made in one line, waited for, looked at after a crash."""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import wait_for

ENDED = ("SUCCEEDED", "FAILED", "CANCELLED")
QUICK = "settle: 100ms\n"
NEVER = "settle: 1h\n"


def is_sanitized(program):
    """Was the program built with a sanitizer? Then big amounts shrink."""
    with open(program, "rb") as f:
        return b"__asan_init" in f.read() or b"__tsan_init" in Path(program).read_bytes()


def package(directory, command="true", files=None, **fields):
    """A package on the disk that runs `command` in a shell; gives its path."""
    directory = Path(directory)
    directory.mkdir(parents=True)
    text = f"command: [sh, -c, {quoted(command)}]\n"
    (directory / "job.yaml").write_text(text + "".join(f"{k}: {v}\n" for k, v in fields.items()))
    for name, content in (files or {}).items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return directory


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def copy(source, target, **kwargs):
    subprocess.run(["cp", "-r", str(source), str(target)], check=True, timeout=60, **kwargs)


def sync(path):
    """fsync of a directory; gives 0 or the errno."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
        return 0
    except OSError as e:
        return e.errno
    finally:
        os.close(fd)


def jobs(m, remote="local"):
    """The rows of jobs.tsv: a list of dictionaries, newest first."""
    lines = (m / f"{remote}/jobs.tsv").read_text().splitlines()
    return [dict(zip(lines[0].split("\t"), line.split("\t"))) for line in lines[1:]]


def state(m, job, remote="local"):
    return (m / f"{remote}/jobs/{job}/state").read_text().strip()


def wait_state(m, job, wanted=ENDED, timeout=30, remote="local"):
    wanted = (wanted,) if isinstance(wanted, str) else wanted
    return wait_for(lambda: (s := state(m, job, remote)) in wanted and s, timeout, f"{job} is one of {wanted}")


def only_job(m, remote="local", timeout=30):
    """Waits for a first job and gives its id; there must be no other."""
    found = wait_for(lambda: jobs(m, remote), timeout, "a job")
    assert len(found) == 1, found
    return found[0]["id"]


def submit(m, source, name=None, remote="local"):
    """Copies a package and syncs it; gives the job's id."""
    name = name or Path(source).name
    copy(source, m / f"{remote}/train/{name}")
    err = sync(m / f"{remote}/train/{name}")
    assert err == 0, f"{os.strerror(err)}: {m.errors()}"
    return os.path.basename(os.readlink(m / f"{remote}/submitted/{name}"))


def contents(directory):
    """{relative path: bytes, or '-> target'} of everything below."""
    found = {}
    for at, dirs, files in os.walk(directory):
        for name in files + [d for d in dirs if os.path.islink(os.path.join(at, d))]:
            path = os.path.join(at, name)
            key = os.path.relpath(path, directory)
            found[key] = "-> " + os.readlink(path) if os.path.islink(path) else Path(path).read_bytes()
    return found


def stats(m, *names):
    """The counter of .trainfs/stats.tsv whose columns are these."""
    for line in (m / ".trainfs/stats.tsv").read_text().splitlines():
        fields = line.split("\t")
        if tuple(fields[:-1])[-len(names):] == names:
            return int(fields[-1])
    pytest.fail(f"stats.tsv has no {names}:\n" + (m / ".trainfs/stats.tsv").read_text())


def wait_parked(m, n=1):
    """Until the daemon keeps so many calls waiting: one that it has not read yet is nothing to it."""
    wait_for(lambda: stats(m, "", "parked") >= n, what=f"{n} calls wait")


class Caller:
    """A process of its own that makes one call on the mount, and says when it begins."""

    def __init__(self, code, *args, world=None):
        self.process = subprocess.Popen(
            [sys.executable, "-c", "import os, sys, time\nargv = sys.argv[1:]\nprint('go', flush=True)\n"
             "try:\n" + "".join(f"    {line}\n" for line in code.splitlines()) +
             "except OSError as e:\n    print(e.errno, flush=True)\nelse:\n    print(0, flush=True)\n",
             *map(str, args)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            **({} if world is None else {"env": world.env}))
        assert self.process.stdout.readline() == "go\n"
        self.started = time.monotonic()

    def is_blocked(self):
        """Does it wait in the kernel for the file system, or for somebody who does?"""
        try:
            where = Path(f"/proc/{self.process.pid}/stack").read_text()
        except OSError:  # not root
            where = Path(f"/proc/{self.process.pid}/wchan").read_text()
        return any(name in where for name in ("fuse", "request_wait", "d_alloc_parallel", "lookup", "rwsem", "folio"))

    def wait_blocked(self, timeout=30):
        wait_for(lambda: self.process.poll() is not None or self.is_blocked(), timeout, "the caller waits")
        assert self.process.poll() is None, f"it did not wait: {self.result()}"

    def result(self, timeout=40):
        """errno, or 0; and what it printed before that."""
        out, _ = self.process.communicate(timeout=timeout)
        return out.split("\n")[:-1]

    def ends_by(self, number, seconds):
        """Sends the signal; it, and no answer, must end the process in time."""
        self.process.send_signal(number)
        assert self.process.wait(seconds) == -number
        self.process.stdout.close()
        self.process.stdin.close()

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(40)
        self.process.stdout.close()
        self.process.stdin.close()
