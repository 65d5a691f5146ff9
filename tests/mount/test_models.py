# SPDX-License-Identifier: MIT
"""models/: versions from jobs and directories, links switched in every way that tools know, model.json."""
import errno
import json
import os
import re
import shutil
import subprocess
import time

import pytest

from conftest import wait_for

JOB = """#!/bin/sh
mkdir -p "$OUTPUT/model"
echo "weights of $TRAINFS_JOB_ID" > "$OUTPUT/model/weights.txt"
echo trained
"""


def sh(command, cwd=None, check=True):
    done = subprocess.run(["/bin/sh", "-c", command], cwd=cwd, capture_output=True, text=True, timeout=30, check=False)
    if check:
        assert done.returncode == 0, f"{command}: {done.stderr}"
    return done


def state(path):
    try:
        return (path / "state").read_text().strip()
    except FileNotFoundError:
        return None


class Models:
    """One model with jobs to make versions of."""

    def __init__(self, mnt, root):
        self.mnt = mnt
        self.root = root
        self.remote = mnt / "local"
        self.dir = self.remote / "models/mnist"

    def package(self, name, script=JOB):
        p = self.root / "pkg" / name
        p.mkdir(parents=True)
        (p / "train.sh").write_text(script)
        (p / "job.yaml").write_text("model: mnist\n")
        return p

    def job(self, name, script=JOB, ends="SUCCEEDED"):
        shutil.copytree(self.package(name, script), self.remote / "jobs" / name)
        sh(f"sync {self.remote}/jobs/{name}")
        if ends:
            assert wait_for(lambda: state(self.remote / "jobs" / name) in ("SUCCEEDED", "FAILED", "CANCELLED")
                            and state(self.remote / "jobs" / name), what=f"{name} has ended") == ends
        return name

    def version(self, name, job):
        os.symlink(f"../../jobs/{job}", self.dir / name)
        wait_for(lambda: state(self.dir / name) == "READY", what=f"{name} is READY")
        return self.dir / name

    def versions(self, n):
        job = self.job("job")
        for i in range(1, n + 1):
            self.version(f"v{i}", job)
        wait_for(lambda: os.path.lexists(self.dir / "default"), what="the first version is default")

    def link(self, name):
        return os.readlink(self.dir / name)

    def history(self):
        lines = (self.dir / "history.tsv").read_text().splitlines()
        assert lines[0] == "time\tfrom\tto\tby"
        return [tuple(line.split("\t")[1:3]) for line in lines[1:]]

    def model_json(self):
        return json.loads((self.dir / "model.json").read_text())

    def set_default(self, value, name):
        for item in value["versions"]:
            item["version"]["isDefault"] = item["version"]["name"].endswith("/" + name)
        return value


@pytest.fixture
def models(mnt, tmp_path):
    return Models(mnt, tmp_path)


@pytest.fixture
def two(models):
    models.versions(2)
    return models


def refused(number, call, *args, **kwargs):
    with pytest.raises(OSError) as e:
        call(*args, **kwargs)
    assert e.value.errno == number, e.value


# ---- models and versions

def test_a_model_is_made_and_removed(models):
    d = models.remote / "models/empty"
    d.mkdir()
    assert os.listdir(models.remote / "models") == ["empty"]
    assert os.listdir(d) == []
    refused(errno.EEXIST, d.mkdir)
    refused(errno.EINVAL, (models.remote / "models/no good").mkdir)
    d.rmdir()
    assert os.listdir(models.remote / "models") == []
    assert not d.exists()


def test_a_model_is_there_as_soon_as_a_job_of_it_is(models):
    models.job("job")
    assert os.listdir(models.dir) == []
    refused(errno.EBUSY, models.dir.rmdir)


