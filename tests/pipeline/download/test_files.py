"""Every case runs against a real HTTP server on this machine, which can misbehave as told."""

import errno
import hashlib
import io
import json
import logging
import shutil
import socket
import ssl
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pipeline.common.files import InputError
from pipeline.download import fetch
from pipeline.download.files import Manifest, challenge, download

CONTENT = Random(7).randbytes(3 * 2**20)
VERSION = '{"url": "", "etag": null, "last_modified": null, "size": null}'
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


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetch, "BACKOFF", 0.0)
    with served(Site({"big.parquet": CONTENT})) as site:
        yield site


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


def test_file_and_record(site: Site, tmp_path: Path) -> None:
    site.files = {"sub/big.parquet": CONTENT}
    folder = tmp_path / "raw"
    download(manifest(site, tmp_path, "sub/big.parquet"), folder)
    assert names(folder) == ["downloaded.json", "sub/big.parquet"]
    assert (folder / "sub/big.parquet").read_bytes() == CONTENT
    assert record(folder) == {
        "sub/big.parquet": {
            "url": f"{site.url}sub/big.parquet",
            "size": len(CONTENT),
            "sha256": sha256(CONTENT),
            "etag": '"v1"',
            "unpacked": None,
        }
    }


def test_complete_file_is_neither_requested_nor_hashed_again(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing, folder = manifest(site, tmp_path, sha256=sha256(CONTENT)), tmp_path / "raw"
    download(listing, folder)
    before = (folder / "downloaded.json").read_bytes()
    site.requests.clear()
    monkeypatch.delattr(hashlib, "file_digest")
    download(listing, folder)
    assert site.requests == []
    assert (folder / "downloaded.json").read_bytes() == before


def test_file_put_there_by_hand(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "big.parquet").write_bytes(NEWER)
    download(manifest(site, tmp_path), folder)
    assert site.requests == []
    assert record(folder)["big.parquet"]["sha256"] == sha256(NEWER)
    assert record(folder)["big.parquet"]["etag"] is None
    with pytest.raises(InputError, match=f"sha256 {sha256(NEWER)}, expected {sha256(CONTENT)}"):
        download(manifest(site, tmp_path, sha256=sha256(CONTENT)), folder)
    assert (folder / "big.parquet").read_bytes() == NEWER


def test_file_damaged_after_its_download(site: Site, tmp_path: Path) -> None:
    listing, folder = manifest(site, tmp_path), tmp_path / "raw"
    download(listing, folder)
    (folder / "big.parquet").write_bytes(b"short")
    with pytest.raises(InputError, match=f"5 bytes, expected the {len(CONTENT)}.*delete the file"):
        download(listing, folder)


@pytest.mark.parametrize("length", [True, False])
def test_dropped_connections_are_resumed(length: bool, site: Site, tmp_path: Path) -> None:
    site.length = length
    site.cuts = [2**20, 2**16]
    download(manifest(site, tmp_path), tmp_path / "raw")
    assert (tmp_path / "raw/big.parquet").read_bytes() == CONTENT
    ranges = [wanted for _, wanted in site.requests]
    assert ranges == [None, f"bytes={2**20}-", f"bytes={2**20 + 2**16}-"]
    assert site.served == len(CONTENT)


def test_resumed_by_a_later_call(site: Site, tmp_path: Path) -> None:
    listing, folder = broken_off(site, tmp_path, at=2**21)
    download(listing, folder)
    assert site.requests == [("/big.parquet", f"bytes={2**21}-")]
    assert site.served == len(CONTENT) - 2**21
    assert names(folder) == ["big.parquet", "downloaded.json"]
    assert (folder / "big.parquet").read_bytes() == CONTENT


def test_resumed_by_last_modified(site: Site, tmp_path: Path) -> None:
    site.etag, site.last_modified = 'W/"weak"', "Mon, 06 Jan 2025 10:00:00 GMT"
    listing, folder = broken_off(site, tmp_path, at=2**21)
    site.etag = None
    download(listing, folder)
    assert site.served == len(CONTENT) - 2**21
    assert (folder / "big.parquet").read_bytes() == CONTENT


def test_without_a_validator_it_starts_over(site: Site, tmp_path: Path) -> None:
    site.etag = None
    site.cuts = [2**21]
    download(manifest(site, tmp_path), tmp_path / "raw")
    assert site.requests == [("/big.parquet", None)] * 2
    assert (tmp_path / "raw/big.parquet").read_bytes() == CONTENT


@pytest.mark.parametrize("if_range", [True, False])
def test_changed_remote_file_starts_over(if_range: bool, site: Site, tmp_path: Path) -> None:
    listing, folder = broken_off(site, tmp_path, at=2**21)
    site.files["big.parquet"], site.etag, site.if_range = NEWER, '"v2"', if_range
    download(listing, folder)
    assert (folder / "big.parquet").read_bytes() == NEWER
    assert record(folder)["big.parquet"]["etag"] == '"v2"'


def test_another_root_starts_over(site: Site, tmp_path: Path) -> None:
    _, folder = broken_off(site, tmp_path, at=2**21)
    site.files["mirror/big.parquet"] = NEWER
    site.url += "mirror/"
    download(manifest(site, tmp_path), folder)
    assert (folder / "big.parquet").read_bytes() == NEWER


def test_server_that_ignores_ranges(site: Site, tmp_path: Path) -> None:
    listing, folder = broken_off(site, tmp_path, at=2**21)
    site.ranges = False
    download(listing, folder)
    assert (folder / "big.parquet").read_bytes() == CONTENT
    assert site.served == len(CONTENT)


def test_everything_was_here_already(site: Site, tmp_path: Path) -> None:
    """Cut between the last byte and the end of a chunked body: the rest is empty, status 416."""
    site.length = False
    site.cuts = [len(CONTENT)]
    download(manifest(site, tmp_path), tmp_path / "raw")
    assert [wanted for _, wanted in site.requests] == [None, f"bytes={len(CONTENT)}-"]
    assert site.served == len(CONTENT)
    assert (tmp_path / "raw/big.parquet").read_bytes() == CONTENT


@pytest.mark.parametrize("length", [True, False])
def test_more_was_here_than_there_is(length: bool, site: Site, tmp_path: Path) -> None:
    site.length = length
    listing, folder = broken_off(site, tmp_path, at=2**21)
    site.files["big.parquet"] = CONTENT[:1000]
    site.if_range = False
    download(listing, folder)
    assert (folder / "big.parquet").read_bytes() == CONTENT[:1000]


def test_wrong_part_is_refused(site: Site, tmp_path: Path) -> None:
    """A 206 that does not begin where it was asked to."""
    listing, folder = broken_off(site, tmp_path, at=2**21)
    site.shifts = [7]
    download(listing, folder)
    assert (folder / "big.parquet").read_bytes() == CONTENT


def test_server_that_answers_in_slices(site: Site, tmp_path: Path) -> None:
    listing, folder = broken_off(site, tmp_path, at=2**21)
    site.slice = 2**19
    download(listing, folder)
    assert len(site.requests) == 2
    assert (folder / "big.parquet").read_bytes() == CONTENT


def test_empty_file(site: Site, tmp_path: Path) -> None:
    site.files["big.parquet"] = b""
    download(manifest(site, tmp_path, size=0), tmp_path / "raw")
    assert (tmp_path / "raw/big.parquet").read_bytes() == b""


@pytest.mark.parametrize("status", [404, 403, 204])
def test_status(status: int, site: Site, tmp_path: Path) -> None:
    site.statuses = [status]
    with pytest.raises(InputError, match=rf"{site.url}big\.parquet: HTTP status {status}"):
        download(manifest(site, tmp_path), tmp_path / "raw")
    assert names(tmp_path / "raw") == []


@pytest.mark.parametrize("status", [404, 410])
def test_an_optional_file_that_is_not_there_is_told(
    status: int, site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site.statuses = [status]
    caplog.set_level("INFO")
    download(manifest(site, tmp_path, optional=True), tmp_path / "raw")
    assert names(tmp_path / "raw") == []
    assert caplog.messages == [
        f"{site.url}big.parquet: the server has no such file; done without it"
    ]


@pytest.mark.parametrize("status", [403, 204])
def test_an_optional_file_that_may_be_there_is_asked_for_again(
    status: int, site: Site, tmp_path: Path
) -> None:
    site.statuses = [status]
    with pytest.raises(InputError, match=f"HTTP status {status}"):
        download(manifest(site, tmp_path, optional=True), tmp_path / "raw")
    download(manifest(site, tmp_path, optional=True), tmp_path / "raw")
    assert names(tmp_path / "raw") == ["big.parquet", "downloaded.json"]


def test_server_that_recovers(site: Site, tmp_path: Path) -> None:
    site.statuses = [503, 502, 429]
    download(manifest(site, tmp_path), tmp_path / "raw")
    assert len(site.requests) == 4
    assert (tmp_path / "raw/big.parquet").read_bytes() == CONTENT


def test_server_that_does_not_recover(site: Site, tmp_path: Path) -> None:
    site.statuses = [503] * 20
    with pytest.raises(InputError, match="HTTP status 503"):
        download(manifest(site, tmp_path), tmp_path / "raw")
    assert len(site.requests) == fetch.ATTEMPTS


@pytest.mark.parametrize("extra", [{"Content-Type": "text/html"}, {"Content-Encoding": "gzip"}])
def test_something_else_than_the_file(extra: dict[str, str], site: Site, tmp_path: Path) -> None:
    site.extra = extra
    with pytest.raises(InputError, match=f"{next(iter(extra.values()))}.*expected the plain file"):
        download(manifest(site, tmp_path), tmp_path / "raw")
    assert names(tmp_path / "raw") == []


def test_wrong_checksum_leaves_nothing(site: Site, tmp_path: Path) -> None:
    listing = manifest(site, tmp_path, sha256=sha256(NEWER))
    with pytest.raises(InputError, match=f"sha256 {sha256(CONTENT)}, expected {sha256(NEWER)}"):
        download(listing, tmp_path / "raw")
    assert names(tmp_path / "raw") == []
    site.files["big.parquet"] = NEWER
    download(listing, tmp_path / "raw")
    assert (tmp_path / "raw/big.parquet").read_bytes() == NEWER


@pytest.mark.parametrize(
    ("length", "message"),
    [
        (True, f"size {len(CONTENT)}, expected 5 from the manifest"),
        (False, "the server sends more than the 5 bytes expected; correct size"),
    ],
)
def test_wrong_size_leaves_nothing(length: bool, message: str, site: Site, tmp_path: Path) -> None:
    """Refused before the body where the server says its length, else as soon as it is too long."""
    site.length = length
    with pytest.raises(InputError, match=message):
        download(manifest(site, tmp_path, size=5), tmp_path / "raw")
    assert not (tmp_path / "raw/big.parquet").exists()
    assert not (tmp_path / "raw/big.parquet.part").exists()


def test_unreachable_host(site: Site, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        site.url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    folder = tmp_path / "raw"
    with pytest.raises(
        InputError, match=rf"{site.url}big.* cannot be reached.*resume.*{folder}/big"
    ):
        download(manifest(site, tmp_path), folder)


@pytest.mark.parametrize(
    "root", ["http://example.org/", "ftp://127.0.0.1/", "https://", "x", "file:///"]
)
def test_insecure_root(root: str, site: Site, tmp_path: Path) -> None:
    site.url = root
    with pytest.raises(InputError, match=r"files\.json: root: "):
        download(manifest(site, tmp_path), tmp_path / "raw")


def test_insecure_redirect(site: Site, tmp_path: Path) -> None:
    site.statuses = [302]
    with pytest.raises(InputError, match=r"redirected: .* found http://example\.org/"):
        download(manifest(site, tmp_path), tmp_path / "raw")


@pytest.mark.parametrize("path", ["../evil.parquet", "/evil.parquet", ""])
def test_manifest_that_leaves_the_folder(path: str, site: Site, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"files\.json: files\.0\.path: "):
        download(manifest(site, tmp_path, path), tmp_path / "raw")
    assert site.requests == []


def zipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("item_images/1.jpg", content)
    return buffer.getvalue()


def test_archive_is_unpacked_once_and_again_when_it_is_another(site: Site, tmp_path: Path) -> None:
    site.files["item_images.zip"] = zipped(b"one")
    listing = manifest(site, tmp_path, "item_images.zip", unpack="item_images")
    folder, cover = tmp_path / "raw", tmp_path / "raw/item_images/1.jpg"
    download(listing, folder)
    assert names(folder) == ["downloaded.json", "item_images.zip", "item_images/1.jpg"]
    assert cover.read_bytes() == b"one"
    before = cover.stat().st_mtime_ns
    download(listing, folder)
    assert cover.stat().st_mtime_ns == before
    (folder / "item_images.zip").unlink()
    site.files["item_images.zip"] = zipped(b"two")
    download(listing, folder)
    assert cover.read_bytes() == b"two"


def test_folder_unpacked_by_hand_is_kept(site: Site, tmp_path: Path) -> None:
    site.files["item_images.zip"] = zipped(b"one")
    cover = tmp_path / "raw/item_images/1.jpg"
    cover.parent.mkdir(parents=True)
    cover.write_bytes(b"by hand")
    listing = manifest(site, tmp_path, "item_images.zip", unpack="item_images")
    download(listing, tmp_path / "raw")
    assert site.requests == []
    (tmp_path / "raw/item_images.zip").write_bytes(zipped(b"two"))
    download(listing, tmp_path / "raw")
    assert cover.read_bytes() == b"by hand"


def test_a_missing_library_is_told_before_any_request(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise InputError("libarchive cannot be loaded")

    site.files["item_images.zip"] = zipped(b"one")
    listing = manifest(site, tmp_path, "item_images.zip", unpack="item_images")
    monkeypatch.setattr("pipeline.download.files.load_libarchive", missing)
    with pytest.raises(InputError, match="libarchive cannot be loaded"):
        download(listing, tmp_path / "raw")
    assert site.requests == []
    assert not (tmp_path / "raw").exists()


def test_a_file_that_will_not_fit_is_told_before_its_bytes(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing, folder = broken_off(site, tmp_path, 2**20)
    free = len(CONTENT) - 2**20 - 1
    usage = shutil._ntuple_diskusage(2**30, 2**30 - free, free)
    with monkeypatch.context() as full:
        full.setattr("pipeline.download.disk.shutil.disk_usage", lambda _: usage)
        message = (
            rf"raw: {free + 1:,} bytes of big\.parquet are to come and {free:,} are free, 1 too"
        )
        with pytest.raises(InputError, match=message):
            download(listing, folder)
    assert (folder / "big.parquet.part").stat().st_size == 2**20
    download(listing, folder)
    assert (folder / "big.parquet").read_bytes() == CONTENT


def test_a_disk_that_becomes_full_is_told_by_name(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pipeline.download.fetch.os.fsync", fsync)
    monkeypatch.setattr(
        "pipeline.download.fetch.write_json", lambda path, _: path.write_text(VERSION)
    )
    with pytest.raises(InputError, match=r"big\.parquet\.part: could not be written: .*XDG_CACHE_"):
        download(manifest(site, tmp_path), tmp_path / "raw")


@pytest.fixture
def cache(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder, and the challenge's files on `site`, seen from a repository."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("pipeline.download.files.CHALLENGE", manifest(site, tmp_path))
    (tmp_path / "repository").mkdir()
    monkeypatch.chdir(tmp_path / "repository")
    return tmp_path / "cache" / "mmctr"


def test_the_challenge_is_downloaded_once_for_all_copies_of_the_repository(
    cache: Path, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert challenge() == cache / "microlens_1m"
    assert (cache / "microlens_1m/big.parquet").read_bytes() == CONTENT
    assert list(Path.cwd().iterdir()) == []
    site.requests.clear()
    monkeypatch.chdir(tmp_path)  # as a queued experiment's copy
    assert (challenge() / "big.parquet").read_bytes() == CONTENT
    assert site.requests == []


def test_an_earlier_versions_downloads_are_moved(
    cache: Path, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    earlier = Path("scratch/microlens_1m")
    earlier.mkdir(parents=True)
    (earlier / "big.parquet").write_bytes(NEWER)
    assert (challenge() / "big.parquet").read_bytes() == NEWER
    assert site.requests == []
    assert not earlier.exists()
    assert caplog.messages == [
        f"scratch/microlens_1m now lies in {cache}/microlens_1m, where `make clean` leaves it"
    ]
    earlier.mkdir()
    challenge()
    assert caplog.messages[1].startswith("scratch/microlens_1m is not read any more")


def test_downloads_on_another_disk_are_moved_by_hand(
    cache: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(*_: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    Path("scratch/microlens_1m").mkdir(parents=True)
    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(InputError, match=f"`mv scratch/microlens_1m {cache}/microlens_1m`"):
        challenge()
    assert site.requests == []


def test_a_body_without_end(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "MOST_BYTES", len(CONTENT) - 1)
    site.length = False
    with pytest.raises(InputError, match=f"more than the {len(CONTENT) - 1} bytes"):
        download(manifest(site, tmp_path), tmp_path / "raw")
    assert names(tmp_path / "raw") == []
    monkeypatch.setattr(fetch, "MOST_BYTES", len(CONTENT))
    download(manifest(site, tmp_path), tmp_path / "raw")
    assert (tmp_path / "raw/big.parquet").read_bytes() == CONTENT


def test_too_short_a_body_is_no_file(site: Site, tmp_path: Path) -> None:
    site.length = False
    with pytest.raises(InputError, match=f"size {len(CONTENT)}, expected {len(CONTENT) + 1}"):
        download(manifest(site, tmp_path, size=len(CONTENT) + 1), tmp_path / "raw")
    assert names(tmp_path / "raw") == []


def test_the_competition_manifest() -> None:
    listing = Path(__file__).parents[3] / "microlens_1m" / "files.json"
    loaded = Manifest.model_validate_json(listing.read_bytes())
    assert loaded.root == "https://recsys.westlake.edu.cn/MicroLens_1M_MMCTR/"
    assert {file.path: file.unpack for file in loaded.files} == {
        "item_feature.parquet": None,
        "item_seq.parquet": None,
        "item_emb.parquet": None,
        "item_images.rar": "item_images",
        "MicroLens_1M_x1/train.parquet": None,
        "MicroLens_1M_x1/valid.parquet": None,
        "MicroLens_1M_x1/test.parquet": None,
        "MicroLens_1M_x1/item_info.parquet": None,
    }
    optional = {file.path for file in loaded.files if file.optional}
    assert optional == {"item_seq.parquet", "item_emb.parquet"}
