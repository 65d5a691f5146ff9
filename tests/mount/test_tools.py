# SPDX-License-Identifier: MIT
"""The whole of it as people do it: whole sessions at a shell, with GNU's tools and with busybox's, several at a time."""
import concurrent.futures
import os
import re
import signal
import subprocess

import pytest

from conftest import wait_for
from userkit import TOOLS, Gate, copy_in, ended, jobs, package, rows, run, run_job, running, submit, submitted, succeeded, \
    tool_name

HELLO = "echo hello\n"


def shell(m, script, *args, tool=(), cwd=None):
    """A script of sh -e; with busybox every applet that it has is its own."""
    program = ["busybox", "sh"] if tool else ["bash"]
    env = dict(m.world.env)
    if tool:
        bin_ = m.world.root / "busybox-bin"
        if not bin_.exists():
            bin_.mkdir()
            subprocess.run(["busybox", "--install", "-s", str(bin_)], check=True)
        env["PATH"] = f"{bin_}:{env['PATH']}"
    done = m.world.shell([*program, *(["-ex"] if tool else ["-e"]), "-c", script, "sh", *map(str, args)], env=env, cwd=cwd)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}{m.errors()}"
    return done.stdout


@pytest.mark.parametrize("tool", TOOLS, ids=tool_name)
def test_a_day_with_it(mnt, tmp_path, tool):
    package(tmp_path / "mnist", script='echo "lr=$LR"; echo model > "$OUTPUT/model.bin"\n', spec={"env": {"LR": "0.1"}})
    out = shell(mnt, """
        cd "$1/local"
        cp -r "$2/mnist" train/
        sync train/mnist
        cat submitted/mnist/wait
        cat latest/log
        grep -q SUCCEEDED submitted/mnist/state
        test -e latest/done
        wc -c < latest/log
        cp latest/output/model.bin "$2/got"
        cp -r jobs/$(basename $(readlink latest)) drafts/again
        sed -i 's/0\\.1/0.2/' drafts/again/spec.json
        mv drafts/again train/
        while ! test -e submitted/again; do :; done
        cat submitted/again/wait submitted/again/log
        cut -f 2 jobs.tsv
        rmdir jobs/$(basename $(readlink submitted/mnist))
        ls jobs | wc -l
        du -s . > /dev/null
        find . -type f > /dev/null
    """, mnt, tmp_path, tool=tool)
    assert out.split() == ["SUCCEEDED", "lr=0.1", "7", "SUCCEEDED", "lr=0.2", "state", "SUCCEEDED", "SUCCEEDED", "1"]
    assert (tmp_path / "got").read_text() == "model\n"
    assert mnt.errors() == ""


def test_copying_over_a_draft_again(mnt, tmp_path):
    """rsync twice: the second changes only what differs; sizes, times and modes are those of the source."""
    pkg = package(tmp_path / "mnist", {"a": "1", "b": "2"}, script=HELLO)
    to = mnt / "local/drafts"
    run(mnt, "rsync", "-a", pkg, to)
    (pkg / "a").write_text("changed")
    (pkg / "b").unlink()
    out = run(mnt, "rsync", "-ai", "--delete", pkg, to)
    assert set(re.findall(r"^\S+ +(.*)$", out, re.M)) - {"mnist/"} == {"mnist/b", "mnist/a"}
    assert run(mnt, "rsync", "-ai", "--delete", pkg, to) == ""
    assert run(mnt, "rsync", "-aic", "--delete", pkg, to) == ""


def test_cp_u_and_install_compare(mnt, tmp_path):
    pkg = package(tmp_path / "mnist", {"a": "1"})
    to = mnt / "local/drafts/mnist"
    run(mnt, "cp", "-a", pkg, to)
    assert run(mnt, "cp", "-auv", f"{pkg}/.", to) == ""
    run(mnt, "install", "-C", pkg / "a", to / "b")
    before = (to / "b").stat().st_mtime_ns
    run(mnt, "install", "-C", pkg / "a", to / "b")
    assert (to / "b").stat().st_mtime_ns == before


