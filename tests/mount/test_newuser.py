# SPDX-License-Identifier: MIT
"""What someone meets who has read only the README."""
import errno
import os
import shutil
import subprocess

import pytest

from conftest import TRAINFS, wait_for
from jobtools import package, submit, wait_state


def test_a_place_that_takes_nothing_tells_where_to_read(mnt):
    with pytest.raises(OSError) as refused:
        (mnt / "gcp").mkdir()
    assert refused.value.errno == errno.EPERM
    sentence = (mnt / ".trainfs/errors").read_text().splitlines()[-1]
    assert "README.md" in sentence
    assert (mnt / "README.md").exists()


def test_the_help_names_remotes_that_there_are():
    text = subprocess.run([TRAINFS, "help", "mount"], capture_output=True, text=True, check=True).stdout
    assert "trainfs mount local: " in text
    assert "gcp" not in text


def test_shutil_copies_a_job_with_its_links(mnt, tmp_path):
    job = submit(mnt, package(tmp_path / "p", "mkdir -p $OUTPUT/model; echo x > $OUTPUT/model/w"))
    wait_state(mnt, job)
    os.symlink(f"../../jobs/{job}", mnt / "local/models/p/v1")
    wait_for(lambda: (mnt / "local/models/p/v1/state").read_text() == "READY\n", what="v1 is READY")
    copy = tmp_path / "copy"
    shutil.copytree(mnt / "local/jobs" / job, copy, symlinks=True)
    assert (copy / "state").read_text() == "SUCCEEDED\n"
    assert os.path.islink(copy / "model")  # and not followed: it leads back, by the version's `job`


def test_a_remote_that_does_not_open_says_so_in_errors(mount):
    m = mount(config="remotes:\n  local: {type: local, slots: two}\n")
    line = (m / ".trainfs/errors").read_text().split("\t")
    assert line[1] == "local" and line[3] == "EINVAL" and "slots" in line[4]
    assert (m / ".trainfs/remotes.tsv").read_text().count("slots") == 1
