# SPDX-License-Identifier: MIT
"""DESIGN 2, 4 and 5: what a job's directory tells, what can be done to it, and how its program is run."""
import errno
import json
import os
import re
import shutil
import signal
import stat
import subprocess

import pytest

from conftest import is_running, processes, wait_for
from userkit import (Gate, copy_in, ended, error_lines, fsync_dir, jobs, package, rows, run, run_job, running, submit,
                     submitted, succeeded)

HELLO = "echo hello\n"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"
LISTED = {"state", "why", "exit", "done", "created", "started", "ended", "log", "attempts.tsv", "spec.json", "api.json",
          "url", "events.jsonl", "cost", "ctl", "output", "package"}


def slots(n):
    return "remotes:\n  local: " + json.dumps({"type": "local", "slots": n}) + "\n"


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path / "gate")


def gated(tmp_path, gate, before="echo started\n", after="echo finished\n", name="gated", **kwargs):
    """A package whose job waits at the gate."""
    return package(tmp_path / name, script=f'{before}read x < "{gate.path}"\n{after}', **kwargs)


def attempt(change):
    try:
        change()
    except OSError as e:
        return e.errno
    return 0


def text(path):
    return path.read_text()


# ---- the files

def test_every_file_of_a_job_that_succeeded(mnt, tmp_path):
    job = run_job(mnt, tmp_path / "mnist", HELLO)
    assert LISTED - set(os.listdir(job)) == {"url"} - set(os.listdir(job))
    assert not {"wait", "follow", "model", "resumed_from", "git.json"} & set(os.listdir(job))
    assert text(job / "state") == "SUCCEEDED\n" and text(job / "why") == "" and text(job / "exit") == "0\n"
    assert text(job / "log") == "hello\n" and text(job / "done") == "" and text(job / "ctl") == "delete\n"
    for name in ("created", "started", "ended"):
        assert re.fullmatch(TIME + "\n", text(job / name)), name
    assert text(job / "created") <= text(job / "started") <= text(job / "ended")
    attempts = rows(job / "attempts.tsv")
    assert text(job / "attempts.tsv").startswith("n\tstarted\tended\texit\twhy\n")
    assert [(a["n"], a["exit"], a["why"]) for a in attempts] == [("1", "0", "")]
    spec = json.loads(text(job / "spec.json"))
    assert list(spec)[0] == "trainfs" and spec["trainfs"] == 1 and spec["model"] == "mnist"
    assert list(spec)[1:] == sorted(list(spec)[1:]) and job.name not in text(job / "spec.json")
    json.loads(text(job / "api.json"))
    events = [json.loads(line) for line in text(job / "events.jsonl").splitlines()]
    states = [e["state"] for e in events]
    assert states[0] == "QUEUED" and states[-2:] == ["RUNNING", "SUCCEEDED"]
    assert [e["time"] for e in events] == sorted(e["time"] for e in events)
    assert (job / "package/train.sh").read_text() == HELLO
    assert os.readlink(job / "output") == f"../../buckets/outputs/mnist/{job.name}"
    assert (job / "output").is_dir()


def test_sizes_and_modes_are_true(mnt, tmp_path):
    job = run_job(mnt, tmp_path / "mnist", HELLO, files={"tool": "x"})
    os.chmod(tmp_path / "mnist/tool", 0o755)
    for path in job.iterdir():
        st = path.lstat()
        if stat.S_ISREG(st.st_mode):
            assert st.st_size == len(path.read_bytes()), path.name
            assert st.st_mode & 0o222 == 0o200 and st.st_mode & 0o444 == 0o444, path.name
            assert st.st_uid == os.getuid() and st.st_nlink == 1
        elif stat.S_ISLNK(st.st_mode):
            assert st.st_size == len(os.readlink(path)), path.name
        else:
            assert stat.S_IMODE(st.st_mode) == 0o755
    assert stat.S_IMODE((job / "spec.json").stat().st_mode) == 0o644
    assert stat.S_IMODE(job.stat().st_mode) == 0o755


def test_times_tell_the_changes_of_state(mnt, tmp_path, gate):
    job = running(submit(mnt, gated(tmp_path, gate)))
    before = job.stat().st_mtime_ns
    gate.open()
    succeeded(job)
    assert job.stat().st_mtime_ns > before
    done = (job / "done").stat().st_mtime_ns
    assert abs(done - job.stat().st_mtime_ns) < 1e9
    assert run(mnt, "date", "-u", "-r", job / "done", "+%FT%TZ")[:19] == text(job / "ended")[:19]


