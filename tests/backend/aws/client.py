# SPDX-License-Identifier: MIT
"""The bucket of a test, by an independent client (boto3) at $TRAINFS_PEER.

client.py check BUCKET   stdin: {key: [version, size, sha256]}, and nothing else is there, unfinished uploads neither
client.py make BUCKET    puts objects in every way; stdout: {key: [version, size, sha256, content type, metadata]}
"""

import hashlib
import json
import os
import sys

import boto3
from botocore.config import Config

s3 = boto3.client("s3", endpoint_url=os.environ["TRAINFS_PEER"], config=Config(s3={"addressing_style": "path"}))
MANY = 1100


def there(bucket):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return {row["Key"]: row for page in pages for row in page.get("Contents", [])}


def read(bucket, key):
    answer = s3.get_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")  # which boto3 compares, if it has one
    return answer, answer["Body"].read()


def check(bucket):
    want = json.load(sys.stdin)
    rows = there(bucket)
    wrong = [f"{key!r} is there" for key in rows.keys() - want.keys()]
    for key, (version, size, digest) in want.items():
        if key not in rows:
            wrong.append(f"{key!r} is missing")
            continue
        answer, data = read(bucket, key)
        has = [answer["ETag"].strip('"'), len(data), hashlib.sha256(data).hexdigest()]
        if has != [version, size, digest]:
            wrong.append(f"{key!r} is {has}, not {[version, size, digest]}")
    wrong += [f"an upload to {upload['Key']!r}" for upload in s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])]
    print("\n".join(wrong), end="")
    return bool(wrong)


def upload(bucket, key, parts):
    begun = s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    made = [
        {"PartNumber": n, "ETag": s3.upload_part(Bucket=bucket, Key=key, UploadId=begun, PartNumber=n, Body=data)["ETag"]}
        for n, data in enumerate(parts, 1)
    ]
    s3.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=begun, MultipartUpload={"Parts": made})


def make(bucket):
    s3.put_object(Bucket=bucket, Key="empty", Body=b"")
    s3.put_object(Bucket=bucket, Key="dir/a b+c%=&?ü", Body=b"odd", ContentType="text/plain", Metadata={"one": "1", "two": "zwei"})
    s3.put_object(Bucket=bucket, Key="summed", Body=os.urandom(700_000), ChecksumAlgorithm="CRC32C")
    upload(bucket, "parts", [os.urandom(5 << 20), os.urandom(5 << 20), b"end"])
    s3.copy_object(Bucket=bucket, Key="copied", CopySource={"Bucket": bucket, "Key": "dir/a b+c%=&?ü"})
    for i in range(MANY):
        s3.put_object(Bucket=bucket, Key=f"many/{i:04}", Body=b"x")
    told = {}
    for key in there(bucket):
        if not key.startswith("many/"):
            answer, data = read(bucket, key)
            told[key] = [answer["ETag"].strip('"'), len(data), hashlib.sha256(data).hexdigest(), answer["ContentType"], answer["Metadata"]]
    json.dump(told, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit({"check": check, "make": make}[sys.argv[1]](sys.argv[2]))
