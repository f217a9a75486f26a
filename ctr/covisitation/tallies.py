"""What is counted of all of train, as arrays of files: any history is described by them.

Of two items that train has together the information and the contrast are there, as
`ctr/covisitation/counts.py` has the formulas; of all others they follow from what is there of each
item. A pair is there by its later and by its earlier item, since whichever names fewer pairs is
read (`PairTable.between`). Pairs may be more than memory holds: they are written as they are
counted, 28 bytes each, and read where they lie.

Letters: N items, m pairs of different items, K folds.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

Matches = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Places in two lists of items, and in the values of a table; (k,) each."""
VALUES = ("together", "after", "after_flat", "contrast")
"""Of each pair, side by side; `together` is 1 or 0."""
OF_ITEMS = ("share", "earlier", "earlier_flat", "clicks", "rows", "rate", "tag_rate", "new")
"""Of each item: float64 (N + 1,), then bool."""
OF_ITEMS_FILE = "items.safetensors"
"""Those, and both starts of the pairs; no items where tallies are not kept."""
EARLIER, PAIR_VALUES, LATER, PLACE = PAIR_FILES = (
    "earlier.npy",
    "values.npy",
    "later.npy",
    "place.npy",
)
"""Of each pair, (m, ...)."""
FILES = (OF_ITEMS_FILE, *PAIR_FILES)


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

    def between(self, later: np.ndarray, earlier: np.ndarray) -> Matches:
        """The pairs of one of `later` and one of `earlier`; items (n,), each of a list once."""
        if length(self.start, later) <= length(self.turned_start, earlier):
            return matches(self.start, self.other, later, earlier)
        second, first, place = matches(self.turned_start, self.turned_other, earlier, later)
        return first, second, self.turned_place.take(place)


class Tallies(NamedTuple):
    of: Mapping[str, np.ndarray]
    """By OF_ITEMS."""
    pairs: PairTable
    values: np.ndarray
    """float32 (m, 4): VALUES."""

    @staticmethod
    def of_files(items: Mapping[str, np.ndarray], pairs: Mapping[str, np.ndarray]) -> "Tallies":
        """Of what OF_ITEMS_FILE holds, and of the array of each of PAIR_FILES."""
        table = PairTable(
            items["start"], pairs[EARLIER], items["turned_start"], pairs[LATER], pairs[PLACE]
        )
        return Tallies({name: items[name] for name in OF_ITEMS}, table, pairs[PAIR_VALUES])


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
