# SPDX-License-Identifier: MIT
"""What must be survived, on mounts of services that others wrote (contrib/peers) behind a proxy that fails as networks
and services do (faulty_proxy.py). What is at the service is looked at by its own library, which does not go through it."""
import errno
import hashlib
import json
import os
import random
import signal
import subprocess
from urllib.parse import urlsplit

import pytest

from cloudtools import PEERS, Service
from conftest import wait_for
from faulty_proxy import FaultyProxy, Hold, alter_answer, answer, cut_answer, cut_request, drip, lose_answer, transparent
from jobtools import Caller, stats

AWAY = (errno.EHOSTUNREACH, errno.EIO, errno.ETIMEDOUT)

# The service's own library: a line of JSON [verb, argument...] is answered by a line.
OTHER = {"aws": """
import boto3, json, os
from botocore.config import Config
s3 = boto3.client("s3", endpoint_url=os.environ["TRAINFS_PEER"], config=Config(s3={"addressing_style": "path"}))
def put(key, path): s3.put_object(Bucket=B, Key=key, Body=open(path, "rb").read())
def get(key): return s3.get_object(Bucket=B, Key=key)["Body"].read()
def keys(): return [row["Key"] for row in s3.list_objects_v2(Bucket=B).get("Contents", [])]
def uploads(): return len(s3.list_multipart_uploads(Bucket=B).get("Uploads") or [])
def use(name):
    global B
    B = name
    s3.create_bucket(Bucket=B)
""", "google": """
import os
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
client = storage.Client(project="trainfs-tests", credentials=AnonymousCredentials())
def put(key, path): bucket.blob(key).upload_from_filename(path)
def get(key): return bucket.blob(key).download_as_bytes(raw_download=True)
def keys(): return [blob.name for blob in client.list_blobs(B)]
def uploads(): return 0
def use(name):
    global B, bucket
    B, bucket = name, client.create_bucket(name)
"""}
SERVE = """
import hashlib, json, sys
print("{}", flush=True)
for line in sys.stdin:
    verb, *args = json.loads(line)
    try:
        done = globals()[verb](*args)
    except Exception as e:
        done = repr(e)
    print(json.dumps(hashlib.sha256(done).hexdigest() if isinstance(done, bytes) else done), flush=True)
"""


