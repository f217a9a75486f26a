"""How often two items were taken together, without the clicks of a fold of users.

A count is the sum of its pairs' weights, which are multiples of 2^-20: so sums are exact in
float64, and taking a fold's part off again leaves nothing of it behind.

Letters: N items, K folds, n rows, W window, k places.
"""

from functools import cache, cached_property
from typing import NamedTuple

import numpy as np

from ctr.covisitation.pairs import PAIRS_AT_A_TIME, Pairs

EXACT = float(2**20)
FEW = 0.5
"""Pairs that each item is given, so that none has a share of 0."""


def weights(decay: float, window: int) -> np.ndarray:
    """float64 (W,): decay^age, to a multiple of 2^-20."""
    return np.rint(decay ** np.arange(window) * EXACT) / EXACT


def without_fold(by_fold: np.ndarray) -> np.ndarray:
    """(K + 1, ...) from (K, ...): the sum over all folds but one, for each; in the end over all."""
    total = by_fold.sum(0)
    return np.concatenate([total - by_fold, total[None]])


@cache
def zeros(items: int) -> np.ndarray:
    """int32 (items,), shared: whoever writes into it puts the zeros back."""
    return np.zeros(items, np.int32)


class Known(NamedTuple):
    """The m pairs of an item, and where histories (n, W) have items that it has them with."""

    item: int
    fold: np.ndarray
    """int64 (n,): the one that is left out of each row's counts."""
    cell: np.ndarray
    """int64 (n, W): of the histories' items and that fold, in tables (N + 1, K + 1)."""
    place: np.ndarray
    """int64 (k,): in the histories, one after the other."""
    row: np.ndarray
    """int64 (k,)."""
    partner: np.ndarray
    """int32 (k,): the number of the item there, among those that the item has pairs with."""
    held: np.ndarray
    """int64 (k,): of it and the fold, in tables (numbers, K + 1)."""
    pairs: slice
    pair_partner: np.ndarray
    """int32 (m,): the number of the other item of each pair."""
    pair_held: np.ndarray
    """int64 (m,): of it and the pair's fold."""


class Counts:
    """The summed weights of `pairs`, without those of a fold; fold K is none."""

    def __init__(self, pairs: Pairs, weight: np.ndarray, folds: int) -> None:
        """`weight` (W,) is that of each age."""
        self.pairs, self.weight, self.folds = pairs, weight, folds
        self.items = len(pairs.start) - 1
        self._number = zeros(self.items)

    def turned(self, pairs: Pairs) -> "Counts":
        """Of the same pairs by their other items; their sums need not be taken again."""
        found = Counts(pairs, self.weight, self.folds)
        found.of_first, found.of_other = self.of_other, self.of_first
        return found

    @cached_property
    def of_first(self) -> np.ndarray:
        """float64 (K + 1, N + 1): of the pairs of an item by which they are grouped."""
        return self._of_item(0)

    @cached_property
    def of_other(self) -> np.ndarray:
        """float64 (K + 1, N + 1): of the pairs whose other item it is."""
        return self._of_item(1)

    def _of_item(self, column: int) -> np.ndarray:
        total = np.zeros(self.items * self.folds)
        for part in self.pairs.parts(PAIRS_AT_A_TIME):
            cell = part[column] * np.int64(self.folds) + part[2]
            total += np.bincount(cell, self.weight[part[3]], len(total))
        return without_fold(total.reshape(self.items, -1).T)

    def partners(self, item: int) -> np.ndarray:
        """int32 (m,): the items that `item` has pairs with, each once."""
        partner = self.pairs.other[slice(*self.pairs.start[item : item + 2])]
        place = np.arange(len(partner), dtype=np.int32)
        self._number[partner] = place
        found = partner[self._number[partner] == place]
        self._number[partner] = 0
        return found

    def known(self, item: int, other: np.ndarray, fold: np.ndarray) -> Known:
        """What of `other` (n, W) `item` has pairs with; `fold` (n,) is to be left out.

        The same for all counts of these pairs.
        """
        pairs = slice(*self.pairs.start[item : item + 2])
        partner, folds = self.pairs.other[pairs], np.int64(self.folds + 1)
        # A partner's number is the last place where it is, or its own if these are more.
        few = len(partner) < self.items
        self._number[partner] = np.arange(1, len(partner) + 1) if few else partner + 1
        number, found = self._number.take(partner), self._number.take(other).ravel()
        self._number[partner] = 0
        place = np.flatnonzero(found > 0)
        row, found = place // other.shape[1], found[place]
        return Known(
            item=item,
            fold=fold,
            cell=other * folds + fold[:, None],
            place=place,
            row=row,
            partner=found,
            held=found * folds + fold[row],
            pairs=pairs,
            pair_partner=number,
            pair_held=number * folds + self.pairs.fold[pairs],
        )

    def at(self, known: Known) -> np.ndarray:
        """float64 (k,): the weights of all pairs of the two, but those of the fold."""
        weight = self.weight.take(self.pairs.age[known.pairs])
        size = 1 + min(len(weight), self.items)
        total = np.bincount(known.pair_partner, weight, size)
        of_fold = np.bincount(known.pair_held, weight, size * (self.folds + 1))
        return total[known.partner] - of_fold[known.held]


