"""Area under the ROC curve, by ranks, and its standard error.

Many times as fast on few rows as scikit-learn's, which `blend` asks thousands of times, and without
its import of seconds.

The error is how far another draw of users would move it. Rows of one user go together, so it is
users that are drawn. What each row adds to the AUC about its value, its influence, is summed within
the user; the sums' deviation is the error. That is Obuchowski's (1997), and DeLong's (1988) where
every user has one row, but for factors of n / (n - 1).

All over numpy arrays of one length n. An error is None where it cannot be known, as for one user.
"""

import numpy as np


def auc(label: np.ndarray, score: np.ndarray) -> float | None:
    """Of rows (n,), `label` 0 or 1; ties are counted half. None where only one class occurs."""
    if not 0 < label.sum() < len(label):
        return None
    rank = ranks(finite(score))
    positives = int(label.sum())
    wins = rank @ label - positives * (positives + 1) / 2
    return float(wins / (positives * (len(label) - positives)))


def auc_error(label: np.ndarray, score: np.ndarray, user: np.ndarray) -> float | None:
    """None where only one class occurs."""
    influence = auc_influence(label, score)
    return None if influence is None else over_users(influence, user)


def auc_gain_error(
    label: np.ndarray, score: np.ndarray, other: np.ndarray, user: np.ndarray
) -> float | None:
    """Of the AUC of `score` less that of `other`, on the same rows."""
    return gain_error(auc_influence(label, score), auc_influence(label, other), user)


def gain_error(
    influence: np.ndarray | None, other: np.ndarray | None, user: np.ndarray
) -> float | None:
    """Likewise by what the rows add to the one AUC and to the other."""
    return None if influence is None or other is None else over_users(influence - other, user)


def auc_influence(label: np.ndarray, score: np.ndarray) -> np.ndarray | None:
    """float64 (n,); None where only one class occurs."""
    if not 0 < label.sum() < len(label):
        return None
    positive = label == 1
    rank, influence = ranks(score), np.empty(len(label))
    for own, sign in ((positive, 1), (~positive, -1)):
        below = (rank[own] - ranks(score[own])) / (~own).sum()  # share of the other class
        influence[own] = sign * (below - below.mean()) / own.sum()
    return influence


def over_users(influence: np.ndarray, user: np.ndarray) -> float | None:
    """The standard error by the rows' `influence` (n,), which sums to 0; None for one user."""
    users, place = np.unique(user, return_inverse=True)
    if len(users) < 2:
        return None
    sums = np.bincount(place, weights=influence)
    return float(np.sqrt(len(users) / (len(users) - 1) * (sums**2).sum()))


def ranks(score: np.ndarray) -> np.ndarray:
    """From 1, ties sharing their mean rank; float64 (n,)."""
    return average_rank(np.zeros(len(score), int), score)


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
