"""The tallies of train, written: `ctr/covisitation/tallies.py` has what they are.

Letters: N items, m pairs of different items.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ctr.covisitation.describe import Describer, PairsOfItem
from ctr.covisitation.grown import GrownArray
from ctr.covisitation.pairs import order_by
from ctr.covisitation.tallies import (
    EARLIER,
    LATER,
    OF_ITEMS,
    PAIR_VALUES,
    PLACE,
    VALUES,
)

AT_A_TIME = 1 << 24
"""Pairs that are turned together, in 0.5 GB."""


def write_pairs(path: Callable[[str], Path], pairs: Iterable[PairsOfItem]) -> dict[str, np.ndarray]:
    """Each of PAIR_FILES, to its `path`; `start` and `turned_start` of the table.

    `pairs` are those of every item, padding's too, in their order.
    """
    counts, earlier_at = [0], path(EARLIER)
    with (
        GrownArray(earlier_at, np.int32) as earlier,
        GrownArray(path(PAIR_VALUES), np.float32, len(VALUES)) as values,
    ):
        for each in pairs:
            earlier.append(each.other)
            values.append(np.column_stack([getattr(each, name) for name in VALUES]))
            counts.append(len(each.other))
    start = np.cumsum(counts)
    written = np.load(earlier_at, mmap_mode="r", allow_pickle=False)
    return {"start": start, "turned_start": write_turned(path, written, start)}


def write_turned(path: Callable[[str], Path], earlier: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The pairs by their `earlier` items (m,), a part of these at a time; `turned_start`."""
    items = len(start) - 1
    kind = np.int32 if len(earlier) < 2**31 else np.int64
    count = np.zeros(items, np.int64)
    for begin in range(0, len(earlier), AT_A_TIME):
        count += np.bincount(earlier[begin : begin + AT_A_TIME], minlength=items)
    turned_start = np.concatenate([[0], np.cumsum(count)])
    with (
        GrownArray(path(LATER), np.int32) as later,
        GrownArray(path(PLACE), kind) as place,
        tqdm(
            total=len(earlier),
            desc="pairs turned",
            unit="pair",
            unit_scale=True,
            leave=False,
            disable=None,
        ) as bar,
    ):
        first = 0
        while first < items:
            most = turned_start[first] + AT_A_TIME
            last = max(first + 1, int(np.searchsorted(turned_start, most, side="right")) - 1)
            found = places_of(earlier, first, last)
            order = order_by(earlier[found] - first, last - first)[0]
            each = np.diff(np.searchsorted(found, start))
            later.append(np.repeat(np.arange(items, dtype=np.int32), each)[order])
            place.append(found[order])
            bar.update(len(found))
            first = last
    return turned_start


def places_of(items: np.ndarray, first: int, last: int) -> np.ndarray:
    """int64 (k,), ascending: where `items` (m,) are of `first` to `last` - 1."""
    found = [np.zeros(0, np.int64)]
    for begin in range(0, len(items), AT_A_TIME):
        part = items[begin : begin + AT_A_TIME]
        found.append(begin + np.flatnonzero((part >= first) & (part < last)))
    return np.concatenate(found)


def of_items(describer: Describer, items: int) -> dict[str, np.ndarray]:
    """By OF_ITEMS, of `items`, padding counted."""
    decayed, flat = describer.after
    folds, rates, none = flat.counts.folds + 1, describer.rates, describer.none
    found = (
        decayed.share.reshape(-1, folds)[:, none],
        decayed.earlier.reshape(-1, folds)[:, none],
        flat.earlier.reshape(-1, folds)[:, none],
        rates.clicks[none],
        rates.rows[none],
        rates.rate[none],
        rates.tag_rate[none],
        describer.is_new(np.arange(items))[none],
    )
    return dict(zip(OF_ITEMS, map(np.ascontiguousarray, found), strict=True))
