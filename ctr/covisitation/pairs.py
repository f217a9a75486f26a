"""Pairs of an item that was taken and one that had been taken before, by one of the two.

Letters: N items, n pairs or rows, K folds of users, W window.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from tqdm import tqdm

from pipeline.tables.split import Split

ROWS_AT_A_TIME = 1 << 13
PAIRS_AT_A_TIME = 1 << 20
SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio: its multiples fall into all folds evenly (Knuth's hashing)."""

Columns = tuple[np.ndarray, ...]
"""Of some pairs: the item that they are grouped by, the other one, fold and age, (n,) each."""


class Pairs(NamedTuple):
    """Those of item i lie at `start[i]` to `start[i + 1]`."""

    start: np.ndarray
    """int64 (N + 2,)."""
    other: np.ndarray
    """int32 (n,): the pair's other item."""
    fold: np.ndarray
    """uint8 (n,): of the user who took them."""
    age: np.ndarray
    """uint16 (n,): items taken between the two."""

    def parts(self, at_a_time: int = PAIRS_AT_A_TIME) -> Iterator[Columns]:
        items = np.arange(len(self.start) - 1, dtype=np.int32)
        for begin in range(0, len(self.other), at_a_time):
            part = slice(begin, begin + at_a_time)
            first = np.repeat(items, np.diff(self.start.clip(part.start, part.stop)))
            yield first, self.other[part], self.fold[part], self.age[part]

    def turned(self) -> "Pairs":
        """The same pairs by their other items."""

        def parts() -> Iterator[Columns]:
            for first, other, fold, age in self.parts():
                yield other, first, fold, age

        return grouped(parts, len(self.start) - 1, "pairs turned", self._number)

    def with_those(self, more: "Pairs") -> "Pairs":
        """Both."""
        return grouped(
            lambda: chain(self.parts(), more.parts()),
            len(self.start) - 1,
            "pairs joined",
            self._number + more._number,
        )

    @property
    def _number(self) -> int:
        """Of the parts."""
        return -(-len(self.other) // PAIRS_AT_A_TIME)


def grouped(parts: Callable[[], Iterator[Columns]], items: int, name: str, number: int) -> Pairs:
    """Pairs by their first item of `items`, padding counted; those of an item in their order.

    `parts` gives them, in a `number` of parts and twice the same: they are counted, then put in
    their places, so that there are never two of each. The bar over both has a `name`.
    """
    count = np.zeros(items, np.int64)
    with tqdm(total=2 * number, desc=name, unit="part", leave=False, disable=None) as bar:
        for first, *_ in parts():
            count += np.bincount(first, minlength=items)
            bar.update()
        start = np.concatenate([[0], np.cumsum(count)])
        empty = (np.empty(start[-1], kind) for kind in (np.int32, np.uint8, np.uint16))
        found = Pairs(start, *empty)
        free = start[:-1].copy()
        for first, *columns in parts():
            order, begin = order_by(first, items)
            count = np.diff(begin)
            place = np.repeat(free - begin[:-1], count) + np.arange(len(first))
            for whole, part in zip(found[1:], columns, strict=True):
                whole[place] = part[order]
            free += count
            bar.update()
    return found


def order_by(key: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Places (n,) that sort `key` (n,) of 0..size - 1 stably, and where each value starts.

    By counting, as the conversion of a sparse matrix does.
    """
    place = np.arange(len(key), dtype=np.int32 if len(key) < 2**31 else np.int64)
    shape = (size, max(1, len(key)))
    table = coo_array((np.ones(len(key), np.int8), (key, place)), shape).tocsr()
    return table.indices, table.indptr.astype(np.int64)


@dataclass(frozen=True)
class Folds:
    """Parts of train's users."""

    users: np.ndarray
    """int32 (u,), ascending."""
    fold: np.ndarray
    """uint8 (u,)."""

    @staticmethod
    def of(train: Split, count: int, seed: int) -> "Folds":
        """By the place of a user among train's: other splits number users, and so change ids."""
        users = np.unique(train.user)
        spread = (np.arange(len(users), dtype=np.uint64) + np.uint64(seed)) * SPREAD
        return Folds(users, ((spread >> np.uint64(32)) % np.uint64(count)).astype(np.uint8))

    def __getitem__(self, user: np.ndarray) -> np.ndarray:
        """uint8 (n,), of users of train (n,)."""
        return self.fold[np.searchsorted(self.users, user)]


def pairs_of_rows(train: Split, rows: np.ndarray, folds: Folds, items: int, window: int) -> Pairs:
    """By target: the rows numbered `rows`, with each of the last items of their histories."""
    by_target = rows[order_by(train.target[rows], items)[0]]  # what is written lies side by side

    def parts() -> Iterator[Columns]:
        for part in _parts(by_target):
            history = recent(train, part, window)
            of_row = train.target[part], folds[train.user[part]]
            target, fold = (np.broadcast_to(x[:, None], history.shape) for x in of_row)
            age = np.broadcast_to(np.arange(history.shape[1], dtype=np.uint16), history.shape)
            real = history > 0
            yield target[real], history[real], fold[real], age[real]

    return grouped(parts, items, "pairs of rows", _number(rows))


def pairs_within_histories(train: Split, folds: Folds, items: int, window: int) -> Pairs:
    """By the younger item: those of a user's first history with each other.

    What was taken before train begins is no row's target.
    """
    users, first = np.unique(train.user, return_index=True)
    ages = min(window, train.history.shape[1] - 1)

    def parts() -> Iterator[Columns]:
        for user, rows in zip(_parts(users), _parts(first), strict=True):
            history = train.history[rows]
            fold = np.broadcast_to(folds[user][:, None], history.shape)
            for age in range(ages):
                younger, older = history[:, age + 1 :], history[:, : -age - 1]
                real = older > 0
                aged = np.full(np.count_nonzero(real), age, np.uint16)
                yield younger[real], older[real], fold[:, age + 1 :][real], aged

    return grouped(parts, items, "pairs of histories", ages * _number(users))


def recent(split: Split, rows: np.ndarray, window: int) -> np.ndarray:
    """int32 (n, W): the last items of some rows' histories, the youngest first; 0 is padding."""
    return split.history[rows][:, ::-1][:, :window]


def _parts(rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), ROWS_AT_A_TIME):
        yield rows[start : start + ROWS_AT_A_TIME]


def _number(rows: np.ndarray) -> int:
    """Of the parts."""
    return -(-len(rows) // ROWS_AT_A_TIME)