def test_files_of_a_running_job(mnt, tmp_path, gate):
    job = running(submit(mnt, gated(tmp_path, gate)))
    assert "done" not in os.listdir(job) and not (job / "done").exists()
    assert text(job / "exit") == "" and text(job / "ended") == "" and text(job / "ctl") == "cancel\n"
    assert re.fullmatch(TIME + "\n", text(job / "started"))
    gate.open()
    succeeded(job)
    assert (job / "done").exists() and text(job / "exit") == "0\n" and text(job / "ended") != ""


def test_a_jobs_files_refuse_changes(mnt, tmp_path):
    job = run_job(mnt, tmp_path / "mnist", HELLO)
    before = sorted(os.listdir(job))
    changes = [
        lambda: (job / "log").write_text("x"),
        lambda: (job / "spec.json").open("a"),
        lambda: os.truncate(job / "log", 0),
        lambda: (job / "why").unlink(),
        lambda: os.chmod(job / "log", 0o600),
        lambda: os.chmod(job, 0o700),
        lambda: (job / "new").write_text("x"),
        lambda: (job / "new").mkdir(),
        lambda: os.symlink("x", job / "new"),
        lambda: os.rename(job / "log", job / "log2"),
        lambda: os.rename(job, job.parent / "other"),
        lambda: os.link(job / "log", job / "log2"),
        lambda: (job / "package/train.sh").write_text("x"),
        lambda: (job / "package/train.sh").unlink(),
        lambda: (job / "package/new").write_text("x"),
        lambda: os.chmod(job / "package/train.sh", 0o600),
        lambda: (job / "package").rmdir(),
        lambda: (job / "output").unlink(),
    ]
    assert [attempt(change) for change in changes] == [errno.EPERM] * len(changes)
    assert sorted(os.listdir(job)) == before and text(job / "log") == "hello\n"


def test_a_copy_of_a_job_can_be_edited(mnt, tmp_path):
    job = run_job(mnt, tmp_path / "mnist", HELLO)
    for options in (["-r"], ["-a"]):
        copy = tmp_path / ("copy" + options[0])
        run(mnt, "cp", *options, job, copy)
        run(mnt, "sed", "-i", "s/mnist/other/", copy / "spec.json")
        (copy / "package/train.sh").write_text("x")
        assert text(copy / "log") == "hello\n"


def test_a_copy_with_all_links_followed(mnt, tmp_path):
    job = run_job(mnt, tmp_path / "mnist", 'echo model > "$OUTPUT/m"\n')
    run(mnt, "cp", "-rL", job, tmp_path / "copy")
    assert text(tmp_path / "copy/output/m") == "model\n"
    run(mnt, "tar", "-C", job.parent, "-cf", tmp_path / "job.tar", job.name)
    run(mnt, "tar", "-C", mnt / "local/jobs", "--compare", "-f", tmp_path / "job.tar")


# ---- cancel and delete

def test_cancel(mnt, tmp_path, gate):
    job = running(submit(mnt, gated(tmp_path, gate, before='sh -c "sleep 1000" & echo $! > "$OUTPUT/pid"\n')))
    child = int(wait_for(lambda: (job / "output/pid").exists() and text(job / "output/pid").strip(), what="its child"))
    run(mnt, "sh", "-c", 'echo cancel > "$1/ctl"', "-", job)
    assert ended(job) == "CANCELLED"
    assert text(job / "ctl") == "delete\n" and not (job / "done").exists()
    wait_for(lambda: not is_running(child), what="its child is gone")
    states = [json.loads(line)["state"] for line in text(job / "events.jsonl").splitlines()]
    assert "CANCELLING" in states and states[-1] == "CANCELLED"


def test_cancel_of_a_queued_job(mnt, tmp_path, gate):
    first = running(submit(mnt, gated(tmp_path, gate)))
    second = submit(mnt, package(tmp_path / "second", script=HELLO))
    (second / "ctl").write_text("cancel\n")
    assert ended(second) == "CANCELLED" and text(second / "started") == ""
    gate.open()
    succeeded(first)


def test_cancel_of_an_ended_job_is_refused(mnt, tmp_path):
    job = run_job(mnt, tmp_path / "mnist", HELLO)
    with pytest.raises(OSError) as e:
        (job / "ctl").write_text("cancel\n")
    assert e.value.errno == errno.EBUSY
    assert text(job / "state") == "SUCCEEDED\n"