def test_a_version_is_made_of_a_job(models):
    job = models.job("job")
    os.symlink(f"../../jobs/{job}", models.dir / "v1")
    assert state(models.dir / "v1") in ("CREATING", "READY")
    assert os.path.isdir(models.dir / "v1") and not os.path.islink(models.dir / "v1")
    wait_for(lambda: state(models.dir / "v1") == "READY", what="READY")
    v = models.dir / "v1"
    assert sorted(os.listdir(v)) == ["api.json", "artifacts", "created", "ctl", "info.json", "job", "state", "why"]
    assert (v / "artifacts/weights.txt").read_text() == f"weights of {job}\n"
    assert os.readlink(v / "job") == f"../../../jobs/{job}"
    assert (v / "job/state").read_text() == "SUCCEEDED\n"
    assert (v / "why").read_text() == ""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S*Z\n", (v / "created").read_text())
    info = json.loads((v / "info.json").read_text())
    assert (info["model"], info["name"], info["state"], info["job"]) == ("mnist", "v1", "READY", job)
    assert list(info) == sorted(info)
    json.loads((v / "api.json").read_text())
    wait_for(lambda: os.path.lexists(models.dir / "default"), what="the first version is default")
    assert models.link("default") == "v1"
    assert json.loads((v / "info.json").read_text())["aliases"] == ["default"]
    assert models.history() == [("", "v1")]


@pytest.mark.parametrize("how", ["submitted", "latest", "absolute", "absolute latest", "slash"])
def test_a_job_may_be_named_in_many_ways(models, how):
    shutil.copytree(models.package("mnist"), models.remote / "train/mnist")
    sh(f"sync {models.remote}/train/mnist")
    wait_for(lambda: state(models.remote / "latest") == "SUCCEEDED", what="the job has succeeded")
    job = os.path.basename(os.readlink(models.remote / "latest"))
    target = {
        "submitted": "../../submitted/mnist",
        "latest": "../../latest",
        "absolute": f"{models.remote}/jobs/{job}",
        "absolute latest": f"{models.remote}/latest",
        "slash": f"../../jobs/{job}/",
    }[how]
    os.symlink(target, models.dir / "v1")
    wait_for(lambda: state(models.dir / "v1") == "READY", what="READY")
    assert os.readlink(models.dir / "v1/job") == f"../../../jobs/{job}"


def test_a_version_stays_when_its_job_is_deleted(two):
    (two.remote / "jobs/job").rmdir()
    wait_for(lambda: not (two.remote / "jobs/job").exists(), what="the job is gone")
    assert state(two.dir / "v1") == "READY"
    assert (two.dir / "v1/artifacts/weights.txt").read_text() == "weights of job\n"


def test_links_to_what_is_no_succeeded_job_are_refused(models):
    models.job("bad", "#!/bin/sh\nexit 3\n", ends="FAILED")
    models.job("slow", "#!/bin/sh\nexec sleep 60\n", ends=None)
    link = models.dir / "v1"
    refused(errno.EBADMSG, os.symlink, "../../jobs/bad", link)
    refused(errno.EBUSY, os.symlink, "../../jobs/slow", link)
    refused(errno.ENOENT, os.symlink, "../../jobs/none", link)
    refused(errno.ENOENT, os.symlink, "v7", link)
    refused(errno.EINVAL, os.symlink, "/etc/passwd", link)
    refused(errno.EINVAL, os.symlink, "../../../../../etc", link)
    refused(errno.EINVAL, os.symlink, "../../jobs", link)
    assert "SUCCEEDED" in models.mnt.errors()
    assert os.listdir(models.dir) == []
    sh("echo cancel > ctl", cwd=models.remote / "jobs/slow")


def test_names_are_refused_before_anything_is_sent(two):
    refused(errno.EINVAL, os.symlink, "../../jobs/job", two.dir / "no good")
    refused(errno.EINVAL, os.symlink, "v1", two.dir / "no good")
    refused(errno.EINVAL, os.mkdir, two.dir / "-x")
    refused(errno.EEXIST, os.symlink, "../../jobs/job", two.dir / "v1")
    refused(errno.EINVAL, os.mkdir, two.remote / "models/.hidden")


def test_a_job_of_another_remote_is_another_device(mount, tmp_path):
    m = mount(config="remotes:\n  other: {type: local}\n")
    (m / "local/models/m").mkdir()
    refused(errno.EXDEV, os.symlink, "../../../other/jobs/x", m / "local/models/m/v1")
    refused(errno.EXDEV, os.symlink, f"{m}/other/jobs/x", m / "local/models/m/v1")


