"""What spoke for a row: items of its history after which people took the target most."""

from typing import NamedTuple

import numpy as np

from pipeline.common import paths
from pipeline.common.files import InputError

STRONGEST = 3
"""Companions of a row that are shown, at most."""


class Kept(NamedTuple):
    """Each item's strongest companions, strongest first; 0 where there are no more."""

    ids: np.ndarray
    """int32 (N + 1, m)."""
    information: np.ndarray
    """float32 (N + 1, m): log of how many times more than by chance the item is taken after it."""

    def of(self, target: int, history: np.ndarray) -> list[tuple[int, float]]:
        """The STRONGEST of the target's that are in `history` (L,), each with its information."""
        ids = self.ids[target]
        found = np.flatnonzero((ids > 0) & np.isin(ids, history))[:STRONGEST]
        return [(int(ids[place]), float(self.information[target, place])) for place in found]


def load_companions(items: int) -> Kept:
    """Of `items`, padding counted."""
    with np.load(paths.COMPANIONS, allow_pickle=False) as file:
        kept = Kept(file["ids"], file["information"])
    if len(kept.ids) != items:
        raise InputError(
            f"{paths.COMPANIONS}: has {len(kept.ids)} rows, {paths.ITEM} has {items}; "
            "run `dvc repro`"
        )
    return kept
