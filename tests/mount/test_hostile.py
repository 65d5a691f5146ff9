# SPDX-License-Identifier: MIT
"""Packages that nobody would make on purpose: special files, odd names, links that leave, a job.yaml made to hurt."""
import errno
import os
import re
import socket
import stat
import time
from pathlib import Path

import pytest

from jobtools import NEVER, contents, copy, jobs, only_job, package, submit, sync, wait_state


def refused(m, name="digits", err=errno.EBADMSG):
    """sync refuses it; it is in drafts/ with the reason, which is given back."""
    assert sync(m / f"local/train/{name}") == err, m.errors()
    assert jobs(m) == [] and os.listdir(m / "local/train") == []
    why = (m / f"local/drafts/{name}/.error").read_text()
    assert why.strip() and why.count("\n") == 1
    line = m.errors().splitlines()[-1].split("\t")
    assert line[1:4] == ["local", f"local/drafts/{name}", errno.errorcode[err]]
    return why


def test_links_out_of_the_package_are_kept(mount, tmp_path):
    """On local; they are copied as what they are, and reach what they reach."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "data").write_text("outside\n")
    source = package(tmp_path / "digits", "cat abs rel/data; test -L nowhere && ! test -e nowhere; test -L loop")
    (source / "abs").symlink_to(outside / "data")
    (source / "rel").symlink_to("../outside")
    (source / "nowhere").symlink_to("/no/such/place")
    (source / "loop").symlink_to("loop")
    (source / "up").symlink_to("..")
    m = mount(config=NEVER)
    os.mkdir(m / "local/train/digits")
    for entry in source.iterdir():
        target = m / f"local/train/digits/{entry.name}"
        if entry.is_symlink():
            os.symlink(os.readlink(entry), target)
        else:
            target.write_bytes(entry.read_bytes())
    os.unlink(m / "local/train/digits/rel")
    os.symlink(str(outside), m / "local/train/digits/rel")  # a relative one would be relative to the job's copy
    assert sync(m / "local/train/digits") == 0, m.errors()
    job = only_job(m)
    assert wait_state(m, job) == "SUCCEEDED", (m / f"local/jobs/{job}/why").read_text()
    assert (m / f"local/jobs/{job}/log").read_text() == "outside\n" * 2
    there = m / f"local/jobs/{job}/package"
    assert os.readlink(there / "up") == ".." and os.readlink(there / "nowhere") == "/no/such/place"
    os.rmdir(m / f"local/jobs/{job}")
    assert (outside / "data").read_text() == "outside\n"  # deleting a job deletes no link's target


def test_a_package_that_is_a_link(mount, tmp_path):
    source = package(tmp_path / "digits", "true")
    m = mount(config=NEVER)
    with pytest.raises(OSError) as e:
        os.symlink(source, m / "local/train/digits")
    assert e.value.errno == errno.EPERM
    assert os.listdir(m / "local/train") == []


@pytest.mark.parametrize("kind", ["named pipe", "socket", "device"])
def test_special_files_are_refused_by_name(mount, tmp_path, kind):
    if kind == "device" and os.geteuid() != 0:
        pytest.skip("needs root")
    m = mount(config=NEVER)
    copy(package(tmp_path / "digits", "true", {"sub/a": "a"}), m / "local/train/digits")
    special = m / "local/train/digits/sub/odd"
    try:
        if kind == "named pipe":
            os.mkfifo(special)
        elif kind == "device":
            os.mknod(special, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        else:
            s = socket.socket(socket.AF_UNIX)
            os.chdir(m / "local/train/digits/sub")  # a socket's path is short
            try:
                s.bind("odd")
            finally:
                os.chdir("/")
                s.close()
    except OSError as e:  # said at once is as good
        assert e.errno == errno.EPERM
        return
    why = refused(m)
    assert "sub/odd" in why and kind in why
    os.unlink(m / "local/drafts/digits/sub/odd")
    os.rename(m / "local/drafts/digits", m / "local/train/digits")
    assert wait_state(m, only_job(m)) == "SUCCEEDED"


NAMES = ["new\nline", "tab\tand\\backslash", "ü" * 127 + "x", "x" * 255, " blank ", "-rf", "$(touch pwned)", "\x7f\x01",
         b"not\xffutf8", "quote'\"`"]


def test_names_of_every_kind_in_a_package(mount, tmp_path):
    source = package(tmp_path / "digits", "find . -type f -print0 | tr -cd '\\0' | wc -c")
    for name in NAMES:
        raw = os.fsencode(name)
        (source / os.fsdecode(raw)).write_bytes(raw)
    deep = source
    for _ in range(8):
        deep = deep / ("d" * 200)
    deep.mkdir(parents=True)
    (deep / ("f" * 255)).write_text("deep")
    m = mount(config=NEVER)
    job = submit(m, source)
    assert wait_state(m, job) == "SUCCEEDED", (m / f"local/jobs/{job}/log").read_text()
    assert contents(m / f"local/jobs/{job}/package") == contents(source)
    assert (m / f"local/jobs/{job}/log").read_text().strip() == str(len(contents(source)))
    assert not (Path(m / f"local/jobs/{job}/package") / "pwned").exists()


@pytest.mark.parametrize("name", NAMES)
def test_names_of_every_kind_of_a_draft(mount, tmp_path, name):
    """The model and the id are made from it, other characters becoming `_`."""
    source = package(tmp_path / "src", "true")
    m = mount(config=NEVER)
    name = os.fsdecode(os.fsencode(name))
    copy(source, m / f"local/train/{name}" if not name.startswith("-") else f"{m}/local/train/{name}")
    assert name in os.listdir(m / "local/train")
    assert sync(m / f"local/train/{name}") == 0, m.errors()
    job = only_job(m)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", job)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", jobs(m)[0]["model"])
    assert os.readlink(m / f"local/submitted/{name}") == f"../jobs/{job}"
    assert wait_state(m, job) == "SUCCEEDED"


@pytest.mark.parametrize("name", ["a b", "new\nline", "x" * 129, "-x", ".hidden", "ü", "a/../b"])
def test_names_that_no_job_may_have(mount, name):
    m = mount(config=NEVER)
    with pytest.raises(OSError) as e:
        os.mkdir(f"{m}/local/jobs/{name}")
    assert e.value.errno in (errno.EINVAL, errno.ENOENT)
    assert jobs(m) == []


def bomb(levels=30):
    """Anchors that double at each level: 2 to the 30 nodes."""
    text = "args: &a0 [x, x]\n" + "env:\n"
    return text + "".join(f"  k{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, levels))


HOSTILE = {
    "flow nesting": "args: " + "[" * 20000 + "]" * 20000 + "\n",
    "unclosed nesting": "args: " + "[" * 200000,
    "map nesting": "env: " + "{a: " * 20000 + "1" + "}" * 20000 + "\n",
    "block nesting": "".join(" " * i + f"k{i}:\n" for i in range(3000)),
    "sequence nesting": "args: " + "- " * 20000 + "x\n",
    "anchors": bomb(),
    "recursive anchor": "env: &a {x: *a}\n",
    "merge keys": "env: &a0 {x: '1'}\n" + "".join(f"e{i}: &a{i} {{<<: [*a{i-1}, *a{i-1}]}}\n" for i in range(1, 30)),
    "10 MB of one scalar": "model: " + "x" * (10 << 20) + "\n",
    "10 MB of lines": "args:\n" + "- x\n" * (10 << 18),
    "10 MB of comments": "# nothing here\n" * 700000,
    "nul bytes": "command: [sh, '\0\0']\n",
    "not utf-8": b"model: \xff\xfe\n",
    "utf-16": "command: [true]\n".encode("utf-16"),
    "tags": "command: !!python/object/apply:os.system ['touch /tmp/pwned']\n",
    "two documents": "model: a\n---\nmodel: b\n",
    "twice the same key": "model: a\nmodel: b\n",
    "a directory of keys": "? [a, b]\n: c\n",
    "only a dash": "-",
    "huge integer": "retries: 99999999999999999999999999\n",
    "infinite timeout": "timeout: .inf\n",
    "negative timeout": "timeout: -3h\n",
    "tab indentation": "env:\n\ta: b\n",
    "escapes": 'model: "\\u0000\\x00"\n',
    "up and out": "entry: ../../../../bin/true\n",
    "an absolute entry": "entry: /bin/true\n",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_job_yaml_is_refused_quickly(mount, tmp_path, what):
    """With place and reason, in little time and memory; the mount answers meanwhile, and after."""
    text = HOSTILE[what]
    m = mount(config=NEVER)
    copy(package(tmp_path / "digits", "true", {"main.py": "print(1)\n"}), m / "local/train/digits")
    (m / "local/train/digits/job.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    started = time.monotonic()
    why = refused(m)
    assert time.monotonic() - started < 30
    assert "job.yaml" in why and len(why) < 2000, why
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", why)
    rss = int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{m.pid}/status").read_text()).group(1))
    assert rss < 600 << 10, f"{rss} KB of memory"
    (m / "local/drafts/digits/job.yaml").write_text("command: ['true']\n")
    os.rename(m / "local/drafts/digits", m / "local/train/digits")
    assert wait_state(m, only_job(m)) == "SUCCEEDED"
    assert not os.path.exists("/tmp/pwned")


HOSTILE_JSON = {
    "nesting": '{"args": ' + "[" * 100000 + "]" * 100000 + "}",
    "10 MB": '{"model": "' + "x" * (10 << 20) + '"}',
    "nul": '{"model": "a\\u0000b"}',
    "rest": '{"model": "a"} trailing',
    "huge number": '{"retries": 1e999}',
    "lone surrogate": '{"model": "\\ud800"}',
    "empty": "",
    "a list": "[1]",
}


@pytest.mark.parametrize("what", HOSTILE_JSON)
def test_a_hostile_job_json_is_refused_quickly(mount, tmp_path, what):
    source = package(tmp_path / "digits", "true", {"main.py": "print(1)\n", "job.json": HOSTILE_JSON[what]})
    (source / "job.yaml").unlink()
    m = mount(config=NEVER)
    copy(source, m / "local/train/digits")
    why = refused(m)
    assert "job.json" in why and len(why) < 2000


@pytest.mark.parametrize("odd", ["a directory", "a link to /dev/zero", "a link to itself", "a fifo", "unreadable"])
def test_a_job_yaml_that_is_no_file(mount, tmp_path, odd):
    source = package(tmp_path / "digits", "true")
    (source / "job.yaml").unlink()
    m = mount(config=NEVER)
    os.mkdir(m / "local/train/digits")
    (m / "local/train/digits/main.py").write_text("print(1)\n")
    path = m / "local/train/digits/job.yaml"
    if odd == "a directory":
        os.mkdir(path)
    elif odd == "a link to /dev/zero":
        os.symlink("/dev/zero", path)
    elif odd == "a link to itself":
        os.symlink("job.yaml", path)
    elif odd == "a fifo":
        try:
            os.mkfifo(path)
        except OSError as e:
            assert e.errno == errno.EPERM
            return
    else:
        path.write_text("command: ['true']\n")
        os.chmod(path, 0)
        if os.geteuid() == 0:  # root reads it all the same
            assert sync(m / "local/train/digits") == 0
            return
    started = time.monotonic()
    err = sync(m / "local/train/digits")
    assert err not in (0, errno.EIO) and time.monotonic() - started < 30
    assert jobs(m) == [] and (m / "local/drafts/digits/.error").read_text()


def test_a_hostile_trainfsignore(mount, tmp_path):
    """Patterns that take for ever, and one that leaves out all."""
    m = mount(config=NEVER)
    files = {"a" * 200: "a", ".trainfsignore": "*a" * 60 + "b\n" + "**/" * 500 + "x\n" + "x" * 50000 + "\n"}
    started = time.monotonic()
    job = submit(m, package(tmp_path / "digits", "true", files))
    assert time.monotonic() - started < 30
    assert wait_state(m, job) == "SUCCEEDED"
    copy(package(tmp_path / "nothing", "true", {".trainfsignore": "*\n"}), m / "local/train/nothing")
    assert sync(m / "local/train/nothing") == errno.EBADMSG  # as if it were empty still
    assert len(jobs(m)) == 1
