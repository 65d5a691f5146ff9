# SPDX-License-Identifier: MIT
"""What every mount test stands on: a fresh trainfs in a world of its own, and a clean end on every path.

    def test_tree_answers(mnt):                 # mounted at tmp_path/"ml"
        assert (mnt / ".trainfs/version").read_text().startswith("trainfs ")

    def test_settle(mount):                     # a factory: configuration and arguments of your own
        m = mount(config="settle: 100ms\n", args=["-o", "xattr"])

The binary is $TRAINFS. By default the daemon stays in front (-f) with its log in `m.log()`; `background=True`
lets `trainfs mount` make a daemon of itself. At the end the mount is unmounted, the daemon must be gone with exit
status 0, and no sanitizer may have reported anything.
"""
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

TIME_LIMIT = 120  # seconds a test, for a slow machine; more with @pytest.mark.time_limit(N)
TRAINFS = os.environ.get("TRAINFS") or shutil.which("trainfs") or "trainfs"


def pytest_configure(config):
    config.addinivalue_line("markers", "time_limit(seconds): how long this test may take")


def wait_for(predicate, timeout=30.0, what=None):
    """Polls until `predicate` gives something true, and returns that; fails after `timeout` seconds."""
    end = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            pytest.fail(f"after {timeout} s still not: {what or getattr(predicate, '__doc__', None) or predicate}")
        time.sleep(0.02)


def mount_lines(path):
    """The rows of /proc/self/mountinfo for this mount point (more than one when stacked)."""
    name = str(path).replace("\\", "\\134").replace(" ", "\\040").replace("\n", "\\012").replace("\t", "\\011")
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as f:
        return [line for line in f if line.split(" ")[4] == name]


def is_mounted(path):
    return bool(mount_lines(path))


def processes(matches):
    """Pids for which `matches(pid)` holds; processes that vanish meanwhile are left out."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            if matches(int(name)):
                found.append(int(name))
        except OSError:
            pass
    return found


def process_stat(pid):
    """The fields of /proc/PID/stat that follow the name: state, parent, ..."""
    with open(f"/proc/{pid}/stat", "rb") as f:
        return f.read().rpartition(b")")[2].split()


def is_running(pid):
    """Is there such a process, and not just its zombie?"""
    try:
        return process_stat(pid)[0] not in (b"Z", b"X")
    except OSError:
        return False


def await_end(fd, timeout):
    """Waits until the process of this pidfd has ended with all its threads; False when it has not."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


class World:
    """The directories and the environment of one test; several mounts may share it."""

    def __init__(self, root, uid=None):
        self.root = root
        self.uid = uid
        self.killed = set()  # pids that the harness has killed
        self.program = TRAINFS
        self.home = root / "home"
        self.data = root / "data"      # XDG_DATA_HOME
        self.state = root / "state"    # XDG_STATE_HOME
        self.config = root / "config"  # XDG_CONFIG_HOME
        self.runtime = root / "run"    # XDG_RUNTIME_DIR
        for d in (self.home, self.data, self.state, self.config, self.runtime):
            d.mkdir(mode=0o700)
            if uid is not None:
                os.chown(d, uid, uid)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "TRAINFS_", "NOTIFY_"))}
        self.env.update(
            HOME=str(self.home), XDG_DATA_HOME=str(self.data), XDG_STATE_HOME=str(self.state),
            XDG_CONFIG_HOME=str(self.config), XDG_RUNTIME_DIR=str(self.runtime), XDG_CACHE_HOME=str(root / "cache"),
            PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL="C.UTF-8",
            ASAN_OPTIONS=f"log_path={root}/report.asan:detect_leaks=1:exitcode=99",
            UBSAN_OPTIONS=f"log_path={root}/report.ubsan:print_stacktrace=1:halt_on_error=1:exitcode=99",
            LSAN_OPTIONS="print_suppressions=0",
            TSAN_OPTIONS=f"log_path={root}/report.tsan:second_deadlock_stack=1:exitcode=99")

    def who(self):
        """Arguments that make subprocess run as the user of this world."""
        return {} if self.uid is None else {"user": self.uid, "group": self.uid, "extra_groups": []}

    def write_config(self, text):
        path = self.config / "trainfs" / "config.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def run(self, *args, timeout=30, **kwargs):
        """Runs `trainfs ARGS` to its end in this world; gives a CompletedProcess with text."""
        return self.shell([self.program, *map(str, args)], timeout=timeout, **kwargs)

    def shell(self, command, timeout=30, **kwargs):
        """Runs any command to its end, as the user and in the environment of this world."""
        kwargs = {"env": self.env, "stdin": subprocess.DEVNULL, **self.who(), **kwargs}
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout,
                              check=False, **kwargs)

    def reports(self):
        return sorted(self.root.glob("report.*san*"))

    def unexplained_reports(self):
        """Those that must not be. A process that is killed while it looks for leaks at its own end may have begun one,
        with no more in it than that."""
        cut_off = re.compile(r"(==\d+==Unable to get registers from thread \d+\.\n)*")

        def is_explained(path):
            return int(path.suffix[1:]) in self.killed and cut_off.fullmatch(path.read_text(errors="replace"))
        return [path for path in self.reports() if not is_explained(path)]

    def is_ours(self, pid):
        with open(f"/proc/{pid}/environ", "rb") as f:
            return f"XDG_STATE_HOME={self.state}".encode() in f.read().split(b"\0") and is_running(pid)

    def strays(self):
        """Processes that were started in this world and live on (supervisors, jobs, helpers)."""
        return processes(self.is_ours)

    def kill_stray(self, pid):
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            if not self.is_ours(pid):  # looked at after it was opened: it is this very process
                return
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            self.killed.add(pid)
            assert await_end(fd, 20), f"process {pid} does not end: {process_stat(pid)}"
        except (ProcessLookupError, FileNotFoundError, PermissionError):
            pass
        finally:
            os.close(fd)

    def kill_strays(self):
        """Parents first, until there is none: what LeakSanitizer forks to look at its parent ends with that."""
        end = time.monotonic() + 40
        while strays := self.strays():
            assert time.monotonic() < end, f"processes that come again and again: {strays}"
            for pid in processes(lambda pid: pid in strays and int(process_stat(pid)[1]) not in strays):
                self.kill_stray(pid)