def test_cp_with_reflink_and_sparse(mnt, tmp_path):
    with open(tmp_path / "sparse", "wb") as f:
        f.truncate(1 << 24)
        f.write(b"x")
    to = mnt / "local/buckets/b"
    to.mkdir()
    for option in ("--sparse=always", "--reflink=auto", "--sparse=never"):
        run(mnt, "cp", option, tmp_path / "sparse", to / "f")
        run(mnt, "cmp", tmp_path / "sparse", to / "f")
        run(mnt, "cp", option, to / "f", to / "g")
        run(mnt, "cmp", to / "f", to / "g")


def test_an_archive_of_a_job_and_back(mnt, tmp_path):
    job = run_job(mnt, tmp_path / "mnist", HELLO)
    run(mnt, "tar", "-C", mnt / "local/jobs", "-czf", tmp_path / "j.tgz", job.name)
    run(mnt, "tar", "-C", mnt / "local/drafts", "-xzf", tmp_path / "j.tgz")
    run(mnt, "mv", mnt / "local/drafts" / job.name, mnt / "local/jobs/again-01")
    succeeded(mnt / "local/jobs/again-01")
    assert (mnt / "local/jobs/again-01/log").read_text() == "hello\n"


@pytest.mark.parametrize("editor", [
    ["vim", "-es", "-u", "NONE", "-c", "%s/hello/edited/", "-c", "wq"],
    ["vim", "-es", "-u", "NONE", "-c", "set backupcopy=yes | %s/hello/edited/", "-c", "wq"],
    ["vim", "-es", "-u", "NONE", "-c", "set backupcopy=no | %s/hello/edited/", "-c", "wq"],
    ["sed", "-i.bak", "s/hello/edited/"], ["perl", "-pi", "-e", "s/hello/edited/"], ["ex", "-sc", "%s/hello/edited/|x"],
    ["busybox", "sed", "-i", "s/hello/edited/"]], ids=lambda e: " ".join(e[:3]) if e[0] != "vim" else e[5][:20])
@pytest.mark.parametrize("place", ["drafts", "buckets"])
def test_editors(mnt, tmp_path, editor, place):
    to = mnt / "local" / place / "mine"
    to.mkdir()
    (to / "train.sh").write_text(HELLO)
    os.chmod(to / "train.sh", 0o755)
    run(mnt, *editor, to / "train.sh")
    assert (to / "train.sh").read_text() == "echo edited\n"
    assert os.access(to / "train.sh", os.X_OK)
    assert set(os.listdir(to)) <= {"train.sh", "train.sh.bak"}


def test_vim_shows_a_log_and_does_not_write_it(mnt, tmp_path):
    job = run_job(mnt, tmp_path / "mnist", HELLO)
    done = mnt.world.shell(["vim", "-es", "-u", "NONE", "-c", "%s/hello/x/", "-c", "wq!", str(job / "log")])
    assert done.returncode != 0
    assert (job / "log").read_text() == "hello\n" and set(os.listdir(job)) & {".log.swp", "log~", "4913"} == set()
    out = run(mnt, "vim", "-R", "-es", "-u", "NONE", "-c", "%p", "-c", "q", job / "log")
    assert "hello" in out


