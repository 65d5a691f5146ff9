# SPDX-License-Identifier: MIT
"""The command line, mount(8)'s way in, and the ways that a mount ends."""
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import MountError, is_mounted, is_running, mount_lines, wait_for

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def records(world):
    return sorted((world.state / "trainfs/mounts").glob("*"))


# ---- words

@pytest.mark.parametrize("args", [
    [], ["frobnicate"], ["mount"], ["mount", "a", "b", "c"], ["--bogus"], ["check", "-f"], ["unmount"],
    ["mount", "-o"], ["config", "extra"], ["help", "nothing"], ["mount", "gcp:path", "/"], ["mount", "gcp:"], ["mount", "-o", "frob", "/"],
])
def test_wrong_usage_is_one_line_and_exit_1(world, args):
    done = world.run(*args)
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(r"trainfs: [^\n]+\n", done.stderr)


def test_version_and_help(world):
    assert re.fullmatch(r"trainfs \d+\.\d+\.\d+\n", world.run("--version").stdout)
    for args in (["--help"], ["help"], ["help", "mount"], ["mount", "--help"], ["-h"]):
        done = world.run(*args)
        assert done.returncode == 0 and "trainfs mount" in done.stdout and done.stderr == ""
        assert max(map(len, done.stdout.splitlines())) <= 110


def test_output_that_cannot_be_written_is_an_error(world):
    with open("/dev/full", "w") as full:
        assert subprocess.run([world.program, "--help"], stdout=full, env=world.env, check=False).returncode == 2


def test_config_prints_yaml(world):
    done = world.run("config")
    assert done.returncode == 0 and "remotes:" in done.stdout


def options_of_local(text):
    """What `trainfs config` says of the remote local, by name."""
    return dict(re.findall(r"^    (\w+): (.*)$", text.split("\n  local:\n")[1], re.M))


def test_config_writes_out_the_defaults_of_local(world, tmp_path):
    done = world.run("config")
    options = options_of_local(done.stdout)
    assert options["grace"] == '"10s"' and options["keep"] == "[]"
    gpus = len([name for name in os.listdir("/dev") if re.fullmatch(r"nvidia\d+", name)])
    assert options["gpus"] == str(gpus)
    # with GPUs, a number of slots that is given also means: none for a job that asks for none
    assert options.get("slots") == (None if gpus else "1")
    (tmp_path / "again.yaml").write_text(done.stdout)
    again = world.run("config", "-c", tmp_path / "again.yaml")
    assert again.returncode == 0 and options_of_local(again.stdout) == options
    assert world.run("check", "local", "-c", tmp_path / "again.yaml").stdout.count("\nwrong ") == 0


