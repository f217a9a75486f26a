"""How often items, and those of a tag, were shown and clicked, without a fold of users.

Letters: N items, T tags an item, K folds.
"""

from typing import NamedTuple

import numpy as np

from ctr.covisitation.counts import without_fold
from pipeline.tables.split import Split


class Rates(NamedTuple):
    """Of each item, float64 (K + 1, N + 1), without each fold and of all of train."""

    clicks: np.ndarray
    rows: np.ndarray
    rate: np.ndarray
    """Clicks over rows, drawn to the mean over all rows."""
    tag_rate: np.ndarray
    """The mean over an item's tags of theirs, drawn likewise; the mean where it has none."""
    mean: float
    """Of all of train."""


def click_rates(
    train: Split, fold: np.ndarray, folds: int, tags: np.ndarray, prior: float
) -> Rates:
    """`fold` (n,) is that of each row, `tags` int (N + 1, T); `prior` rows draw to the mean."""
    rows = without_fold(_by_fold(train.target, fold, folds, len(tags)))
    clicked = train.label == 1
    clicks = without_fold(_by_fold(train.target[clicked], fold[clicked], folds, len(tags)))
    mean = ((clicks.sum(1) + 0.5) / (rows.sum(1) + 1))[:, None]

    def drawn(clicks: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return (clicks + prior * mean) / (rows + prior)

    rate_of_tag = drawn(_by_tag(clicks, tags), _by_tag(rows, tags))
    tagged = tags > 0
    total = np.stack([(rates[tags] * tagged).sum(1) for rates in rate_of_tag])
    tag_rate = np.where(tagged.any(1), total / np.maximum(tagged.sum(1), 1), mean)
    return Rates(clicks, rows, drawn(clicks, rows), tag_rate, float(mean[-1, 0]))


def _by_fold(target: np.ndarray, fold: np.ndarray, folds: int, items: int) -> np.ndarray:
    """float64 (K, N + 1): rows of each item."""
    place = fold * np.int64(items) + target
    return np.bincount(place, minlength=folds * items).reshape(folds, items).astype(np.float64)


def _by_tag(of_item: np.ndarray, tags: np.ndarray) -> np.ndarray:
    """(K + 1, tags): sums of `of_item` (K + 1, N + 1) over the items that have a tag."""
    tagged = tags > 0
    item, size = np.nonzero(tagged)[0], int(tags.max(initial=0)) + 1
    return np.stack([np.bincount(tags[tagged], row[item], size) for row in of_item])
