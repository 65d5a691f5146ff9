# SPDX-License-Identifier: MIT
"""The servers that buckets are measured at (contrib/peers has installed them), near and far, with what they hold:

    big           one object of --size bytes         many/fileNNNNN     --many keys
    first/NN      objects of 1 MiB                   tree/dNNN/fNNN     --tree keys, 1,000 below a prefix

Near is the server itself; far is tests/bench/far before it, with 20 ms a request and 200 MB/s a connection.
"""
import hashlib
import json
import os
import random
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from measure import MB, run, wait_for

BUCKET = "bench"
DELAY_MS, RATE_MB = 20, 200
N_FIRST = 12
KEY_ID, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
OPEN = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def answers(url):
    try:
        OPEN(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def write_random(path, size):
    source = random.Random(size)
    with open(path, "wb") as file:
        for at in range(0, size, 16 * MB):
            file.write(source.randbytes(min(16 * MB, size - at)))


class Service:
    """One server, running. As a context manager it ends, and leaves only its files."""

    def __init__(self, bench, is_far):
        self.bench, self.is_far = bench, is_far
        self.n_many, self.n_tree = min(bench.n_many, self.keys_max), min(bench.n_tree, self.keys_max)
        self.data = bench.scratch / self.name
        self.processes = []
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.start_far() if is_far else self.port}"

    def __enter__(self):
        is_new = not self.data.exists()
        if is_new:
            (self.data / BUCKET).mkdir(parents=True)
        try:
            self.fill_before(is_new)
            with open(self.bench.scratch / f"{self.name}.log", "ab") as log:
                self.processes.append(subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                       env=os.environ | self.server_env))
            wait_for(lambda: answers(f"http://127.0.0.1:{self.port}"), f"{self.name} answers", 120)
            self.fill_after(is_new)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.kill()
            process.communicate()

    def start_far(self):
        far = subprocess.Popen([self.bench.scratch / "far", str(self.port), str(DELAY_MS), str(RATE_MB)],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.processes.append(far)
        return int(far.stdout.readline())

    server_env = {}
    keys_max = 1 << 30

    def listed_keys(self):
        """{directory below the bucket: names}; none when nothing is going to be listed."""
        if "list" not in self.bench.only:
            return {}
        many, trees = self.n_many, self.n_tree // 1000
        return {"many": [f"file{i:05d}" for i in range(many)],
                **{f"tree/d{d:03d}": [f"f{i:03d}" for i in range(1000)] for d in range(trees)}}

    def make_small(self, attributes):
        """Files of one byte, as the server itself would have stored them."""
        for directory, names in self.listed_keys().items():
            place = self.data / BUCKET / directory
            place.mkdir(parents=True)
            for name in names:
                with open(place / name, "wb") as file:
                    file.write(b"x")
                    for attribute, value in attributes.items():
                        os.setxattr(file.fileno(), attribute, value)

    def url_of(self, key, method="GET"):
        raise NotImplementedError

    def upload(self, key, path):
        run(*self.curl_upload(key, path))

    def curl_upload(self, key, path):
        return ["curl", "-sSf", "-o", "/dev/null", "-T", path, self.url_of(key, "PUT")]

    def is_there(self, key, size):
        """Has the object this size? Told by the service."""
        raise NotImplementedError

    def remove(self, keys):
        for key in keys:
            try:
                OPEN(urllib.request.Request(self.url_of(key, "DELETE"), method="DELETE"), timeout=60).close()
            except urllib.error.HTTPError as error:
                if error.code != 404:
                    raise


class S3(Service):
    """versitygw, which checks every signature, over a directory."""
    name = "versitygw"
    type = "aws"
    server_env = {"ROOT_ACCESS_KEY": KEY_ID, "ROOT_SECRET_KEY": SECRET}
    env = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1",
           "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true", "AWSACCESSKEYID": KEY_ID,
           "AWSSECRETACCESSKEY": SECRET}

    def command(self):
        return [self.bench.peers / "versitygw", "--port", f"127.0.0.1:{self.port}", "--quiet", "posix", self.data]

    def fill_before(self, is_new):
        if is_new:
            self.make_small({"user.etag": hashlib.md5(b"x").hexdigest().encode()})

    def fill_after(self, is_new):
        for key, path in self.bench.objects() if is_new else ():
            self.upload(key, path)

    def url_of(self, key, method="GET"):
        import botocore.session  # Debian's python3-botocore
        from botocore.config import Config
        client = botocore.session.get_session().create_client(
            "s3", endpoint_url=self.url, region_name="us-east-1", aws_access_key_id=KEY_ID, aws_secret_access_key=SECRET,
            config=Config(s3={"addressing_style": "path"}, signature_version="s3v4"))
        verb = {"GET": "get_object", "PUT": "put_object", "HEAD": "head_object", "DELETE": "delete_object"}[method]
        return client.generate_presigned_url(verb, Params={"Bucket": BUCKET, "Key": key})

    def is_there(self, key, size):
        try:
            with OPEN(urllib.request.Request(self.url_of(key, "HEAD"), method="HEAD"), timeout=60) as answer:
                return int(answer.headers["Content-Length"]) == size
        except urllib.error.HTTPError:
            return False

    def remove_tree(self, prefix):
        shutil.rmtree(self.data / BUCKET / prefix, ignore_errors=True)

    def count(self, prefix, size):
        try:
            return sum(entry.stat().st_size == size for entry in os.scandir(self.data / BUCKET / prefix))
        except FileNotFoundError:
            return 0


