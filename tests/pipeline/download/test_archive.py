"""An archive is unpacked whole or not at all."""

import ctypes.util
import errno
import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.common.files import InputError
from pipeline.download import archive as module
from pipeline.download.archive import unpack
from tests.pipeline.download.archives import (
    COVERS,
    FORMATS,
    Files,
    rar,
    rar4_of,
    rar_block,
    rar_file,
    rar_of,
    refused,
    stored_zip_of,
    tar_of,
    tree,
    vint,
    zip_of,
)


@FORMATS
def test_top_folder_is_not_nested_twice(make: Callable[[Files], bytes], tmp_path: Path) -> None:
    archive = tmp_path / "item_images.rar"
    archive.write_bytes(make(COVERS))
    unpack(archive, tmp_path / "item_images")
    archive.unlink()
    assert tree(tmp_path) == COVERS


@FORMATS
def test_other_top_folders_are_kept(make: Callable[[Files], bytes], tmp_path: Path) -> None:
    archive = tmp_path / "covers.rar"
    archive.write_bytes(make({"a/1.jpg": b"one", "2.jpg": b""}))
    unpack(archive, tmp_path / "item_images")
    assert tree(tmp_path / "item_images") == {"a/1.jpg": b"one", "2.jpg": b""}


def test_second_call_does_nothing(tmp_path: Path) -> None:
    archive = tmp_path / "covers.zip"
    archive.write_bytes(zip_of({"1.jpg": b"one"}))
    unpack(archive, tmp_path / "item_images")
    archive.write_bytes(b"no longer an archive")
    unpack(archive, tmp_path / "item_images")
    assert tree(tmp_path / "item_images") == {"1.jpg": b"one"}


def test_leftovers_of_an_interrupted_run_are_dropped(tmp_path: Path) -> None:
    leftover = tmp_path / ".item_images.partial"
    leftover.mkdir()
    (leftover / "half.jpg").write_bytes(b"ha")
    archive = tmp_path / "covers.zip"
    archive.write_bytes(zip_of({"1.jpg": b"one"}))
    unpack(archive, tmp_path / "item_images")
    archive.unlink()
    assert tree(tmp_path) == {"item_images/1.jpg": b"one"}


def test_wrong_checksum(tmp_path: Path) -> None:
    content = stored_zip_of({"1.jpg": b"one"})
    refused(content.replace(b"one", b"two"), tmp_path, r"'1\.jpg': ZIP bad CRC")


def test_entry_shorter_than_it_says(tmp_path: Path) -> None:
    refused(rar(rar_file(b"1.jpg", b"one", claimed=5)), tmp_path, r"'1\.jpg'")


def test_encrypted_zip(tmp_path: Path) -> None:
    content = bytearray(stored_zip_of({"1.jpg": b"one"}))
    content[content.index(b"PK\x03\x04") + 6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    refused(bytes(content), tmp_path, r"'1\.jpg': encrypted\.")


def test_encrypted_headers(tmp_path: Path) -> None:
    refused(b"Rar!\x1a\x07\x01\x00" + rar_block(vint(4) + bytes(40)), tmp_path, ": encrypted")


@pytest.mark.parametrize("make", [rar_of, zip_of])
def test_cut_off_anywhere(make: Callable[[Files], bytes], tmp_path: Path) -> None:
    """Never a part: an error, or everything, where only closing records are cut."""
    whole = make(COVERS)
    archive, folder = tmp_path / "covers.bin", tmp_path / "item_images"
    refusals = 0
    for length in range(len(whole)):
        archive.write_bytes(whole[:length])
        try:
            unpack(archive, folder)
        except InputError:
            refusals += 1
            assert not folder.exists()
        else:
            assert {f"item_images/{name}": data for name, data in tree(folder).items()} == COVERS
            shutil.rmtree(folder)
    assert refusals > sum(len(data) for data in COVERS.values())


@pytest.mark.parametrize("make", [rar4_of, tar_of])
def test_cut_off_within_a_file(make: Callable[[Files], bytes], tmp_path: Path) -> None:
    content = make(COVERS)
    cut = content.index(COVERS["item_images/3.jpg"]) + 5
    refused(content[:cut], tmp_path, r"'item_images/3\.jpg'")


def test_sizes_beyond_the_file(tmp_path: Path) -> None:
    for size in (1000, 2**64):
        header = rar_block(vint(2) + vint(2) + vint(size))
        refused(rar(header), tmp_path, "cut off")
    refused(rar(rar_block(vint(2) + vint(2) + b"\xff" * 11)), tmp_path, "more than 10 bytes")


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"#mtree\n1.jpg type=file\n"])
def test_not_an_archive(content: bytes, tmp_path: Path) -> None:
    refused(content, tmp_path, "cannot be read as RAR, zip or tar")


@pytest.mark.parametrize("content", [rar(), rar4_of({}), zip_of({}), tar_of({})])
def test_nothing_in_it(content: bytes, tmp_path: Path) -> None:
    refused(content, tmp_path, "cannot be read as RAR, zip or tar: ")


def test_missing_archive(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"covers\.rar"):
        unpack(tmp_path / "covers.rar", tmp_path / "item_images")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["/nowhere/libarchive.so", ""])
def test_missing_library(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "libarchive"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setenv("LIBARCHIVE", path)
    monkeypatch.setattr(ctypes.util, "find_library", lambda _: None)
    (tmp_path / "covers.zip").write_bytes(zip_of({"1.jpg": b"one"}))
    with pytest.raises(InputError, match=r"apt-get install libarchive13.*brew install libarchive"):
        unpack(tmp_path / "covers.zip", tmp_path / "item_images")


def test_what_the_library_cannot_write_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The binding notes at import what an old libarchive lacks for writing digests."""
    for name in [name for name in sys.modules if name.split(".")[0] == "libarchive"]:
        monkeypatch.delitem(sys.modules, name)
    logging.getLogger("libarchive").setLevel(logging.NOTSET)
    caplog.set_level(logging.INFO)
    (tmp_path / "covers.zip").write_bytes(zip_of({"1.jpg": b"one"}))
    unpack(tmp_path / "covers.zip", tmp_path / "item_images")
    assert caplog.messages == []
    logging.getLogger("libarchive").warning("but of an archive's faults")
    assert caplog.messages == ["but of an archive's faults"]


def test_an_archive_for_which_there_is_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = stored_zip_of({"1.jpg": bytes(1000)})
    (tmp_path / "covers.zip").write_bytes(content)
    usage = shutil._ntuple_diskusage(2000, 1001, 999)
    monkeypatch.setattr("pipeline.download.disk.shutil.disk_usage", lambda _: usage)
    with pytest.raises(InputError, match=rf"{len(content):,} bytes of pictures .* 999 are free"):
        unpack(tmp_path / "covers.zip", tmp_path / "item_images")
    assert [path.name for path in tmp_path.iterdir()] == ["covers.zip"]


def test_a_disk_that_becomes_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "covers.zip").write_bytes(zip_of({"1.jpg": b"one"}))
    monkeypatch.setattr(module, "_write", write)
    with pytest.raises(InputError, match=r"item_images: could not be written: .*No space left"):
        unpack(tmp_path / "covers.zip", tmp_path / "item_images")
    assert [path.name for path in tmp_path.iterdir()] == ["covers.zip"]