class Mount:
    """A mounted trainfs. `mnt / "local"` is a path in it."""

    def __init__(self, world, path, args, source, background, env, ready_timeout):
        self.world = world
        self.path = path
        self.background = background
        self.process = None         # the daemon, when it stays in front
        self.pid = None
        self.is_expected_dead = False
        self._log = world.root / f"{path.name}.log"
        if not is_mounted(path):  # a dead one cannot be looked at
            path.mkdir(exist_ok=True)
            if world.uid is not None:
                os.chown(path, world.uid, world.uid)
        command = [world.program, "mount", *([source] if source else []), str(path), *map(str, args)]
        env = {**world.env, **(env or {})}
        if background:
            self._start_background(command, env, ready_timeout)
        else:
            self._start_front(command + ["-f"], env, ready_timeout)

    def _start_front(self, command, env, timeout):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind("")  # an abstract name that the kernel chooses
            ready.settimeout(0.1)
            name = ready.getsockname()
            env["NOTIFY_SOCKET"] = "@" + name[1:].decode()
            with open(self._log, "ab") as log:
                self.process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                start_new_session=True, **self.world.who())
            self.pid = self.process.pid
            end = time.monotonic() + timeout
            while True:
                try:
                    if b"READY=1" in ready.recv(4096):
                        return
                except TimeoutError:
                    pass
                if self.process.poll() is not None or time.monotonic() > end:
                    code = self.process.poll()
                    self.force_down()
                    raise MountError(f"not mounted, exit status {code}:\n{self.log()}", code)

    def _start_background(self, command, env, timeout):
        done = self.world.shell(command, env=env, timeout=timeout)
        if done.returncode:
            raise MountError(done.stderr, done.returncode)
        self.pid = self._find_daemon()

    def _find_daemon(self):
        name = os.fsencode(self.path)

        def is_daemon(pid):
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                argv = f.read().split(b"\0")
            return name in argv and os.path.basename(argv[0]) == os.path.basename(os.fsencode(self.world.program)) \
                and b"mount" in argv and is_running(pid)
        found = processes(is_daemon)
        assert len(found) == 1, f"expected one daemon of {self.path}, found {found}"
        return found[0]

    def __truediv__(self, name):
        return self.path / name

    def __fspath__(self):
        return str(self.path)

    def __str__(self):
        return str(self.path)

    def log(self):
        """The daemon's standard error, so far (in front only)."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def errors(self):
        return (self.path / ".trainfs/errors").read_text()

    def is_alive(self):
        return self.process.poll() is None if self.process else is_running(self.pid)

    def signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        """SIGKILL to the daemon, on purpose: leaves a dead mount behind, as a crash does."""
        self.is_expected_dead = True
        self._kill()

    def _kill(self):
        self.world.killed.add(self.pid)
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def wait(self, timeout=20):
        """Waits for the daemon's end; its exit status when it was in front, else 0."""
        if self.process:
            return self.process.wait(timeout)
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return 0
        try:
            assert await_end(fd, timeout), f"the daemon has not ended after {timeout} s"
        finally:
            os.close(fd)
        return 0

    def unmount(self, *args, timeout=45):
        """`trainfs unmount`, and the daemon's clean end."""
        done = self.world.run("unmount", *args, self.path, timeout=timeout)
        assert done.returncode == 0, f"unmount: {done.stderr}"
        status = self.wait()
        assert self.is_expected_dead or status == 0, f"exit status {status}:\n{self.log()}"
        assert not is_mounted(self.path)

    def force_down(self):
        """Whatever happened: no mount, no daemon. For the end of failing tests."""
        for _ in range(4):
            if not is_mounted(self.path):
                break
            tool = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
            subprocess.run([*tool, str(self.path)], capture_output=True, timeout=10, check=False)
        if self.pid and self.is_alive():
            self._kill()

    def finish(self):
        problem = None
        try:
            if is_mounted(self.path):
                if self.is_expected_dead:
                    self.force_down()
                else:
                    self.unmount()
            elif not self.is_expected_dead:
                status = self.wait()
                assert status == 0, f"exit status {status}:\n{self.log()}"
        except (AssertionError, subprocess.TimeoutExpired, pytest.fail.Exception) as e:
            problem = f"{self.path} did not end cleanly: {e}\n--- log ---\n{self.log()[-8000:]}"
        self.force_down()
        return problem


