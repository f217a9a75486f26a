"""What the plots of `evaluate` show, as tables of few rows."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ctr.evaluation.metrics import auc

ROC_POINTS = 200
"""Points kept of the ROC curve: enough for the eye, few enough for a browser."""
SCORE_BINS = 20
HISTORY_STARTS = (0, 1, 5, 10, 20, 50, 100)
"""The lowest number of items in each bin of histories."""
POPULARITY_STARTS = (0, 1, 10, 30, 100, 300, 1000)
"""Likewise of the target's rows in train."""


def roc(label: np.ndarray, probability: np.ndarray) -> pd.DataFrame:
    corner = corners(label, probability)
    kept = corner[np.unique(np.linspace(0, len(corner) - 1, ROC_POINTS).astype(int))]
    false_positive_rate, true_positive_rate = (kept / corner[-1]).T
    return pd.DataFrame(
        {"false_positive_rate": false_positive_rate, "true_positive_rate": true_positive_rate}
    )


def corners(label: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Where the curve begins, ends and turns: int64 (c, 2), negatives and positives above it."""
    order = np.argsort(-probability, kind="stable")
    last = np.append(np.diff(probability[order]) != 0, True)  # of equal probabilities
    positives = np.cumsum(label[order])[last]
    negatives = 1 + np.flatnonzero(last) - positives
    points = np.concatenate([[[0, 0]], np.column_stack([negatives, positives])])  # (p, 2)
    turns = np.diff(points, n=2, axis=0).any(axis=1)
    return np.asarray(points[np.concatenate([[True], turns, [True]])])


def scores(label: np.ndarray, probability: np.ndarray) -> pd.DataFrame:
    """Of the clicked and of the other rows the share in each bin of probability, by its middle."""
    edges = np.linspace(0, 1, SCORE_BINS + 1)
    tables = []
    for name, value in (("clicked", 1), ("not clicked", 0)):
        rows = np.histogram(probability[label == value], edges)[0]
        share = rows / max(1, rows.sum())
        middle = (np.arange(SCORE_BINS) + 0.5) / SCORE_BINS
        tables.append(pd.DataFrame({"probability": middle, "share": share, "label": name}))
    return pd.concat(tables, ignore_index=True)


def auc_by(
    name: str,
    values: np.ndarray,
    starts: Sequence[int],
    label: np.ndarray,
    probability: np.ndarray,
) -> pd.DataFrame:
    """AUC of the rows in each bin of `values` (n,), where they are of both classes.

    The bins, whose labels stand in the column `name`, reach from each of `starts` to the next.
    """
    place = np.searchsorted(starts, values, side="right") - 1
    table = pd.DataFrame(
        {
            name: [bin_label(starts, number) for number in range(len(starts))],
            "auc": [auc(label[place == n], probability[place == n]) for n in range(len(starts))],
            "rows": np.bincount(place, minlength=len(starts)),
        }
    )
    return table.dropna()


def bin_label(starts: Sequence[int], number: int) -> str:
    """Such as 0, 1-4 and 100+."""
    first = starts[number]
    if number + 1 == len(starts):
        return f"{first}+"
    last = starts[number + 1] - 1
    return str(first) if first == last else f"{first}-{last}"