def test_a_version_is_made_of_a_copied_directory(models, tmp_path):
    source = tmp_path / "trained"
    source.mkdir()
    (source / "weights").write_bytes(b"x" * 100000)
    models.dir.mkdir()
    shutil.copytree(source, models.dir / "v1")
    assert os.listdir(models.dir) == ["v1"]
    sh(f"sync {models.dir}/v1")
    assert state(models.dir / "v1") == "READY"
    assert (models.dir / "v1/artifacts/weights").read_bytes() == b"x" * 100000
    assert not os.path.lexists(models.dir / "v1/job")


def test_a_draft_moved_into_a_model_is_a_version(models):
    models.dir.mkdir()
    draft = models.remote / "drafts/x"
    draft.mkdir()
    (draft / "weights").write_text("w")
    os.rename(draft, models.dir / "v1")
    wait_for(lambda: state(models.dir / "v1") == "READY", what="READY")
    assert (models.dir / "v1/artifacts/weights").read_text() == "w"
    assert not draft.exists()


def test_a_version_is_removed_as_a_whole(two):
    refused(errno.EBUSY, (two.dir / "v1").rmdir)
    assert "default" in two.mnt.errors()
    (two.dir / "v2").rmdir()
    assert "v2" not in os.listdir(two.dir)
    two.version("v2", "job")
    assert (two.dir / "v2/ctl").read_text() == "delete\n"
    assert (two.dir / "v1/ctl").read_text() == ""
    (two.dir / "v2/ctl").write_text("delete\n")
    wait_for(lambda: "v2" not in os.listdir(two.dir), what="v2 is gone")


def test_rm_r_changes_nothing(two):
    os.symlink("v2", two.dir / "stable")
    wait_for(lambda: "stable" in json.loads((two.dir / "v2/info.json").read_text())["aliases"], what="it is sent")
    assert sh(f"rm -rf {two.dir}/v2", check=False).returncode != 0
    assert "rmdir" in two.mnt.errors()
    shutil.rmtree(two.dir / "v2", ignore_errors=True)
    assert state(two.dir / "v2") == "READY"
    assert (two.dir / "v2/artifacts/weights.txt").exists()
    assert sh(f"rm -rf {two.dir}", check=False).returncode != 0
    wait_for(lambda: {"default", "stable", "v1", "v2"} <= set(os.listdir(two.dir)), what="all is there")
    time_of_hold_is_over(two)
    assert {"default", "stable", "v1", "v2"} <= set(os.listdir(two.dir))


def time_of_hold_is_over(models):
    """A link made now has been sent: whatever was held before it has been decided too."""
    os.symlink("v1", models.dir / "probe")
    wait_for(lambda: "probe" in json.loads((models.dir / "v1/info.json").read_text())["aliases"], what="probe is sent")


def test_a_job_has_a_link_to_its_version_also_when_it_was_listed_before(mount, tmp_path):
    models = Models(mount(), tmp_path)
    job = models.remote / "jobs" / models.job("job")
    for _ in range(2):  # the second listing is the kernel's own
        assert "model" not in os.listdir(job) and not os.path.lexists(job / "model")
    models.version("v1", "job")
    # the kernel is told behind what makes the version READY
    wait_for(lambda: os.path.lexists(job / "model"), what="the link is there")
    assert os.readlink(job / "model") == "../../models/mnist/v1"
    wait_for(lambda: "model" in os.listdir(job), what="it is listed")


# What nobody may write is mode 0444: the kernel answers for it before we are asked, but not to root.
READ_ONLY = errno.EPERM if os.geteuid() == 0 else errno.EACCES


def test_nothing_changes_inside_a_version(two):
    refused(errno.EPERM, (two.dir / "v1/x").write_text, "x")
    refused(READ_ONLY, (two.dir / "v1/state").write_text, "x")
    refused(errno.EPERM, (two.dir / "v1/artifacts/x").write_text, "x")
    refused(errno.EPERM, os.mkdir, two.dir / "v1/d")
    refused(errno.EPERM, os.rename, two.dir / "v1", two.dir / "v9")
    assert state(two.dir / "v1") == "READY"