class GCS(Service):
    """fake-gcs-server, in memory. What it needs to take up keys, and to list them, grows with their square."""
    name = "fake-gcs-server"
    type = "google"
    keys_max = 2000

    @property
    def env(self):
        return {"STORAGE_EMULATOR_HOST": self.url, "GOOGLE_CLOUD_PROJECT": "bench", "NO_GCE_CHECK": "true"}

    def command(self):
        return [self.bench.peers / "fake-gcs-server", "-scheme", "http", "-host", "127.0.0.1", "-port", str(self.port),
                "-public-host", urllib.parse.urlsplit(self.url).netloc, "-external-url", self.url, "-backend", "memory",
                "-data", self.data, "-log-level", "error"]

    def fill_before(self, is_new):
        if not is_new:
            return
        self.make_small({})
        for key, path in self.bench.objects():
            (self.data / BUCKET / key).parent.mkdir(exist_ok=True)
            os.link(path, self.data / BUCKET / key)

    def fill_after(self, is_new):
        pass

    def url_of(self, key, method="GET"):
        name = urllib.parse.quote(key, safe="")
        if method == "PUT":
            return f"{self.url}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={name}"
        return f"{self.url}/storage/v1/b/{BUCKET}/o/{name}" + ("?alt=media" if method == "GET" else "")

    def curl_upload(self, key, path):
        return [*super().curl_upload(key, path), "-X", "POST"]

    def is_there(self, key, size):
        try:
            with OPEN(self.url_of(key, "HEAD"), timeout=60) as answer:
                return int(json.load(answer)["size"]) == size
        except urllib.error.HTTPError:
            return False

    def objects_below(self, prefix):
        found, page = [], ""
        while page is not None:
            query = urllib.parse.urlencode({"prefix": prefix + "/", "pageToken": page, "maxResults": 1000})
            with OPEN(f"{self.url}/storage/v1/b/{BUCKET}/o?{query}", timeout=60) as answer:
                told = json.load(answer)
            found += told.get("items", [])
            page = told.get("nextPageToken")
        return found

    def remove_tree(self, prefix):
        self.remove(item["name"] for item in self.objects_below(prefix))

    def count(self, prefix, size):
        return sum(int(item["size"]) == size for item in self.objects_below(prefix))


class Keys(S3):
    """A list of --keys keys without objects (keys.py)."""
    name = "keys"

    def __init__(self, bench, is_far):
        self.bench, self.is_far = bench, is_far
        self.n_many, self.n_tree = bench.n_keys, 0
        self.processes = [subprocess.Popen([Path(__file__).parent / "keys.py", str(bench.n_keys)], stdin=subprocess.PIPE,
                                           stdout=subprocess.PIPE, text=True)]
        self.url = f"http://127.0.0.1:{int(self.processes[0].stdout.readline())}"

    def __enter__(self):
        return self


SERVICES = {"s3": S3, "gcs": GCS, "keys": Keys}
