"""Task 1's file, item_info.parquet, in the organisers' schema."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.schema import ITEMS

SCHEMA = pa.schema(
    [
        ("item_id", pa.int64()),
        ("item_tags", pa.list_(pa.int64())),
        ("item_emb_d128", pa.list_(pa.float32())),
    ]
)


def write_item_info(path: Path, vectors: np.ndarray) -> None:
    """Write `vectors`, float32 (N + 1, dim), with raw ids and tags; row i is item i, row 0 padding.

    Raises OSError if the file, read back, is not what was written.
    """
    items = pq.read_table(ITEMS, columns=["item_id", "tags"])
    table = pa.table(
        [
            items["item_id"].cast(pa.int64()),
            items["tags"].cast(pa.list_(pa.int64())),
            _lists(vectors),
        ],
        schema=SCHEMA,
    )
    pq.write_table(table, path)
    if not pq.read_table(path).equals(table):
        raise OSError(f"{path}: read back, it differs from what was written")


def _lists(matrix: np.ndarray) -> pa.ListArray:
    rows, width = matrix.shape
    offsets = np.arange(rows + 1, dtype=np.int32) * width
    return pa.ListArray.from_arrays(offsets, matrix.reshape(-1))