@pytest.mark.parametrize("verb", ["frobnicate\n", "\n", "cancel now\n", "x" * 5000])
def test_other_verbs_are_refused(mnt, tmp_path, verb):
    job = run_job(mnt, tmp_path / "mnist", HELLO)
    with pytest.raises(OSError) as e:
        (job / "ctl").write_text(verb)
    assert e.value.errno == errno.EINVAL
    assert error_lines(mnt)[-1][3] == "EINVAL"


def test_a_verb_needs_no_newline(mnt, tmp_path):
    job = run_job(mnt, tmp_path / "mnist", HELLO)
    run(mnt, "sh", "-c", 'printf delete > "$1/ctl"', "-", job)
    assert not job.exists() and jobs(mnt) == []


def test_a_live_job_cannot_be_deleted(mnt, tmp_path, gate):
    job = running(submit(mnt, gated(tmp_path, gate)))
    with pytest.raises(OSError) as e:
        job.rmdir()
    assert e.value.errno == errno.EBUSY
    with pytest.raises(OSError) as e:
        (job / "ctl").write_text("delete\n")
    assert e.value.errno == errno.EBUSY
    assert "cancel" in error_lines(mnt)[-1][4]
    gate.open()
    succeeded(job)


@pytest.mark.parametrize("how", [["rmdir"], ["busybox", "rmdir"], ["sh", "-c", 'echo delete > "$0/ctl"']])
def test_an_ended_job_is_deleted(mnt, tmp_path, how):
    job = run_job(mnt, tmp_path / "mnist", HELLO)
    run(mnt, *how, job)
    wait_for(lambda: not job.exists())  # after a write to ctl the kernel is told behind it
    assert jobs(mnt) == []
    assert "latest" not in os.listdir(mnt / "local") and os.listdir(mnt / "local/submitted") == []
    assert rows(mnt / "local/jobs.tsv") == []


def test_a_deleted_job_stays_deleted(mount, tmp_path):
    m = mount()
    run_job(m, tmp_path / "mnist", HELLO).rmdir()
    m.unmount()
    m = mount()
    assert jobs(m) == []


@pytest.mark.parametrize("how", [["rm", "-r"], ["rm", "-rf"], ["busybox", "rm", "-rf"],
                                 ["find", ".", "-delete", "-path"]])
def test_rm_r_changes_nothing_and_says_so(mnt, tmp_path, how):
    job = run_job(mnt, tmp_path / "mnist", HELLO)
    before = sorted(os.listdir(job))
    command = ["find", str(job), "-delete"] if how[0] == "find" else [*how, str(job)]
    done = mnt.world.shell(command)
    assert done.returncode != 0 and "Operation not permitted" in done.stderr
    assert sorted(os.listdir(job)) == before and text(job / "log") == "hello\n"
    assert any(line[3] == "EPERM" and "rmdir" in line[4] for line in error_lines(mnt))


def test_rmtree_with_ignored_errors_changes_nothing(mnt, tmp_path):
    job = run_job(mnt, tmp_path / "mnist", HELLO)
    shutil.rmtree(job, ignore_errors=True)
    shutil.rmtree(mnt / "local/jobs", ignore_errors=True)
    assert (job / "log").read_text() == "hello\n"
    run(mnt, "rmdir", job)  # a process of its own may
    assert jobs(mnt) == []


# ---- kinds of programs

def test_a_python_package_with_setup_py(mnt, tmp_path):
    pkg = package(tmp_path / "mnist", {"setup.py": "", "trainer/__init__.py": "", "trainer/util.py": "X = 'util'\n",
                                       "trainer/task.py": "import sys\nfrom trainer import util\nprint(util.X, sys.argv[1:])\n",
                                       "job.yaml": "args: [--epochs=5, b]\n"})
    job = succeeded(submit(mnt, pkg))
    assert text(job / "log") == "util ['--epochs=5', 'b']\n"
    assert json.loads(text(job / "spec.json"))["entry"] == "trainer.task"