class MountError(Exception):
    """`trainfs mount` failed: what it said, and how it exited."""

    def __init__(self, text, code):
        super().__init__(text)
        self.text = text
        self.code = code


@pytest.fixture(autouse=True)
def time_limit(request):
    marker = request.node.get_closest_marker("time_limit")
    seconds = marker.args[0] if marker else TIME_LIMIT

    def expired(number, frame):
        raise TimeoutError(f"the test took more than {seconds} s")
    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def end_world(w):
    """Nothing started in it lives on, and no sanitizer has complained."""
    w.kill_strays()
    found = w.unexplained_reports()
    assert not found, "\n".join(f"{p.name}:\n{p.read_text(errors='replace')[:8000]}" for p in found)


def mount_factory(world):
    if not os.path.exists("/dev/fuse"):
        pytest.skip("no /dev/fuse")
    made = []

    def make(config=None, args=(), source=None, name="ml", background=False, env=None, ready_timeout=30):
        if config is not None:
            world.write_config(config)
        m = Mount(world, world.root / name, args, source, background, env, ready_timeout)
        made.append(m)
        return m
    yield make
    signal.alarm(60)  # the end has its own time
    problems = [p for p in (m.finish() for m in reversed(made)) if p]
    assert not problems, "\n".join(problems)


@pytest.fixture
def world(tmp_path):
    """A home of its own."""
    w = World(tmp_path)
    yield w
    end_world(w)


@pytest.fixture
def mount(world):
    """mount(config=None, args=(), source=None, name="ml", background=False, env=None): a Mount."""
    yield from mount_factory(world)


@pytest.fixture
def mnt(mount):
    """A fresh trainfs at tmp_path/"ml", nothing configured."""
    return mount()


@pytest.fixture
def user_world():
    """The world of an ordinary user. Run by root it is nobody's; else one's own."""
    uid = 65534 if os.geteuid() == 0 else None
    root = Path(tempfile.mkdtemp(prefix="trainfs-user-"))
    root.chmod(0o777)
    w = World(root, uid)
    w.program = str(root / "trainfs")
    shutil.copy(TRAINFS, w.program)  # the build directory may be closed to others
    w.env["HOME"] = str(w.home)
    yield w
    try:
        end_world(w)
    finally:
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def user_mount(user_world):
    """As `mount`, by an ordinary user: fusermount3 does the mounting."""
    if not shutil.which("fusermount3"):
        pytest.skip("no fusermount3")
    if os.stat("/dev/fuse").st_mode & 0o006 != 0o006:
        pytest.skip("/dev/fuse is root's alone; udev makes it 0666")
    yield from mount_factory(user_world)