# ---- switching

SWITCHES = {
    "ln": "ln -sfn v2 default",
    "mv -T": "ln -s v2 tmp && mv -T tmp default",
    "busybox": "busybox ln -sfn v2 default",
    "rm and ln": "rm default && ln -s v2 default",
    "absolute": 'ln -sfn "$PWD/v2" default',
    "slash": "ln -sfn ./v2/ default",
    "python": "/usr/bin/python3 -c 'import os; os.symlink(\"v2\", \".next\"); os.replace(\".next\", \"default\")'",
}


@pytest.mark.parametrize("how", SWITCHES)
def test_default_is_switched(two, how):
    assert two.link("default") == "v1"
    sh(SWITCHES[how], cwd=two.dir)
    assert two.link("default") == "v2"
    assert state(two.dir / "default") == "READY"
    assert two.link("previous") == "v1"
    assert two.history() == [("", "v1"), ("v1", "v2")]
    assert [v["version"]["isDefault"] for v in two.model_json()["versions"]] == [False, True]
    assert sorted(os.listdir(two.dir)) == ["default", "history.tsv", "model.json", "previous", "v1", "v2"]


def test_a_removed_default_is_back(two):
    os.unlink(two.dir / "default")
    assert not os.path.lexists(two.dir / "default")
    wait_for(lambda: os.path.lexists(two.dir / "default"), 5, "default is back")
    assert two.link("default") == "v1"
    assert two.history() == [("", "v1")]


def test_rollback_by_previous(two):
    sh("ln -sfn v2 default", cwd=two.dir)
    sh("ln -sfn previous default", cwd=two.dir)
    assert two.link("default") == "v1"
    assert two.link("previous") == "v2"
    assert two.history() == [("", "v1"), ("v1", "v2"), ("v2", "v1")]
    refused(errno.EPERM, os.unlink, two.dir / "previous")
    assert sh("ln -sfn v1 previous", cwd=two.dir, check=False).returncode != 0
    assert two.link("previous") == "v2"


def test_default_never_points_at_what_is_not_ready(two):
    assert sh("ln -sfn v7 default", cwd=two.dir, check=False).returncode != 0
    assert two.link("default") == "v1"
    (two.dir / "v3").mkdir()
    (two.dir / "v3/w").write_text("w")
    assert sh("ln -sfn v3 default", cwd=two.dir, check=False).returncode != 0
    assert two.link("default") == "v1"


def test_a_new_version_may_be_made_default_at_once(two):
    sh("ln -s ../../jobs/job v3 && ln -sfn v3 default", cwd=two.dir)
    assert two.link("default") == "v3"
    assert state(two.dir / "v3") == "READY"


def test_a_stray_ln_is_refused_with_advice(two):
    done = sh("ln -sf v2 default", cwd=two.dir, check=False)
    assert done.returncode != 0
    assert "ln -sfn" in two.mnt.errors()
    assert two.link("default") == "v1"


def test_switches_outlive_the_mount(two, mount):
    sh("ln -sfn v2 default", cwd=two.dir)
    two.mnt.unmount()
    again = Models(mount(name="again"), two.root)
    assert again.link("default") == "v2"
    assert again.link("previous") == "v1"
    assert again.history() == [("", "v1"), ("v1", "v2")]
    assert state(again.dir / "v1") == "READY"


# ---- other aliases

def is_alias(models, name, version):
    return name in json.loads((models.dir / version / "info.json").read_text())["aliases"]


def test_aliases_are_made_moved_and_removed(two):
    os.symlink("v1", two.dir / "stable")
    assert two.link("stable") == "v1"
    wait_for(lambda: is_alias(two, "stable", "v1"), what="it is sent")
    sh("ln -sfn v2 stable", cwd=two.dir)
    assert two.link("stable") == "v2"
    assert is_alias(two, "stable", "v2")
    refused(errno.EBUSY, (two.dir / "v2").rmdir)
    sh("busybox ln -sfn v1 stable", cwd=two.dir)
    assert two.link("stable") == "v1" and is_alias(two, "stable", "v1")
    os.rename(two.dir / "stable", two.dir / "prod")
    assert two.link("prod") == "v1" and not os.path.lexists(two.dir / "stable")
    os.unlink(two.dir / "prod")
    assert not os.path.lexists(two.dir / "prod")
    wait_for(lambda: not is_alias(two, "prod", "v1"), what="the removal is sent")
    assert not os.path.lexists(two.dir / "prod")
    assert two.history() == [("", "v1")]


