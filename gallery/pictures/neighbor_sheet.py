"""The contact sheet: items beside their nearest items, half of them where that fails most."""

from dataclasses import dataclass

import numpy as np

AT_RANDOM = "drawn at random"
FAILURE = "least in common"


@dataclass(frozen=True)
class Near:
    item: int
    cosine: float
    in_common: float | None
    """Share of the item's tags that this neighbour has too; None where the item has no tags."""


@dataclass(frozen=True)
class Entry:
    """An item of the sheet and its nearest items, nearest first."""

    item: int
    why: str
    """AT_RANDOM or FAILURE."""
    neighbors: list[Near]
    in_common: float | None
    """The mean over the neighbours."""


def contact_sheet(
    ids: np.ndarray, cosine: np.ndarray, tags: np.ndarray, count: int, seed: int
) -> list[Entry]:
    """`count` items: half at random, half those whose neighbours share the least of their tags.

    `ids` and `cosine` are (N + 1, k) as `neighbors` writes them, `tags` (N + 1, T). Only items with
    a neighbour are shown; where too few have tags the others are drawn at random as well.
    """
    shares = shares_in_common(ids, tags)  # (N + 1, k)
    means = mean_share(shares)  # (N + 1,)
    random = np.random.default_rng(seed)
    order = random.permutation(np.flatnonzero((ids > 0).any(axis=1)))
    measured = order[np.isfinite(means[order])]
    worst = measured[np.argsort(means[measured], kind="stable")][: count // 2]
    drawn = order[~np.isin(order, worst)][: count - len(worst)]
    entries = [(item, AT_RANDOM) for item in drawn] + [(item, FAILURE) for item in worst]
    return [
        Entry(int(item), why, *told_of(int(item), ids, cosine, shares)) for item, why in entries
    ]


def shares_in_common(ids: np.ndarray, tags: np.ndarray) -> np.ndarray:
    """float64 (N + 1, k): the share of an item's tags that each neighbour has too.

    NaN where there is no neighbour, or the item has no tags. A repeated tag counts twice.
    """
    shared = np.zeros(ids.shape)
    for column in tags.T:  # (N + 1,), so that no (N + 1, k, T, T) is made
        given = (tags[ids] == column[:, None, None]).any(axis=2)  # (N + 1, k)
        shared += given & (column > 0)[:, None]
    count = (tags > 0).sum(axis=1, keepdims=True)  # (N + 1, 1)
    known = (count > 0) & (ids > 0)
    return np.where(known, shared / np.maximum(count, 1), np.nan)


def mean_share(shares: np.ndarray) -> np.ndarray:
    """float64 (N + 1,) from (N + 1, k); NaN where nothing is known."""
    known = np.isfinite(shares)
    total = np.where(known, shares, 0).sum(axis=1)
    return np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan)


def told_of(
    item: int, ids: np.ndarray, cosine: np.ndarray, shares: np.ndarray
) -> tuple[list[Near], float | None]:
    """The neighbours of an item, and the mean share of its tags that they have too."""
    neighbors = [
        Near(int(near), float(cosine[item, place]), known(shares[item, place]))
        for place, near in enumerate(ids[item])
        if near > 0
    ]
    return neighbors, known(mean_share(shares[item : item + 1])[0])


def known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
