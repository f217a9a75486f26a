"""Unpacks an archive (RAR, zip or tar) from a source that is not trusted, whole or not at all."""

import ctypes
import logging
import os
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from tqdm import tqdm

from pipeline.common.files import InputError
from pipeline.download.disk import require_space, writing

MAX_ENTRIES = 500_000
"""Five times the competition's 91,717 covers."""
MAX_FILE_BYTES = 64 * 2**20
"""A cover is a JPEG of kilobytes; one of 64 MiB is no cover."""
MAX_TOTAL_BYTES = 64 * 2**30
"""91,717 covers of 200 KB are 18 GB; more than 64 GiB is a bomb, or the wrong archive."""
MAX_RATIO = 100
"""Of what comes out to the archive's own bytes: pictures are compressed already, a bomb is not."""
MAX_DEPTH = 16
"""Folders in each other: an entry makes all that its path names, and so does every other entry."""

# Named one by one: libarchive's "all" includes mtree, whose entries read other files of the disk,
# and filters that start outside programs.
FORMATS = ("rar5", "rar", "zip", "tar")
FILTER = "none"
BLOCK = 2**16

RAR5 = b"Rar!\x1a\x07\x01\x00"
RAR5_ENCRYPTION, RAR5_END = 4, 5
CUT_OFF = "cut off: the end-of-archive header is missing"


def unpack(archive: Path, folder: Path) -> None:
    """Unpack `archive` as `folder`; does nothing where `folder` holds something already.

    An archive whose one top folder has the name of `folder` is not nested twice. Everything is
    written to a sibling first and renamed at the end, so an interrupted run leaves no `folder`.

    Raises InputError, naming archive and entry, for an archive that is broken, encrypted or too
    large, and for an entry that is a link, a device, or would land outside `folder`.
    """
    if is_unpacked(folder):
        return
    partial = folder.with_name(f".{folder.name}.partial")
    _remove(partial)
    partial.mkdir(parents=True)
    try:
        require_space(partial, archive.stat().st_size, "pictures")  # they are compressed already
        with writing(folder):
            _extract(archive, partial)
        nested = [path.name for path in partial.iterdir()] == [folder.name]
        inner = partial / folder.name
        (inner if nested and inner.is_dir() else partial).rename(folder)
    finally:
        _remove(partial)


def is_unpacked(folder: Path) -> bool:
    """Whether `folder` holds something, by `unpack` or by hand."""
    return folder.is_dir() and any(folder.iterdir())


def relative_path(name: object) -> PurePosixPath:
    """`name` as a path that stays below the folder it is joined to, on any system.

    Raises ValueError for an absolute path, `..`, a backslash or colon (drives and streams on
    Windows), an unprintable character, more than MAX_DEPTH parts, and a name that is not text
    (bytes of an unknown encoding).
    """
    if not isinstance(name, str) or not name.isprintable():
        raise ValueError("the name is not printable text")
    if name.startswith("/") or any(mark in name for mark in "\\:"):
        raise ValueError("the path is absolute, or holds a backslash or a colon")
    path = PurePosixPath(name)
    if ".." in path.parts:
        raise ValueError("the path leaves the folder")
    if len(path.parts) > MAX_DEPTH:
        raise ValueError(f"the path has more than {MAX_DEPTH} parts")
    if any(len(part.encode()) > 255 for part in path.parts):
        raise ValueError("a part of the path is longer than 255 bytes")
    return path


def most_bytes(archive: Path) -> int:
    """What may come out of `archive`; a small one may hold a cover that compresses well."""
    return min(MAX_TOTAL_BYTES, max(MAX_FILE_BYTES, MAX_RATIO * archive.stat().st_size))


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _extract(archive: Path, folder: Path) -> None:
    """Write every entry of `archive` below `folder`, which is empty."""
    library, ffi = load_libarchive()
    name: object = None
    try:
        _check_rar5_end(archive)
        with archive.open("rb") as file, library.new_archive_read(FORMATS[0], FILTER) as pointer:
            for other in FORMATS[1:]:
                ffi.get_read_format_function(other)(pointer)
            ffi.read_open_fd(pointer, file.fileno(), BLOCK)
            room = limit = most_bytes(archive)
            for count, entry in enumerate(_with_progress(archive, library.ArchiveRead(pointer)), 1):
                name = entry.pathname
                if count > MAX_ENTRIES:
                    raise ValueError(f"more than {MAX_ENTRIES} entries")
                if ffi.read_has_encrypted_entries(pointer) == 1:
                    raise ValueError("encrypted")
                room -= _write(entry, folder, room, ffi, pointer)
                if room < 0:
                    raise ValueError(f"the archive unpacks to more than {limit} bytes")
            if name is None:
                raise ValueError("no entries")
    except (ValueError, FileExistsError, NotADirectoryError, ffi.ArchiveError) as error:
        at = "cannot be read as RAR, zip or tar" if name is None else f"entry {name!r}"
        reason = getattr(error, "msg", None) or error
        raise InputError(
            f"{archive}: {at}: {reason}. Nothing was unpacked; "
            "delete the archive and get it again, or from a source that you trust"
        ) from None


