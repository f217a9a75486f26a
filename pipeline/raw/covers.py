"""The covers of the raw layout, packed into one file that is read in order."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

GROUP_ROWS = 256
"""Covers a row group: a few tens of MB, what a reader holds at a time."""

GROUP_BYTES = 2**26
"""A row group that reaches this ends there: of large covers it has fewer."""

MAX_BYTES = 2**27
"""Of one cover; the largest picture that the encoders take fills as much without compression."""


def write_covers(path: Path, covers: dict[int, Path]) -> None:
    """Write (item int32, image binary) in the order of `covers`, each file's bytes as they are.

    What cannot be read as a cover is null: a folder, a broken link, a file without end.
    """
    table = pa.schema([("item", pa.int32()), ("image", pa.binary())])
    with pq.ParquetWriter(path, table, compression="none", use_dictionary=False) as writer:
        for items, images in _groups(tqdm(covers.items(), "covers", unit="cover", disable=None)):
            writer.write_table(pa.table([pa.array(items, pa.int32()), images], schema=table))


def _groups(covers: Iterable[tuple[int, Path]]) -> Iterator[tuple[list[int], list[bytes | None]]]:
    """Items and contents of each row group: GROUP_ROWS covers, fewer where they are large."""
    items: list[int] = []
    images: list[bytes | None] = []
    size = 0
    for item, file in covers:
        content = _content(file)
        items.append(item)
        images.append(content)
        size += len(content or b"")
        if len(items) == GROUP_ROWS or size >= GROUP_BYTES:
            yield items, images
            items, images, size = [], [], 0
    if items:
        yield items, images


def _content(file: Path) -> bytes | None:
    """The bytes of `file`, or None where reading would fail, wait for ever or never end."""
    small = file.is_file() and file.stat().st_size <= MAX_BYTES
    return file.read_bytes() if small else None