class Information:
    """Smoothed pointwise mutual information of an item with one that was taken before it.

    log((c + s p + m) / (w p + s p + m)): c pairs of both, w pairs of the earlier one, p the later
    one's share of all pairs, s `smoothing`, m `shrinkage`. Negative where they are taken together
    less than chance has it, by which there are w p; 0 where the earlier one has no pair. With m it
    is near 0 where chance has few, which s alone does not see to if the later one is rare. Where
    two items were never taken together, as most were not, it is the same with c 0.
    """

    def __init__(
        self, counts: Counts, smoothing: float, shrinkage: float, *, later_first: bool
    ) -> None:
        """`later_first`: whether `counts` are grouped by the later item, or by the earlier one."""
        self.counts, self.later_first = counts, later_first
        both = (counts.of_first, counts.of_other)
        later, earlier = both if later_first else both[::-1]
        share = (later + FEW) / (later.sum(1, keepdims=True) + FEW * later.shape[1])
        self.share = share.T.ravel()
        self.earlier = earlier.T.ravel()
        self.smoothing, self.shrinkage = smoothing, shrinkage
        # With c 0 and without m it is log(s / (w + s)): the later one does not matter.
        self.never = None if shrinkage else np.log(smoothing / (self.earlier + smoothing))

    def at(self, known: Known, pairs: np.ndarray | None = None) -> np.ndarray:
        """float64 (n, W): the item, by which the counts are grouped, with each of the histories'.

        `known` is by counts of the same pairs; `pairs` (k,) is what `counts` have there.
        """
        if pairs is None:
            pairs = self.counts.at(known)
        item = (known.item * (self.counts.folds + 1) + known.fold)[:, None]  # (n, 1)
        later, earlier = (item, known.cell) if self.later_first else (known.cell, item)
        found = np.empty(known.cell.shape)
        found[:] = self.of_strangers(later, earlier)
        later = item[known.row, 0] if self.later_first else known.cell.ravel()[known.place]
        found.ravel()[known.place] += np.log(1 + pairs / self.assumed(later))
        return found

    def assumed(self, later: np.ndarray) -> np.ndarray:
        """float64: s p + m."""
        return self.smoothing * self.share.take(later) + self.shrinkage

    def of_strangers(self, later: np.ndarray, earlier: np.ndarray) -> np.ndarray:
        """float64, in the shape of one of the two or both: with c 0."""
        if self.never is not None:
            return self.never.take(earlier)
        assumed = self.assumed(later)
        return np.log(assumed / (self.earlier.take(earlier) * self.share.take(later) + assumed))


class Contrast:
    """How much likelier a click on an item is after another one: a difference of log odds.

    log((c + a r) / (d + a (1 - r))) - log(r / (1 - r)): c rows with both that were clicked, d those
    that were not, r the item's click rate, a `prior`. It is log(1 + c / (a r)), less the same of
    what was not clicked.
    """

    def __init__(self, clicked: Counts, passed: Counts, rate: np.ndarray, prior: float) -> None:
        """`rate` is float64 (K + 1, N + 1)."""
        self.clicked, self.passed, self.rate, self.prior = clicked, passed, rate, prior

    def at(self, clicked: Known, passed: Known) -> np.ndarray:
        """float64 (n, W): a click on the item after each of the histories'."""
        found, rate = np.zeros(clicked.cell.shape), self.rate[clicked.fold, clicked.item]
        expected = self.prior * rate[clicked.row]
        found.ravel()[clicked.place] += np.log(1 + self.clicked.at(clicked) / expected)
        expected = self.prior * (1 - rate[passed.row])
        found.ravel()[passed.place] -= np.log(1 + self.passed.at(passed) / expected)
        return found
