"""Archives are written here byte by byte (RAR 5) or by the standard library (zip, tar)."""

import ctypes.util
import errno
import io
import logging
import shutil
import stat
import struct
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.common.files import InputError
from pipeline.download import archive as module
from pipeline.download.archive import relative_path, unpack

Files = Mapping[str, bytes]
COVERS = {f"item_images/{item}.jpg": b"\xff\xd8 cover %d " % item * item for item in (1, 2, 3)}


def vint(value: int) -> bytes:
    """RAR 5's variable-length integer: 7 bits a byte, low ones first, the top bit says more."""
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def rar_block(fields: bytes) -> bytes:
    """A header: CRC32 of all that follows it, size, fields (type and flags first)."""
    sized = vint(len(fields)) + fields
    return zlib.crc32(sized).to_bytes(4, "little") + sized


def rar_file(
    name: bytes,
    content: bytes,
    *,
    extra: bytes = b"",
    claimed: int | None = None,
    mode: int = stat.S_IFREG,
) -> bytes:
    """A stored file of `content`, whose header says `claimed` bytes once unpacked."""
    flags = 0x02 | (0x01 if extra else 0)
    fields = vint(2) + vint(flags) + (vint(len(extra)) if extra else b"") + vint(len(content))
    fields += vint(0x04) + vint(len(content) if claimed is None else claimed) + vint(mode | 0o644)
    fields += zlib.crc32(content).to_bytes(4, "little")
    stored, unix = vint(0), vint(1)
    return rar_block(fields + stored + unix + vint(len(name)) + name + extra) + content


def rar_link(kind: int, target: bytes) -> bytes:
    """The extra record of a redirection: 1 a symbolic link, 4 a hard link."""
    record = vint(5) + vint(kind) + vint(0) + vint(len(target)) + target
    return vint(len(record)) + record


def rar(*files: bytes) -> bytes:
    main = rar_block(vint(1) + vint(0) + vint(0))
    end = rar_block(vint(5) + vint(4) + vint(0))
    return b"Rar!\x1a\x07\x01\x00" + main + b"".join(files) + end


def rar4_of(files: Files, mode: int = stat.S_IFREG) -> bytes:
    """The older format: headers of CRC16, type, flags and size; stored files."""

    def block(kind: int, flags: int, fields: bytes) -> bytes:
        rest = struct.pack("<BHH", kind, flags, 7 + len(fields)) + fields
        return (zlib.crc32(rest) & 0xFFFF).to_bytes(2, "little") + rest

    def file(name: bytes, content: bytes) -> bytes:
        sizes, crc, stored, unix = [len(content)] * 2, zlib.crc32(content), 0x30, 3
        fields = struct.pack(
            "<IIBIIBBHI", *sizes, unix, crc, 0, 20, stored, len(name), mode | 0o644
        )
        return block(0x74, 0x8000, fields + name) + content

    members = (file(name.encode(), content) for name, content in files.items())
    return (
        b"Rar!\x1a\x07\x00"
        + block(0x73, 0, bytes(6))
        + b"".join(members)
        + block(0x7B, 0x4000, b"")
    )


def rar_of(files: Files) -> bytes:
    return rar(*(rar_file(name.encode(), content) for name, content in files.items()))


def zip_of(files: Files) -> bytes:
    return stored_zip_of(files, zipfile.ZIP_DEFLATED)


def stored_zip_of(files: Files, compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tar_of(files: Files) -> bytes:
    return tar_with(*((tarfile.TarInfo(name), content) for name, content in files.items()))


def tar_with(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


FORMATS = pytest.mark.parametrize("make", [rar_of, rar4_of, zip_of, tar_of])


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refused(content: bytes, folder: Path, match: str) -> None:
    """Unpacking fails with one message that names the archive, and leaves the archive alone."""
    archive = folder / "covers.bin"
    archive.write_bytes(content)
    with pytest.raises(InputError, match=match) as error:
        unpack(archive, folder / "item_images")
    assert str(archive) in str(error.value)
    assert [path.name for path in folder.iterdir()] == ["covers.bin"]


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


def test_link_in_zip(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    info = zipfile.ZipInfo("out.jpg")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    refused(buffer.getvalue(), tmp_path, "'out.jpg'.*links and devices")


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
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(info, "/etc/passwd")
        content = buffer.getvalue()
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


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"#mtree\n1.jpg type=file\n"])
def test_not_an_archive(content: bytes, tmp_path: Path) -> None:
    refused(content, tmp_path, "cannot be read as RAR, zip or tar")


@pytest.mark.parametrize("content", [rar(), rar4_of({}), zip_of({}), tar_of({})])
def test_nothing_in_it(content: bytes, tmp_path: Path) -> None:
    refused(content, tmp_path, "cannot be read as RAR, zip or tar: ")


@pytest.mark.parametrize(
    "name", ["a\nb", "\u202egpj.1", "\udcff.jpg", b"\xff.jpg", None, "é" * 128]
)
def test_names_that_are_no_names(name: object) -> None:
    with pytest.raises(ValueError, match=r"printable|longer than 255"):
        relative_path(name)


def test_encrypted_headers(tmp_path: Path) -> None:
    refused(b"Rar!\x1a\x07\x01\x00" + rar_block(vint(4) + bytes(40)), tmp_path, ": encrypted")


def test_sizes_beyond_the_file(tmp_path: Path) -> None:
    for size in (1000, 2**64):
        header = rar_block(vint(2) + vint(2) + vint(size))
        refused(rar(header), tmp_path, "cut off")
    refused(rar(rar_block(vint(2) + vint(2) + b"\xff" * 11)), tmp_path, "more than 10 bytes")


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
