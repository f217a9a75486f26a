"""Which file of the raw layout is which item's cover.

The item is the file's stem, a number; what kind of picture it is its content tells, not its name.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from pipeline.common.files import InputError, some_of
from pipeline.download import cache
from pipeline.download.archive import load_libarchive, unpack
from pipeline.raw.ids import DenseIds
from pipeline.raw.seen import refuse_linked_folder

FOLDER = "item_images"
"""The raw layout's folder of covers, in any case of letters."""
ARCHIVES = (".rar", ".zip", ".tar")
"""What it may be packed as."""
PICTURES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp"),
    *(".gif", ".bmp", ".tif", ".tiff", ".avif"),
)
"""Endings of covers, in any case of letters; a number without one is a cover too."""
NAME = re.compile(r"0*([1-9][0-9]*)(\.[a-z]+)?", re.IGNORECASE | re.ASCII)
OF_THE_SYSTEM = ("__macosx", "thumbs.db", "desktop.ini")
"""What macOS and Windows leave in folders and archives, beside hidden files."""


@dataclass(frozen=True)
class Covers:
    """The covers of a source."""

    files: dict[int, Path]
    """By dense item id, ascending."""
    unused: int
    """Files that lie beside them and are no item's cover."""


def locate(source: Path) -> Path:
    """The folder of covers in `source`, or where there is none their archive.

    Raises InputError where there is neither or more than one, and for an archive without the
    library that reads it.
    """
    near = sorted(path for path in source.iterdir() if not is_of_the_system(path.name))
    folders = [path for path in near if path.name.casefold() == FOLDER and path.is_dir()]
    found = folders or [path for path in near if _is_archive(path)]
    if not found:
        names = some_of([path.name for path in near])
        raise InputError(
            f"{source / FOLDER}: not found, nor {FOLDER}.rar, .zip or .tar beside it; "
            f"there is {names}. To run without covers make it an empty folder"
        )
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise InputError(f"{source}: holds {names}, each of which may be the covers; keep one")
    if not folders:
        load_libarchive()
    return found[0]


def find_covers(source: Path, items: DenseIds) -> Covers:
    """The cover of each item that has one, from however deep below the folder of covers.

    An archive is unpacked first. Raises InputError for two files of one item, and where there are
    files but none is an item's.
    """
    place = locate(source)
    dense = {raw: item for item, raw in enumerate(items.raw.tolist(), start=1)}
    found: dict[int, Path] = {}
    others: list[str] = []
    for file in files_below(place if place.is_dir() else _unpacked(place)):
        item = dense.get(item_of(file.name))
        if item is None:
            others.append(file.name)
        elif item in found:
            raise _two_files(found[item], file)
        else:
            found[item] = file
    if others and not found:
        raise _none_matches(place, others, items)
    return Covers({item: found[item] for item in sorted(found)}, len(others))


def files_below(folder: Path) -> Iterator[Path]:
    """All files below `folder`, those of the system left out.

    What has the name of a picture counts as a file. Raises InputError for a link to a folder.
    """
    folders = [folder]
    while folders:
        parent = folders.pop()
        with os.scandir(parent) as entries:
            for entry in entries:
                if is_of_the_system(entry.name):
                    continue
                path = parent / entry.name
                is_picture = entry.name.casefold().endswith(PICTURES)
                if not is_picture and entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                    continue
                if not is_picture and entry.is_symlink():
                    refuse_linked_folder(path)
                yield path


def is_of_the_system(name: str) -> bool:
    return name.startswith(".") or name.casefold() in OF_THE_SYSTEM


def item_of(name: str) -> int:
    """The raw item id that a cover's name tells, 0 where it tells none."""
    parts = NAME.fullmatch(name)
    return int(parts[1]) if parts and (parts[2] or ".jpg").casefold() in PICTURES else 0


def _is_archive(path: Path) -> bool:
    return path.stem.casefold() == FOLDER and path.suffix.casefold() in ARCHIVES and path.is_file()


def _unpacked(archive: Path) -> Path:
    """Where this very archive is unpacked: outside the source, which may be read-only."""
    state = archive.stat()
    key = f"{archive.resolve()} {state.st_size} {state.st_mtime_ns}"
    folder = cache.folder() / "unpacked" / sha256(key.encode()).hexdigest()[:16]
    with cache.held(folder):
        unpack(archive, folder / FOLDER)
    return folder / FOLDER


def _two_files(one: Path, other: Path) -> InputError:
    first, second = sorted((one, other))
    return InputError(f"{first} and {second}: two covers of one item; keep one of them")


def _none_matches(place: Path, others: list[str], items: DenseIds) -> InputError:
    wanted = ", ".join(f"{raw}.jpg" for raw in items.raw[:3])
    return InputError(
        f"{place}: none of its {len(others):,} files is an item's cover: found {some_of(others)}; "
        f"expected {wanted}, ... (item_id of item_feature.parquet, then .jpg, .png or another "
        "picture's ending); rename them, or run without covers from an empty folder"
    )
