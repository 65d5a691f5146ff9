# SPDX-License-Identifier: MIT
"""What mounts a bucket: ours, and what a user would pick instead (contrib/peers --bench installs it)."""
import json
import os
import shutil
import subprocess
from pathlib import Path

from measure import Failed, cpu_ms, memory_mb, mount_number, run, wait_for
from services import BUCKET


class Client:
    """One mount of the bucket of a service. As a context manager it is mounted, and then gone."""
    services = ("s3",)
    is_root = False

    def __init__(self, bench, service):
        self.bench, self.service = bench, service
        self.user = {} if self.is_root else bench.user
        self.place = Path(bench.mkdtemp(self.user))
        self.mount_point = self.place / "mnt"
        self.own_dir(self.mount_point)
        self.env = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(self.place), "LC_ALL": "C.UTF-8", **service.env}
        self.daemon = None

    @classmethod
    def program(cls, bench):
        """None: it is not here."""
        raise NotImplementedError

    def command(self):
        raise NotImplementedError

    @property
    def root(self):
        """The bucket's directory."""
        return self.mount_point

    def own_dir(self, path):
        path.mkdir(mode=0o700)
        if self.user:
            os.chown(path, self.user["user"], self.user["group"])
        return path

    def is_ready(self):
        return mount_number(self.mount_point)

    def __enter__(self):
        with open(self.place / "log", "wb") as log:
            self.daemon = subprocess.Popen([str(word) for word in self.command()], env=self.env, cwd=self.place,
                                           stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self.user)
        try:
            wait_for(lambda: self.is_ready() or self.daemon.poll() is not None, f"{self.name} has mounted", 30)
            if self.daemon.poll() is not None:
                raise Failed(f"{self.name} ended: {(self.place / 'log').read_text(errors='replace')[-500:].strip()}")
        except BaseException:
            self.__exit__()
            raise
        self.cpu_at_start = cpu_ms(self.daemon.pid)
        return self

    def __exit__(self, *_):
        if mount_number(self.mount_point):
            subprocess.run(["fusermount3", "-u", "-z", str(self.mount_point)], check=False, **self.user)
        try:
            self.daemon.wait(20)
        except subprocess.TimeoutExpired:
            self.daemon.kill()
            self.daemon.wait()
        shutil.rmtree(self.place, ignore_errors=True)

    def work(self, *words, limit_s):
        """Runs tests/bench/work.py as the user who has mounted; None: it took longer than limit_s."""
        try:
            done = subprocess.run(["/usr/bin/python3", str(self.bench.scratch / "work.py"), *map(str, words)], env=self.env,
                                  cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  text=True, timeout=limit_s, check=False, **self.user)
        except subprocess.TimeoutExpired:
            return None
        if done.returncode != 0:
            raise Failed(f"{self.name}: {words[0]}: {done.stderr.strip()[-300:]}")
        return json.loads(done.stdout)

    def cpu_s(self):
        return (cpu_ms(self.daemon.pid) - self.cpu_at_start) / 1000

    def peak_mb(self):
        return memory_mb(self.daemon.pid, "VmHWM")

    def calls(self):
        """{API method: calls}, as far as it tells."""
        return {}


class Ours(Client):
    """trainfs, as an ordinary user has it."""
    name = "ours"
    services = ("s3", "gcs", "keys")

    def __init__(self, bench, service):
        super().__init__(bench, service)
        config = self.own_dir(self.own_dir(self.place / "config") / "trainfs") / "config.yaml"
        endpoint = {"endpoint": service.url} if service.type == "aws" else {}
        config.write_text(f"remotes: {json.dumps({'far': {'type': service.type, **endpoint}})}\n")
        for name in ("CONFIG", "DATA", "STATE", "CACHE"):
            self.env[f"XDG_{name}_HOME"] = str(self.place / name.lower())
        self.env["XDG_RUNTIME_DIR"] = str(self.own_dir(self.place / "run"))

    @classmethod
    def program(cls, bench):
        return bench.scratch / "trainfs"

    def command(self):
        return [self.program(self.bench), "mount", "-f", self.mount_point]

    @property
    def root(self):
        return self.mount_point / "far/buckets" / BUCKET

    def control(self, name):
        done = run("cat", self.mount_point / ".trainfs" / name, env=self.env, stdout=subprocess.PIPE, **self.user)
        return done.stdout

    def is_ready(self):
        """And has looked at the bucket, as the others do when they mount it."""
        if not mount_number(self.mount_point):
            return False
        run("stat", self.root, env=self.env, **self.user)
        return True

    def calls(self):
        """Of the remote, whatever stats.tsv counts."""
        rows = [line.split("\t") for line in self.control("stats.tsv").splitlines()]
        return {row[1]: int(row[2]) for row in rows if row[0] == "far" and row[1] not in ("calls", "failures")}


class OursAsRoot(Ours):
    """trainfs, with the kernel's read-ahead raised, as it does for root."""
    name = "ours, root"
    is_root = True


class S3fs(Client):
    """Debian's, as it comes."""
    name = "s3fs"

    @classmethod
    def program(cls, bench):
        return shutil.which("s3fs")

    def command(self):
        return ["s3fs", BUCKET, self.mount_point, "-f", "-o", f"url={self.service.url}", "-o", "use_path_request_style"]


class Rclone(Client):
    """Debian's, as its manual advises: times as the service has them, writes to a file of this machine first."""
    name = "rclone"
    flags = ("--vfs-cache-mode", "writes", "--vfs-write-back", "0s")

    @classmethod
    def program(cls, bench):
        return shutil.which("rclone")

    def command(self):
        return [self.program(self.bench), "mount", f":s3:{BUCKET}", self.mount_point, "--config", "/dev/null",
                "--s3-provider", "Other", "--s3-endpoint", self.service.url, "--s3-env-auth", "--s3-force-path-style",
                "--s3-no-check-bucket", "--use-server-modtime", "--cache-dir", self.place / "cache", *self.flags]


class NewRclone(Rclone):
    """A new one: several streams for a file that is read, writes that stream."""
    name = "rclone, new"
    services = ("s3", "keys")
    flags = ("--vfs-read-chunk-streams", "16", "--vfs-read-chunk-size", "4M")

    @classmethod
    def program(cls, bench):
        found = bench.peers / "rclone"
        return found if found.exists() else None


class Mountpoint(Client):
    """The library that Mountpoint for Amazon S3 is made of (tests/bench/mountpoint)."""
    name = "mountpoint"

    @classmethod
    def program(cls, bench):
        found = bench.peers / "mountpoint"
        return found if found.exists() else None

    def command(self):
        return [self.program(self.bench), BUCKET, self.mount_point, self.service.url]


class Gcsfuse(Client):
    """Google's."""
    name = "gcsfuse"
    services = ("gcs",)

    @classmethod
    def program(cls, bench):
        found = bench.peers / "gcsfuse"
        return found if found.exists() else None

    def command(self):
        return [self.program(self.bench), "--foreground", "--implicit-dirs", "--enable-hns=false", "--anonymous-access",
                "--custom-endpoint", f"{self.service.url}/storage/v1/", BUCKET, self.mount_point]


CLIENTS = {cls.name.replace(", ", "-"): cls
           for cls in (Ours, OursAsRoot, S3fs, Rclone, NewRclone, Mountpoint, Gcsfuse)}
