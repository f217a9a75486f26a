"""What the clicks of train tell of a row: numbers, each with a name, and of a kind.

Letters: N items, n rows of one target, W window, K folds, d width of an item's vector.
"""

from typing import NamedTuple

import numpy as np

from ctr.covisitation.counts import Contrast, Counts, Information, weights
from ctr.covisitation.pairs import Folds, Pairs, pairs_of_rows, pairs_within_histories
from ctr.covisitation.pooling import POOLED, pooled
from ctr.covisitation.rates import click_rates
from pipeline.settings.ctr.companions import Companions
from pipeline.tables.split import Split

LARGEST = float(np.finfo(np.float16).max)
"""Beyond which a number of valid may lie that hardly varies in train."""
NEAREST = 20
"""Items of the history whose content is compared with the target's."""
INFORMATION = ("after", "after_flat", "before", "before_flat")
"""Of the target after the history's items, and of these after the target; by decayed weights of the
pairs and near 0 where these are few, and by equal weights as the pairs are."""
KINDS: dict[str, tuple[str, ...]] = {
    "companions": (*(f"{name}_{way}" for name in INFORMATION for way in POOLED), "known"),
    "contrast": tuple(f"contrast_{way}" for way in POOLED),
    "target": ("clicks", "rows", "rate", "tag_rate"),
    "profile": ("length", "spread"),
    "similarity": tuple(f"similarity_{way}" for way in POOLED),
}
"""The numbers of each kind, which `train.features` switches."""
NAMES = tuple(name for names in KINDS.values() for name in names)
"""F of them."""
KNOWN_OF_NEW = (*KINDS["profile"], *KINDS["similarity"], "tag_rate")
"""The numbers that tell something of a row whose target train does not have."""


def standardised(rows: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """float16 (n, F) of float32 rows (n, F), as they are written; `mean` and `deviation` (F,)."""
    return np.clip((rows - mean) / deviation, -LARGEST, LARGEST).astype(np.float16)


def of_length_1(vectors: np.ndarray) -> np.ndarray:
    """float64 (N + 1, d) of `vectors` (N + 1, d): each of length 1, or 0 as it was."""
    vectors = vectors.astype(np.float64)
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norm, np.finfo(np.float64).tiny))


