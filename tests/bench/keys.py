#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""keys.py N: a server that says, as S3 does, that every bucket holds N objects below many/, and has none of them: for lists
that are longer than any server of others gives in time. Prints its port; ends when its standard input does."""
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

N = int(sys.argv[1])
DIRECTORY = "many/"
ROW = ("<Contents><Key>{}file{:07d}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
       "<ETag>&quot;9dd4e461268c8034f5c8564e155c67a6&quot;</ETag><Size>1</Size><StorageClass>STANDARD</StorageClass></Contents>")
LIST = ('<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        "<Name>bench</Name><Prefix>{}</Prefix><Delimiter>/</Delimiter><MaxKeys>{}</MaxKeys><KeyCount>{}</KeyCount>"
        "<IsTruncated>{}</IsTruncated>{}</ListBucketResult>")


def page(prefix, most, start):
    if not prefix.startswith(DIRECTORY):
        row = f"<CommonPrefixes><Prefix>{DIRECTORY}</Prefix></CommonPrefixes>" if DIRECTORY.startswith(prefix) else ""
        return LIST.format(prefix, most, int(bool(row)), "false", row)
    end = min(start + most, N) if prefix == DIRECTORY else start
    more = f"<NextContinuationToken>{end}</NextContinuationToken>" if end < N and end > start else ""
    rows = "".join(ROW.format(DIRECTORY, i) for i in range(start, end))
    return LIST.format(prefix, most, end - start, "true" if more else "false", more + rows)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        is_list = "list-type" in query
        body = page(query.get("prefix", ""), int(query.get("max-keys", 1000)),
                    int(query.get("continuation-token", 0))).encode() if is_list else b""
        self.send_response(200 if is_list else 404)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
sys.stdin.read()
