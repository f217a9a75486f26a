"""The raw click log of a split as rows of one int32 matrix (`split.Split`)."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from pipeline.common.files import InputError
from pipeline.common.paths import CLICKS
from pipeline.raw.ids import UNKNOWN, DenseIds
from pipeline.raw.items import MAX_ID
from pipeline.tables.split import LEVEL_COLUMNS, LEVELS, Split
from pipeline.tables.table import Column, RawTable

MERGE = 1 << 20
"""Users that are collected before they are merged, at the least."""


def open_clicks(folder: Path, split: str) -> RawTable:
    columns = ("user_id", "item_seq", "item_id", *LEVEL_COLUMNS)
    labels = () if split == "test" else ("label",)
    return RawTable(folder / CLICKS / f"{split}.parquet", columns + labels)


def distinct_users(tables: Iterable[RawTable]) -> np.ndarray:
    """int64 (u,): the raw user ids of all tables in ascending order, without ever holding a column.

    New ones are merged when they are as many as those known, so that each is sorted few times.
    """
    known, new = np.empty(0, np.int64), [np.empty(0, np.int64)]
    for table in tables:
        for batch in table.batches("user_id"):
            new.append(np.unique(_users(batch["user_id"])))
            if sum(map(len, new)) > max(MERGE, len(known)):
                known, new = np.unique(np.concatenate([known, *new])), []
    return np.unique(np.concatenate([known, *new]))


def refuse_one_class(table: RawTable) -> None:
    """Neither a loss nor an AUC can be had from labels that are all the same."""
    seen: set[int] = set()
    for batch in table.batches("label"):
        seen.update(np.unique(_labels(batch["label"])).tolist())
        if len(seen) == 2:
            return
    raise InputError(
        f"{table.path}, column label: every label is {seen.pop()}; expected both 0 and 1"
    )


def read_rows(
    table: RawTable, items: DenseIds, users: np.ndarray, history: int, labelled: bool
) -> Iterator[np.ndarray]:
    """Consecutive rows (n, history + 5) int32 as in `split.Split`.

    `users` (u,) are all raw user ids in ascending order, the first of which becomes 1. A label that
    is not to be seen (`labelled` false) is -1.
    """
    names = ("user_id", "item_seq", "item_id", *LEVEL_COLUMNS)
    for batch in table.batches(*names, *(("label",) if labelled else ())):
        sequence = read_history(batch["item_seq"], items, history)
        split = Split(np.empty((len(sequence), history + len(Split.TAIL)), np.int32))
        split.history[:] = sequence
        split.target[:] = _known(batch["item_id"], items)
        for level in LEVEL_COLUMNS:
            split.column(level)[:] = read_levels(batch[level])
        split.label[:] = _labels(batch["label"]) if labelled else -1
        split.user[:] = np.searchsorted(users, _users(batch["user_id"])) + 1
        yield split.rows


def read_history(column: Column, items: DenseIds, history: int) -> np.ndarray:
    """Dense item ids (n, history) int32, padded on the left, the most recent last."""
    raw = column.integer_matrix(history, "pad on the left with 0, or set data.history")
    dense = items.dense(raw)
    column.first(dense == UNKNOWN, raw, "expected 0 (padding) or an item of item_feature.parquet")
    late = np.zeros(dense.shape, bool)
    np.logical_and(dense[:, 1:] == 0, dense[:, :-1] != 0, out=late[:, 1:])
    column.first(late, raw, "after an item; expected padding (0) on the left only")
    return dense


def _users(column: Column) -> np.ndarray:
    return column.integers(-MAX_ID, MAX_ID, "expected an integer id")


def _labels(column: Column) -> np.ndarray:
    return column.integers(0, 1, "expected 0 or 1")


def read_levels(column: Column) -> np.ndarray:
    """int64 (n,), each 0..10."""
    return column.integers(0, LEVELS - 1, f"expected a level from 0 to {LEVELS - 1}")


def _known(column: Column, items: DenseIds) -> np.ndarray:
    raw = column.integers(-MAX_ID, MAX_ID, "expected an item id")
    dense = items.dense(raw)
    column.first(dense <= 0, raw, "expected an item of item_feature.parquet")
    return dense


def read_ids(table: RawTable) -> np.ndarray:
    """int64 (n,): the column `ID` of test, or 0..n-1 where there is none."""
    if not table.has("ID"):
        return np.arange(len(table))
    column = table.column("ID")
    ids = column.integers(0, MAX_ID, "expected an ID of 0 or more")
    column.refuse_repeats(ids)
    return ids
