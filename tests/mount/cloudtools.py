# SPDX-License-Identifier: MIT
"""Services that others wrote (contrib/peers), each with a bucket on a mount, and another client to look at it."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
PEERS = Path(os.environ.get("TRAINFS_PEERS", TESTS.parent / "build-check/peers"))
BUCKET = "mount-tests"

# All that the bucket holds as the service's own library reads it: {key: sha256}.
CONTENTS = {
    "aws": """
import boto3, hashlib, json, os, sys
from botocore.config import Config
s3 = boto3.client("s3", endpoint_url=os.environ["TRAINFS_PEER"], config=Config(s3={"addressing_style": "path"}))
rows = [row["Key"] for page in s3.get_paginator("list_objects_v2").paginate(Bucket=sys.argv[1])
        for row in page.get("Contents", [])]
read = {key: s3.get_object(Bucket=sys.argv[1], Key=key)["Body"].read() for key in rows}
assert not s3.list_multipart_uploads(Bucket=sys.argv[1]).get("Uploads")
""", "google": """
import hashlib, json, sys
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
client = storage.Client(project="trainfs-tests", credentials=AnonymousCredentials())
read = {blob.name: blob.download_as_bytes(raw_download=True) for blob in client.list_blobs(sys.argv[1])}
"""}
TELL = "json.dump({key: hashlib.sha256(data).hexdigest() for key, data in read.items()}, sys.stdout)"
STAY = "import json, os; print(json.dumps(dict(os.environ)), flush=True); input()"


class Service:
    """A server that runs until close(); `env` is what a client of it needs."""

    def __init__(self, name):
        self.process = subprocess.Popen([TESTS / "peer", name, sys.executable, "-c", STAY], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, env=os.environ | {"TRAINFS_PEERS": str(PEERS)}, text=True)
        self.env = json.loads(self.process.stdout.readline())
        self.type = self.env["TRAINFS_PEER_TYPE"]

    def client(self, *args, timeout=250):
        done = subprocess.run([self.env["TRAINFS_PEER_PYTHON"], *args], env=self.env, stdout=subprocess.PIPE, text=True,
                              timeout=timeout, check=True)
        return json.loads(done.stdout)

    def contents(self):
        return self.client("-c", CONTENTS[self.type] + TELL, BUCKET)

    def close(self):
        self.process.communicate("\n", timeout=30)


@pytest.fixture(params=["moto", "versitygw", "fake-gcs-server"])
def service(request):
    if not os.access(PEERS / request.param, os.R_OK):
        pytest.skip(f"no {request.param}: run contrib/peers")
    made = Service(request.param)
    yield made
    made.close()


@pytest.fixture
def options():
    """Arguments of mount, for tests that need some."""
    return []


@pytest.fixture
def mounted(service, mount, world, options):
    """mounted() mounts the remote `far`, again and again if it must."""
    wanted = ("AWS_", "GOOGLE_", "STORAGE_EMULATOR_", "NO_GCE_CHECK")
    world.env.update({name: value for name, value in service.env.items() if name.startswith(wanted)})
    remote = {"type": service.type, **json.loads(service.env["TRAINFS_PEER_OPTIONS"])}
    world.write_config(f"remotes:\n  far: {json.dumps(remote)}\n")
    return lambda: mount(args=options)


@pytest.fixture
def bucket(mounted):
    """A new bucket of the remote `far`, mounted."""
    made = mounted() / "far/buckets" / BUCKET
    os.mkdir(made)
    return made
