# SPDX-License-Identifier: MIT
"""The bucket of a test, by an independent client (Google's own library) at $STORAGE_EMULATOR_HOST.

client.py check BUCKET   stdin: {key: [generation, size, sha256]}, and nothing else is there
client.py make BUCKET    puts objects in every way; stdout: {key: [generation, size, sha256, content type, metadata]}
"""

import hashlib
import json
import os
import sys

from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

client = storage.Client(project="trainfs-tests", credentials=AnonymousCredentials())
MANY = 1100


def told(blob):
    data = blob.download_as_bytes(raw_download=True, checksum="crc32c")  # which the library compares
    return [str(blob.generation), len(data), hashlib.sha256(data).hexdigest()]


def check(bucket):
    want = json.load(sys.stdin)
    blobs = {blob.name: blob for blob in client.list_blobs(bucket)}
    wrong = [f"{key!r} is there" for key in blobs.keys() - want.keys()]
    for key, facts in want.items():
        if key not in blobs:
            wrong.append(f"{key!r} is missing")
        elif told(blobs[key]) != facts:
            wrong.append(f"{key!r} is {told(blobs[key])}, not {facts}")
    print("\n".join(wrong), end="")
    return bool(wrong)


def make(bucket):
    bucket = client.bucket(bucket)
    bucket.blob("empty").upload_from_string(b"")
    odd = bucket.blob("dir/a b+c%=&?ü")
    odd.metadata = {"one": "1", "two": "zwei"}
    odd.upload_from_string(b"odd", content_type="text/plain")
    bucket.blob("small").upload_from_string(os.urandom(700_000), checksum="crc32c")
    with bucket.blob("chunks", chunk_size=1 << 20).open("wb") as file:
        file.write(os.urandom((5 << 20) + 3))
    bucket.copy_blob(odd, bucket, "copied")
    for i in range(MANY):
        bucket.blob(f"many/{i:04}").upload_from_string(b"x")
    facts = {}
    for blob in client.list_blobs(bucket):
        if not blob.name.startswith("many/"):
            facts[blob.name] = [*told(blob), blob.content_type, blob.metadata or {}]
    json.dump(facts, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit({"check": check, "make": make}[sys.argv[1]](sys.argv[2]))
