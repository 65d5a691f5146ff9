# SPDX-License-Identifier: MIT
"""Buckets at services that others wrote (contrib/peers), on a mount with a user's tools, beside another client.

TRAINFS_BIG_MIB is the size of the big file, 40 unless told. By hand: 6144, which no single request may send, at versitygw,
with $TMPDIR of 20 GB on a file system that has extended attributes of 64 KiB (xfs; ext4 with ea_inode): it keeps the sizes
of all parts in one. (fake-gcs-server keeps all of it in memory.)
"""
import errno
import hashlib
import os
import subprocess
import time

import pytest

from cloudtools import BUCKET, TESTS
from cloudtools import bucket, mounted, options, service  # noqa: F401, fixtures
from jobtools import is_sanitized


def digests(directory):
    """{path below it: sha256} of every file."""
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(directory.rglob("*")) if path.is_file()}


def without_markers(contents):
    return {key: digest for key, digest in contents.items() if not key.endswith("/")}


def tree(directory):
    """Small and empty files, names of many kinds, one file that is sent in parts."""
    for name, data in {"a.txt": b"a\n", "empty": b"", "deep/er/b.txt": b"b\n", "deep/two words": b"2", "ü+%=&?#": b"odd",
                       "big.bin": os.urandom(20_000_003)}.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
    return directory


@pytest.mark.time_limit(240)
def test_what_tools_write_is_what_others_read(service, bucket, tmp_path):
    source = tree(tmp_path / "source")
    sh = "cp -r {0}/. . && echo more >> a.txt && sed -i s/b/B/ deep/er/b.txt && mv deep moved && mkdir kept && " \
         "mv empty kept/ && rm 'moved/two words' && tar cf - a.txt kept | (mkdir out && tar xf - -C out) && " \
         "dd if=/dev/zero of=big.bin bs=1 seek=7 count=3 conv=notrunc status=none && truncate -s 10000000 big.bin"
    subprocess.run(["sh", "-ec", sh.format(source)], cwd=bucket, check=True, timeout=250)
    assert abs(time.time() - (bucket / "big.bin").stat().st_mtime) < 240  # of parts; S3 has not told it
    there = digests(bucket)
    assert sorted(there) == sorted(["a.txt", "big.bin", "kept/empty", "moved/er/b.txt", "out/a.txt", "out/kept/empty", "ü+%=&?#"])
    assert (bucket / "a.txt").read_bytes() == b"a\nmore\n" and (bucket / "moved/er/b.txt").read_bytes() == b"B\n"
    big = bytearray((source / "big.bin").read_bytes()[:10_000_000])
    big[7:10] = bytes(3)
    assert (bucket / "big.bin").read_bytes() == big
    assert without_markers(service.contents()) == there


BIG_MIB = int(os.environ.get("TRAINFS_BIG_MIB", "40"))
# The object is hashed as it comes: it may be larger than memory.
HASH = {"aws": """
import boto3, hashlib, json, os, sys
from botocore.config import Config
s3 = boto3.client("s3", endpoint_url=os.environ["TRAINFS_PEER"], config=Config(s3={"addressing_style": "path"}))
body = s3.get_object(Bucket=sys.argv[1], Key=sys.argv[2])["Body"]
""", "google": """
import hashlib, json, sys
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
client = storage.Client(project="trainfs-tests", credentials=AnonymousCredentials())
body = client.bucket(sys.argv[1]).blob(sys.argv[2]).open("rb")
"""}
HASH_ALL = """
digest = hashlib.sha256()
while data := body.read(1 << 20):
    digest.update(data)
json.dump(digest.hexdigest(), sys.stdout)
"""


def write_big(path):
    """No MiB of it is like another. Its digest."""
    digest, block = hashlib.sha256(), os.urandom((1 << 20) - 8)
    with open(path, "wb", buffering=0) as f:
        for i in range(BIG_MIB):
            for data in (i.to_bytes(8, "big"), block):
                digest.update(data)
            f.write(i.to_bytes(8, "big") + block)
    return digest.hexdigest()


