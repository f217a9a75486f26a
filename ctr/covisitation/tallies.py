"""What is counted of all of train, as arrays of a file: any history is described by them.

Of two items that train has together the information and the contrast are there, as
`ctr/covisitation/counts.py` has the formulas; of all others they follow from what is there of each
item. A pair is there by its later and by its earlier item, since whichever names fewer pairs is
read (`PairTable.between`).

Letters: N items, m pairs of different items, K folds.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ctr.covisitation.describe import Describer, PairsOfItem
from ctr.covisitation.pairs import order_by

Matches = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Places in two lists of items, and in the values of a table; (k,) each."""
MOST_PAIRS = 1 << 26
"""Of which tallies are made. They take 25 bytes each in a file, and four times that while it is
written; the challenge's train may have 190 million."""
VALUES = ("together", "after", "after_flat", "contrast")
"""Of each pair: bool, then float32 (m,)."""

OF_ITEMS = ("share", "earlier", "earlier_flat", "clicks", "rows", "rate", "tag_rate", "new")
"""Of each item: float64 (N + 1,), then bool."""


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
    def of(others: Sequence[np.ndarray]) -> "PairTable":
        """Of each later item its earlier ones."""
        start = np.concatenate([[0], np.cumsum([len(other) for other in others])])
        other = np.concatenate(others).astype(np.int32)
        order, turned_start = order_by(other, len(others))
        later = np.repeat(np.arange(len(others), dtype=np.int32), np.diff(start))
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
    spans = [other[a:b] for a, b in zip(begin.tolist(), end.tolist(), strict=True)]
    found = number.take(np.concatenate([other[:0], *spans]))
    hit = np.flatnonzero(found)
    first = np.concatenate([[0], np.cumsum(end - begin)])
    row = np.repeat(np.arange(len(rows)), np.diff(np.searchsorted(hit, first)))
    return row, found[hit] - 1, hit + (begin - first[:-1])[row]


def too_many_pairs(describer: Describer, items: int) -> bool:
    """Whether there may be more different ones than MOST_PAIRS, by what was counted."""
    counted = sum(describer.pairs) + len(describer.contrast.passed.pairs.other)
    return min(counted, items**2) > MOST_PAIRS


def tallied(describer: Describer, pairs: Sequence[PairsOfItem]) -> dict[str, np.ndarray]:
    """All that a row's numbers are computed from, by name.

    `pairs` are those of every item, padding's too, and rounded.
    """
    decayed, flat = describer.after
    folds, rates, none = flat.counts.folds + 1, describer.rates, describer.none
    table = PairTable.of([each.other for each in pairs])
    of_items = (
        decayed.share.reshape(-1, folds)[:, none],
        decayed.earlier.reshape(-1, folds)[:, none],
        flat.earlier.reshape(-1, folds)[:, none],
        rates.clicks[none],
        rates.rows[none],
        rates.rate[none],
        rates.tag_rate[none],
        describer.is_new(np.arange(len(pairs)))[none],
    )
    return {
        **{f"pairs.{name}": array for name, array in table._asdict().items()},
        **{name: np.concatenate([getattr(each, name) for each in pairs]) for name in VALUES},
        **dict(zip(OF_ITEMS, map(np.ascontiguousarray, of_items), strict=True)),
    }


def table_of(tallies: Mapping[str, np.ndarray]) -> PairTable:
    return PairTable(*(tallies[f"pairs.{name}"] for name in PairTable._fields))