def load_libarchive() -> tuple[Any, Any]:
    """The binding's reader and its table of C functions, which has no types to check against.

    Imported here, for the system library may be missing where no archive is ever unpacked. Raises
    InputError where it is missing or too old.
    """
    # At import the binding notes what an older library cannot write, which reads like a fault.
    logging.getLogger("libarchive").setLevel(logging.WARNING)
    try:
        library, ffi = import_module("libarchive.read"), import_module("libarchive.ffi")
        for name in FORMATS:
            ffi.get_read_format_function(name)
        ffi.ffi("read_has_encrypted_entries", [ctypes.c_void_p], ctypes.c_int)
    except (ImportError, OSError, AttributeError, ValueError) as error:
        # Which of them depends on how the binding fails: no file, no such symbol, no RAR 5.
        raise InputError(
            f"libarchive 3.4 or newer, which unpacks archives, cannot be loaded ({error}). "
            "Install it: Debian and Ubuntu `apt-get install libarchive13`, "
            "macOS `brew install libarchive`; or unpack the archive by hand"
        ) from None
    return library, ffi


def _check_rar5_end(archive: Path) -> None:
    """ValueError unless the headers of a RAR 5 archive lead to its end header; others pass.

    libarchive takes a cut within a header for the end: the files after it would be missing
    without a word. https://www.rarlab.com/technote.htm has the format.
    """
    with archive.open("rb") as file:
        kind = RAR5_END if file.read(len(RAR5)) != RAR5 else 0
        while kind != RAR5_END:
            file.seek(4, os.SEEK_CUR)  # the header's CRC32
            size = _vint(file)
            start = file.tell()
            kind, flags = _vint(file), _vint(file)
            if kind == RAR5_ENCRYPTION:
                raise ValueError("encrypted")
            if flags & 1:
                _vint(file)  # the size of the extra area, which is part of the header
            data = _vint(file) if flags & 2 else 0
            end = start + size + data
            if end > archive.stat().st_size:
                raise ValueError(CUT_OFF)
            file.seek(end)


def _vint(file: BinaryIO) -> int:
    """RAR 5's integer of at most 10 bytes: 7 bits a byte, the low ones first."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError(CUT_OFF)
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("damaged: a number of more than 10 bytes")


def _with_progress(archive: Path, reader: Any) -> Iterator[Any]:
    """The entries of `reader`, with a bar over the archive's bytes."""
    size = archive.stat().st_size
    with tqdm(desc=archive.name, total=size, unit="B", unit_scale=True, disable=None) as bar:
        for entry in reader:
            bar.update(reader.bytes_read - bar.n)
            yield entry


def _write(entry: Any, folder: Path, room: int, ffi: Any, pointer: int) -> int:
    """Write one entry below `folder`; its bytes, which stop where they exceed `room`.

    ValueError if refused.
    """
    path = folder / relative_path(entry.pathname)
    if entry.islnk or not (entry.isreg or entry.isdir):
        raise ValueError("neither a plain file nor a folder; links and devices are refused")
    if entry.isdir:
        path.mkdir(parents=True, exist_ok=True)
        return 0
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with path.open("xb") as file:
        for block in _blocks(ffi, pointer):
            written += len(block)
            if written > MAX_FILE_BYTES:
                raise ValueError(f"larger than {MAX_FILE_BYTES} bytes")
            if written > room:
                return written
            file.write(block)
    if entry.size not in (None, written):
        raise ValueError(f"{written} bytes, where the archive says {entry.size}")
    return written


def _blocks(ffi: Any, pointer: int) -> Iterator[bytes]:
    """The bytes of the entry just read, BLOCK at most at a time.

    The binding's own `get_blocks` takes libarchive's warnings, a wrong zip checksum among them,
    for a count of bytes.
    """
    buffer = ctypes.create_string_buffer(BLOCK)
    while count := ffi.read_data(pointer, buffer, BLOCK):
        if count < 0:
            raise ValueError((ffi.error_string(pointer) or b"damaged").decode(errors="replace"))
        yield ctypes.string_at(buffer, count)
