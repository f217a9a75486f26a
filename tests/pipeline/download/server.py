"""A real HTTP server on this machine, which misbehaves as told, and downloads from it."""

import hashlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pipeline.common.files import InputError
from pipeline.download.files import download

CONTENT = Random(7).randbytes(3 * 2**20)
NEWER = Random(8).randbytes(len(CONTENT))


@dataclass
class Site:
    """What the server holds, how it behaves, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    etag: str | None = '"v1"'
    last_modified: str | None = None
    ranges: bool = True
    """Whether Range is honoured."""
    if_range: bool = True
    """Whether If-Range is honoured; without it, a changed file is resumed as if it were not."""
    slice: int | None = None
    """The most bytes of an answer to a Range."""
    shifts: list[int] = field(default_factory=list)
    """Added to where the next answers to a Range should begin."""
    length: bool = True
    """Whether whole answers say their length; chunked if not."""
    extra: dict[str, str] = field(default_factory=dict)
    statuses: list[int] = field(default_factory=list)
    """Of the next answers, before files are served."""
    cuts: list[int] = field(default_factory=list)
    """Bytes of the next bodies after which the connection drops."""
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range of each request."""
    served: int = 0
    """Bytes of all bodies with a file's content."""
    url: str = ""

    def fields(self) -> dict[str, str]:
        known = {"ETag": self.etag, "Last-Modified": self.last_modified}
        return {key: value for key, value in known.items() if value is not None} | self.extra


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        site, wanted = self.site, self.headers["Range"]
        site.requests.append((self.path, wanted))
        content = site.files.get(self.path.removeprefix("/"))
        if site.statuses:
            self.answer(site.statuses.pop(0), b"", {"Location": "http://example.org/"})
        elif content is None:
            self.answer(404, b"no such file", {})
        elif wanted and site.ranges and self.unchanged():
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            self.answer_range(content, start)
        else:
            self.answer(200, content, site.fields())

    def unchanged(self) -> bool:
        held = self.headers["If-Range"]
        return not self.site.if_range or held in (self.site.etag, self.site.last_modified)

    def answer_range(self, content: bytes, start: int) -> None:
        if start >= len(content):
            fields = {"Content-Range": f"bytes */{len(content)}", "Content-Type": "text/html"}
            self.answer(416, b"<html>", fields)
            return
        start += self.site.shifts.pop(0) if self.site.shifts else 0
        body = content[start:][: self.site.slice]
        span = f"bytes {start}-{start + len(body) - 1}/{len(content)}"
        self.answer(206, body, self.site.fields() | {"Content-Range": span})

    def answer(self, status: int, body: bytes, fields: dict[str, str]) -> None:
        chunked = status == 200 and not self.site.length
        self.send_response(status)
        for key, value in fields.items():
            self.send_header(key, value)
        framing = (
            ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(body)))
        )
        self.send_header(*framing)
        self.end_headers()
        cut = self.site.cuts.pop(0) if self.site.cuts and status in (200, 206) else None
        part = body[:cut]
        if status in (200, 206):
            self.site.served += len(part)
        self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
        if cut is not None:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif chunked:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@contextmanager
def served(site: Site, context: ssl.SSLContext | None = None) -> Iterator[Site]:
    """`site` at an address of its own, over https with `context`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("SiteHandler", (Handler,), {"site": site}))
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    site.url = f"{'https' if context else 'http'}://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield site
    server.shutdown()
    server.server_close()
    thread.join()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def manifest(
    site: Site,
    folder: Path,
    path: str = "big.parquet",
    *,
    size: int | None = None,
    sha256: str | None = None,
    unpack: str | None = None,
    optional: bool = False,
) -> Path:
    """A manifest of one file, beside the folder that downloads go to."""
    target = folder / "files.json"
    file = {"path": path, "size": size, "sha256": sha256, "unpack": unpack, "optional": optional}
    target.write_text(json.dumps({"root": site.url, "files": [file]}))
    return target


def record(folder: Path) -> Any:
    return json.loads((folder / "downloaded.json").read_text())


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def broken_off(site: Site, tmp_path: Path, at: int) -> tuple[Path, Path]:
    """A download whose process died after `at` bytes: (manifest, folder)."""
    listing, folder = manifest(site, tmp_path), tmp_path / "raw"
    site.cuts = [at] + [0] * 10
    with pytest.raises(InputError, match=f"broke off .* at {at} bytes .*run again to resume"):
        download(listing, folder)
    assert names(folder) == ["big.parquet.part", "big.parquet.part.json"]
    assert (folder / "big.parquet.part").read_bytes() == CONTENT[:at]
    site.cuts, site.requests, site.served = [], [], 0
    return listing, folder
