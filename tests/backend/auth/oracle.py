#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Requests at random, signed by botocore: a JSON object a line. argv: seed, how many."""
import datetime
import json
import random
import sys
from urllib.parse import quote

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

rng = random.Random(int(sys.argv[1]))
ALPHABET = "abcXYZ019-._~ +=&?#%/:@!$'()*,;[]\\\"<>^`{|}\u00e9\u4e2d\U0001f600\t"


def text(alphabet, least, most):
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(least, most)))


def encoded(plain):
    return quote(plain, safe="-._~")


def path(is_s3):
    segments = [encoded(text(ALPHABET, 0, 8)) for _ in range(rng.randint(0, 5))]
    if rng.random() < 0.3:
        segments.insert(rng.randint(0, len(segments)), rng.choice([".", "..", "", "..."]))
    # for S3 botocore is given what will be sent: "/" at least
    return "/" + "/".join(segments) if segments or is_s3 else ""


def query():
    pairs = []
    for _ in range(rng.randint(0, 5)):
        name = encoded(text("abB1-_~.%/ =", 1, 3))
        pairs.append(name if rng.random() < 0.2 else name + "=" + encoded(text(ALPHABET, 0, 6)))
    return "?" + "&".join(pairs) if pairs else ""


def headers():
    names = ["Content-Type", "Range", "If-Match", "x-amz-copy-source", "x-amz-copy-source-range",
             "X-Amz-Meta-A", "x-amz-meta-a-b", "x-amz-meta-ab", "x-amz-acl", "Content-MD5", "X-Amz-Target"]
    chosen = rng.sample(names, rng.randint(0, 6))
    if chosen and rng.random() < 0.3:
        chosen.append(chosen[0])
    return [(name, text("abc =,;:/\"  \t01", 0, 12).strip(" \t")) for name in chosen]


def case():
    is_s3 = rng.random() < 0.6
    service = "s3" if is_s3 else rng.choice(["sts", "logs", "sagemaker", "execute-api"])
    region = rng.choice(["us-east-1", "eu-central-1", "cn-north-1"])
    scheme, port = rng.choice([("https", ""), ("http", ":9000"), ("https", ":443"), ("http", ":80"), ("https", ":80")])
    url = scheme + "://" + rng.choice(["bucket.s3.example.com", "127.0.0.1", "[::1]"]) + port + path(is_s3) + query()
    body = text("abc\x00\xff", 0, 20)
    token = text("abc+/=", 5, 40) if rng.random() < 0.5 else None
    now = datetime.datetime(2026, 1, 1) + datetime.timedelta(seconds=rng.randrange(10**8))
    key, secret = "AKIDEXAMPLE", text("abc+/ABC0129", 40, 40)
    request = AWSRequest(method=rng.choice(["GET", "PUT", "POST", "DELETE"]), url=url, data=body.encode())
    given = headers()
    for name, value in given:
        request.headers.add_header(name, value)
    request.context["timestamp"] = now.strftime("%Y%m%dT%H%M%SZ")
    signer = (S3SigV4Auth if is_s3 else SigV4Auth)(Credentials(key, secret, token), service, region)
    signer._modify_request_before_signing(request)
    canonical = signer.canonical_request(request)
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    signer._inject_signature_to_request(request, signature)
    return {
        "service": service, "region": region, "method": request.method, "url": url, "body": body,
        "headers": given, "id": key, "secret": secret, "token": token, "canonical": canonical,
        "now": int(now.replace(tzinfo=datetime.timezone.utc).timestamp()),
        "authorization": request.headers["Authorization"],
    }


for _ in range(int(sys.argv[2])):
    print(json.dumps(case()))
