"""Scorers of one feature each: what a model has to beat to have learned anything."""

import numpy as np

from ctr.evaluation.metrics import auc
from pipeline.tables.split import Split

PRIOR_ROWS = 10.0
"""A mean click rate is drawn towards the overall rate as if by this many rows."""


def single_feature_aucs(train: Split, valid: Split) -> dict[str, float | None]:
    """AUC on valid of ranking by one feature, its statistics taken from train alone."""
    scores = {
        "item_count": counts(train.target, valid.target),
        "item_mean": mean_labels(train.target, train.label, valid.target),
        "user_mean": mean_labels(train.user, train.label, valid.user),
        "likes_level": valid.column("likes_level"),
        "views_level": valid.column("views_level"),
        "history_length": (valid.history > 0).sum(axis=1),
    }
    return {name: auc(valid.label, score) for name, score in scores.items()}


def counts(seen: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """int64 (n,): how often each id of `asked` (n,) occurs in `seen`."""
    return np.bincount(seen, minlength=int(asked.max()) + 1)[asked]


def mean_labels(seen: np.ndarray, label: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """float64 (n,): the mean label of each id of `asked`, smoothed; overall for an unseen id."""
    size = max(int(seen.max()), int(asked.max())) + 1
    clicks = np.bincount(seen, weights=label, minlength=size)
    rows = np.bincount(seen, minlength=size)
    return ((clicks + PRIOR_ROWS * label.mean()) / (rows + PRIOR_ROWS))[asked]
