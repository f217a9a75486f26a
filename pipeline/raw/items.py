"""The raw item tables as item-indexed arrays: row i is item i, row 0 padding."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.common.files import InputError
from pipeline.raw.ids import UNKNOWN, DenseIds
from pipeline.tables.table import RawTable

MAX_ID = 2**62

EMB_PREFIX = "item_emb"
"""What the column of vectors in item_emb.parquet begins with."""
EMB_COLUMN = "item_emb_d128_v3"
"""Its name as the organisers list it."""


@dataclass(frozen=True)
class Items:
    """The catalogue of N items."""

    ids: DenseIds
    titles: list[str]
    """N + 1, '' where there is none."""
    tags: np.ndarray
    """int64 (N + 1, T): raw tag ids, padded on the left with 0."""
    given_text: np.ndarray
    """float32 (N + 1, d): `txt_emb_BERT`, or no columns when the source has none."""
    given_image: np.ndarray
    """Likewise `img_emb_CLIPRN50`."""
    given_item: np.ndarray
    """Likewise `item_emb_d128` of item_info.parquet."""
    given_item_emb: np.ndarray
    """Likewise the vectors of item_emb.parquet."""


def read_items(folder: Path, info: Path, tags: int) -> Items:
    """Read `item_feature.parquet` in `folder`, and the organisers' tables if they exist: `info`,
    and `item_emb.parquet` in `folder`.

    Tags come from `info` where it exists (the competition's own choice of five), else from the
    item features; of a list of more than `tags` the last ones are kept.
    """
    table = RawTable(folder / "item_feature.parquet", ("item_id", "item_title", "item_tags"))
    ids = _read_ids(table)
    row = _rows_by_item(table, ids)
    titles = table.column("item_title").strings()
    info_table = RawTable(info, ("item_id", "item_tags")) if os.path.lexists(info) else None
    return Items(
        ids=ids,
        titles=["", *(titles[r] for r in row)],
        tags=_read_tags(table if info_table is None else info_table, ids, tags),
        given_text=_read_vectors(table, "txt_emb_BERT", ids),
        given_image=_read_vectors(table, "img_emb_CLIPRN50", ids),
        given_item=_read_vectors(info_table, "item_emb_d128", ids),
        given_item_emb=_read_item_emb(folder / "item_emb.parquet", ids),
    )


def _read_ids(table: RawTable) -> DenseIds:
    column = table.column("item_id")
    raw = column.integers(1, MAX_ID, "expected a positive id (0 is padding)")
    column.refuse_repeats(raw)
    return DenseIds.of(np.sort(raw))


def _rows_by_item(table: RawTable, ids: DenseIds) -> np.ndarray:
    """int64 (N,): the row of `table` that describes item 1, 2, ..., N.

    A row of item 0, padding, is passed over. Raises InputError for an item that is unknown,
    doubled or missing.
    """
    column = table.column("item_id")
    raw = column.integers(0, MAX_ID, "expected an item id")
    dense = ids.dense(raw)
    column.first(dense == UNKNOWN, raw, "expected an item of item_feature.parquet")
    column.refuse_repeats(raw)
    row = np.full(len(ids) + 1, -1)
    row[dense] = np.arange(len(dense))
    for item in ids.raw[row[1:] < 0][:1]:
        raise InputError(f"{table.path}: no row for item {item} of item_feature.parquet")
    return row[1:]


def _read_tags(table: RawTable, ids: DenseIds, width: int) -> np.ndarray:
    column = table.column("item_tags")
    values, lengths = column.integer_lists()
    row = np.repeat(np.arange(len(lengths)), lengths)
    for index in np.flatnonzero((values < 0) | (values > MAX_ID))[:1]:
        raise column.fault(int(row[index]), values[index], "expected tag ids of 0 (none) or more")
    real = values != 0
    padded = pad_left(
        values[real].astype(np.int64), np.bincount(row[real], minlength=len(lengths)), width
    )
    return np.concatenate([np.zeros((1, width), np.int64), padded[_rows_by_item(table, ids)]])


def pad_left(values: np.ndarray, lengths: np.ndarray, width: int) -> np.ndarray:
    """(n, width): each row's last `width` values at the right, zeros at the left.

    `values` holds the rows after one another, `lengths` (n,) how many each has.
    """
    from_end = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(values))  # 1 = a row's last
    kept = from_end <= width
    padded = np.zeros((len(lengths), width), values.dtype)
    row = np.repeat(np.arange(len(lengths)), lengths)
    padded[row[kept], width - from_end[kept]] = values[kept]
    return padded


def _read_vectors(table: RawTable | None, name: str, ids: DenseIds) -> np.ndarray:
    """float32 (N + 1, d), read a batch of rows at a time; d is 0 where there is no such column."""
    if table is None or not table.has(name):
        return np.zeros((len(ids) + 1, 0), np.float32)
    item = np.zeros(len(table), np.int64)
    item[_rows_by_item(table, ids)] = np.arange(1, len(ids) + 1)
    vectors = np.zeros((len(ids) + 1, 0), np.float32)
    for batch in table.batches(name):
        column = batch[name]
        piece = column.float_matrix(vectors.shape[1] or None)
        if not vectors.shape[1]:
            vectors = np.zeros((len(ids) + 1, piece.shape[1]), np.float32)
        vectors[item[column.first_row : column.first_row + len(piece)]] = piece
    vectors[0] = 0
    return vectors


def _read_item_emb(path: Path, ids: DenseIds) -> np.ndarray:
    """float32 (N + 1, d): the vectors of the file at `path`; d is 0 where there is none."""
    if not os.path.lexists(path):
        return _read_vectors(None, EMB_COLUMN, ids)
    table = RawTable(path, ("item_id",))
    names = {name for name in table.names if name.startswith(EMB_PREFIX)}
    if EMB_COLUMN in names:
        return _read_vectors(table, EMB_COLUMN, ids)
    if len(names) != 1:
        raise InputError(
            f"{path}: no column {EMB_COLUMN}, nor one other that begins with {EMB_PREFIX}; it has "
            f"{', '.join(table.names)}. Name the column of vectors so, or take the file away"
        )
    return _read_vectors(table, names.pop(), ids)


def items_table(items: Items) -> pa.Table:
    """`data/items.parquet`: what later stages read of each item."""
    width = items.tags.shape[1]
    flat = pa.array(items.tags.reshape(-1), pa.int64())
    offsets = np.arange(0, items.tags.size + 1, width, dtype=np.int32)
    return pa.table(
        {
            "item_id": pa.array(np.append(0, items.ids.raw), pa.int64()),
            "title": pa.array(items.titles, pa.string()),
            "tags": pa.ListArray.from_arrays(offsets, flat),
        }
    )