def test_main_gets_dataset_and_output(mnt, tmp_path):
    code = ("import os\n\ndef main(dataset_dir, model_output_dir):\n"
            "    print(open(os.path.join(dataset_dir, 'd')).read(), end='')\n"
            "    open(os.path.join(model_output_dir, 'model.bin'), 'w').write('model')\n"
            "    print(model_output_dir == os.environ['AIP_MODEL_DIR'])\n")
    pkg = package(tmp_path / "mnist", {"main.py": code, "data/d": "data\n"}, spec={"inputs": {"dataset": "./data"}})
    job = succeeded(submit(mnt, pkg))
    assert text(job / "log") == "data\nTrue\n"
    assert text(job / "output/model/model.bin") == "model"


def test_a_python_script(mnt, tmp_path):
    pkg = package(tmp_path / "mnist", {"main.py": "import helper, sys\nprint(helper.X, __name__, sys.argv[0])\n",
                                       "helper.py": "X = 1\n"})
    assert text(succeeded(submit(mnt, pkg)) / "log") == "1 __main__ main.py\n"


def test_an_executable_and_a_module(mnt, tmp_path):
    pkg = package(tmp_path / "tool", {"bin/run": "#!/bin/sh\necho ran \"$@\"\n", "job.yaml": "entry: bin/run\nargs: [x y]\n"})
    os.chmod(pkg / "bin/run", 0o755)
    assert text(succeeded(submit(mnt, pkg)) / "log") == "ran x y\n"
    pkg = package(tmp_path / "mod", {"a/__init__.py": "", "a/b.py": "print('module')\n", "job.yaml": "entry: a.b\n"})
    assert text(succeeded(submit(mnt, pkg)) / "log") == "module\n"


def test_a_command(mnt, tmp_path):
    pkg = package(tmp_path / "mnist", spec={"command": ["bash", "-c", 'echo "$0 $1 $OUTPUT"; pwd', "zero"], "args": ["one"]})
    job = succeeded(submit(mnt, pkg))
    first, cwd = text(job / "log").splitlines()
    assert first.startswith("zero one /") and os.path.isabs(cwd)


def test_arguments_and_environment(mnt, tmp_path):
    spec = {"args": ["--out=$OUTPUT", "${OUTPUT}/x", "TRAIN_PATH/y", "$TRAINFS_JOB_ID", "$HOME", "a b", "", "*"],
            "env": {"A": "1", "B": "$OUTPUT/b", "QUOTE": "it's \"x\""}}
    script = ('for a in "$@"; do echo "[$a]"; done\necho "$A|$B|$QUOTE|$PYTHONUNBUFFERED|$AIP_MODEL_DIR|$SM_MODEL_DIR"\n'
              'test -d "$OUTPUT" && echo there\n')
    job = run_job(mnt, tmp_path / "mnist", script, spec)
    lines = text(job / "log").splitlines()
    out = lines[0][1:-1].removeprefix("--out=")
    assert os.path.isdir(out) and os.path.samefile(out, wherever(mnt, job))
    assert lines[1:8] == [f"[{out}/x]", f"[{out}/y]", f"[{job.name}]", "[$HOME]", "[a b]", "[]", "[*]"]
    assert lines[8] == f"1|{out}/b|it's \"x\"|1|{out}/model|{out}/model"
    assert lines[9] == "there"


def wherever(m, job):
    """The output directory behind the mount."""
    found = list(m.world.data.glob(f"trainfs/local/*/**/{job.name}"))
    return next(p for p in found if "output" in str(p))


