import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.covers import MAX_BYTES, find_covers, write_covers
from pipeline.ids import DenseIds
from pipeline.schema import InputError
from tests.pipeline.test_archive import rar_of

IDS = DenseIds.of(np.array([2, 5, 11]))


def test_covers_of_known_items_by_dense_id(tmp_path: Path) -> None:
    images = tmp_path / "item_images"
    images.mkdir()
    for name in ("11.jpg", "2.jpg", "5.png", "7.jpg", "02.jpg", "notes.txt"):
        (images / name).write_bytes(name.encode())
    covers = find_covers(tmp_path, IDS)
    assert covers == {1: images / "2.jpg", 3: images / "11.jpg"}
    assert list(covers) == [1, 3]


@pytest.mark.usefixtures("workspace")
def test_an_archive_beside_the_tables_is_unpacked_elsewhere(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    archive = source / "item_images.rar"
    archive.write_bytes(rar_of({"item_images/5.jpg": b"five"}))
    covers = find_covers(source, IDS)
    assert {item: path.read_bytes() for item, path in covers.items()} == {2: b"five"}
    assert [path.name for path in source.iterdir()] == ["item_images.rar"]
    assert find_covers(source, IDS) == covers
    archive.write_bytes(rar_of({"item_images/2.jpg": b"two", "item_images/5.jpg": b"new"}))
    again = find_covers(source, IDS)
    assert {item: path.read_bytes() for item, path in again.items()} == {1: b"two", 2: b"new"}


@pytest.mark.usefixtures("workspace")
def test_a_bad_archive_is_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "item_images.rar").write_bytes(b"not an archive")
    with pytest.raises(InputError, match=r"item_images\.rar"):
        find_covers(tmp_path, IDS)


def test_files_are_packed_in_order_in_small_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.covers.GROUP_ROWS", 2)
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
    monkeypatch.setattr("pipeline.covers.GROUP_BYTES", 10)
    files = {item: tmp_path / f"{item}.jpg" for item in range(1, 6)}
    for item, size in zip(files, (10, 4, 6, 30, 1), strict=True):
        files[item].write_bytes(bytes(size))
    path = tmp_path / "covers.parquet"
    write_covers(path, files)
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    assert groups == [1, 2, 1, 1]
    assert pq.read_table(path)["item"].to_pylist() == list(files)
