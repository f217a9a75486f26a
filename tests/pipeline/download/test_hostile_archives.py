"""Archives made to write outside their folder, or to fill the disk, are refused."""

import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.common.files import InputError
from pipeline.download import archive as module
from pipeline.download.archive import relative_path, unpack
from tests.pipeline.download.archives import (
    FORMATS,
    Files,
    rar,
    rar4_of,
    rar_file,
    rar_link,
    rar_of,
    refused,
    tar_of,
    tar_with,
    tree,
    zip_of,
    zip_with,
)


@FORMATS
@pytest.mark.parametrize("name", ["../evil.jpg", "a/../../evil.jpg", "/abs.jpg", "C:/evil.jpg"])
def test_paths_that_leave_the_folder(
    make: Callable[[Files], bytes], name: str, tmp_path: Path
) -> None:
    refused(make({"1.jpg": b"one", name: b"evil"}), tmp_path, rf"entry '{name}'")


def test_backslashes(tmp_path: Path) -> None:
    refused(rar_of({"..\\evil.jpg": b"evil"}), tmp_path, "backslash")
    refused(tar_of({"a\\..\\..\\evil.jpg": b"evil"}), tmp_path, "backslash")


@pytest.mark.parametrize("kind", [1, 2, 4])
def test_links_in_rar(kind: int, tmp_path: Path) -> None:
    link = rar_file(b"out.jpg", b"", extra=rar_link(kind, b"/etc/passwd"))
    refused(rar(link, rar_file(b"out.jpg/x", b"evil")), tmp_path, "'out.jpg'.*links and devices")


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
)
def test_links_and_devices_in_tar(kind: bytes, tmp_path: Path) -> None:
    info = tarfile.TarInfo("out.jpg")
    info.type, info.linkname = kind, "../covers.bin"
    refused(tar_with((info, b"")), tmp_path, "'out.jpg'.*links and devices")


SPECIAL = [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK]


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        (kind, mode)
        for kind in ("rar", "rar4", "zip")
        for mode in SPECIAL
        if (kind, mode) != ("zip", stat.S_IFIFO)  # which libarchive takes for a plain file
    ],
)
def test_what_a_mode_makes_of_an_entry(kind: str, mode: int, tmp_path: Path) -> None:
    """A file whose Unix mode says that it is something else."""
    if kind == "rar":
        content = rar(rar_file(b"out.jpg", b"/etc/passwd", mode=mode))
    elif kind == "rar4":
        content = rar4_of({"out.jpg": b"/etc/passwd"}, mode)
    else:
        info = zipfile.ZipInfo("out.jpg")
        info.create_system, info.external_attr = 3, (mode | 0o777) << 16
        content = zip_with(info, b"/etc/passwd")
    refused(content, tmp_path, "'out.jpg'.*links and devices")


@FORMATS
def test_folders_in_folders(make: Callable[[Files], bytes], tmp_path: Path) -> None:
    """So deep that Python could neither make nor remove them; each costs the disk an inode."""
    refused(make({"a/" * 1500 + "1.jpg": b"one"}), tmp_path, "more than 16 parts|too long")
    refused(make({"a/" * 16 + "1.jpg": b"one"}), tmp_path, "more than 16 parts")
    (tmp_path / "covers.bin").write_bytes(make({"a/" * 15 + "1.jpg": b"one"}))
    unpack(tmp_path / "covers.bin", tmp_path / "item_images")
    assert tree(tmp_path / "item_images") == {"a/" * 15 + "1.jpg": b"one"}


def test_a_small_archive_of_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = zip_of({f"{item}.jpg": bytes(40_000) for item in (1, 2, 3)})
    assert len(content) < 1000
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 50_000)
    refused(content, tmp_path, r"'2\.jpg': the archive unpacks to more than \d{5} bytes")
    monkeypatch.setattr(module, "MAX_RATIO", 1000)
    unpack(tmp_path / "covers.bin", tmp_path / "item_images")
    assert len(tree(tmp_path / "item_images")) == 3


def test_a_file_that_is_one_hole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tar of a few KB says that zeros of a terabyte are in it."""
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 2**20)
    info = tarfile.TarInfo("GNUSparseFile.0/1.jpg")
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "1.jpg",
        "GNU.sparse.realsize": str(2**40),
    }
    content = tar_with((info, b"1\n1099511627264\n512\n".ljust(512, b"\0") + bytes(512)))
    assert len(content) < 20_000
    refused(content, tmp_path, r"'1\.jpg': larger than 1048576 bytes")


@FORMATS
def test_bombs(
    make: Callable[[Files], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = make({"1.jpg": bytes(1000), "2.jpg": bytes(1000), "3.jpg": bytes(1000)})
    with monkeypatch.context() as caps:
        caps.setattr(module, "MAX_FILE_BYTES", 999)
        refused(content, tmp_path, r"'1\.jpg': larger than 999 bytes")
    with monkeypatch.context() as caps:
        caps.setattr(module, "MAX_TOTAL_BYTES", 2999)
        refused(content, tmp_path, r"'3\.jpg': .* more than 2999 bytes")
    with monkeypatch.context() as caps:
        caps.setattr(module, "MAX_ENTRIES", 2)
        refused(content, tmp_path, r"'3\.jpg': more than 2 entries")
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 1000)
    monkeypatch.setattr(module, "MAX_TOTAL_BYTES", 3000)
    monkeypatch.setattr(module, "MAX_ENTRIES", 3)
    unpack(tmp_path / "covers.bin", tmp_path / "item_images")
    assert len(tree(tmp_path / "item_images")) == 3


def test_file_and_folder_of_one_name(tmp_path: Path) -> None:
    refused(rar_of({"a": b"file", "a/1.jpg": b"one"}), tmp_path, r"entry 'a/1\.jpg'")
    refused(rar(rar_file(b"1.jpg", b"one"), rar_file(b"1.jpg", b"two")), tmp_path, r"'1\.jpg'")


@pytest.mark.parametrize(
    "name", ["a\nb", "\u202egpj.1", "\udcff.jpg", b"\xff.jpg", None, "é" * 128]
)
def test_names_that_are_no_names(name: object) -> None:
    with pytest.raises(ValueError, match=r"printable|longer than 255"):
        relative_path(name)


# Without NUL: zipfile itself cuts a name there, and fails on what is left of it.
LETTERS = st.sampled_from("ab./\\:\n\u202eé") | st.characters(
    codec="utf-8", exclude_characters="\0"
)
NAMES = st.text(LETTERS, min_size=1, max_size=12)


@FORMATS
@given(names=st.lists(NAMES, min_size=1, max_size=4))
def test_nothing_is_written_outside(make: Callable[[Files], bytes], names: list[str]) -> None:
    """Whatever the names: everything inside, or an error and no trace."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "deep" / "er"
        folder.mkdir(parents=True)
        archive = folder / "covers.bin"
        archive.write_bytes(make(dict.fromkeys(names, b"evil")))
        try:
            unpack(archive, folder / "item_images")
            expected = {"covers.bin", "item_images"}
        except InputError:
            expected = {"covers.bin"}
        assert [path.name for path in Path(name).iterdir()] == ["deep"]
        assert [path.name for path in folder.parent.iterdir()] == ["er"]
        assert {path.name for path in folder.iterdir()} == expected


@given(name=st.text())
def test_relative_path_stays_below(name: str) -> None:
    base = Path("/base/folder")
    try:
        path = relative_path(name)
    except ValueError:
        return
    assert base == (base / path) or base in (base / path).parents
    assert ".." not in path.parts
