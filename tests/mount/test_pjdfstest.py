# SPDX-License-Identifier: MIT
"""pjdfstest's cases in buckets at services that others wrote (contrib/peers): each comes to what pjdfstest.txt says."""
import os
import re
import subprocess
from pathlib import Path

import pytest

from cloudtools import PEERS
from cloudtools import bucket, mounted, options, service  # noqa: F401, fixtures

PROGRAM = PEERS / "pjdfstest"
CONFIG = """
[features]
posix_fallocate = {}
utimensat = {}
utime_now = {}
[settings]
naptime = 0.001
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"""
# Others find the way to the bucket: it is /mnt for this process.
RUN = 'umask 0 && mount --bind "$1" /mnt && shift && cd / && exec "$@"'


def expected():
    """{case: outcome}"""
    outcome, cases = None, {}
    for line in Path(__file__).with_name("pjdfstest.txt").read_text().splitlines():
        if line.startswith("["):
            outcome = line[1:].partition("]")[0]
        elif line and not line.startswith("#"):
            cases[line] = outcome
    return cases


@pytest.mark.skipif(os.geteuid() != 0, reason="takes the parts of several users")
@pytest.mark.skipif(not os.access(PROGRAM, os.X_OK), reason="no pjdfstest: run contrib/peers")
@pytest.mark.parametrize("service", ["versitygw", "fake-gcs-server"], indirect=True)
@pytest.mark.parametrize("options", [["-o", "allow_other"]])
def test_cases_of_pjdfstest(service, bucket, tmp_path):
    wanted = expected()
    config = tmp_path / "pjdfstest.toml"
    config.write_text(CONFIG)
    done = subprocess.run(["unshare", "--mount", "sh", "-ec", RUN, "sh", bucket, PROGRAM, "-e", "-c", config, "-p", "/mnt",
                           *(f"pjdfstest::tests::{case}" for case in wanted)], text=True, timeout=100,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    text = re.sub(r"\x1b\[\d*m", "", done.stdout)
    print(text)
    got = dict(re.findall(r"(?m)^(\w+(?:::\w+)+) +(\w+)$", text))
    assert {case: (got.get(case), outcome) for case, outcome in wanted.items() if got.get(case) != outcome} == {}
