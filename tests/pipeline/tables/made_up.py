"""Made-up item tables of Task 1, and the files that they are read from."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.tables.item_info import ItemInfo, read_item_info

LISTS: dict[str, Callable[[pa.DataType, int], pa.DataType]] = {
    "list": lambda kind, _width: pa.list_(kind),
    "large_list": lambda kind, _width: pa.large_list(kind),
    "fixed_size_list": lambda kind, width: pa.list_(kind, width),
}
TAGS = 2


def made_up(rows: int, width: int, seed: int) -> ItemInfo:
    """With gaps in the ids; the vectors' values are exact in half precision."""
    random = np.random.default_rng(seed)
    item_id = np.cumsum(random.integers(1, 4, rows))
    tags = random.integers(0, 9, (rows, TAGS))
    vectors = random.integers(-3, 4, (rows, width)).astype(np.float32) / 4
    tags[0], vectors[0] = 0, 0
    return ItemInfo(item_id - item_id[0], tags, vectors)


def lists(matrix: np.ndarray, kind: pa.DataType, dress: str) -> pa.Array:
    rows = [row.astype(kind.to_pandas_dtype()) for row in matrix]
    return pa.array(rows, LISTS[dress](kind, matrix.shape[1]))


def table_of(info: ItemInfo) -> pa.Table:
    return pa.table(
        {
            "item_id": pa.array(info.item_id, pa.int64()),
            "item_tags": lists(info.tags, pa.int64(), "list"),
            "item_emb_d128": lists(info.vectors, pa.float32(), "list"),
        }
    )


def read_table(
    table: pa.Table, row_group_size: int | None = None, tags: int | None = TAGS
) -> ItemInfo:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file.parquet"
        pq.write_table(table, path, row_group_size=row_group_size)
        return read_item_info(path, tags)
