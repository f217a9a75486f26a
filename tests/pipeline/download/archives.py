"""Archives, written byte by byte (RAR) or by the standard library (zip, tar), and unpacked."""

import io
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.common.files import InputError
from pipeline.download.archive import unpack

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


def zip_with(info: zipfile.ZipInfo, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, content)
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
