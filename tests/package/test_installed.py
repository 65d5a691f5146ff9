# SPDX-License-Identifier: MIT
"""The package installed on this machine by apt, used from fstab and by systemd's unit, and removed again.

Mounts, /etc/fstab and a user made for it are private to each test: they are in a mount namespace of its own.
"""
import os
import re
import shlex
import socket
import subprocess
import time
from pathlib import Path

import pytest

USER, UID = "trainfs-me", 54321  # only in the copy of /etc/passwd that a test sees
LIMIT = 60  # seconds for anything

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can install a package"),
    pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="no /dev/fuse"),
]


def run(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                          timeout=120, **options)
    assert done.returncode == 0, f"{shlex.join(map(str, command))}: exit {done.returncode}\n{done.stdout}"
    return done.stdout


def apt(*arguments):
    return run("apt-get", "-qq", "-y", "-o", "Dpkg::Use-Pty=0", "-o", f"DPkg::Lock::Timeout={LIMIT}",
               "--no-install-recommends", *arguments, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})


def traces():
    """Every file of the system whose name says trainfs, unless it is a test's or somebody's own."""
    return set(run("find", "/etc", "/usr", "/var", "/opt", "-xdev", "-path", "/var/tmp", "-prune", "-o",
                   "-name", "*trainfs*", "-print").splitlines())


@pytest.fixture(scope="module")
def installed(package):
    """The package is installed; at the end it is purged, if no test has done so, and nothing of it remains."""
    if subprocess.run(["dpkg-query", "-s", "trainfs"], capture_output=True, check=False).returncode == 0:
        pytest.skip("trainfs is installed on this machine already, and stays as it is")
    before = traces()
    try:
        apt("install", package)
        files = run("dpkg", "-L", "trainfs").splitlines()
        yield files
    finally:
        apt("purge", "trainfs")
    assert traces() == before
    assert not [f for f in files if os.path.lexists(f) and not os.path.isdir(f)]
    assert subprocess.run(["dpkg-query", "-s", "trainfs"], capture_output=True, check=False).returncode == 1


@pytest.fixture(name="home")
def _home(tmp_path):
    """A home directory that the user of these tests can reach and write to, with a package for a job."""
    for directory in [tmp_path, *tmp_path.parents]:  # pytest's own are for root alone
        if directory.stat().st_uid == os.geteuid() and directory.stat().st_mode & 0o077 == 0:
            directory.chmod(0o711)
    home = tmp_path / "home"
    (home / "hello").mkdir(parents=True)
    (home / "hello/train.sh").write_text("#!/bin/sh\necho hello from $(id -u)\n")
    (home / "ml").mkdir()
    run("chown", "-R", f"{UID}:{UID}", home)
    return home


PRELUDE = """\
set -eu
printf '%s\\n' "$FSTAB" >"$SCRATCH/fstab"
{ cat /etc/passwd; echo "$USER_NAME:*:$USER_ID:$USER_ID::$HOME:/bin/sh"; } >"$SCRATCH/passwd"
{ cat /etc/group; echo "$USER_NAME:x:$USER_ID:"; } >"$SCRATCH/group"
chmod 644 "$SCRATCH/fstab" "$SCRATCH/passwd" "$SCRATCH/group"
mount --bind "$SCRATCH/fstab" /etc/fstab
mount --bind "$SCRATCH/passwd" /etc/passwd
mount --bind "$SCRATCH/group" /etc/group
mkdir -p "$SCRATCH/root" && mount --bind "$SCRATCH/root" /root # mount(8) hands no HOME on
chmod 666 /dev/fuse # as Debian has it
trap 'mountpoint -q "$HOME/ml" && umount -l "$HOME/ml" || :' EXIT
# The helper that makes inotify fire may hold the mount for a moment after a change.
unmount() { until "$@" umount "$HOME/ml"; do sleep 0.05; done 2>/dev/null; }
as_user() { setpriv --reuid "$USER_ID" --regid "$USER_ID" --clear-groups -- "$@"; }
"""
JOB = """\
cp -r "$HOME/hello" "$HOME/ml/{root}train/"
sync "$HOME/ml/{root}train/hello"
cat "$HOME/ml/{root}submitted/hello/follow" "$HOME/ml/{root}submitted/hello/state"
"""


