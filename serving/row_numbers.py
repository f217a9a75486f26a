"""The numbers of stage `companions` for one history and any candidates, as `predict` reads them.

Letters: N items, C candidates, n items of the history, d width of an item's vector, F numbers that
are read.
"""

from typing import NamedTuple

import numpy as np
import torch

from ctr.covisitation.describe import NEAREST, standardised
from ctr.covisitation.pooling import pooled
from ctr.covisitation.tallies import VALUES, Tallies
from pipeline.settings.ctr.companions import Companions

TOGETHER, AFTER, AFTER_FLAT, CONTRAST = range(len(VALUES))


class Standard(NamedTuple):
    """How the numbers that are read are written."""

    columns: np.ndarray
    """int (F,): their places in NAMES."""
    mean: np.ndarray
    """float64 (F,), over train; and the deviation."""
    deviation: np.ndarray


class RowNumbers:
    """What the clicks of train tell of rows that have one history."""

    def __init__(
        self,
        tallies: Tallies,
        unit: np.ndarray,
        section: Companions,
        standard: Standard,
        window: int,
    ) -> None:
        """`unit` is float64 (N + 1, d). Of a history the last `window` items are read."""
        self.of, self.pairs, self.of_pairs = tallies
        self.unit, self.section, self.standard = unit, section, standard
        self.window = window
        smoothing, share, earlier = section.smoothing, self.of["share"], self.of["earlier_flat"]
        self.assumed = smoothing * share + section.shrinkage
        """float64 (N + 1,): of a later item, pairs that are taken for granted with any other."""
        self.never = np.log(smoothing / (earlier + smoothing)).astype(np.float32)
        """float32 (N + 1,): of an earlier item, by equal weights, with one never taken after it."""

    def __call__(self, history: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """float32 (C, F), rounded to 16 bits as the stage writes them.

        `history` is int (n,), the youngest last; `candidates` int (C,), which may repeat.
        """
        recent = history[::-1][: self.window] if len(history) else np.zeros(1, np.int64)
        different, place = np.unique(candidates, return_inverse=True)
        columns, mean, deviation = self.standard
        found = self._all(recent, different)[:, columns].astype(np.float32)  # as the stage counts
        return standardised(found, mean, deviation).astype(np.float32)[place]

    def _all(self, recent: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """float64 (C, 49), in the order of NAMES."""
        of, real = self.of, recent[None] > 0  # (1, n): false where there is no history
        values, together = self._values(recent, candidates)
        values[:, of["new"][candidates]] = 0
        *information, contrast = pooled(values, real, self.section.decay)
        near = self.unit[recent[:NEAREST]]  # (<= 20, d)
        # A product for each candidate: for one of all, threads wake up that cost more than they do.
        similarity = (self.unit[candidates, None] @ near.T)[:, 0]  # (C, <= 20)
        length, near_length = (int(real[:, :end].sum()) for end in (None, NEAREST))
        some = np.ones(len(candidates))
        return np.column_stack(
            [
                *information,
                together / max(length, 1),
                contrast,
                np.log1p(of["clicks"][candidates]),
                np.log1p(of["rows"][candidates]),
                of["rate"][candidates],
                of["tag_rate"][candidates],
                np.log1p(length) * some,
                np.linalg.norm(near.sum(0)) / max(near_length, 1) * some,
                pooled(similarity, real[:, :NEAREST], self.section.decay),
            ]
        )

    def _values(self, recent: np.ndarray, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is pooled, float32 (5, C, n), and with how many of the history a candidate was taken
        together, float (C,).

        Both ways of counting it after these, both before them, and the contrast, as
        `ctr/covisitation/counts.py` has them.
        """
        items, place, times = recent, None, None
        if len(np.unique(recent)) < len(recent):
            items, place, times = np.unique(recent, return_inverse=True, return_counts=True)
        values = np.empty((5, len(candidates), len(items)), np.float32)
        values[0] = self._of_strangers(candidates, items)
        values[1] = self.never[items]
        values[2] = self._of_strangers(items, candidates).T
        values[3] = self.never[candidates, None]
        values[4] = 0
        row, column, pair = self.pairs.between(candidates, items)
        cell, found = row * len(items) + column, self.of_pairs.take(pair, axis=0)
        for kind, way in ((0, AFTER), (1, AFTER_FLAT), (4, CONTRAST)):
            values[kind].put(cell, found[:, way])
        taken = found[:, TOGETHER] if times is None else found[:, TOGETHER] * times[column]
        together = np.bincount(row, taken, len(candidates))
        column, row, pair = self.pairs.between(items, candidates)
        cell, found = row * len(items) + column, self.of_pairs.take(pair, axis=0)
        for kind, way in ((2, AFTER), (3, AFTER_FLAT)):
            values[kind].put(cell, found[:, way])
        return values if place is None else values[..., place], together

    def _of_strangers(self, later: np.ndarray, earlier: np.ndarray) -> np.ndarray:
        """float64 (later, earlier): the information of two that were never taken together."""
        assumed = torch.from_numpy(self.assumed[later])[:, None]
        share = torch.from_numpy(self.of["share"][later])
        chance = torch.outer(share, torch.from_numpy(self.of["earlier"][earlier]))
        return (assumed / chance.add_(assumed)).log_().numpy()