class Describer:
    """All that is counted of train."""

    def __init__(
        self, train: Split, tags: np.ndarray, unit: np.ndarray, section: Companions
    ) -> None:
        """`tags` is int (N + 1, T), `unit` float64 (N + 1, d): vectors of length 1 or 0."""
        items, window = len(tags), section.window
        self.window, self.decay, self.unit = window, section.decay, unit
        self.folds = Folds.of(train, section.folds, section.seed)
        self.none = section.folds
        """The fold of rows that are described by all of train."""

        def pairs(label: int) -> Pairs:
            rows = np.flatnonzero(train.label == label)
            return pairs_of_rows(train, rows, self.folds, items, window)

        def counts(pairs: Pairs, decay: float, within: float = 1.0) -> Counts:
            """`within`: the weight of pairs within histories, which are those of higher ages."""
            weight = [weights(decay, window), within * weights(decay, section.within)]
            return Counts(pairs, np.concatenate(weight), section.folds)

        fold = self.folds[train.user]
        self.rates = click_rates(train, fold, section.folds, tags, section.prior)
        clicked = pairs(1)
        within = pairs_within_histories(train, self.folds, items, section.within)
        self.pairs = len(clicked.other), len(within.other)
        """Of clicks, and within histories."""
        within.age[:] += np.uint16(window)
        after = clicked.with_those(within)
        del clicked, within
        before = after.turned()
        decayed, flat = counts(after, section.decay), counts(after, 1.0)
        ways = ((decayed, section.shrinkage), (flat, 0.0))
        self.after = [Information(x, section.smoothing, m, later_first=True) for x, m in ways]
        self.before = [
            Information(x.turned(before), section.smoothing, m, later_first=False) for x, m in ways
        ]
        self.contrast = Contrast(
            counts(after, 1.0, within=0.0), counts(pairs(0), 1.0), self.rates.rate, section.prior
        )

    def __call__(self, target: int, history: np.ndarray, fold: np.ndarray) -> np.ndarray:
        """float64 (n, F), in the order of NAMES: rows of one target.

        `history` is int (n, W), the youngest first; `fold` int (n,) the one that is left out.
        """
        real = history > 0
        length = real.sum(1)
        decayed, flat = self.after
        after = flat.counts.known(target, history, fold)
        pairs = flat.counts.at(after)
        before = self.before[0].counts.known(target, history, fold)
        passed = self.contrast.passed.known(target, history, fold)
        values = np.empty((len(INFORMATION) + 1, *history.shape), np.float32)
        values[0], values[1] = decayed.at(after), flat.at(after, pairs)
        values[2], values[3] = (each.at(before) for each in self.before)
        values[4] = self.contrast.at(after, passed)
        values[:, self.is_new(target)[fold]] = 0
        *information, contrast = pooled(values, real, self.decay)
        together = np.bincount(after.row[pairs > 0], minlength=len(history))
        near = history[:, :NEAREST]
        vectors = self.unit.take(near, axis=0)  # (n, W, d)
        return np.column_stack(
            [
                *information,
                together / np.maximum(length, 1),
                contrast,
                np.log1p(self.rates.clicks[fold, target]),
                np.log1p(self.rates.rows[fold, target]),
                self.rates.rate[fold, target],
                self.rates.tag_rate[fold, target],
                np.log1p(length),
                np.linalg.norm(vectors.sum(1), axis=1) / np.maximum((near > 0).sum(1), 1),
                pooled(vectors @ self.unit[target], near > 0, self.decay),
            ]
        )

    def is_new(self, item: int | np.ndarray) -> np.ndarray:
        """bool (K + 1,): whether train, without a fold, has the item nowhere; (K + 1, n) of n."""
        counts = self.after[1].counts
        pairs = counts.of_first[:, item] + counts.of_other[:, item]
        return np.asarray((pairs == 0) & (self.rates.rows[:, item] == 0))

    def of_new(self) -> dict[str, float]:
        """What the other numbers are of a row whose target train does not have."""
        return {name: 0.0 for name in NAMES if name not in KNOWN_OF_NEW} | {"rate": self.rates.mean}

    def pairs_of(self, item: int) -> "PairsOfItem":
        """All that train, whole, has of an item and those before it."""
        decayed, flat = self.after
        fold = np.array([self.none])
        others = flat.counts.partners(item), self.contrast.passed.partners(item)
        other = np.union1d(*others)
        taken = flat.counts.known(item, other[None], fold)
        pairs = flat.counts.at(taken)
        passed = self.contrast.passed.known(item, other[None], fold)
        together = np.zeros(len(other), bool)
        together[taken.place] = pairs > 0
        return PairsOfItem(
            other,
            together,
            decayed.at(taken)[0],
            flat.at(taken, pairs)[0],
            self.contrast.at(taken, passed)[0],
        )


class PairsOfItem(NamedTuple):
    """Of the k items after which one was taken, or shown and not clicked."""

    other: np.ndarray
    """int32 (k,): those items, ascending."""
    together: np.ndarray
    """bool (k,): whether it was taken after them."""
    after: np.ndarray
    """float64 (k,): the information of decayed weights, and that of equal ones."""
    after_flat: np.ndarray
    contrast: np.ndarray
    """float64 (k,)"""

    def strongest(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Items after which it is taken most, and that information: (m,) both.

        Strongest first, at most `count`, of those with which it has a pair, and above chance.
        """
        other, value = self.other[self.together], self.after[self.together]
        least = np.partition(value, -count)[-count] if len(value) > count else 0.0
        found = np.flatnonzero((value >= least) & (value > 0))
        order = found[np.lexsort((other[found], -value[found]))][:count]
        return other[order], value[order]
