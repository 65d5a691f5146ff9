# SPDX-License-Identifier: MIT
"""What a user of a mount does again and again: packages, submitting, looking at the job that became of one."""
import json
import os
import subprocess
from pathlib import Path

from conftest import wait_for

# every tool as GNU has it and as busybox has it
TOOLS = [(), ("busybox",)]


def tool_name(prefix):
    return prefix[0] if prefix else "gnu"


def package(where, files=None, spec=None, script=None):
    """A directory of files; `script` is its train.sh, `spec` its job.yaml (JSON is YAML)."""
    where = Path(where)
    where.mkdir(parents=True, exist_ok=True)
    files = dict(files or {})
    if script is not None:
        files["train.sh"] = script
    if spec is not None:
        files["job.yaml"] = json.dumps(spec, indent=1) + "\n"
    for name, text in files.items():
        path = where / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return where


def fsync_dir(path):
    """fsync(2) of a directory, as `sync DIR` does; raises OSError with what the mount answered."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def run(m, *command, **kwargs):
    """A command that must succeed; gives its output."""
    done = m.world.shell([str(c) for c in command], **kwargs)
    assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout}\n{m.errors()}"
    return done.stdout


def copy_in(m, pkg, name=None, place="train", remote="local"):
    to = m / remote / place / (name or pkg.name)
    run(m, "cp", "-r", pkg, to)
    return to


def submitted(m, name, remote="local"):
    """The job that `submitted/NAME` points at: the real path of its directory."""
    target = os.readlink(m / remote / "submitted" / name)
    return m / remote / "jobs" / os.path.basename(target)


def submit(m, pkg, name=None, remote="local"):
    """cp -r and sync: the job's directory."""
    to = copy_in(m, pkg, name, remote=remote)
    run(m, "sync", to)
    return submitted(m, to.name, remote)


def ended(job):
    """Waits for the job's end: its last state."""
    return (job / "wait").read_text().strip()


def succeeded(job):
    state = ended(job)
    assert state == "SUCCEEDED", f"{state}: {(job / 'why').read_text()}\n{(job / 'log').read_text()}"
    return job


def run_job(m, where, script, spec=None, files=None):
    """Submits a package with this train.sh, waits until it has succeeded."""
    return succeeded(submit(m, package(where, files, spec, script)))


def running(job):
    wait_for(lambda: (job / "state").read_text() == "RUNNING\n", what=f"{job.name} runs")
    return job


class Gate:
    """A named pipe that a job's script stops at (`read x < "$GATE"`), until it is opened."""

    def __init__(self, path):
        self.path = Path(path)
        os.mkfifo(self.path)

    def open(self):
        fd = wait_for(self._try, what=f"somebody reads {self.path}")
        os.write(fd, b"go\n")
        os.close(fd)

    def _try(self):
        try:
            return os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return None


def rows(path):
    """A TSV file as a list of dicts."""
    lines = Path(path).read_text().split("\n")
    assert lines[-1] == ""
    head = lines[0].split("\t")
    found = [line.split("\t") for line in lines[1:-1]]
    assert all(len(r) == len(head) for r in found), f"{path}: {lines}"
    return [dict(zip(head, r)) for r in found]


def error_lines(m):
    """.trainfs/errors: (time, remote, path, errno name, sentence) a line."""
    return [tuple(line.split("\t")) for line in m.errors().splitlines()]


def jobs(m, remote="local"):
    return sorted(os.listdir(m / remote / "jobs"))


class Talker:
    """A process of its own that writes where and when it is told to: `say("path", "text")`."""

    CODE = """
import json, os, sys
for line in sys.stdin:
    verb, path, text = json.loads(line)
    if verb == "write":
        with open(path, "a") as f:
            f.write(text)
    elif verb == "mkdir":
        os.mkdir(path)
    print("done", flush=True)
"""

    def __init__(self):
        self.process = subprocess.Popen(["/usr/bin/python3", "-c", self.CODE], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid

    def tell(self, verb, path, text=""):
        self.process.stdin.write(json.dumps([verb, str(path), text]) + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def mkdir(self, path):
        self.tell("mkdir", path)

    def write(self, path, text):
        self.tell("write", path, text)

    def end(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(30)

    def __enter__(self):
        return self

    def __exit__(self, *args):
        if self.process.poll() is None:
            self.process.kill()
            self.end()
