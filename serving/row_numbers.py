"""The numbers of stage `companions` for one history and any candidates, as `predict` reads them.

Letters: N items, C candidates, n items of the history, F numbers that are read.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from ctr.covisitation.counts import EXACT
from ctr.covisitation.describe import NEAREST
from ctr.covisitation.pooling import pooled
from ctr.covisitation.tallies import Matches, table_of
from pipeline.settings.ctr.companions import Companions

LARGEST = float(np.finfo(np.float16).max)


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
        tallies: Mapping[str, np.ndarray],
        unit: np.ndarray,
        section: Companions,
        standard: Standard,
        window: int,
    ) -> None:
        """`tallies` are those of `ctr/covisitation/tallies.py`, `unit` float64 (N + 1, d).

        Of a history the last `window` items are read.
        """
        self.of, self.unit, self.section, self.standard = tallies, unit, section, standard
        self.window = window
        self.taken, self.passed = (table_of(name, tallies) for name in ("taken", "passed"))

    def __call__(self, history: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """float32 (C, F), rounded to 16 bits as the stage writes them.

        `history` is int (n,), the youngest last; `candidates` int (C,), which may repeat.
        """
        recent = history[::-1][: self.window] if len(history) else np.zeros(1, np.int64)
        different, place = np.unique(candidates, return_inverse=True)
        found = self._all(recent, different)[place]
        mean, deviation, columns = (
            self.standard.mean,
            self.standard.deviation,
            self.standard.columns,
        )
        read = found[:, columns].astype(np.float32)  # as the stage holds them until all are there
        standard = np.clip((read - mean) / deviation, -LARGEST, LARGEST)
        return standard.astype(np.float16).astype(np.float32)

    def _all(self, recent: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """float64 (C, F), in the order of NAMES."""
        of, real = self.of, recent[None] > 0  # (1, n): false where there is no history
        items, place = np.unique(recent, return_inverse=True)
        values, together = self._values(items, candidates)
        values[:, of["new"][candidates]] = 0
        *information, contrast = pooled(values[..., place], real, self.section.decay)
        near = self.unit[recent[:NEAREST]]  # (<= 20, d)
        similarity = self.unit[candidates] @ near.T  # (C, <= 20)
        length, near_length = (int(real[:, :end].sum()) for end in (None, NEAREST))
        some = np.ones(len(candidates))
        return np.column_stack(
            [
                *information,
                together[:, place].sum(1) / max(length, 1),
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

    def _values(self, items: np.ndarray, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is pooled, float32 (5, C, n), and whether the two were taken together, bool (C, n).

        Of candidates with items of the history, each once: both ways of counting after these, both
        before them, and the contrast, as `ctr/covisitation/counts.py` has them.
        """
        after = self.taken.between(candidates, items)
        before = self.taken.between(items, candidates)
        values = np.empty((5, len(candidates), len(items)), np.float32)
        for way, decayed in enumerate((True, False)):
            values[way] = self._information(candidates, items, after, decayed=decayed)
            values[2 + way] = self._information(items, candidates, before, decayed=decayed).T
        values[4] = self._contrast(candidates, items, after)
        together = np.zeros(values.shape[1:], bool)
        together[after[:2]] = True
        return values, together

    def _information(
        self, later: np.ndarray, earlier: np.ndarray, pairs: Matches, *, decayed: bool
    ) -> np.ndarray:
        """float64 (later, earlier)."""
        of, section = self.of, self.section
        way = "_decayed" if decayed else ""
        share, before = of[f"share{way}"][later], of[f"earlier{way}"][earlier]
        place = pairs[2]
        count = of["decayed"][place] / EXACT if decayed else of["taken"][place]
        assumed = section.smoothing * share + (section.shrinkage if decayed else 0.0)
        found = of_strangers(assumed, share, before, section.smoothing)
        found[pairs[:2]] += np.log(1 + count / assumed[pairs[0]])
        return found

    def _contrast(self, candidates: np.ndarray, items: np.ndarray, after: Matches) -> np.ndarray:
        """float64 (C, n)."""
        of, rate = self.of, self.of["rate"][candidates]
        found = np.zeros((len(candidates), len(items)))
        for pairs, counted, share in (
            (after, of["clicked"], rate),
            (self.passed.between(candidates, items), of["passed"], 1 - rate),
        ):
            expected = self.section.prior * share[pairs[0]]
            sign = 1 if counted is of["clicked"] else -1
            found[pairs[:2]] += sign * np.log(1 + counted[pairs[2]] / expected)
        return found


def of_strangers(
    assumed: np.ndarray, share: np.ndarray, earlier: np.ndarray, smoothing: float
) -> np.ndarray:
    """float64 (later, earlier): the information of two that were never taken together."""
    if np.array_equal(assumed, smoothing * share):  # then the later one does not matter
        return np.tile(np.log(smoothing / (earlier + smoothing)), (len(share), 1))
    a = torch.from_numpy(assumed)[:, None]
    chance = torch.outer(torch.from_numpy(share), torch.from_numpy(earlier))
    return (a / chance.add_(a)).log_().numpy()