def test_git_works_in_a_draft(mnt, tmp_path):
    to = mnt / "local/drafts/mine"
    to.mkdir()
    shell(mnt, """
        git init -q -b trunk .
        git config user.name n; git config user.email e@x
        for i in 1 2 3; do echo $i > f$i; git add .; git commit -qm $i; done
        git checkout -q -b other HEAD~1
        git merge -q trunk
        git gc -q
        git fsck
        git stash list
        git diff --exit-code
        git log --oneline | wc -l
    """, cwd=to)
    assert run(mnt, "git", "-C", to, "status", "--porcelain") == ""
    run(mnt, "git", "clone", "-q", to, tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == [".git", "f1", "f2", "f3"]


def test_make_in_a_draft_and_with_jobs(mnt, tmp_path):
    """A pipeline: training as a rule, its result as a file that others depend on."""
    package(tmp_path / "mnist", script='echo weights > "$OUTPUT/w"\n')
    (tmp_path / "Makefile").write_text(f"""\
ML = {mnt}/local
report: $(ML)/jobs/exp-001/done
\tcat $(ML)/jobs/exp-001/output/w > report
$(ML)/jobs/exp-001/done:
\tcp -r mnist $(ML)/jobs/exp-001
\tsync $(ML)/jobs/exp-001
\tgrep -q SUCCEEDED $(ML)/jobs/exp-001/wait
""")
    run(mnt, "make", "-C", tmp_path, "report")
    assert (tmp_path / "report").read_text() == "weights\n"
    assert "up to date" in run(mnt, "make", "-C", tmp_path, "report")


def test_a_shells_redirections(mnt, tmp_path):
    to = mnt / "local/drafts/mine"
    to.mkdir()
    out = shell(mnt, """
        echo one > f; echo two >> f; cat < f
        cat > g << EOF
here
here
EOF
        exec 3<> g; read x <&3; echo "$x"
        tee h < f > /dev/null; cmp f h
        : > f; test ! -s f
        mkfifo p; (echo through > p &) ; cat p; rm p
        ls | sort | tr '\\n' ' '
    """, cwd=to)
    assert out == "one\ntwo\nhere\nthrough\nf g h "


def test_globs_and_loops_over_jobs(mnt, tmp_path):
    for i in range(3):
        run_job(mnt, tmp_path / f"m{i}", f"echo {i}\n")
    out = shell(mnt, 'for j in */; do printf "%s %s\\n" "$(cat $j/state)" "$(cat $j/log)"; done; cat */exit; ls -d */done | wc -l',
                cwd=mnt / "local/jobs")
    assert out == "SUCCEEDED 0\nSUCCEEDED 1\nSUCCEEDED 2\n0\n0\n0\n3\n"
    assert run(mnt, "sh", "-c", "head -n 1 -q */log | sort -n | tail -n 1", cwd=mnt / "local/jobs") == "2\n"


def test_awk_over_the_table(mnt, tmp_path):
    run_job(mnt, tmp_path / "a", HELLO)
    ended(submit(mnt, package(tmp_path / "b", script="exit 1\n")))
    for tool in TOOLS:
        out = run(mnt, *tool, "awk", "-F\t", 'NR > 1 { print $3, $2 }', mnt / "local/jobs.tsv")
        assert out == "b FAILED\na SUCCEEDED\n"


def test_python_as_a_user_writes_it(mnt, tmp_path):
    code = """
import pathlib, shutil, os, sys, json, tempfile
ml, pkg = pathlib.Path(sys.argv[1]), sys.argv[2]
shutil.copytree(pkg, ml / "local/drafts/mine")
with tempfile.NamedTemporaryFile("w", dir=ml / "local/drafts/mine", delete=False) as f:
    f.write("echo replaced\\n")
os.replace(f.name, ml / "local/drafts/mine/train.sh")
shutil.move(str(ml / "local/drafts/mine"), str(ml / "local/jobs/mine-01"))
job = ml / "local/jobs/mine-01"
print((job / "wait").read_text(), (job / "log").read_text(), json.loads((job / "spec.json").read_text())["model"])
"""
    out = run(mnt, "/usr/bin/python3", "-c", code, mnt, package(tmp_path / "mnist", script=HELLO))
    assert out == "SUCCEEDED\n replaced\n mine\n"


# ---- many at a time

def test_many_submissions_at_a_time(mount, tmp_path):
    m = mount(config='remotes: {local: {type: local, slots: 4}}\n')
    pkgs = [package(tmp_path / f"p{i}", script=f"echo {i}\n", spec={"model": "same"}) for i in range(16)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda p: submit(m, p), pkgs))
    assert len({j.name for j in found}) == 16 and len(jobs(m)) == 16
    for i, job in enumerate(found):
        assert (succeeded(job) / "log").read_text() == f"{i}\n"
    assert os.listdir(m / "local/train") == [] and os.listdir(m / "local/drafts") == []
    assert len(rows(m / "local/jobs.tsv")) == 16


def test_many_move_at_a_time(mnt, tmp_path):
    pkg = package(tmp_path / "mnist", script=HELLO)
    for i in range(12):
        copy_in(mnt, pkg, place="drafts", name=f"d{i}")
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda i: os.rename(mnt / f"local/drafts/d{i}", mnt / f"local/jobs/run-{i:02}"), range(12)))
    assert jobs(mnt) == [f"run-{i:02}" for i in range(12)]
    for i in range(12):
        succeeded(mnt / f"local/jobs/run-{i:02}")