def test_inputs(mnt, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/f").write_text("outside\n")
    spec = {"inputs": {"dataset": "./data", "base-line": str(tmp_path / "outside")}}
    job = run_job(mnt, tmp_path / "mnist", 'cat "$DATASET/f" "$SM_CHANNEL_DATASET/f" "$SM_CHANNEL_BASE_LINE/f"\n', spec,
                  files={"data/f": "data\n"})
    assert text(job / "log") == "data\ndata\noutside\n"


def test_an_input_in_the_mount(mnt, tmp_path):
    first = run_job(mnt, tmp_path / "first", 'echo trained > "$OUTPUT/f"\n')
    spec = {"inputs": {"dataset": str(first / "output")}}
    assert text(run_job(mnt, tmp_path / "second", 'cat "$DATASET/f"\n', spec) / "log") == "trained\n"


def test_the_package_stays_what_was_submitted(mnt, tmp_path):
    job = run_job(mnt, tmp_path / "mnist", "echo changed > data; echo new > new; rm train.sh\n", files={"data": "data\n"})
    assert sorted(os.listdir(job / "package")) == ["data", "train.sh"]
    assert text(job / "package/data") == "data\n"


def test_output_and_error_are_both_in_the_log(mnt, tmp_path):
    job = run_job(mnt, tmp_path / "mnist", "echo one; echo two >&2; echo three\n")
    assert text(job / "log") == "one\ntwo\nthree\n"


def test_a_secret_is_shown_nowhere(mount, tmp_path):
    value = "tell-nobody-8d1f7c"
    m = mount(env={"HF_TOKEN": value})
    script = 'test -n "$HF_TOKEN" && echo "length ${#HF_TOKEN}"\n'
    job = run_job(m, tmp_path / "mnist", script, {"secrets": ["HF_TOKEN"]})
    assert text(job / "log") == f"length {len(value)}\n"
    assert json.loads(text(job / "spec.json"))["secrets"] == ["HF_TOKEN"]
    assert m.world.shell(["grep", "-rl", value, str(m)]).stdout == ""
    assert m.world.shell(["grep", "-rla", value, str(m.world.data), str(m.world.state)]).stdout == ""
    assert value not in m.log()


# ---- ends

def test_failure_tells_why(mnt, tmp_path):
    job = submit(mnt, package(tmp_path / "mnist", script="echo fine\necho 'disk on fire' >&2\nexit 3\n"))
    assert ended(job) == "FAILED" and text(job / "exit") == "3\n"
    assert "disk on fire" in text(job / "why") and "3" in text(job / "why")
    assert not (job / "done").exists()


def test_a_python_exception_tells_why(mnt, tmp_path):
    job = submit(mnt, package(tmp_path / "mnist", {"main.py": "raise ValueError('no such layer')\n"}))
    assert ended(job) == "FAILED" and text(job / "exit") == "1\n"
    assert "ValueError: no such layer" in text(job / "why")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_death_by_a_signal(mnt, tmp_path, number):
    job = submit(mnt, package(tmp_path / "mnist", script=f"kill -{int(number)} $$\n"))
    assert ended(job) == "FAILED" and text(job / "exit") == f"{128 + number}\n"
    assert number.name.removeprefix("SIG") in text(job / "why") and str(int(number)) in text(job / "why")


def test_timeout(mnt, tmp_path):
    job = submit(mnt, package(tmp_path / "mnist", script="echo begun\nsleep 1000\n", spec={"timeout": "300ms"}))
    assert ended(job) == "FAILED" and text(job / "exit") == "124\n"
    assert "time" in text(job / "why") and text(job / "log").startswith("begun\n")


def test_retries(mnt, tmp_path):
    mark = tmp_path / "tried"
    script = f'if test -e "{mark}"; then echo second; else : > "{mark}"; echo first; exit 7; fi\n'
    job = run_job(mnt, tmp_path / "mnist", script, {"retries": 2})
    found = rows(job / "attempts.tsv")
    assert [(a["n"], a["exit"]) for a in found] == [("1", "7"), ("2", "0")] and found[0]["why"]
    assert text(job / "log").startswith("first\n") and text(job / "log").endswith("second\n")
    assert text(job / "exit") == "0\n"


def test_retries_end(mnt, tmp_path):
    job = submit(mnt, package(tmp_path / "mnist", script="exit 5\n", spec={"retries": 1}))
    assert ended(job) == "FAILED" and text(job / "exit") == "5\n"
    assert [a["exit"] for a in rows(job / "attempts.tsv")] == ["5", "5"]


def test_resume(mnt, tmp_path):
    old = submit(mnt, package(tmp_path / "mnist", script='echo half > "$OUTPUT/checkpoint"\nexit 1\n'))
    assert ended(old) == "FAILED"
    new = run_job(mnt, tmp_path / "more", 'cat "$OUTPUT/checkpoint"\necho whole > "$OUTPUT/checkpoint"\n',
                  {"resume": old.name})
    assert text(new / "log") == "half\n"
    assert os.readlink(new / "resumed_from") == f"../{old.name}" and (new / "resumed_from/state").exists()
    assert text(old / "output/checkpoint") == "half\n" and text(new / "output/checkpoint") == "whole\n"


def test_an_executable_that_cannot_be_run_tells_why(mnt, tmp_path):
    pkg = package(tmp_path / "mnist", spec={"command": ["./nowhere-to-be-found"]})
    job = submit(mnt, pkg)
    assert ended(job) == "FAILED" and text(job / "exit") in ("127\n", "126\n", "")
    assert "nowhere-to-be-found" in text(job / "why")


@pytest.mark.time_limit(240)
def test_requirements_that_cannot_be_had(mount, tmp_path):
    m = mount(env={"PIP_NO_INDEX": "1"})
    pkg = package(tmp_path / "mnist", {"main.py": "print(1)\n", "requirements.txt": "no-such-package-here==1.0\n"})
    job = submit(m, pkg)
    assert ended(job) == "FAILED"
    assert "no-such-package-here" in text(job / "why") and "requirements" in text(job / "why")


# ---- the queue

def test_slots(mount, tmp_path):
    m = mount(config=slots(2))
    gates = [Gate(tmp_path / f"g{i}") for i in range(4)]
    js = [submit(m, gated(tmp_path, g, name=f"j{i}")) for i, g in enumerate(gates)]
    running(js[0])
    running(js[1])
    assert [text(j / "state") for j in js[2:]] == ["QUEUED\n"] * 2
    assert "1" in text(js[2] / "why") and "2" in text(js[3] / "why")
    assert text(js[2] / "started") == "" and text(js[2] / "log") == ""
    gates[0].open()
    succeeded(js[0])
    running(js[2])
    wait_for(lambda: text(js[3] / "why").count("1"), what="the last one is first in the queue")
    for g in gates[1:]:
        g.open()
    for j in js:
        succeeded(j)
    assert text(js[3] / "why") == ""


def test_without_slots_one_runs_at_a_time(mnt, tmp_path, gate):
    first = running(submit(mnt, gated(tmp_path, gate)))
    second = submit(mnt, package(tmp_path / "second", script=HELLO))
    assert text(second / "state") == "QUEUED\n"
    gate.open()
    succeeded(first)
    succeeded(second)
    assert text(first / "ended") <= text(second / "started")


def test_make_depends_on_done(mnt, tmp_path):
    job = run_job(mnt, tmp_path / "mnist", HELLO)
    (tmp_path / "Makefile").write_text(f"report: {job}/done\n\tcp {job}/log report\n\techo made\n")
    assert "made" in run(mnt, "make", "-C", tmp_path)
    assert "up to date" in run(mnt, "make", "-C", tmp_path)
    assert text(tmp_path / "report") == "hello\n"
    failed = submit(mnt, package(tmp_path / "bad", script="exit 1\n"))
    ended(failed)
    (tmp_path / "Makefile").write_text(f"report2: {failed}/done\n\techo made\n")
    assert mnt.world.shell(["make", "-C", str(tmp_path)]).returncode == 2


def test_diff_of_two_specs_is_the_difference_of_the_jobs(mnt, tmp_path):
    one = run_job(mnt, tmp_path / "one", HELLO, {"model": "m", "env": {"LR": "0.1"}, "args": ["$OUTPUT"]})
    two = run_job(mnt, tmp_path / "two", HELLO, {"model": "m", "env": {"LR": "0.2"}, "args": ["$OUTPUT"]})
    same = run_job(mnt, tmp_path / "same", HELLO, {"model": "m", "env": {"LR": "0.1"}, "args": ["$OUTPUT"]})
    assert text(one / "spec.json") == text(same / "spec.json")
    done = mnt.world.shell(["diff", str(one / "spec.json"), str(two / "spec.json")])
    assert [line for line in done.stdout.splitlines() if line[0] in "<>"] == \
        [f'<     "LR": "{v}"'.replace("<", s) for s, v in (("<", "0.1"), (">", "0.2"))]


def test_jq_reads_everything_that_is_json(mnt, tmp_path):
    job = run_job(mnt, tmp_path / "mnist", HELLO)
    assert run(mnt, "jq", "-r", ".model", job / "spec.json") == "mnist\n"
    assert run(mnt, "jq", "-r", ".state", job / "events.jsonl").splitlines()[-1] == "SUCCEEDED"
    run(mnt, "jq", ".", job / "api.json")
    events = run(mnt, "jq", "-r", "[.remote, .job, .from, .to] | @tsv", mnt / ".trainfs/events").splitlines()
    assert events[-1] == f"local\t{job.name}\tRUNNING\tSUCCEEDED"


# ---- without the daemon

def test_a_job_survives_an_unmount(mount, tmp_path, gate):
    m = mount()
    job = running(submit(m, gated(tmp_path, gate, before="echo before\n", after="echo away\nexit 4\n")))
    m.unmount()
    gate.open()
    m = mount()
    assert ended(job) == "FAILED" and text(job / "exit") == "4\n"
    assert text(job / "log") == "before\naway\n"


def test_a_job_that_ended_while_nobody_looked(mount, tmp_path, gate):
    m = mount()
    job = running(submit(m, gated(tmp_path, gate, after=f'echo away\n: > "{tmp_path}/over"\n')))
    m.unmount()
    gate.open()
    wait_for((tmp_path / "over").exists, what="the job is over")
    wait_for(lambda: not m.world.strays(), what="and its supervisor")
    m = mount()
    assert text(job / "state") == "SUCCEEDED\n" and text(job / "log") == "started\naway\n"
    assert text(job / "exit") == "0\n" and (job / "done").exists()


def test_a_job_survives_the_kill_of_the_daemon(mount, tmp_path, gate):
    m = mount()
    job = running(submit(m, gated(tmp_path, gate)))
    m.kill()
    m = mount()
    assert text(job / "state") == "RUNNING\n"
    gate.open()
    succeeded(job)
    assert text(job / "log") == "started\nfinished\n"
    assert submitted(m, "gated") == job


def test_queued_jobs_run_while_nothing_is_mounted(mount, tmp_path, gate):
    m = mount()
    first = running(submit(m, gated(tmp_path, gate)))
    second = submit(m, package(tmp_path / "second", script=f': > "{tmp_path}/ran"\necho second\n'))
    m.unmount()
    gate.open()
    wait_for((tmp_path / "ran").exists, what="the second job runs too")
    m = mount()
    succeeded(first)
    assert text(succeeded(second) / "log") == "second\n"


def supervisors(m):
    """Processes of this world that are neither the daemon, its helper, nor a job's own."""
    def is_one(pid):
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            name = f.read().split(b"\0")[0]
        return pid != m.pid and b"trainfs" in name and b"helper" not in name
    return [pid for pid in m.world.strays() if is_one(pid)]


def test_a_killed_supervisor(mnt, tmp_path, gate):
    job = running(submit(mnt, gated(tmp_path, gate, before='echo $$ > "$OUTPUT/pid"\n')))
    pid = int(wait_for(lambda: (job / "output/pid").exists() and text(job / "output/pid").strip(), what="its pid"))
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        parent = int(f.read().rpartition(")")[2].split()[1])
    assert parent != mnt.pid
    os.kill(parent, signal.SIGKILL)
    assert ended(job) == "FAILED"
    assert "supervisor" in text(job / "why") and "killed" in text(job / "why")
    wait_for(lambda: not is_running(pid), what="nothing of the job is left")
    succeeded(submit(mnt, package(tmp_path / "next", script=HELLO)))


def test_a_job_does_not_hold_the_mount(mnt, tmp_path, gate):
    """Nothing of a job may keep the device open, nor a directory in the mount busy."""
    job = running(submit(mnt, gated(tmp_path, gate)))
    mnt.unmount()
    assert not os.path.ismount(mnt)
    gate.open()
    wait_for(lambda: not mnt.world.strays(), what="the job has ended")
    assert job


# ---- private

@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_others_see_nothing(user_mount, user_world, tmp_path):
    m = user_mount()
    with pytest.raises(PermissionError):
        os.listdir(m / "local/jobs")
    done = subprocess.run(["ls", str(m)], capture_output=True, text=True, check=False, user=65533, group=65533,
                          extra_groups=[])
    assert done.returncode != 0 and "Permission denied" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_what_is_kept_is_private(mnt, tmp_path):
    run_job(mnt, tmp_path / "mnist", HELLO)
    top = mnt.world.data / "trainfs"
    wide = [p for p in (top, *top.glob("local/*")) if p.is_dir() and p.stat().st_mode & 0o077]
    assert not wide


def test_a_user_runs_a_job(user_mount, user_world):
    m = user_mount()
    pkg = package(user_world.root / "mnist", script="id -u\n")
    for p in (pkg, *pkg.iterdir()):
        os.chmod(p, 0o755)
    local = m / "local"
    for command in (["cp", "-r", pkg, local / "train/"], ["sync", local / "train/mnist"]):
        done = user_world.shell([str(c) for c in command])
        assert done.returncode == 0, done.stderr
    done = user_world.shell(["cat", str(local / "submitted/mnist/wait"), str(local / "submitted/mnist/log")])
    assert done.stdout == f"SUCCEEDED\n{user_world.uid if user_world.uid is not None else os.getuid()}\n"