def in_private_namespace(script, home, fstab):
    """Runs it where only it sees its mounts; then no daemon may be left that has the mount on its command line."""
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": str(home), "FSTAB": fstab,
           "SCRATCH": str(home.parent), "USER_NAME": USER, "USER_ID": str(UID)}
    text = run("unshare", "--mount", "--propagation", "private", "timeout", str(LIMIT), "sh", "-c", PRELUDE + script,
               env=env, cwd="/")
    end = time.monotonic() + LIMIT
    while any(f"{home}/ml" in command for command in command_lines()):
        assert time.monotonic() < end, f"a daemon is left: {command_lines()}"
        time.sleep(0.02)
    return text


def command_lines():
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            pass
    return [command for command in found if "trainfs" in command]


def test_the_program_and_its_manual_are_found(installed):
    assert re.fullmatch(r"trainfs \d+\.\d+\.\d+\n", run("trainfs", "--version"))
    assert "/usr/bin/trainfs" in installed
    for helper in ("mount.trainfs", "mount.fuse.trainfs"):
        assert os.path.samefile(f"/sbin/{helper}", "/usr/bin/trainfs")
    if not os.path.exists("/usr/share/man/man1/trainfs.1.gz"):
        pytest.skip("dpkg installs no manual pages here (as in Debian's slim images)")
    assert run("man", "-w", "trainfs").strip() == "/usr/share/man/man1/trainfs.1.gz"
    assert run("man", "-w", "5", "trainfs-config").strip() == "/usr/share/man/man5/trainfs-config.5.gz"
    assert run("man", "-w", "8", "mount.fuse.trainfs").strip() == "/usr/share/man/man1/trainfs.1.gz"


def test_mount_from_fstab_as_root(installed, home):
    text = in_private_namespace(
        'mount "$HOME/ml"; findmnt -no FSTYPE,SOURCE "$HOME/ml"\n' + JOB.format(root="") + "unmount\n",
        home, f"local: {home}/ml fuse.trainfs noauto 0 0")
    assert text.split("\n") == ["fuse.trainfs local:", "hello from 0", "SUCCEEDED", ""]


def test_mount_all_and_a_dry_run(installed, home):
    """`mount -a -f` mounts nothing, `mount -a` does; the type may be plain trainfs, the source all remotes."""
    text = in_private_namespace(
        'mount -a -f; ls "$HOME/ml"; mount -a; ls "$HOME/ml"; trainfs unmount "$HOME/ml"\n',
        home, f"trainfs {home}/ml trainfs defaults,nofail,x-systemd.automount 0 0")
    assert text.split() == ["README.md", "local"]


def test_mount_from_fstab_by_an_ordinary_user(installed, home):
    text = in_private_namespace(
        'as_user mount "$HOME/ml"\n'
        f"as_user sh -eu <<'EOF'\n{JOB.format(root='')}EOF\n"
        "unmount as_user\n",
        home, f"local: {home}/ml fuse.trainfs noauto,user 0 0")
    assert text.split("\n") == [f"hello from {UID}", "SUCCEEDED", ""]


@pytest.mark.parametrize("kind", ["trainfs", "fuse.trainfs"])
def test_root_mounts_for_another_user(installed, home, kind):
    text = in_private_namespace(
        'mount "$HOME/ml"; as_user stat -c %U "$HOME/ml/local"\n'
        f"as_user sh -eu <<'EOF'\n{JOB.format(root='local/')}EOF\n"
        'unmount; stat -c %U "$HOME/.local/share/trainfs"\n',
        home, f"trainfs {home}/ml {kind} noauto,setuid={USER} 0 0")
    assert text.split("\n") == [USER, f"hello from {UID}", "SUCCEEDED", USER, ""]


