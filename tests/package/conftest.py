# SPDX-License-Identifier: MIT
"""The Debian package that is tested: the one in the directory $TRAINFS_PACKAGE, or else one that is built now."""
import os
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    """The path of trainfs_VERSION_ARCH.deb."""
    directory = os.environ.get("TRAINFS_PACKAGE")
    if not directory:
        directory = tmp_path_factory.mktemp("package")
        subprocess.run([TOP / "contrib/package", directory], check=True, stdout=subprocess.DEVNULL)
    found = list(Path(directory).glob("trainfs_*.deb"))
    assert len(found) == 1, f"one package, not {found}"
    return found[0]


@pytest.fixture(scope="session")
def unpacked(package, tmp_path_factory):
    """What the package holds, unpacked; nothing is installed by that."""
    directory = tmp_path_factory.mktemp("unpacked")
    subprocess.run(["dpkg-deb", "-x", package, directory], check=True)
    return directory
