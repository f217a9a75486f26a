"""What a server may answer, and which answers are no file."""

import socket
from pathlib import Path

import pytest

from pipeline.common.files import InputError
from pipeline.download import fetch
from pipeline.download.files import download
from tests.pipeline.download.server import CONTENT, NEWER, Site, manifest, names, sha256


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


def test_too_short_a_body_is_no_file(site: Site, tmp_path: Path) -> None:
    site.length = False
    with pytest.raises(InputError, match=f"size {len(CONTENT)}, expected {len(CONTENT) + 1}"):
        download(manifest(site, tmp_path, size=len(CONTENT) + 1), tmp_path / "raw")
    assert names(tmp_path / "raw") == []


def test_a_body_without_end(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "MOST_BYTES", len(CONTENT) - 1)
    site.length = False
    with pytest.raises(InputError, match=f"more than the {len(CONTENT) - 1} bytes"):
        download(manifest(site, tmp_path), tmp_path / "raw")
    assert names(tmp_path / "raw") == []
    monkeypatch.setattr(fetch, "MOST_BYTES", len(CONTENT))
    download(manifest(site, tmp_path), tmp_path / "raw")
    assert (tmp_path / "raw/big.parquet").read_bytes() == CONTENT


def test_empty_file(site: Site, tmp_path: Path) -> None:
    site.files["big.parquet"] = b""
    download(manifest(site, tmp_path, size=0), tmp_path / "raw")
    assert (tmp_path / "raw/big.parquet").read_bytes() == b""


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