def test_config_shows_what_was_given_before_defaults(world, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("remotes:\n  local: {type: local, slots: 3, gpus: 2, keep: 50GB}\n")
    options = options_of_local(world.run("config", "-c", config).stdout)
    assert (options["slots"], options["gpus"], options["keep"], options["grace"]) == ("3", "2", '"50GB"', '"10s"')
    config.write_text("remotes:\n  local: {type: local, slots: many}\n")
    done = world.run("config", "-c", config)
    assert done.returncode == 0 and options_of_local(done.stdout)["slots"] == "many" # check tells what is wrong with it


@pytest.mark.parametrize("slots, gpus, text", [(1, 0, "1 job at once, 0 GPUs"), (2, 1, "2 jobs at once, 1 GPU")])
def test_check_counts_slots(world, tmp_path, slots, gpus, text):
    (tmp_path / "c.yaml").write_text(f"remotes:\n  local: {{type: local, slots: {slots}, gpus: {gpus}}}\n")
    assert f" slots: {text}\n" in world.run("check", "local", "-c", tmp_path / "c.yaml").stdout


def test_a_wrong_config_is_told_with_its_place(world, tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("remotes: {local: {type: local}}\nfrobnicate: 1\n")
    (tmp_path / "ml").mkdir()
    for args in (["config"], ["mount", str(tmp_path / "ml")]):
        done = world.run(*args, "-c", bad)
        assert done.returncode == 1
        assert "bad.yaml:2:" in done.stderr and "frobnicate" in done.stderr


def test_check_looks_at_everything(world):
    done = world.run("check")
    assert re.search(r"^(ok|wrong) +fuse ", done.stdout, re.M)
    assert re.search(r"^ok +config ", done.stdout, re.M)
    assert re.search(r"^(ok|wrong) +local ", done.stdout, re.M)
    assert done.returncode == (1 if "\nwrong" in "\n" + done.stdout else 0)
    assert world.run("check", "local").returncode == done.returncode
    none = world.run("check", "nowhere")
    assert none.returncode == 1 and "no remote" in none.stdout


# ---- mounting

def test_mount_returns_when_the_tree_answers(mount):
    m = mount(background=True)
    assert os.listdir(m)
    assert mount_lines(m)[0].split(" - ")[1].startswith("fuse.trainfs trainfs rw")
    assert {"nosuid", "nodev"} <= set(mount_lines(m)[0].split(" ")[5].split(","))
    assert "default_permissions" in mount_lines(m)[0]


def test_the_daemon_lets_go_of_everything(mount):
    m = mount(background=True)
    assert os.readlink(f"/proc/{m.pid}/cwd") == "/"
    assert [os.readlink(f"/proc/{m.pid}/fd/{fd}") for fd in (0, 1, 2)] == ["/dev/null"] * 3
    assert os.getsid(m.pid) == m.pid


@pytest.mark.skipif(os.geteuid() != 0 or not os.access("/sys/class/bdi", os.W_OK), reason="only root may raise it")
def test_root_lets_the_kernel_read_further_ahead(mount):
    m = mount()
    device = mount_lines(m)[0].split(" ")[2]
    assert int(Path(f"/sys/class/bdi/{device}/read_ahead_kb").read_text()) == 8192


def test_one_remote_as_root(mount):
    m = mount(source="local:")
    assert mount_lines(m)[0].split(" - ")[1].startswith("fuse.trainfs local: ")


def test_read_only(mount):
    m = mount(args=["-o", "ro"])
    with pytest.raises(OSError) as e:
        os.mkdir(m / "x")
    assert e.value.errno == 30  # EROFS


def test_a_relative_directory_and_odd_names(world, tmp_path):
    odd = tmp_path / "with blank\\and\nnewline ü"
    odd.mkdir()
    done = world.run("mount", odd.name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    try:
        assert is_mounted(odd) and os.listdir(odd)
    finally:
        done = world.run("unmount", odd.name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not is_mounted(odd) and records(world) == []


def test_a_missing_directory_is_told_with_the_remedy(world, tmp_path):
    done = world.run("mount", tmp_path / "nowhere")
    assert done.returncode == 32 and "mkdir -p" in done.stderr


def test_a_file_is_no_mount_point(world, tmp_path):
    (tmp_path / "f").write_text("")
    done = world.run("mount", tmp_path / "f")
    assert done.returncode == 32 and "not a directory" in done.stderr


def test_an_unknown_remote_is_wrong_usage(world, tmp_path):
    (tmp_path / "ml").mkdir()
    done = world.run("mount", "nowhere:", tmp_path / "ml")
    assert done.returncode == 1 and "nowhere" in done.stderr
    assert not is_mounted(tmp_path / "ml")


def test_mounting_twice_is_refused(mount, world):
    m = mount()
    done = world.run("mount", m)
    assert done.returncode == 32
    assert "already mounted" in done.stderr and f"trainfs unmount {m}" in done.stderr
    assert len(mount_lines(m)) == 1


def test_systemd_is_told(mount):
    m = mount()  # the fixture waits for READY=1 at an abstract socket
    assert "NOTIFY_SOCKET" not in os.environ or m.is_alive()


def test_systemd_is_told_at_a_socket_with_a_name(world, tmp_path):
    (tmp_path / "ml").mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(str(tmp_path / "n"))
        s.settimeout(20)
        p = subprocess.Popen([world.program, "mount", "-f", str(tmp_path / "ml")],
                             env={**world.env, "NOTIFY_SOCKET": str(tmp_path / "n")}, stderr=subprocess.DEVNULL)
        assert b"READY=1" in s.recv(4096)
        p.terminate()
        assert b"STOPPING=1" in s.recv(4096)
        assert p.wait(20) == 0


def test_limits(mount):
    m = mount()
    limits = Path(f"/proc/{m.pid}/limits").read_text()
    soft, hard = re.search(r"Max open files +(\d+) +(\d+)", limits).groups()
    assert soft == hard
    assert re.search(r"Max core file size +0 +0", limits)


# ---- mount(8)

@needs_root
def test_as_a_mount_helper(world, tmp_path):
    ml = tmp_path / "ml"
    ml.mkdir()
    done = world.run("local:", ml, "-o", "rw,_netdev,user,nofail,noauto,x-systemd.automount,dev,suid,noatime,uid=0")
    assert done.returncode == 0, done.stderr
    assert "noatime" in mount_lines(ml)[0] and "nosuid,nodev" in mount_lines(ml)[0]
    assert world.run("unmount", ml).returncode == 0
    assert world.run("none", ml, "-o", "frobnicate").returncode == 1


@needs_root
def test_without_an_environment(world, tmp_path):
    """As mount(8) at boot: HOME comes from the passwd entry."""
    ml = tmp_path / "ml"
    ml.mkdir()
    keep = {k: v for k, v in world.env.items() if k.startswith(("XDG_", "ASAN", "UBSAN"))}
    done = world.run("none", ml, "-o", "rw", env=keep)
    assert done.returncode == 0, done.stderr
    assert world.run("unmount", ml).returncode == 0


@needs_root
def test_mount_8_through_mount_fuse(world, tmp_path):
    if not os.path.exists("/sbin/mount.fuse"):
        pytest.skip("no mount.fuse")
    ml = tmp_path / "ml"
    ml.mkdir()
    # mount.fuse resets PATH, so the program is named as PROGRAM#SOURCE
    done = world.shell(["mount", "-t", "fuse", "-o", "_netdev,user,nofail,x-test", f"{world.program}#local:", str(ml)])
    assert done.returncode == 0, done.stderr
    assert "fuse.trainfs local:" in mount_lines(ml)[0]
    done = world.shell(["umount", str(ml)])
    assert done.returncode == 0, done.stderr
    wait_for(lambda: records(world) == [], what="the daemon has ended")


@needs_root
def test_named_mount_trainfs_it_knows_mounts_letters(world, tmp_path):
    ml = tmp_path / "ml"
    ml.mkdir()
    done = world.shell(["mount.trainfs", "local:", str(ml), "-f", "-n", "-o", "rw"], executable=world.program)
    assert done.returncode == 0 and not is_mounted(ml)
    done = world.shell(["mount.trainfs", "local:", str(ml), "-s", "-n", "-v", "-o", "rw"], executable=world.program)
    assert done.returncode == 0, done.stderr
    assert is_mounted(ml)
    assert world.run("unmount", ml).returncode == 0


# ---- the end

@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_unmounts_cleanly(mount, number):
    m = mount()
    m.signal(number)
    assert m.wait() == 0
    assert not is_mounted(m)


def test_a_signal_unmounts_also_what_is_in_use(mount):
    m = mount()
    fd = os.open(m, os.O_RDONLY | os.O_DIRECTORY)
    try:
        m.signal(signal.SIGTERM)
        assert m.wait() == 0
        assert not is_mounted(m)
    finally:
        os.close(fd)


def test_unmount_from_outside_ends_the_daemon(mount):
    m = mount()
    tool = ["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]
    subprocess.run([*tool, str(m)], check=True)
    assert m.wait() == 0


def test_the_last_close_of_a_detached_mount_ends_the_daemon(mount):
    """The kernel ends the connection while the daemon reads what those closes send: one such end in a hundred is told
    with another error than the rest."""
    tool = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
    for _ in range(40):
        m = mount()
        files = [os.open(m / ".trainfs/stats.tsv", os.O_RDONLY) for _ in range(20)]
        subprocess.run([*tool, str(m)], check=True)
        for fd in files:
            os.close(fd)
        assert m.wait() == 0


def test_unmount_waits_for_the_daemon(mount, world):
    m = mount(background=True)
    assert [p.name for p in records(world)] == [str(m.pid)]
    done = world.run("unmount", m)
    assert done.returncode == 0, done.stderr
    assert not is_running(m.pid) and records(world) == []
    m.is_expected_dead = True


def test_a_busy_mount_stays_and_its_holders_are_named(mount, world):
    m = mount()
    holder = subprocess.Popen([sys.executable, "-c", "import os; os.chdir(os.environ['D']); print(); input()"],
                              env={**os.environ, "D": str(m)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        holder.stdout.readline()
        done = world.run("unmount", m)
        assert done.returncode == 32
        assert re.search(rf"^  {holder.pid} \S+: working directory {re.escape(str(m))}$", done.stderr, re.M)
        assert is_mounted(m) and m.is_alive() and os.listdir(m)
        done = world.run("unmount", "--lazy", m)
        assert done.returncode == 0, done.stderr
        assert m.wait() == 0 and not is_mounted(m)
    finally:
        holder.communicate(b"\n")


@needs_root
def test_a_copy_in_another_namespace_does_not_keep_the_daemon(mount, world):
    m = mount()
    other = subprocess.Popen(["unshare", "-m", "--propagation", "private", "sh", "-c", "echo; read x"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        other.stdout.readline()
        done = world.run("unmount", m)
        assert done.returncode == 0 and done.stderr == ""
        assert m.wait(5) == 0
    finally:
        other.communicate(b"\n")


@needs_root
def test_what_is_mounted_on_it_is_named(mount, world):
    m = mount()
    below = next(p for p in m.path.iterdir())
    source = world.root / "s"
    if below.is_dir():
        source.mkdir()
    else:
        source.write_text("")
    subprocess.run(["mount", "--bind", str(source), str(below)], check=True)
    try:
        done = world.run("unmount", m)
        assert done.returncode == 32 and f"mounted on it: {below}\n" in done.stderr
    finally:
        subprocess.run(["umount", str(below)], check=True)


def test_it_starts_without_standard_files(world, tmp_path):
    (tmp_path / "ml").mkdir()
    done = world.shell(["sh", "-c", 'exec "$0" mount "$1" <&- >&- 2>&-', world.program, str(tmp_path / "ml")])
    assert done.returncode == 0
    assert os.listdir(tmp_path / "ml")
    done = world.run("unmount", tmp_path / "ml")
    assert done.returncode == 0, done.stderr


def test_unmount_of_what_is_not_ours(world, tmp_path):
    done = world.run("unmount", tmp_path)
    assert done.returncode == 32 and "nothing is mounted" in done.stderr
    done = world.run("unmount", "/proc")
    assert done.returncode == 32 and "not trainfs" in done.stderr


def test_a_dead_mount_can_be_unmounted(mount, world):
    m = mount()
    m.kill()
    assert is_mounted(m)
    done = world.run("unmount", m)
    assert done.returncode == 0, done.stderr
    assert not is_mounted(m)


def test_the_next_mount_repairs_a_dead_one(mount, world):
    first = mount()
    first.kill()
    assert is_mounted(first)
    second = mount()
    assert os.listdir(second) and len(mount_lines(second)) == 1


@needs_root
def test_stacked_dead_mounts_are_cleared(mount, world):
    first = mount(name="a")
    ml = world.root / "b"
    second = mount(name="b")
    subprocess.run(["mount", "--bind", str(first.path), str(ml)], check=True)
    first.kill()
    second.kill()
    assert len(mount_lines(ml)) == 2
    third = mount(name="b")
    assert len(mount_lines(ml)) == 1 and os.listdir(third)


def test_a_stopped_daemon_is_told_apart_from_a_dead_one(mount, world):
    m = mount()
    m.signal(signal.SIGSTOP)
    try:
        done = world.run("mount", m)
        assert done.returncode == 32 and "does not answer" in done.stderr and "--lazy" in done.stderr
    finally:
        m.signal(signal.SIGCONT)


@pytest.mark.time_limit(180)
def test_ctrl_c_while_mounting_leaves_nothing(world, tmp_path):
    """At whatever moment it comes: no mount, no process, or a mount that is whole."""
    ml = tmp_path / "ml"
    ml.mkdir()
    for delay_ms in (0, 2, 5, 10, 20, 40, 80):
        p = subprocess.Popen([world.program, "mount", str(ml)], env=world.env, stderr=subprocess.PIPE,
                             stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            p.wait(delay_ms / 1000)
        except subprocess.TimeoutExpired:
            p.send_signal(signal.SIGINT)
        p.communicate(timeout=30)
        if p.returncode == 0:
            assert is_mounted(ml)
            assert world.run("unmount", ml).returncode == 0
        else:
            assert p.returncode in (8, -signal.SIGINT)
            # before the signals are blocked there is no daemon yet
            assert not is_mounted(ml)
        wait_for(lambda: not [pid for pid in world.strays() if is_daemon(pid)], what="no daemon")


def is_daemon(pid):
    try:
        return b"mount\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_mounting_and_unmounting_many_times(world, tmp_path):
    ml = tmp_path / "ml"
    ml.mkdir()
    for _ in range(5):
        done = world.run("mount", ml)
        assert done.returncode == 0, done.stderr
        done = world.run("unmount", ml)
        assert done.returncode == 0, done.stderr
    assert records(world) == []


# ---- helpers

def leads_to(fd):
    """What a descriptor in /proc is of; None once it is closed."""
    try:
        return os.readlink(fd)
    except FileNotFoundError:
        return None


def test_the_daemon_alone_holds_the_device(mount, world):
    """Else the mount would outlive a kill."""
    m = mount()
    device = {pid for pid in world.strays() for fd in Path(f"/proc/{pid}/fd").iterdir() if leads_to(fd) == "/dev/fuse"}
    assert device == {m.pid}
    named = {pid for pid in world.strays() if os.fsencode(m.path) in Path(f"/proc/{pid}/cmdline").read_bytes()}
    assert named == {m.pid}


def test_the_touching_helper(world, tmp_path):
    f = tmp_path / "f"
    f.write_text("")
    os.utime(f, (1, 1))
    p = subprocess.Popen(["trainfs-helper", "touch"], executable=world.program, env=world.env, stdin=subprocess.PIPE)
    started = time.time()
    p.communicate(os.fsencode(tmp_path / "none") + b"\0" + os.fsencode(f) + b"\0unfinished", timeout=20)
    assert p.returncode == 0
    assert f.stat().st_atime == 1 and f.stat().st_mtime > started - 5


# ---- an ordinary user

def test_a_user_mounts_and_unmounts(user_mount, user_world):
    m = user_mount(background=True)
    listed = user_world.shell(["ls", str(m)])
    assert listed.returncode == 0 and listed.stdout
    if os.geteuid() == 0:
        with pytest.raises(PermissionError):
            os.listdir(m)  # private, even to root
    m.unmount()


def test_a_user_is_told_why_not(user_world):
    done = user_world.run("mount", "/usr")
    assert done.returncode == 32
    assert ("fusermount3" in done.stderr and "/usr" in done.stderr) or "chmod 666 /dev/fuse" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_user_may_share_only_if_fuse_conf_says_so(user_world, user_mount):
    conf = Path("/etc/fuse.conf")
    if conf.exists() and re.search(r"^user_allow_other", conf.read_text(), re.M):
        pytest.skip("allowed here")
    ml = user_world.home / "ml"
    ml.mkdir()
    if user_world.uid:
        os.chown(ml, user_world.uid, user_world.uid)
    done = user_world.run("mount", ml, "-o", "allow_other")
    assert done.returncode == 32 and "user_allow_other" in done.stderr


def test_a_users_mount_ends_by_signal_in_use(user_mount, user_world):
    m = user_mount()
    holder = subprocess.Popen(["sleep", "60"], cwd=None if user_world.uid else m.path, **user_world.who())
    try:
        m.signal(signal.SIGTERM)
        assert m.wait() == 0 and not is_mounted(m)
    finally:
        holder.kill()
        holder.wait()


def test_a_users_dead_mount_is_repaired(user_mount):
    user_mount().kill()
    m = user_mount()
    assert len(mount_lines(m)) == 1


@needs_root
def test_root_unmounts_a_users_mount(user_mount, world):
    m = user_mount(background=True)
    done = world.run("unmount", m)
    assert done.returncode == 0, done.stderr
    assert not is_running(m.pid)
    m.is_expected_dead = True


@needs_root
def test_a_user_cannot_unmount_anothers(mount, user_world):
    m = mount()
    os.chmod(m.world.root, 0o755)
    done = user_world.run("unmount", m)
    assert done.returncode != 0 and is_mounted(m)


@needs_root
def test_setuid_mounts_as_that_user(user_world, user_mount):
    ml = user_world.root / "ml"
    ml.mkdir()
    os.chown(ml, user_world.uid, user_world.uid)
    done = user_world.shell([user_world.program, "none", str(ml), "-o", "setuid=nobody"], user=0, group=0)
    assert done.returncode == 0, done.stderr
    try:
        assert f"user_id={user_world.uid}" in mount_lines(ml)[0]
    finally:
        done = user_world.run("unmount", ml)
    assert done.returncode == 0, done.stderr


def test_no_fusermount_is_told(user_world):
    ml = user_world.home / "ml"
    ml.mkdir()
    if user_world.uid:
        os.chown(ml, user_world.uid, user_world.uid)
    done = user_world.run("check", env={**user_world.env, "PATH": str(user_world.root)})
    assert "wrong fuse" in done.stdout and "package fuse3" in done.stdout and done.returncode == 1


def test_mount_errors_carry_their_code(mount):
    with pytest.raises(MountError) as e:
        mount(source="nowhere:", background=True)
    assert e.value.code == 1