def test_passing_names_are_never_sent(two):
    os.symlink("v2", two.dir / ".next")
    os.symlink("v2", two.dir / "CuAbCdEf")
    time_of_hold_is_over(two)
    assert json.loads((two.dir / "v2/info.json").read_text())["aliases"] == []
    os.unlink(two.dir / ".next")
    os.unlink(two.dir / "CuAbCdEf")
    assert not os.path.lexists(two.dir / ".next")


def test_an_editors_lock_is_local(two):
    os.symlink("me@here.123:456", two.dir / ".#model.json")
    assert two.link(".#model.json") == "me@here.123:456"
    refused(errno.EPERM, os.rename, two.dir / ".#model.json", two.dir / "default")
    os.unlink(two.dir / ".#model.json")
    assert two.link("default") == "v1"


def test_a_held_link_is_sent_when_the_mount_ends(two, mount):
    os.symlink("v2", two.dir / "stable")
    two.mnt.unmount()
    again = Models(mount(name="again"), two.root)
    assert again.link("stable") == "v2"


# ---- model.json

def test_model_json_is_starcharts(two):
    text = (two.dir / "model.json").read_text()
    value = json.loads(text)
    assert text == json.dumps(value, indent=2) + "\n"
    assert value["model"] == "mnist"
    first = value["versions"][0]["version"]
    assert first["name"] == "models/mnist/versions/v1"
    assert first["isDefault"] is True and first["state"] == "READY"
    assert first["deploymentUri"] and first["createTime"]
    assert first["job"]["jobId"] == "job" and first["job"]["state"] == "SUCCEEDED"
    assert first["job"]["startTime"] and first["job"]["endTime"]
    assert first["job"]["trainingInput"]["pythonModule"] == "train.sh"
    assert (two.dir / "model.json").stat().st_size == len(text)


def test_saving_model_json_in_place_switches(two):
    value = two.set_default(two.model_json(), "v2")
    with open(two.dir / "model.json", "w", encoding="utf-8") as f:
        json.dump(value, f)
    assert two.link("default") == "v2"
    assert two.model_json()["versions"][1]["version"]["isDefault"] is True
    assert two.history()[-1] == ("v1", "v2")


def test_saving_model_json_by_rename_switches(two):
    value = two.set_default(two.model_json(), "v2")
    (two.dir / "model.json.tmp").write_text(json.dumps(value))
    assert two.link("default") == "v1"
    os.replace(two.dir / "model.json.tmp", two.dir / "model.json")
    assert two.link("default") == "v2"
    assert not (two.dir / "model.json.tmp").exists()
    assert two.model_json() == two.set_default(two.model_json(), "v2")


def test_jq_and_mv_switch(two):
    sh("""jq '.versions[].version |= (.isDefault = (.name | endswith("/v2")))' model.json > new.json && mv new.json model.json""",
       cwd=two.dir)
    assert two.link("default") == "v2"


def test_sed_switches(two):
    sh("sed -i -e 's/\"isDefault\": true/\"isDefault\": TMP/' -e 's/\"isDefault\": false/\"isDefault\": true/' "
       "-e 's/\"isDefault\": TMP/\"isDefault\": false/' model.json", cwd=two.dir)
    assert two.link("default") == "v2"


