"""What is counted of all of train, as arrays of a file: any history is described by them.

Of the three tables of pairs `taken` has every pair of an item that was taken and one that had been
taken before, `passed` those of an item that was shown and not clicked. Each is there by its later
and by its earlier item, since whichever names fewer pairs is read (`PairTable.between`).

Letters: N items, m pairs of different items, K folds.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from ctr.covisitation.counts import EXACT
from ctr.covisitation.describe import Describer
from ctr.covisitation.pairs import Pairs, order_by

Matches = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Places in two lists of items, and in the values of a table; (k,) each."""


class PairTable(NamedTuple):
    """Each pair once: those of the later item i lie at `start[i]` to `start[i + 1]`."""

    start: np.ndarray
    """int64 (N + 2,)."""
    other: np.ndarray
    """int32 (m,): the earlier items, ascending for each later one."""
    turned_start: np.ndarray
    """int64 (N + 2,): likewise by the earlier item."""
    turned_other: np.ndarray
    """int32 (m,): the later items."""
    turned_place: np.ndarray
    """int (m,): where the pair lies by its later item."""

    @staticmethod
    def of(start: np.ndarray, other: np.ndarray) -> "PairTable":
        items = len(start) - 1
        order, turned_start = order_by(other, items)
        later = np.repeat(np.arange(items, dtype=np.int32), np.diff(start))
        return PairTable(start, other, turned_start, later[order], order)

    def between(self, later: np.ndarray, earlier: np.ndarray) -> Matches:
        """The pairs of one of `later` and one of `earlier`; items (n,), each of a list once."""
        if length(self.start, later) <= length(self.turned_start, earlier):
            return matches(self.start, self.other, later, earlier)
        second, first, place = matches(self.turned_start, self.turned_other, earlier, later)
        return first, second, self.turned_place[place]


def length(start: np.ndarray, items: np.ndarray) -> int:
    return int((start[items + 1] - start[items]).sum())


def matches(start: np.ndarray, other: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> Matches:
    """Where the rows of a sparse matrix have one of the columns: places in both, and in `other`."""
    number = np.zeros(len(start) - 1, np.int32)
    number[columns] = np.arange(1, len(columns) + 1)
    begin, end = start[rows], start[rows + 1]
    none = np.empty(0, other.dtype)
    held = np.concatenate([none, *(other[a:b] for a, b in zip(begin, end, strict=True))])
    found = number.take(held)
    hit = np.flatnonzero(found)
    first = np.concatenate([[0], np.cumsum(end - begin)])
    row = np.searchsorted(first, hit, side="right") - 1
    return row, found[hit] - 1, hit - first[row] + begin[row]


def tallied(describer: Describer) -> dict[str, np.ndarray]:
    """Everything that a row's numbers are computed from, by name: pairs, then items (N + 1,).

    `decayed` is in units of 2^-20, as the weights are, which makes it whole; `taken` and `clicked`
    count pairs, within histories and without.
    """
    (decayed, flat), contrast, none = describer.after, describer.contrast, describer.none
    clicked, passed = contrast.clicked, contrast.passed
    by_taken = (decayed.counts.weight, flat.counts.weight, clicked.weight)
    taken, sums = by_pair(flat.counts.pairs, by_taken, "pairs taken")
    turned_down, (not_clicked,) = by_pair(passed.pairs, (passed.weight,), "pairs passed")
    folds, rates = flat.counts.folds + 1, describer.rates
    of_items = {
        "share_decayed": decayed.share.reshape(-1, folds)[:, none],
        "earlier_decayed": decayed.earlier.reshape(-1, folds)[:, none],
        "share": flat.share.reshape(-1, folds)[:, none],
        "earlier": flat.earlier.reshape(-1, folds)[:, none],
        "clicks": rates.clicks[none],
        "rows": rates.rows[none],
        "rate": rates.rate[none],
        "tag_rate": rates.tag_rate[none],
        "new": describer.is_new(np.arange(len(rates.rate[none])))[none],
    }
    return {
        **table_arrays("taken", taken),
        "decayed": smallest(sums[0] * EXACT),
        "taken": smallest(sums[1]),
        "clicked": smallest(sums[2]),
        **table_arrays("passed", turned_down),
        "passed": smallest(not_clicked),
        **{name: np.ascontiguousarray(x) for name, x in of_items.items()},
    }


def by_pair(
    pairs: Pairs, weights: tuple[np.ndarray, ...], name: str
) -> tuple[PairTable, list[np.ndarray]]:
    """Each pair once, and the sums of its weights by age, float64 (m,), for each of `weights`."""
    others: list[np.ndarray] = [np.empty(0, np.int32)]
    sums: list[list[np.ndarray]] = [[np.empty(0)] for _ in weights]
    items = range(len(pairs.start) - 1)
    for item in tqdm(items, name, unit="item", unit_scale=True, leave=False, disable=None):
        part = slice(*pairs.start[item : item + 2])
        other, place = np.unique(pairs.other[part], return_inverse=True)
        others.append(other)
        for total, weight in zip(sums, weights, strict=True):
            total.append(np.bincount(place, weight[pairs.age[part]], len(other)))
    start = np.cumsum([0, *(len(other) for other in others[1:])])
    table = PairTable.of(start, np.concatenate(others).astype(np.int32))
    return table, [np.concatenate(total) for total in sums]


def table_arrays(name: str, table: PairTable) -> dict[str, np.ndarray]:
    """Of a table, each under `name` and its own."""
    return {f"{name}.{part}": array for part, array in table._asdict().items()}


def table_of(name: str, arrays: Mapping[str, np.ndarray]) -> PairTable:
    return PairTable(*(arrays[f"{name}.{part}"] for part in PairTable._fields))


def smallest(whole: np.ndarray) -> np.ndarray:
    """Whole numbers in the fewest bits that hold all of them."""
    greatest = whole.max(initial=0)
    kinds = (np.int16, np.int32, np.int64)
    return whole.astype(next(kind for kind in kinds if greatest <= np.iinfo(kind).max))