@pytest.mark.time_limit(120 + BIG_MIB)
def test_a_big_file(service, mounted):
    m = mounted()
    path = m / "far/buckets" / BUCKET / "big"
    path.parent.mkdir()
    times = [time.monotonic()]
    digest = write_big(path)
    times.append(time.monotonic())
    written = peak_kb(m)
    assert path.stat().st_size == BIG_MIB << 20
    m.unmount()
    m = mounted()
    times.append(time.monotonic())
    done = subprocess.run(["sha256sum", path], stdout=subprocess.PIPE, text=True, check=True)
    times.append(time.monotonic())
    read = peak_kb(m)
    assert done.stdout.split()[0] == digest
    assert service.client("-c", HASH[service.type] + HASH_ALL, BUCKET, "big", timeout=120 + BIG_MIB) == digest
    print(f"{BIG_MIB} MiB at {service.type}: written in {times[1] - times[0]:.1f} s, peak {written >> 10} MiB; "
          f"read in {times[3] - times[2]:.1f} s, peak {read >> 10} MiB")
    if not is_sanitized(m.world.program):
        assert max(written, read) < 256 << 10


def peak_kb(m):
    with open(f"/proc/{m.pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM:"))


@pytest.mark.time_limit(240)
def test_renames(service, bucket):
    os.mkdir(bucket / "d")
    for i in range(101):
        (bucket / f"d/{i}").write_text(str(i))
    with pytest.raises(OSError) as caught:
        os.rename(bucket / "d", bucket / "e")
    assert caught.value.errno == errno.EXDEV
    subprocess.run(["sh", "-ec", "mv d e; rm e/100 e/99; mv e f; sync f; echo old > over; mv f/98 over; sync over; mv f/97 f/96 .; "
                    "echo x > f/new; mv f/new f/newer; mv f g; sync g"], cwd=bucket, check=True, timeout=200)
    wanted = {**{f"g/{i}": str(i) for i in range(96)}, "g/newer": "x\n", "over": "98", "96": "96", "97": "97"}
    wanted = {key: hashlib.sha256(text.encode()).hexdigest() for key, text in wanted.items()}
    assert digests(bucket) == wanted and without_markers(service.contents()) == wanted
    assert sorted(os.listdir(bucket)) == ["96", "97", "g", "over"]


def attributes(path):
    return {name.removeprefix("user."): os.getxattr(path, name).decode() for name in os.listxattr(path)}


@pytest.mark.time_limit(240)
@pytest.mark.parametrize("options", [["-o", "xattr"]])
def test_what_others_write_is_what_tools_read(service, bucket):
    told = service.client(TESTS / "backend" / service.type / "client.py", "make", BUCKET)
    (bucket.parent.parent.parent / ".trainfs/ctl").write_text("refresh\n")
    assert len(os.listdir(bucket / "many")) == 1100  # more than a page
    found = {name: digest for name, digest in digests(bucket).items() if not name.startswith("many/")}
    assert found == {key: facts[2] for key, facts in told.items() if not key.endswith("/")}
    version_name = {"aws": "etag", "google": "generation"}[service.type]
    for key, (version, _, _, content_type, metadata) in told.items():
        wanted = {version_name: version, "content-type": content_type, "storage-class": "STANDARD"}
        wanted |= {f"meta.{name}": value for name, value in metadata.items()}
        assert attributes(bucket / key) == {name: value for name, value in wanted.items() if value}, key
    rows = [line.split("\t") for line in (bucket.parent.parent.parent / ".trainfs/stats.tsv").read_text().splitlines()]
    counted = {row[1]: int(row[2]) for row in rows[1:]}
    n_bytes = sum((bucket / key).stat().st_size for key in found)
    assert counted["bytes in"] >= n_bytes and counted["requests"] >= counted["list objects"] + counted["retries"]


def test_a_bucket_goes_when_it_is_empty(service, bucket):
    (bucket / "file").write_text("x")
    with pytest.raises(OSError):
        os.rmdir(bucket)
    subprocess.run(["rm", "-r", bucket], check=True, timeout=60)
    assert BUCKET not in os.listdir(bucket.parent)
