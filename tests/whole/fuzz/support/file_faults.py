"""Faults of whole files: missing, damaged, or something else under their name."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
from hypothesis import strategies as st

from tests.whole.fuzz.support.folder import EMB, FEATURE, INFO, SPLITS, Folder, Place

FileSpoil = Callable[[Folder, Place, st.DrawFn], str]
"""Sees to it that a file is spoiled once it is written; returns what follows the file's name."""

NEEDED = [Place(table, "") for table in (FEATURE, *SPLITS)]
TABLES = [*NEEDED, Place(INFO, ""), Place(EMB, "")]
UNREADABLE = ": not a readable parquet file ("


def then(damage: Callable[[Path], object], message: str) -> FileSpoil:
    """Do `damage` to the table's file."""

    def spoil(folder: Folder, place: Place, _: st.DrawFn) -> str:
        folder.damage.append(lambda path: damage(path / f"{place.table}.parquet"))
        return message

    return spoil


def replaced(content: bytes) -> FileSpoil:
    return then(lambda file: file.write_bytes(content), UNREADABLE)


def folder_instead(file: Path) -> None:
    file.unlink()
    file.mkdir()


def dangling_link(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere.parquet")


def link_to_itself(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.name)


def cut_short(folder: Folder, place: Place, draw: st.DrawFn) -> str:
    share = draw(st.floats(0, 1, exclude_max=True))

    def cut(file: Path) -> None:
        content = file.read_bytes()
        file.write_bytes(content[: int(share * len(content))])

    return then(cut, UNREADABLE)(folder, place, draw)


def damaged_page(folder: Folder, place: Place, draw: st.DrawFn) -> str:
    """One byte of a column's values is another one, which the page's checksum tells."""
    folder.options.setdefault(place.table, {})["write_page_checksum"] = True
    column = "item_id" if place.table in (FEATURE, INFO, EMB) else "likes_level"
    mask = draw(st.integers(1, 255))

    def flip(file: Path) -> None:
        metadata = pq.read_metadata(file)
        index = metadata.schema.to_arrow_schema().names.index(column)
        names = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
        groups = range(metadata.num_row_groups)
        group = next(g for g in groups if metadata.row_group(g).num_rows)
        chunk = metadata.row_group(group).column(names.index(column))
        assert index >= 0
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        content = bytearray(file.read_bytes())
        content[start + chunk.total_compressed_size - 1] ^= mask
        file.write_bytes(content)

    return then(flip, UNREADABLE)(folder, place, draw)


def without_rows(folder: Folder, place: Place, _: st.DrawFn) -> str:
    for values in folder.tables[place.table].values():
        values.clear()
    return ": has no rows"


def no_images(folder: Folder, _: Place, __: st.DrawFn) -> str:
    folder.damage.append(remove_images)
    return ": not found"


def remove_images(path: Path) -> None:
    for covers in path.glob("[iI][tT][eE][mM]_*"):
        if covers.is_dir():
            shutil.rmtree(covers)
        elif covers.suffix != ".parquet":
            covers.unlink()


def images_in_a_file(folder: Folder, place: Place, draw: st.DrawFn) -> str:
    message = no_images(folder, place, draw)
    folder.damage.append(lambda path: (path / "item_images").write_bytes(b""))
    return message


IMAGES = [Place("item_images", "")]

FILE_FAULTS: dict[str, tuple[list[Place], FileSpoil]] = {
    "no file": (NEEDED, then(Path.unlink, ": not found")),
    "folder in place of a file": (TABLES, then(folder_instead, ": ")),
    "dangling link": (TABLES, then(dangling_link, ": ")),
    "link to itself": (TABLES, then(link_to_itself, ": ")),
    "no bytes": (TABLES, replaced(b"")),
    "text file": (TABLES, replaced(b"user_id,item_seq\n1,2\n")),
    "magic bytes alone": (TABLES, replaced(b"PAR1PAR1")),
    "huge footer": (TABLES, replaced(b"PAR1" + b"\xff" * 40 + b"\xff\xff\xff\x7fPAR1")),
    "cut short": (TABLES, cut_short),
    "damaged page": (TABLES, damaged_page),
    "no rows": (TABLES, without_rows),
    "no images": (IMAGES, no_images),
    "images in a file": (IMAGES, images_in_a_file),
}
