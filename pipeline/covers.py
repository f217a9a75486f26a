"""The covers of the raw layout, packed into one file that is read in order."""

from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from pipeline.archive import unpack
from pipeline.ids import DenseIds
from pipeline.schema import InputError

GROUP_ROWS = 256
"""Covers a row group: a few tens of MB, what a reader holds at a time."""


def find_covers(folder: Path, items: DenseIds) -> dict[int, Path]:
    """The files `item_images/{item_id}.jpg` that are there, by dense item id, ascending."""
    images = folder / "item_images"
    archive = folder / "item_images.rar"
    if not images.is_dir() and archive.is_file():
        images = _unpacked(archive)
        unpack(archive, images)
    if not images.is_dir():
        raise InputError(
            f"{images}: not found, nor {archive.name} beside it; "
            "to run without covers make it an empty folder"
        )
    names = {path.name for path in images.iterdir()}
    numbered = enumerate(items.raw.tolist(), start=1)
    return {item: images / f"{raw}.jpg" for item, raw in numbered if f"{raw}.jpg" in names}


def _unpacked(archive: Path) -> Path:
    """Where this very archive is unpacked to: outside the source, which may be read-only."""
    state = archive.stat()
    key = f"{archive.resolve()} {state.st_size} {state.st_mtime_ns}"
    return Path("scratch") / sha256(key.encode()).hexdigest()[:16] / "item_images"


def write_covers(path: Path, covers: dict[int, Path]) -> None:
    """Write (item int32, image binary) in the order of `covers`, each file's bytes as they are."""
    table = pa.schema([("item", pa.int32()), ("image", pa.binary())])
    items = list(covers)
    groups = range(0, len(items), GROUP_ROWS)
    with pq.ParquetWriter(path, table, compression="none", use_dictionary=False) as writer:
        for start in tqdm(groups, "covers", unit="group", disable=None):
            group = items[start : start + GROUP_ROWS]
            images = [covers[item].read_bytes() for item in group]
            writer.write_table(pa.table([pa.array(group, pa.int32()), images], schema=table))
