"""Area under the ROC curve, by ranks.

Many times as fast on few rows as scikit-learn's, which `blend` asks thousands of times, and without
its import of seconds.
"""

import numpy as np


def auc(label: np.ndarray, score: np.ndarray) -> float | None:
    """Of rows (n,), `label` 0 or 1; ties are counted half. None where only one class occurs."""
    if not 0 < label.sum() < len(label):
        return None
    rank = average_rank(np.zeros(len(label), int), finite(score))
    positives = int(label.sum())
    wins = rank @ label - positives * (positives + 1) / 2
    return float(wins / (positives * (len(label) - positives)))


def finite(values: np.ndarray) -> np.ndarray:
    """`values` as they are. Raises ValueError for NaN and infinity, which have no rank."""
    if not np.isfinite(values).all():
        raise ValueError("expected finite numbers; some are NaN or infinite")
    return values


def average_rank(group: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Rank of each score within its group, from 1, ties sharing their mean rank; float64 (n,)."""
    order = np.lexsort((score, group))
    sorted_group, sorted_score = group[order], score[order]
    place = np.arange(len(order))
    new_group = np.append(True, sorted_group[1:] != sorted_group[:-1])
    new_value = new_group | np.append(True, sorted_score[1:] != sorted_score[:-1])
    group_start = np.maximum.accumulate(np.where(new_group, place, 0))
    tie = np.cumsum(new_value) - 1
    tie_mean = np.bincount(tie, weights=place) / np.bincount(tie)
    rank = np.empty(len(order))
    rank[order] = tie_mean[tie] - group_start + 1
    return rank