def test_the_same_sync_from_many(mnt, tmp_path):
    """However many ask for it, it is one job, and all are told the same."""
    to = copy_in(mnt, package(tmp_path / "mnist", script=HELLO))
    fds = [os.open(to, os.O_RDONLY | os.O_DIRECTORY) for _ in range(8)]
    try:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            assert list(pool.map(os.fsync, fds)) == [None] * 8
    finally:
        for fd in fds:
            os.close(fd)
    assert len(jobs(mnt)) == 1


def test_crawling_while_things_happen(mount, tmp_path):
    m = mount(config='settle: 100ms\nremotes: {local: {type: local, slots: 2}}\n')
    crawler = subprocess.Popen(["sh", "-c", 'while ! test -e "$1"; do ls -lR "$0" > /dev/null; grep -rc x "$0" > /dev/null; done',
                                str(m), str(tmp_path / "stop")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for i in range(6):
            job = run_job(m, tmp_path / f"p{i}", f"seq {i}000\n")
            assert len((job / "log").read_text().splitlines()) == i * 1000
            job.rmdir()
        assert jobs(m) == []
    finally:
        (tmp_path / "stop").write_text("")
        crawler.wait(30)


def test_ctrl_c_at_a_sync(mnt, tmp_path):
    """Interrupted or not, the draft is a job or a draft, never both, never neither."""
    for i in range(5):
        to = copy_in(mnt, package(tmp_path / f"p{i}", script=HELLO))
        p = subprocess.Popen(["sync", str(to)], stderr=subprocess.DEVNULL)
        p.send_signal(signal.SIGINT)
        p.wait(30)

        def where(to=to):
            return [to.exists(), os.path.lexists(mnt / "local/submitted" / to.name),
                    (mnt / "local/drafts" / to.name).exists()]
        wait_for(lambda: where()[1], what="it goes on by itself, or settles")
        wait_for(lambda: where() == [False, True, False], 5, f"one place for it: {where()}")
        succeeded(submitted(mnt, to.name))
    assert len(jobs(mnt)) == 5


def test_a_job_that_uses_the_mount(mnt, tmp_path):
    """A job that submits the next one, and looks at itself."""
    second = package(tmp_path / "second", script="echo second\n")
    script = (f'cp -r "{second}" "{mnt}/local/train/" && sync "{mnt}/local/train/second" && '
              f'cat "{mnt}/local/jobs/$TRAINFS_JOB_ID/state"\n')
    job = run_job(mnt, tmp_path / "first", script)
    assert (job / "log").read_text() == "RUNNING\n"
    assert (succeeded(submitted(mnt, "second")) / "log").read_text() == "second\n"


def test_what_a_job_leaves_behind_does_not_hold_it(mnt, tmp_path):
    """A child that lives on in the background, with the log open."""
    job = submit(mnt, package(tmp_path / "mnist", script='sleep 1000 & echo $! > "$OUTPUT/pid"; echo over\n'))
    assert ended(job) == "SUCCEEDED"
    assert (job / "log").read_text().startswith("over\n") and (job / "follow").read_text() == (job / "log").read_text()


def test_unmount_names_who_follows(mnt, tmp_path):
    gate = Gate(tmp_path / "gate")
    job = running(submit(mnt, package(tmp_path / "mnist", script=f'echo on; read x < "{gate.path}"\n')))
    tail = subprocess.Popen(["tail", "-f", str(job / "log")], stdout=subprocess.PIPE)
    try:
        assert tail.stdout.readline() == b"on\n"
        done = mnt.world.run("unmount", mnt)
        assert done.returncode == 32 and str(tail.pid) in done.stderr and "log" in done.stderr
    finally:
        tail.kill()
        tail.wait(30)
        tail.stdout.close()
    gate.open()
    succeeded(job)


def test_config_and_check_tell_of_local(mnt):
    done = mnt.world.run("check", "local")
    assert done.returncode in (0, 1) and "local" in done.stdout
    assert "local" in mnt.world.run("config").stdout
