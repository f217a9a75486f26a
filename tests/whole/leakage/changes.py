"""What may happen to valid and test without a trace in what is learned from train."""

import numpy as np
import pyarrow as pa

from tests.whole.leakage.worlds import SMALL, Change


def with_column(table: pa.Table, name: str, values: np.ndarray) -> pa.Table:
    """`table` with the int64 `values` as column `name`, in its old place if it had one."""
    column = pa.array(values, pa.int64())
    if name not in table.column_names:
        return table.append_column(name, column)
    return table.set_column(table.column_names.index(name), name, column)


def labels_of(table: pa.Table, rng: np.random.Generator) -> np.ndarray:
    """Its labels; made-up ones for test, which has none."""
    if "label" in table.column_names:
        return np.array(table["label"])
    return rng.permutation(np.arange(len(table)) % 2)


def flip_labels(table: pa.Table, rng: np.random.Generator) -> pa.Table:
    return with_column(table, "label", 1 - labels_of(table, rng))


def shuffle_labels(table: pa.Table, rng: np.random.Generator) -> pa.Table:
    return with_column(table, "label", rng.permutation(labels_of(table, rng)))


def redraw_labels(table: pa.Table, rng: np.random.Generator) -> pa.Table:
    return with_column(table, "label", rng.permutation(np.arange(len(table)) % 2))


def redraw_targets(table: pa.Table, rng: np.random.Generator) -> pa.Table:
    """Cold items among them, all of them clicked by many."""
    return with_column(table, "item_id", rng.integers(1, SMALL.items + 1, len(table)))


def redraw_levels(table: pa.Table, rng: np.random.Generator) -> pa.Table:
    for name in ("likes_level", "views_level"):
        table = with_column(table, name, rng.integers(0, 11, len(table)))
    return table


def redraw_histories(table: pa.Table, rng: np.random.Generator) -> pa.Table:
    length = len(table["item_seq"][0])
    histories = list(rng.integers(1, SMALL.items + 1, (len(table), length)))
    place = table.column_names.index("item_seq")
    return table.set_column(place, "item_seq", pa.array(histories, pa.list_(pa.int64())))


def reorder_rows(table: pa.Table, rng: np.random.Generator) -> pa.Table:
    return table.take(rng.permutation(len(table)))


def drop_rows(table: pa.Table, rng: np.random.Generator) -> pa.Table:
    """Three quarters of them; a row of each label stays."""
    order = rng.permutation(len(table))
    labels = labels_of(table, rng)[order]
    first = [int(np.argmax(labels == label)) for label in (0, 1)]
    return table.take(order[sorted({*first, *range(len(table) // 4)})])


def swap_users(table: pa.Table, rng: np.random.Generator) -> pa.Table:
    """The same users with each other's rows."""
    return with_column(table, "user_id", rng.permutation(np.array(table["user_id"])))


def everything(table: pa.Table, rng: np.random.Generator) -> pa.Table:
    for change in (redraw_labels, *ROWS):
        table = change(table, rng)
    return table


LABELS: tuple[Change, ...] = (flip_labels, shuffle_labels, redraw_labels)
ROWS: tuple[Change, ...] = (
    redraw_targets,
    redraw_levels,
    redraw_histories,
    reorder_rows,
    swap_users,
    drop_rows,
)