def unit_commands(name, home):
    """The command lines of this setting of the unit, as systemd would run them."""
    text = Path("/usr/lib/systemd/user/trainfs.service").read_text(encoding="utf-8")
    return [shlex.split(line.lstrip("-").replace("%h", str(home)))
            for line in re.findall(rf"^{name}=(.*)$", text, re.MULTILINE)]


def test_unit_starts_tells_that_it_is_ready_and_stops(installed, tmp_path):
    """What the unit names, done as systemd does it: the pre-command, the service, readiness, the stop."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(LIMIT)
        env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "NOTIFY_SOCKET": str(tmp_path / "notify")}
        for command in unit_commands("ExecStartPre", tmp_path):
            run(*command, env=env)
        [start] = unit_commands("ExecStart", tmp_path)
        [stop] = unit_commands("ExecStop", tmp_path)
        with subprocess.Popen(start, env=env, cwd="/", stderr=subprocess.DEVNULL) as service:
            try:
                assert "READY=1" in told.recv(4096).decode().split("\n")
                assert (tmp_path / "ml/local/train").is_dir()
            finally:
                run(*stop, env=env)
            assert service.wait(timeout=LIMIT) == 0
    assert not os.path.ismount(tmp_path / "ml")


SYSTEMD = """\
mount -t tmpfs none /run
mkdir -p /run/systemd/system /run/user/0 && chmod 700 /run/user/0
export XDG_RUNTIME_DIR=/run/user/0
/lib/systemd/systemd --user </dev/null >/dev/null 2>&1 &
for i in $(seq 100); do
	state=$(systemctl --user is-system-running 2>/dev/null) && break || sleep 0.1
done
[ "$state" = running ] || exit 77
systemctl --user -q enable --now trainfs
cp -r "$HOME/hello" "$HOME/ml/local/train/"
sync "$HOME/ml/local/train/hello"
head -n 1 "$HOME/ml/local/latest/follow"
systemctl --user stop trainfs
mountpoint -q "$HOME/ml" || echo stopped
touch "$HOME/go"
systemctl --user start trainfs
cat "$HOME/ml/local/latest/wait" "$HOME/ml/local/latest/log"
systemctl --user -q disable --now trainfs
systemctl --user show -P Result trainfs
systemctl --user exit
wait
"""


@pytest.fixture(name="cgroups")
def _cgroups():
    """What a systemd leaves of itself among the control groups is taken away."""
    def names():
        return set(run("find", "/sys/fs/cgroup", "-type", "d", "(", "-name", "*.slice", "-o", "-name", "init.scope",
                       "-o", "-name", "trainfs*", ")").splitlines())

    before = names()
    yield
    for name in sorted(names() - before, key=len, reverse=True):
        try:
            os.rmdir(name)
        except OSError:  # somebody else's, in use
            pass


def test_a_job_outlives_the_unit_under_a_real_systemd(installed, home, cgroups):
    """A user's systemd of our own, in process and mount namespaces of its own, starts and stops the unit."""
    (home / "hello/train.sh").write_text('echo begun\nuntil [ -e "$HOME/go" ]; do sleep 0.1; done\necho ended\n')
    done = subprocess.run(["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc",
                           "timeout", str(LIMIT), "sh", "-euc", SYSTEMD], capture_output=True, text=True, check=False,
                          cwd="/", env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(home)})
    if done.returncode == 77:
        pytest.skip("no systemd of our own can be started here")
    assert done.stdout.split() == ["begun", "stopped", "SUCCEEDED", "begun", "ended", "success"], done.stderr


def test_unit_is_there_but_enabled_for_nobody(installed):
    assert "/usr/lib/systemd/user/trainfs.service" in installed
    assert not list(Path("/etc/systemd/user").rglob("trainfs*"))


def test_remove_leaves_nothing_behind(installed):
    """The last test here. What remove leaves (purge follows at the end) is no file of the package."""
    apt("remove", "trainfs")
    assert not [f for f in installed if os.path.lexists(f) and not os.path.isdir(f)]
