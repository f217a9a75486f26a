"""Metrics of click prediction.

All over numpy arrays of one length n: `label` 0 or 1, `score` or `probability` any float.
"""

import numpy as np

from pipeline.tables.auc import auc, average_rank, finite

__all__ = ["auc", "calibration", "calibration_error", "gauc", "logloss"]


def logloss(label: np.ndarray, probability: np.ndarray) -> float | None:
    """Mean binary cross-entropy in nats; None for no rows."""
    if not len(label):
        return None
    smallest = np.finfo(np.float64).eps
    clipped = np.clip(finite(probability).astype(np.float64), smallest, 1 - smallest)
    return float(-np.log(np.where(label == 1, clipped, 1 - clipped)).mean())


def gauc(label: np.ndarray, score: np.ndarray, user: np.ndarray) -> float | None:
    """AUC within each user, averaged by the user's rows over users who have both labels.

    As in the papers on user-grouped AUC (Zhu et al. 2017). None where no user has both.
    """
    each, rows = user_aucs(label, score, user)
    return float(np.average(each, weights=rows)) if len(each) else None


def user_aucs(
    label: np.ndarray, score: np.ndarray, user: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of each user who has both labels the AUC and the rows, (u,) both."""
    if not len(label):
        return np.zeros(0), np.zeros(0)
    group = np.unique(user, return_inverse=True)[1]
    rank = average_rank(group, score)
    rows = np.bincount(group)
    positives = np.bincount(group, weights=label)
    negatives = rows - positives
    rank_sum = np.bincount(group, weights=rank * label)
    mixed = (positives > 0) & (negatives > 0)
    wins = rank_sum[mixed] - positives[mixed] * (positives[mixed] + 1) / 2
    return wins / (positives[mixed] * negatives[mixed]), rows[mixed]


def calibration_error(label: np.ndarray, probability: np.ndarray, bins: int) -> float | None:
    """Expected calibration error: mean |observed - predicted| rate over bins of equal width.

    None for no rows.
    """
    if not len(label):
        return None
    table = calibration(label, probability, bins)
    gap = np.abs(table["observed"] - table["predicted"])
    return float(np.average(gap, weights=table["rows"]))


def calibration(label: np.ndarray, probability: np.ndarray, bins: int) -> dict[str, np.ndarray]:
    """Rows, mean predicted and observed click rate of each non-empty bin of equal width."""
    place = np.minimum((probability * bins).astype(int), bins - 1)
    rows = np.bincount(place, minlength=bins)
    used = rows > 0
    return {
        "rows": rows[used],
        "predicted": np.bincount(place, weights=probability, minlength=bins)[used] / rows[used],
        "observed": np.bincount(place, weights=label, minlength=bins)[used] / rows[used],
    }
