"""A download goes on where it broke off, and starts over where it must not."""

from pathlib import Path

import pytest

from pipeline.download.files import download
from tests.pipeline.download.server import (
    CONTENT,
    NEWER,
    Site,
    broken_off,
    manifest,
    names,
    record,
)


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
