# SPDX-License-Identifier: MIT
"""What the package holds, looked at without installing it."""
import gzip
import os
import re
import shutil
import subprocess

import pytest

CONFIG = """\
remotes:
  gcp: {type: mem}
  "1st": {type: mem}
  local: {slots: 2, gpus: 0, grace: 5s, keep: [30d, 50GB], python: python3, confirm: true, settle: 2s, max_package: 1GB}
settle: 5s
max_package: 100MB
cache: {dir: ~/c, size: 1GB, memory: 1MB}
"""


def output_of(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}"
    return done.stdout


def manual(unpacked, name):
    """The text of a page, as man shows it, on one line."""
    page = next(unpacked.glob(f"usr/share/man/man*/{name}.gz"))
    text = output_of("man", "--no-hyphenation", "--no-justification", "--local-file", page,
                     env={**os.environ, "LC_ALL": "C.UTF-8"})
    return " ".join(text.split())


def test_lintian_finds_nothing(package):
    changes = next(package.parent.glob("trainfs_*.changes"))
    assert output_of("lintian", "--allow-root", "--fail-on", "warning", changes) == ""


def test_depends_on_fuse3_and_the_libraries(package):
    depends = output_of("dpkg-deb", "-f", package, "Depends")
    for library in ("fuse3", "libc6", "libfuse3-3", "libfyaml0", "libgit2-", "libjansson4", "libsqlite3-0"):
        assert re.search(rf"\b{library}", depends), depends
    assert "python3" in output_of("dpkg-deb", "-f", package, "Recommends")


@pytest.mark.parametrize("name", ["mount.trainfs", "mount.fuse.trainfs"])
def test_mount_helper_is_a_link_to_the_program(unpacked, name):
    helper = unpacked / "usr/sbin" / name
    assert helper.is_symlink() and helper.resolve() == unpacked / "usr/bin/trainfs"


def test_manual_pages_are_well_formed(unpacked):
    pages = sorted(unpacked.glob("usr/share/man/man*/*.gz"))
    assert [page.name for page in pages] == ["trainfs.1.gz", "trainfs-config.5.gz", "mount.fuse.trainfs.8.gz",
                                                "mount.trainfs.8.gz"]
    for page in pages[:2]:
        text = gzip.decompress(page.read_bytes()).decode()
        plain = page.with_suffix("")
        plain.write_text(text)
        assert output_of("mandoc", "-T", "lint", "-W", "warning", plain) == ""
        assert "warning" not in output_of("man", "--warnings", "--local-file", page,
                                          env={**os.environ, "LC_ALL": "C.UTF-8"}).lower()


def test_manual_names_every_command_and_option(unpacked):
    text = manual(unpacked, "trainfs.1")
    program = unpacked / "usr/bin/trainfs"
    for topic in ("mount", "unmount", "check", "config"):
        help_text = output_of(program, "help", topic)
        assert f"trainfs {topic}" in text
        for option in re.findall(r"--[a-z]+|(?<=-o )[a-z_]+|(?<!\S)-[a-z]\b", help_text):
            assert option in text, f"{option} of {topic}"
    for code in ("0 Success", "1 Wrong usage", "2 A system error", "4 An error", "8 Interrupted", "32 The mount"):
        assert code in text


def test_manual_of_the_configuration_names_every_field(unpacked, tmp_path):
    """Its fields are those of a configuration that the program takes, and each example in it is taken."""
    text = manual(unpacked, "trainfs-config.5")
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    program = unpacked / "usr/bin/trainfs"
    shown = output_of(program, "config", "-c", config)
    for field in re.findall(r"^ +([a-z_]+):", shown, re.MULTILINE):
        assert field in ("gcp", "local") or f"{field}:" in text, field
    source = gzip.decompress((unpacked / "usr/share/man/man5/trainfs-config.5.gz").read_bytes()).decode()
    examples = [e for e in re.findall(r"^\.Bd.*\n((?:.*\n)*?)\.Ed", source, re.MULTILINE) if "remotes:" in e]
    assert len(examples) == 3
    for example in examples:
        config.write_text(example)
        output_of(program, "config", "-c", config)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
def test_systemd_takes_the_unit(unpacked, tmp_path):
    """As a unit of a user, the program where the package puts it, and no word of complaint."""
    unit = tmp_path / "trainfs.service"
    text = (unpacked / "usr/lib/systemd/user/trainfs.service").read_text()
    unit.write_text(text.replace("=trainfs ", f"={unpacked}/usr/bin/trainfs "))
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    found = output_of("systemd-analyze", "verify", "--user", "--man=no", unit,
                      env={**os.environ, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(runtime)})
    assert "trainfs" not in found, found