@pytest.mark.parametrize("backup", ["auto", "yes", "no"])
@pytest.mark.skipif(not shutil.which("vim"), reason="no vim")
def test_vim_switches(two, backup):
    env = {**os.environ, "HOME": str(two.root), "TERM": "dumb"}
    done = subprocess.run(
        ["vim", "-u", "NONE", "-i", "NONE", "-n", "-es", "-c", f"set writebackup backupcopy={backup}",
         "-c", "%s/: true/: TMP/", "-c", "%s/isDefault\": false/isDefault\": true/", "-c", "%s/: TMP/: false/",
         "-c", "wq", "model.json"],
        cwd=two.dir, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr + two.mnt.errors()
    assert two.link("default") == "v2", two.mnt.errors()
    assert two.model_json()["model"] == "mnist"


@pytest.mark.parametrize("wrong", ["none", "both", "not json", "unknown"])
def test_a_wrong_model_json_is_refused(two, wrong):
    value = two.model_json()
    for item in value["versions"]:
        item["version"]["isDefault"] = wrong == "both"
    if wrong == "unknown":
        value["versions"].append({"version": {"name": "models/mnist/versions/v9", "isDefault": True}})
    text = "{" if wrong == "not json" else json.dumps(value)
    (two.dir / "model.json.tmp").write_text(text)
    refused(errno.EBADMSG, os.replace, two.dir / "model.json.tmp", two.dir / "model.json")
    refused(errno.EBADMSG, (two.dir / "model.json").write_text, text)
    assert "model.json" in two.mnt.errors()
    assert two.link("default") == "v1"
    assert two.model_json()["versions"][0]["version"]["isDefault"] is True


def test_the_same_default_is_no_switch(two):
    (two.dir / "model.json").write_text((two.dir / "model.json").read_text())
    sh("ln -sfn v1 default", cwd=two.dir)
    assert two.history() == [("", "v1")]


def test_other_files_are_refused(two):
    refused(errno.EPERM, (two.dir / "README").write_text, "x")
    refused(READ_ONLY, (two.dir / "history.tsv").write_text, "x")
    refused(errno.EFBIG, (two.dir / "model.json.tmp").write_bytes, b"x" * (2 << 20))


# ---- crashes

@pytest.mark.parametrize("point", ["planned", "made"])
def test_a_version_survives_a_crash_while_it_is_made(mount, tmp_path, point):
    first = Models(mount(), tmp_path)
    first.job("job")
    first.mnt.unmount()
    crashing = Models(mount(name="crashing", env={"TRAINFS_CRASH_POINT": point}), tmp_path)
    crashing.mnt.is_expected_dead = True
    try:
        os.symlink("../../jobs/job", crashing.dir / "v1")
    except OSError as e:  # the daemon may die before its answer
        assert e.errno in (errno.ENOTCONN, errno.ECONNABORTED), e
    crashing.mnt.wait()
    crashing.mnt.force_down()
    again = Models(mount(name="again"), tmp_path)
    wait_for(lambda: state(again.dir / "v1") == "READY", what="READY")
    assert again.link("default") == "v1"


def test_a_switch_that_was_made_is_made_after_a_crash(mount, tmp_path):
    first = Models(mount(), tmp_path)
    first.versions(2)
    first.mnt.unmount()
    crashing = Models(mount(name="crashing", env={"TRAINFS_CRASH_POINT": "switched"}), tmp_path)
    crashing.mnt.is_expected_dead = True
    sh("ln -sfn v2 default", cwd=crashing.dir, check=False)
    crashing.mnt.wait()
    crashing.mnt.force_down()
    again = Models(mount(name="again"), tmp_path)
    assert again.link("default") == "v2"


# ---- a service that fails

@pytest.fixture
def failing(mount, tmp_path):
    """A remote in memory, and what makes its operations fail."""
    rules = tmp_path / "rules"
    rules.write_text("")
    m = Models(mount(config=f"remotes:\n  service: {{type: mem, auto: true, control: {rules}}}\n"), tmp_path)
    m.remote = m.mnt / "service"
    m.dir = m.remote / "models/mnist"
    m.rules = rules
    m.versions(2)
    return m


def test_a_version_that_cannot_be_made_is_failed(failing):
    failing.rules.write_text("version-create fail EIO\n")
    os.symlink("../../jobs/job", failing.dir / "v3")
    wait_for(lambda: state(failing.dir / "v3") == "FAILED", what="FAILED")
    assert (failing.dir / "v3/why").read_text().strip()
    assert "models/mnist/v3" in failing.mnt.errors()
    assert sh("ln -sfn v3 default", cwd=failing.dir, check=False).returncode != 0
    (failing.dir / "v3").rmdir()
    failing.rules.write_text("")
    failing.version("v3", "job")


def test_a_service_that_is_away_is_asked_again(failing):
    failing.rules.write_text("version-create fail EHOSTUNREACH first 1\n")
    failing.version("v3", "job")


def test_a_version_has_not_failed_while_it_is_tried_again(failing):
    """Even where the service lists it as FAILED."""
    failing.rules.write_text("version-create fail EHOSTUNREACH\n")
    os.symlink("../../jobs/job", failing.dir / "v3")
    wait_for(lambda: "v3: " in failing.mnt.log(), what="it was tried")
    (failing.mnt.path / ".trainfs/ctl").write_text("refresh\n")
    versions = [item["version"] for item in failing.model_json()["versions"]]
    assert [v["state"] for v in versions if v["name"].endswith("/v3")] == ["CREATING"]
    assert state(failing.dir / "v3") == "CREATING"
    assert (failing.dir / "v3/why").read_text() == ""
    failing.rules.write_text("")
    wait_for(lambda: state(failing.dir / "v3") == "READY", what="READY")


def test_a_switch_that_fails_changes_nothing(failing):
    failing.rules.write_text("alias-set fail EPERM\n")
    assert sh("ln -sfn v2 default", cwd=failing.dir, check=False).returncode != 0
    assert sh("busybox ln -sfn v2 default", cwd=failing.dir, check=False).returncode != 0
    wait_for(lambda: os.path.lexists(failing.dir / "default"), 5, "default is back")
    assert failing.link("default") == "v1"
    assert failing.history() == [("", "v1")]


def test_a_switch_whose_reply_is_lost_is_seen(failing):
    failing.rules.write_text("alias-set lose-reply ETIMEDOUT\n")
    assert sh("ln -sfn v2 default", cwd=failing.dir, check=False).returncode != 0
    wait_for(lambda: failing.link("default") == "v2", what="what the service has is shown")


def test_a_service_that_hangs_holds_up_nothing_that_is_known(failing):
    failing.rules.write_text("* hang 60000\n")
    sh("echo refresh > .trainfs/ctl", cwd=failing.mnt, check=False)
    start = time.monotonic()
    assert failing.link("default") == "v1"
    assert state(failing.dir / "v2") == "READY"
    assert {"v1", "v2", "default", "model.json"} <= set(os.listdir(failing.dir))
    failing.model_json()
    assert os.listdir(failing.mnt / "local/models") == []
    assert time.monotonic() - start < 20  # seconds; who waits for it does so for 30
    failing.rules.write_text("")


def test_two_mounts_see_the_same(two, mount):
    other = Models(mount(name="other"), two.root)
    assert other.link("default") == "v1"
    sh("ln -sfn v2 default", cwd=two.dir)
    wait_for(lambda: other.link("default") == "v2", what="the other mount sees it")
    wait_for(lambda: os.path.lexists(other.dir / "previous") and other.link("previous") == "v1", what="and previous")


def test_tools_walk_the_tree(two, tmp_path):
    sh(f"find . -type l -o -type f -print0 | xargs -0 cat >/dev/null; du -s . ; ls -lR . ; grep -r weights . ; "
       f"tar cf {tmp_path}/m.tar . && cp -r . {tmp_path}/copy && rsync -a ./ {tmp_path}/rsynced/", cwd=two.dir)
    for copy in ("copy", "rsynced"):
        assert os.readlink(tmp_path / copy / "default") == "v1"
        assert (tmp_path / copy / "v2/artifacts/weights.txt").read_text() == "weights of job\n"
        assert json.loads((tmp_path / copy / "model.json").read_text()) == two.model_json()


def test_it_is_quick(two):
    start = time.monotonic()
    for i in range(50):
        sh(f"ln -sfn v{1 + (i + 1) % 2} default", cwd=two.dir)
    assert time.monotonic() - start < 45  # not a second each
    assert len(two.history()) == 51
