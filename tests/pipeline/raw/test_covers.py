import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.raw.covers import MAX_BYTES, write_covers


def test_files_are_packed_in_order_in_small_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.raw.covers.GROUP_ROWS", 2)
    files = {item: tmp_path / f"{item}.jpg" for item in (1, 4, 6)}
    for item, file in files.items():
        file.write_bytes(bytes([item]) * item)
    path = tmp_path / "covers.parquet"
    write_covers(path, files)
    packed = pq.ParquetFile(path)
    assert packed.metadata.num_row_groups == 2
    assert packed.read().to_pydict() == {
        "item": [1, 4, 6],
        "image": [b"\x01", b"\x04" * 4, b"\x06" * 6],
    }


def test_no_cover_at_all_is_an_empty_file_that_reads(tmp_path: Path) -> None:
    path = tmp_path / "covers.parquet"
    write_covers(path, {})
    assert pq.read_table(path).num_rows == 0


def test_what_cannot_be_read_is_null(tmp_path: Path) -> None:
    files = {item: tmp_path / f"{item}.jpg" for item in range(1, 6)}
    files[1].mkdir()
    files[2].symlink_to(files[2])
    os.mkfifo(files[3])  # reading it would wait for a writer for ever
    files[4].touch()
    os.truncate(files[4], MAX_BYTES + 1)
    files[5].write_bytes(b"five")
    path = tmp_path / "covers.parquet"
    write_covers(path, files)
    assert pq.read_table(path)["image"].to_pylist() == [None, None, None, None, b"five"]


def test_large_covers_make_groups_of_fewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.raw.covers.GROUP_BYTES", 10)
    files = {item: tmp_path / f"{item}.jpg" for item in range(1, 6)}
    for item, size in zip(files, (10, 4, 6, 30, 1), strict=True):
        files[item].write_bytes(bytes(size))
    path = tmp_path / "covers.parquet"
    write_covers(path, files)
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    assert groups == [1, 2, 1, 1]
    assert pq.read_table(path)["item"].to_pylist() == list(files)