class Other:
    def __init__(self, service):
        program = [service.env["TRAINFS_PEER_PYTHON"], "-c", OTHER[service.type] + SERVE]
        self.process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=service.env, text=True)
        self.process.stdout.readline()

    def __getattr__(self, verb):
        def call(*args):
            self.process.stdin.write(json.dumps([verb, *map(str, args)]) + "\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())
        return call

    def close(self):
        self.process.communicate(timeout=30)


class Far:
    """The bucket as a directory `b` of a mount `m`; `proxy` between it and the service, `other` beside it."""

    def __init__(self, mount, world, service, other):
        self.make_mount, self.world, self.other = mount, world, other
        self.type = service.type
        self.bucket = "b" + os.urandom(8).hex()
        assert not self.other.use(self.bucket)
        self.proxy = FaultyProxy(urlsplit(service.env["TRAINFS_PEER"]).port, keeps_host=self.type == "aws")
        self.n_put = 0
        wanted = ("AWS_", "GOOGLE_CLOUD", "NO_GCE_CHECK")
        self.world.env.update({name: value for name, value in service.env.items() if name.startswith(wanted)})
        if self.type == "google":
            self.world.env["STORAGE_EMULATOR_HOST"] = self.proxy.url

    def mount(self, **options):
        if self.type == "aws":
            options = {"endpoint": self.proxy.url, **options}
        options = {"type": self.type, "bucket": self.bucket, **options}
        self.world.write_config(f"remotes:\n  far: {json.dumps(options)}\n")
        self.m = self.make_mount()
        self.b = self.m / "far/buckets" / self.bucket
        return self.m

    def killed(self):
        """The daemon is, and mounted anew."""
        self.m.kill()
        self.m.force_down()
        self.proxy.well()
        self.mount()

    def put(self, key, data):
        """By somebody else."""
        self.n_put += 1
        path = self.world.root / f"put.{self.n_put}"
        path.write_bytes(data)
        assert not self.other.put(key, path)
        return data

    def in_parts(self):
        """More than one request takes."""
        return pattern((40 if self.type == "aws" else 88) << 20)

    def has(self, key, data):
        return self.other.get(key) == hashlib.sha256(data).hexdigest()

    def refresh(self):
        (self.m / ".trainfs/ctl").write_text("refresh\n")

    def pending(self):
        return sorted(p for p in self.world.data.rglob("pending/*/*") if not p.suffix)

    # requests, as the services have them
    def reads(self, key):
        return f"GET .*{key}" + (r"(\?(?!list-type)|$)" if self.type == "aws" else r".*alt=media")

    def lists(self):
        return r"GET .*[?&]list-type=2" if self.type == "aws" else r"GET .*/o(\?|$)"

    def writes(self):
        """Bytes of objects."""
        return "PUT" if self.type == "aws" else "(PUT|POST) .*upload"


@pytest.fixture(scope="module", params=["versitygw", "fake-gcs-server"])
def peer(request):
    """A service, and its own library."""
    if not os.access(PEERS / request.param, os.R_OK):
        pytest.skip(f"no {request.param}: run contrib/peers")
    service = Service(request.param)
    other = Other(service)
    yield service, other
    other.close()
    service.close()


@pytest.fixture
def far(peer, mount, world):
    made = Far(mount, world, *peer)
    made.mount()
    yield made
    made.proxy.close()  # what hangs ends, so that the mount can


def pattern(n, seed=1):
    return random.Random(seed).randbytes(n)


def err_of(call, *args):
    with pytest.raises(OSError) as caught:
        call(*args)
    return caught.value.errno


def saver(far, name, data):
    """Another process that does as save()."""
    path = far.world.root / "saved"
    path.write_bytes(data)
    return Caller("data = open(argv[0], 'rb').read()\nf = os.open(argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)\n"
                  "while data: data = data[os.write(f, data):]\nos.close(f)", path, far.b / name)


def save(path, data):
    with open(path, "wb", buffering=0) as f:
        f.write(data)


# ---- reading

def test_the_network_goes_while_a_file_is_read(far):
    data = far.put("big", pattern(24 << 20))
    with open(far.b / "big", "rb", buffering=0) as f:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        assert f.read(100000) == data[:100000]
        assert os.listdir(far.b) == ["big"]
        far.proxy.go_away()
        assert os.pread(f.fileno(), 100000, 0) == data[:100000]
        assert err_of(os.pread, f.fileno(), 4096, 20 << 20) in AWAY
        assert os.listdir(far.b) == ["big"]
        assert "EHOSTUNREACH" in far.m.errors()
        far.proxy.come_back()
        assert wait_for(lambda: read_or_none(f, 4096, 22 << 20)) == data[22 << 20:][:4096]
    assert (far.b / "big").read_bytes() == data


def read_or_none(f, n, at):
    try:
        return os.pread(f.fileno(), n, at)
    except OSError:
        return None


def test_an_answer_ends_early(far):
    """Once in a while: nobody sees it. Always: an error, and never fewer bytes."""
    data = far.put("f", pattern(3 << 20))
    far.proxy.on(far.reads("f"), cut_answer(100000), times=1)
    assert (far.b / "f").read_bytes() == data
    data = far.put("g", pattern(200000, 2))
    far.refresh()
    far.proxy.on(far.reads("g"), cut_answer(701))
    assert err_of((far.b / "g").read_bytes) in AWAY
    assert f"far/buckets/{far.bucket}/g" in far.m.errors()
    far.proxy.well()
    assert wait_for(lambda: read_all_or_none(far.b / "g")) == data


def read_all_or_none(path):
    try:
        return path.read_bytes()
    except OSError:
        return None


@pytest.mark.parametrize("size", [100, 900000, 20 << 20])
def test_a_byte_is_altered_on_its_way(far, size):
    """The end is not given, and the next who opens it sees nothing of what came."""
    data = far.put("big", pattern(size))
    far.proxy.on(far.reads("big"), alter_answer(size // 2))
    with open(far.b / "big", "rb", buffering=0) as f:
        assert err_of(read_to_the_end, f) == errno.EIO
    assert "the bytes that came have the CRC32" in far.m.errors()
    far.proxy.well()
    assert (far.b / "big").read_bytes() == data
    assert far.proxy.count("HEAD .*big") <= (2 if far.type == "aws" else 0)


def read_to_the_end(f):
    while f.read(1 << 20):
        pass


def test_an_object_changes_while_it_is_read(far):
    data = far.put("f", pattern(24 << 20))
    with open(far.b / "f", "rb", buffering=0) as f:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        assert f.read(4096) == data[:4096]
        new = far.put("f", pattern(24 << 20, 2))
        assert err_of(os.pread, f.fileno(), 4096, 20 << 20) == errno.ESTALE
    far.refresh()
    assert (far.b / "f").read_bytes() == new


def test_a_byte_a_second(far):
    """The read ends by its limit, beside it all goes on."""
    far.put("slow", pattern(100000))
    far.put("f", b"x")
    assert sorted(os.listdir(far.b)) == ["f", "slow"]
    far.proxy.on(far.reads("slow"), drip)
    caller = Caller("open(argv[0], 'rb').read()", far.b / "slow")
    wait_for(lambda: far.proxy.count(far.reads("slow")))
    assert (far.b / "f").read_bytes() == b"x"
    save(far.b / "g", b"y")
    assert far.has("g", b"y")
    assert caller.process.poll() is None
    assert caller.result()[-1] in map(str, AWAY)


# ---- lists

def test_a_storm_of_429_and_503(far):
    """Nothing fails that could wait."""
    data = far.put("f", pattern(3 << 20))
    for asked, status in ((far.lists(), 503), (far.reads("f"), 429), (far.writes(), 503)):
        far.proxy.on(asked, answer(status, "<Error><Code>SlowDown</Code></Error>"), times=3)
    assert os.listdir(far.b) == ["f"]
    assert (far.b / "f").read_bytes() == data
    save(far.b / "g", b"new")
    assert far.has("g", b"new")
    assert [rule[2] for rule in far.proxy.rules] == [0, 0, 0], "all of them were met"
    wait_for(lambda: far.pending() == [])


def page(far, keys, token, prefixes=()):
    """A page of a listing, as the service would give it."""
    if far.type == "aws":
        rows = "".join(f"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                       "<ETag>&quot;e&quot;</ETag><Size>1</Size></Contents>" for key in keys)
        more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>" if token else \
            "<IsTruncated>false</IsTruncated>"
        return answer(200, '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
                      f"<Name>{far.bucket}</Name><EncodingType>url</EncodingType><Delimiter>/</Delimiter>{more}{rows}" +
                      "".join(f"<CommonPrefixes><Prefix>{prefix}</Prefix></CommonPrefixes>" for prefix in prefixes) +
                      "</ListBucketResult>",
                      Content_Type="application/xml")
    rows = [{"kind": "storage#object", "name": key, "bucket": far.bucket, "generation": "1", "size": "1",
             "updated": "2026-01-01T00:00:00.000Z", "timeCreated": "2026-01-01T00:00:00.000Z"} for key in keys]
    more = {"nextPageToken": token} if token else {}
    return answer(200, json.dumps({"kind": "storage#objects", "items": rows, "prefixes": list(prefixes), **more}),
                  Content_Type="application/json")


def test_a_listing_that_repeats_a_token_for_ever(far):
    far.proxy.on(far.lists(), page(far, ["a"], "same"))
    before = far.proxy.count(far.lists())
    assert err_of(os.listdir, far.b) == errno.EIO
    assert far.proxy.count(far.lists()) - before < 10
    assert "would never end" in far.m.errors()
    far.proxy.well()
    far.put("f", b"x")
    assert wait_for(lambda: list_or_none(far.b)) == ["f"]


def list_or_none(directory):
    try:
        return os.listdir(directory)
    except OSError:
        return None


def test_keys_that_cannot_be_names(far):
    long = "l" * 256
    newline = "new\nline" if far.type == "google" else "new%0Aline"
    far.proxy.on(far.lists(), page(far, ["..", "good", long, newline], "", ["../", "./", "/", "a/"]))
    assert sorted(os.listdir(far.b)) == ["a", "good", "new\nline"]
    errors = far.m.errors()
    for key in ("../", "./", "/", "..", long):
        assert f"\tfar/buckets/{far.bucket}/{key}\t" in errors, key
    assert err_of(os.stat, far.b / long) == errno.ENAMETOOLONG


# ---- writing

def cut_second_chunk(proxy, cut):
    """fake-gcs-server takes the question how much is there for the end: it is answered as Cloud Storage does."""
    stored = []

    def first(connection, request):
        stored.append(request.n_body)
        transparent(connection, request)

    def ask(connection, request):
        answer(200, X_HTTP_Status_Code_Override="308", Range=f"bytes=0-{stored[0] - 1}")(connection, request)
    for act in (first, cut, ask):
        proxy.on("PUT .*upload_id", act, times=1)


def test_the_network_goes_during_an_upload(far):
    """Nobody sees a part of it, and what was sent already is not sent again when it is back."""
    old, data = far.put("big", b"old"), far.in_parts()
    cut = cut_request(1 << 20, far.proxy.go_away)
    if far.type == "aws":
        far.proxy.on("PUT .*partNumber=[2-9]", cut, times=1)
    else:
        cut_second_chunk(far.proxy, cut)
    caller = saver(far, "big", data)
    wait_for(lambda: far.proxy.listener is None, what="the network is away")
    assert far.has("big", old)
    far.proxy.come_back()
    assert caller.result() == ["0"]
    wait_for(lambda: far.has("big", data))
    assert far.proxy.n_body_bytes < 2 * len(data) - (8 << 20)
    assert far.proxy.count("POST .*(uploads|uploadType=resumable)") == 1
    assert far.other.uploads() == 0
    wait_for(lambda: far.pending() == [])


def test_a_save_after_a_failed_one_wins(far):
    old = far.put("f", b"old")
    assert (far.b / "f").read_bytes() == old
    far.proxy.go_away()
    assert err_of(save, far.b / "f", b"older") in AWAY
    assert far.has("f", old) and [p.read_bytes() for p in far.pending()] == [b"older"]
    assert (far.b / "f").read_bytes() == b"older"
    far.proxy.come_back()
    save(far.b / "f", b"newer")
    assert far.has("f", b"newer")
    wait_for(lambda: far.pending() == [])
    far.killed()
    assert (far.b / "f").read_bytes() == b"newer" and far.has("f", b"newer")


def test_a_failed_save_is_delivered_when_the_network_is_back(far):
    assert os.listdir(far.b) == []
    far.proxy.go_away()
    assert err_of(save, far.b / "f", b"kept") in AWAY
    far.proxy.come_back()
    wait_for(lambda: far.pending() == [], 60, "it is delivered")
    assert far.has("f", b"kept")


def test_an_upload_whose_answer_is_lost(far):
    """It is there already when it is sent again: no conflict."""
    old = far.put("f", b"old")
    assert (far.b / "f").read_bytes() == old
    far.proxy.on(far.writes(), lose_answer, times=1)
    save(far.b / "f", b"new")
    assert far.has("f", b"new") and (far.b / "f").read_bytes() == b"new"
    assert "changed by somebody else" not in far.m.errors()


# ---- kill -9

def test_killed_while_writing(far):
    old = far.put("f", b"old")
    f = open(far.b / "f", "wb", buffering=0)
    f.write(b"half of it")
    far.killed()
    assert (far.b / "f").read_bytes() == old and far.has("f", old)
    kept = far.pending()
    assert [p.read_bytes() for p in kept] == [b"half of it"] and str(kept[0]) in far.m.errors()


@pytest.mark.parametrize("size", [5, 20 << 20], ids=["small", "big"])
def test_killed_while_uploading(far, size):
    old, data = far.put("f", b"old"), pattern(size)
    hold = Hold(far.proxy)
    far.proxy.on(far.writes(), hold)
    caller = saver(far, "f", data)
    wait_for(lambda: hold.n and is_complete(far))
    assert far.has("f", old)
    far.m.kill()
    far.m.force_down()
    caller.kill()
    far.proxy.well()
    far.proxy.go_away()  # what is held gets nowhere
    far.proxy.come_back()
    far.mount()
    wait_for(lambda: far.has("f", data), what="the next mount sends it")
    wait_for(lambda: far.pending() == [])
    assert (far.b / "f").read_bytes() == data and far.other.keys() == ["f"]
    wait_for(lambda: far.other.uploads() == 0, what="nothing half sent is left")


@pytest.mark.parametrize("is_closed", [True, False], ids=["closed", "open"])
def test_killed_with_a_part_at_the_service(far, is_closed):
    """What was closed is sent by the next mount, of the rest the bytes are kept; the half that was sent stays nowhere."""
    old, data = far.put("f", b"old"), far.in_parts()
    hold = Hold(far.proxy)
    far.proxy.on("PUT", transparent, times=1)
    far.proxy.on("PUT", hold)
    if is_closed:
        caller = saver(far, "f", data)
        wait_for(lambda: hold.n and is_complete(far))
    else:
        f = open(far.b / "f", "wb", buffering=0)
        f.write(data)
        wait_for(lambda: hold.n)
    wait_for(lambda: sent_bytes(far) >= 8 << 20, what="a part is there")
    assert far.has("f", old) and far.other.uploads() == (far.type == "aws")
    far.m.kill()
    far.m.force_down()
    if is_closed:
        caller.kill()
    far.proxy.well()
    far.proxy.go_away()
    far.proxy.come_back()
    far.mount()
    if is_closed:
        wait_for(lambda: far.has("f", data), what="the next mount sends it")
        wait_for(lambda: far.pending() == [])
    else:
        kept = far.pending()
        assert [p.read_bytes() for p in kept] == [data] and str(kept[0]) in far.m.errors()
        assert far.has("f", old)
    assert os.listdir(far.b) == ["f"] == far.other.keys()
    assert (far.b / "f").read_bytes() == (data if is_closed else old)
    wait_for(lambda: far.other.uploads() == 0, what="nothing half sent is left")


@pytest.mark.parametrize("is_refused", [False, True], ids=["at_once", "later"])
def test_killed_after_an_unlink_while_uploading(far, is_refused):
    """What the service makes of it nevertheless is removed by the next mount, unless somebody has written it anew."""
    assert os.listdir(far.b) == []
    hold = Hold(far.proxy)
    far.proxy.on(far.writes(), hold)
    callers = [saver(far, name, b"unwanted") for name in ("f", "g")]
    wait_for(lambda: hold.n == 2 and is_complete(far))
    for name in ("f", "g"):
        os.unlink(far.b / name)
    assert os.listdir(far.b) == []
    far.m.kill()
    far.m.force_down()
    for caller in callers:
        caller.kill()
    hold.let_go()
    wait_for(lambda: far.other.keys() == ["f", "g"], what="the service has got them late")
    far.put("g", b"theirs")
    far.proxy.well()
    if is_refused:
        far.proxy.on(r"(HEAD|GET) .*/[fg](\?|$)", answer(403), times=2)
    far.mount()
    wait_for(lambda: far.other.keys() == ["g"], 60, what="the next mount has removed it")
    assert far.has("g", b"theirs") and os.listdir(far.b) == ["g"]
    wait_for(lambda: list(far.world.data.rglob("pending/*/*")) == [])
    assert [rule[2] for rule in far.proxy.rules] == [0] * is_refused


def sent_bytes(far):
    rows = [line.split("\t") for line in (far.m / "far/transfers.tsv").read_text().splitlines()[1:]]
    return sum(int(row[3]) for row in rows)


def is_complete(far):
    return any(json.loads(p.read_text())["complete"] for p in far.world.data.rglob("pending/*/*.json"))


def test_killed_while_renaming(far):
    """Between the copy and the deletion at the service: the content is whole under one of the names, or both."""
    data = far.put("f", pattern(100000))
    assert (far.b / "f").exists()
    hold = Hold(far.proxy)
    far.proxy.on("DELETE", hold)
    caller = Caller("os.rename(argv[0], argv[1])", far.b / "f", far.b / "g")
    wait_for(lambda: hold.n or caller.process.poll() is not None)
    wait_for(lambda: hold.n, what="the old name is about to be deleted")
    far.m.kill()
    far.m.force_down()
    caller.kill()
    far.proxy.well()
    far.proxy.go_away()
    far.proxy.come_back()
    far.mount()
    assert "g" in os.listdir(far.b) and (far.b / "g").read_bytes() == data and far.has("g", data)
    wait_for(lambda: set(far.other.keys()) <= {"f", "g"})


# ---- room, credentials, Ctrl-C

@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small tmpfs")
def test_no_room_for_a_spool(far):
    small = far.world.root / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", small], check=True)
    try:
        far.m.unmount()
        far.mount(state_dir=str(small / "far"))
        old = far.put("f", b"old")
        assert err_of(save_all, far.b / "f", bytes(12 << 20)) == errno.ENOSPC
        assert far.has("f", old)
        os.unlink(far.b / "f")
        save(far.b / "g", b"small")
        assert far.has("g", b"small") and far.other.keys() == ["g"]
        far.m.unmount()
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def save_all(path, data):
    with open(path, "wb") as f:
        f.write(data)


def aws_login(far):
    """A mount by a profile whose program gives the keys as long as somebody is logged in."""
    keys = far.world.root / "keys"
    text = json.dumps({"Version": 1, "Expiration": "2099-01-01T00:00:00Z",
                       "AccessKeyId": far.world.env.pop("AWS_ACCESS_KEY_ID"),
                       "SecretAccessKey": far.world.env.pop("AWS_SECRET_ACCESS_KEY")})
    keys.write_text(text)
    (far.world.home / ".aws").mkdir()
    (far.world.home / ".aws/config").write_text(f"[profile team]\ncredential_process = cat {keys}\n")
    far.mount(profile="team")

    def end():
        keys.unlink()
        far.proxy.on("", answer(403, "<Error><Code>ExpiredToken</Code><Message>It has expired.</Message></Error>"))
    return end, lambda: keys.write_text(text), "credential_process of profile team"


def google_login(far):
    """A mount by a user's login, whose tokens the proxy gives."""
    keys = far.world.root / "keys"
    keys.write_text(json.dumps({"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}))
    del far.world.env["STORAGE_EMULATOR_HOST"]
    far.world.env["GOOGLE_APPLICATION_CREDENTIALS"] = str(keys)

    def log_in():
        far.proxy.on("POST .*/token", answer(200, '{"access_token": "t", "expires_in": 3600, "token_type": "Bearer"}'))

    def end():
        far.proxy.well()
        far.proxy.on("POST .*/token", answer(400, '{"error": "invalid_grant", "error_description": "It has expired."}'))
        far.proxy.on("", answer(401, '{"error": {"code": 401, "message": "Invalid Credentials"}}'))
    log_in()
    far.mount(endpoint=far.proxy.url, endpoints={"oauth2": far.proxy.url})
    return end, log_in, "gcloud auth application-default login"


def test_credentials_expire(far):
    """EACCES with what renews them; when that was done all goes on, without a new mount."""
    far.m.unmount()
    end, log_in, mended_by = {"aws": aws_login, "google": google_login}[far.type](far)
    save(far.b / "f", b"one")
    assert far.has("f", b"one")
    end()
    assert err_of(save, far.b / "f", b"two") == errno.EACCES
    assert mended_by in far.m.errors()
    assert far.has("f", b"one")
    far.proxy.well()
    log_in()
    save(far.b / "f", b"three")
    assert far.has("f", b"three")


@pytest.mark.parametrize("call", ["open", "close"])
def test_ctrl_c_of_a_call_that_waits(far, call):
    far.put("f", b"old")
    hold = Hold(far.proxy)
    if call == "open":
        far.proxy.on("(GET|HEAD)", hold)
        caller = Caller("open(argv[0], 'rb').read()", far.b / "f")
        wait_for(lambda: hold.n)
    else:
        assert os.stat(far.b / "f").st_size == 3
        far.proxy.on(far.writes(), hold)
        caller = Caller("f = os.open(argv[0], os.O_WRONLY | os.O_TRUNC)\nos.write(f, b'new')\nos.close(f)", far.b / "f")
        wait_for(lambda: hold.n and is_complete(far))
    caller.process.send_signal(signal.SIGINT)
    assert caller.process.wait(12) == -signal.SIGINT
    caller.kill()
    hold.let_go()
    wait_for(lambda: stats(far.m, "", "parked") == 0)
    if call == "close":  # what was closed is delivered all the same
        wait_for(lambda: far.has("f", b"new"))
        wait_for(lambda: far.pending() == [])
    else:
        assert wait_for(lambda: read_all_or_none(far.b / "f")) == b"old"
