"""What an embedding knows of clicks, without any training: next-item retrieval and ranking.

`unit` is float32 (N + 1, d): row i is item i at unit length, row 0 padding, zeros for an item
without a vector. A history is described by the mean of the vectors of its last `window` items.
"""

from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from embed.vectors.geometry import has_vector
from pipeline.tables.split import Split

ROWS_AT_A_TIME = 2**14

SCORES = 2**24
"""Scores of (row, item) held at a time: 67 MB."""

TIE = 1e-6
"""Scores closer than this may be equal: the rounding of a float32 dot product."""


@dataclass(frozen=True)
class Popularity:
    """What a split shows of each item, (N + 1,)."""

    clicks: np.ndarray
    """int64: rows with label 1."""
    seen: np.ndarray
    """bool: whether it is in any row, as target or in a history."""


def popularity(train: Split, items: int) -> Popularity:
    clicks, seen = np.zeros(items + 1, np.int64), np.zeros(items + 1, bool)
    for start in range(0, len(train), ROWS_AT_A_TIME):
        piece = Split(train.rows[start : start + ROWS_AT_A_TIME])
        clicks += np.bincount(piece.target[piece.label == 1], minlength=items + 1)
        seen[piece.history] = True
        seen[piece.target] = True
    return Popularity(clicks, seen)


def next_clicks(split: Split) -> np.ndarray:
    """Rows with a click on an item that is not in their history, which is not empty."""
    in_history = (split.history == split.target[:, None]).any(axis=1)
    return np.flatnonzero((split.label == 1) & split.history.any(axis=1) & ~in_history)


def hits(unit: np.ndarray, rows: Split, window: int, k: int) -> np.ndarray:
    """float64 (n,): whether each row's target is among the k items nearest to its history.

    Nearest by inner product with the mean of the history, over all items that have a vector and are
    not in the history. 0 where the target, or all of the history, has no vector. Equal scores are
    in random order: then it is the probability, so that equal vectors do no better than chance.
    """
    present = has_vector(unit)
    at_a_time = max(1, SCORES // len(unit))
    found = np.zeros(len(rows))
    with tqdm(total=len(rows), desc="recall", unit="row", leave=False, disable=None) as bar:
        for start in range(0, len(rows), at_a_time):
            piece = slice(start, start + at_a_time)
            found[piece] = _hits(unit, present, Split(rows.rows[piece]), window, k)
            bar.update(len(found[piece]))
    return found


def _hits(unit: np.ndarray, present: np.ndarray, rows: Split, window: int, k: int) -> np.ndarray:
    last = rows.history[:, -window:]
    scores = history_mean(unit, last) @ unit.T
    scores[:, ~present] = -np.inf
    np.put_along_axis(scores, rows.history.astype(np.int64), -np.inf, axis=1)
    own = np.take_along_axis(scores, rows.target[:, None].astype(np.int64), axis=1)
    above = (scores > own + TIE).sum(axis=1)
    tied = (scores >= own - TIE).sum(axis=1) - above  # the target itself among them
    found = present[rows.target] & present[last].any(axis=1)
    return np.where(found, np.clip((k - above) / np.maximum(tied, 1), 0, 1), 0)


def history_mean(unit: np.ndarray, history: np.ndarray) -> np.ndarray:
    """float32 (n, d): the mean of the vectors of each row of `history` (n, w), 0 where none has."""
    vectors = unit[history]
    count = vectors.any(axis=2).sum(axis=1)
    return np.asarray(vectors.sum(axis=1) / np.maximum(count, 1).astype(np.float32)[:, None])


def popular_hits(clicks: np.ndarray, rows: Split, k: int) -> np.ndarray:
    """bool (n,): whether the target is among the k most clicked items that the history lacks.

    Items without a click are never offered; of equally clicked ones the lower id comes first.
    """
    rank = np.empty(len(clicks), np.int64)
    rank[np.argsort(-clicks, kind="stable")] = np.arange(len(clicks))
    own = rank[rows.target]
    passed_over = (rank[_distinct(rows.history)] < own[:, None]).sum(axis=1)
    return (clicks[rows.target] > 0) & (own - passed_over < k)


def chance_hits(unit: np.ndarray, rows: Split, k: int) -> np.ndarray:
    """float64 (n,): the probability that k random items, of those that `hits` ranks, do it."""
    present = has_vector(unit)
    items = present.sum() - present[_distinct(rows.history)].sum(axis=1)
    return np.where(present[rows.target], np.minimum(1, k / np.maximum(items, 1)), 0)


def _distinct(history: np.ndarray) -> np.ndarray:
    """Each row's ids, each once and the rest of the row 0."""
    ids = np.sort(history, axis=1)
    ids[:, 1:][ids[:, 1:] == ids[:, :-1]] = 0
    return ids


def alignment(unit: np.ndarray, rows: Split) -> float | None:
    """Mean |x - y|^2 of the target and the last item before it (Wang & Isola 2020), 0 to 4.

    Over rows where both have a vector; None where there is none.
    """
    last, target = rows.history[:, -1], rows.target
    present = has_vector(unit)
    both = present[last] & present[target]
    if not both.any():
        return None
    difference = unit[last[both]] - unit[target[both]]
    return float((difference**2).sum(axis=1, dtype=np.float64).mean())


def cosine_scores(unit: np.ndarray, rows: Split, window: int) -> np.ndarray:
    """float32 (n,): mean cosine of the target with the history's items; 0 where there is none."""
    scores = np.zeros(len(rows), np.float32)
    for start in range(0, len(rows), ROWS_AT_A_TIME):
        piece = slice(start, start + ROWS_AT_A_TIME)
        mean = history_mean(unit, rows.history[piece, -window:])
        scores[piece] = np.einsum("nd,nd->n", mean, unit[rows.target[piece]])
    return scores
