"""A small S3-compatible store on the loopback: one bucket, in memory, keys in path style."""

from __future__ import annotations

import hashlib
import itertools
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = 3  # keys in a page of a listing: more than one page is soon there


@dataclass
class Bucket:
    """What is stored, and what was asked."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)  # method and path
    refuse: bool = False  # answer everything with 403
    lock: threading.Lock = field(default_factory=threading.Lock)
    count: Iterator[int] = field(default_factory=itertools.count)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bucket: Bucket

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def handle_one(self) -> None:
        parts = urlsplit(self.path)
        query = {k: v[0] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
        key = unquote(parts.path).removeprefix("/bucket").removeprefix("/")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.bucket.lock:
            self.bucket.requests.append(f"{self.command} {parts.path}")
            if self.bucket.refuse or "AWS4-HMAC-SHA256" not in self.headers.get(
                "Authorization", ""
            ):
                self.answer(403, b"<Error><Code>AccessDenied</Code></Error>")
            elif self.command == "POST":
                self.post(key, query, body)
            elif self.command == "PUT":
                self.put(key, query, body)
            elif self.command == "DELETE":
                self.bucket.blobs.pop(key, None)
                self.answer(204)
            elif not key:
                self.answer(200, self.listing(query))
            elif key in self.bucket.blobs:
                self.answer(200, self.bucket.blobs[key])
            else:
                self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_one  # noqa: N815 -- http.server's

    def put(self, key: str, query: dict[str, str], body: bytes) -> None:
        if "uploadId" in query:
            self.bucket.uploads[query["uploadId"]][int(query["partNumber"])] = body
        else:
            self.bucket.blobs[key] = body
        self.answer(200, body=b"", tag=body)

    def post(self, key: str, query: dict[str, str], body: bytes) -> None:
        if "delete" in query:
            gone = re.findall(r"<Key>(.*?)</Key>", body.decode())
            for name in gone:
                self.bucket.blobs.pop(name, None)
            deleted = "".join(f"<Deleted><Key>{escape(name)}</Key></Deleted>" for name in gone)
            self.answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())
        elif "uploads" in query:
            upload = str(next(self.bucket.count))
            self.bucket.uploads[upload] = {}
            self.answer(200, self.upload(key, f"<UploadId>{upload}</UploadId>", "Initiate"))
        else:
            pieces = self.bucket.uploads.pop(query["uploadId"])
            self.bucket.blobs[key] = b"".join(pieces[number] for number in sorted(pieces))
            self.answer(200, self.upload(key, '<ETag>"done"</ETag>', "Complete"))

    def upload(self, key: str, inner: str, step: str) -> bytes:
        root = f"{step}MultipartUploadResult"
        return f"<{root}><Bucket>bucket</Bucket><Key>{escape(key)}</Key>{inner}</{root}>".encode()

    def listing(self, query: dict[str, str]) -> bytes:
        prefix, after = query.get("prefix", ""), query.get("continuation-token", "")
        keys = sorted(k for k in self.bucket.blobs if k.startswith(prefix) and k > after)
        page, more = keys[:PAGE], len(keys) > PAGE
        found = "".join(
            f"<Contents><Key>{escape(k)}</Key><Size>{len(self.bucket.blobs[k])}</Size>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;x&quot;</ETag>"
            "</Contents>"
            for k in page
        )
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        flags = f"<IsTruncated>{str(more).lower()}</IsTruncated><KeyCount>{len(page)}</KeyCount>"
        inner = f"<Name>bucket</Name>{flags}{token}{found}"
        return f"<ListBucketResult>{inner}</ListBucketResult>".encode()

    def answer(self, status: int, body: bytes = b"", tag: bytes = b"") -> None:
        self.send_response(status)
        digest = hashlib.md5(tag or body, usedforsecurity=False).hexdigest()
        self.send_header("ETag", f'"{digest}"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def s3_server() -> Iterator[tuple[Bucket, dict[str, str]]]:
    """The bucket "bucket", and the environment variables by which clients find it."""
    bucket = Bucket()
    handler = type("Handler", (_Handler,), {"bucket": bucket})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield (
            bucket,
            {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
                "AWS_ALLOW_HTTP": "true",
                "AWS_ACCESS_KEY_ID": "a-key",
                "AWS_SECRET_ACCESS_KEY": "a-secret",
                "AWS_REGION": "us-east-1",
            },
        )
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
