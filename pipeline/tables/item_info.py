"""Task 1's file, item_info.parquet, in the organisers' schema: written, read, and checked.

Columns, by name and in any order, and no others: `item_id` int64, `item_tags` list<int64> of a
fixed number of tags, `item_emb_d128` list<float32> of one width of at most 128. Row i is item i by
ascending raw id, row 0 is padding: id 0, tags and vector all 0. No nulls, all numbers finite. Other
integer, float and list types of the same content are read as well, since tools differ in them.

    python -m pipeline.tables.item_info [FILE]
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.common.files import InputError
from pipeline.common.paths import ITEM_INFO, ITEMS
from pipeline.tables.table import RawTable

SCHEMA = pa.schema(
    [
        ("item_id", pa.int64()),
        ("item_tags", pa.list_(pa.int64())),
        ("item_emb_d128", pa.list_(pa.float32())),
    ]
)

TAGS = 5
"""Tags an item in the competition's own file."""

MAX_DIM = 128
"""Task 1's rule."""

MAX_INT64 = 2**63 - 1


@dataclass(frozen=True)
class ItemInfo:
    """Row i is item i, row 0 padding."""

    item_id: np.ndarray
    """int64 (N + 1,): raw ids, ascending."""
    tags: np.ndarray
    """int64 (N + 1, T): raw tag ids, 0 for none."""
    vectors: np.ndarray
    """float32 (N + 1, d), all zero where an item has none."""

    def equals(self, other: "ItemInfo") -> bool:
        return (
            np.array_equal(self.item_id, other.item_id)
            and np.array_equal(self.tags, other.tags)
            and np.array_equal(self.vectors, other.vectors)
        )


def write_item_info(path: Path, vectors: np.ndarray) -> None:
    """Write `vectors`, float32 (N + 1, dim), with raw ids and tags; row i is item i, row 0 padding.

    Raises InputError if the file, read back, breaks the schema, and OSError if it is not what was
    written.
    """
    items = pq.read_table(ITEMS, columns=["item_id", "tags"])
    tags = items["tags"].combine_chunks().flatten().to_numpy().reshape(len(items), -1)
    info = ItemInfo(items["item_id"].to_numpy(), tags.astype(np.int64), vectors)
    columns = [pa.array(info.item_id, pa.int64()), _lists(info.tags), _lists(vectors)]
    pq.write_table(pa.table(columns, schema=SCHEMA), path)
    if not read_item_info(path, tags.shape[1]).equals(info):
        raise OSError(f"{path}: read back, it differs from what was written")


def _lists(matrix: np.ndarray) -> pa.ListArray:
    rows, width = matrix.shape
    offsets = np.arange(rows + 1, dtype=np.int32) * width
    return pa.ListArray.from_arrays(offsets, matrix.reshape(-1))


def read_item_info(path: Path, tags: int | None = TAGS) -> ItemInfo:
    """The file's content; vectors come as float32 whatever float type they are stored in.

    Raises InputError, naming file, row, column and value, where it is not in the organisers' schema
    with `tags` tags an item, or as many as the first one has.
    """
    if not path.is_file():
        raise InputError(f"{path}: not found; `dvc repro fuse` writes {ITEM_INFO}")
    table = RawTable(path, tuple(SCHEMA.names))
    for name in table.names:
        if name not in SCHEMA.names:
            raise InputError(
                f"{path}, column {name}: not in Task 1's schema; "
                f"expected {', '.join(SCHEMA.names)} alone"
            )
    return ItemInfo(_read_ids(table), _read_tags(table, tags), _read_vectors(table))


def _read_ids(table: RawTable) -> np.ndarray:
    column = table.column("item_id")
    ids = column.integers(0, MAX_INT64, "expected 0 for padding, then positive ids")
    column.first(ids[:1] != 0, ids, "expected 0: row 0 is padding")
    column.first(
        np.append(False, ids[1:] <= ids[:-1]), ids, "expected ids in ascending order, each once"
    )
    return ids


def _read_tags(table: RawTable, width: int | None) -> np.ndarray:
    column = table.column("item_tags")
    tags = column.integer_matrix(width, "fill a shorter list with 0")
    wrong = (tags < 0) | (tags > MAX_INT64)
    column.first(wrong, tags, "expected a tag id of 0 (none) or more")
    column.first(tags[:1] != 0, tags, "expected 0: row 0 is padding")
    return tags.astype(np.int64, copy=False)


def _read_vectors(table: RawTable) -> np.ndarray:
    column = table.column("item_emb_d128")
    vectors = column.float_matrix()
    width = vectors.shape[1]
    if width > MAX_DIM:
        raise column.fault(0, f"a vector of {width} numbers", f"expected 1 to {MAX_DIM} of them")
    column.first(vectors[:1] != 0, vectors, "expected 0: row 0 is padding")
    return vectors


def summary(info: ItemInfo) -> str:
    """One line: how many items, how wide, how many without a vector, and how long vectors are."""
    norms = np.linalg.norm(info.vectors[1:].astype(np.float64), axis=1)
    present = norms[norms > 0]
    mean = present.mean() if len(present) else 0.0
    return (
        f"{len(norms)} items, {info.vectors.shape[1]} dimensions, "
        f"{len(norms) - len(present)} without a vector, mean norm {mean:.4f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Check Task 1's file.")
    parser.add_argument("file", nargs="?", type=Path, default=ITEM_INFO)
    parser.add_argument("--tags", type=int, default=TAGS, help="tags an item")
    options = parser.parse_args()
    try:
        print(f"{options.file}: {summary(read_item_info(options.file, options.tags))}")
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
