"""Standard errors of metrics: how far another draw of users would move them.

Rows of one user go together, so it is users that are drawn. What each row adds to a metric about
its value, its influence, is summed within the user; the sums' deviation is the error. Of AUC that
is Obuchowski's (1997), and DeLong's (1988) where every user has one row.

All over numpy arrays of one length n, as `ctr.evaluation.metrics` has them. An error is None where
it cannot be known, as for one user alone.
"""

import numpy as np
import pandas as pd

from pipeline.tables.auc import average_rank


def auc_error(label: np.ndarray, score: np.ndarray, user: np.ndarray) -> float | None:
    """None where only one class occurs."""
    return over_users(auc_influence(label, score), user) if has_both(label) else None


def auc_gain_error(
    label: np.ndarray, score: np.ndarray, other: np.ndarray, user: np.ndarray
) -> float | None:
    """Of the AUC of `score` less that of `other`, on the same rows."""
    if not has_both(label):
        return None
    return over_users(auc_influence(label, score) - auc_influence(label, other), user)


def has_both(label: np.ndarray) -> bool:
    return len(np.unique(label)) == 2


def auc_influence(label: np.ndarray, score: np.ndarray) -> np.ndarray:
    """float64 (n,), of rows of both classes."""
    positive = label == 1
    rank, influence = ranks(score), np.empty(len(label))
    for own, sign in ((positive, 1), (~positive, -1)):
        below = (rank[own] - ranks(score[own])) / (~own).sum()  # share of the other class
        influence[own] = sign * (below - below.mean()) / own.sum()
    return influence


def ranks(score: np.ndarray) -> np.ndarray:
    return average_rank(np.zeros(len(score), int), score)


def gauc_error(label: np.ndarray, score: np.ndarray, user: np.ndarray) -> float | None:
    """None where no user, or but one, has both labels."""
    rows = pd.DataFrame({"user": user, "label": label, "score": score})
    rank = rows.groupby("user")["score"].rank()
    rows["rank"] = rank * rows["label"]
    each = rows.groupby("user").agg(
        rank=("rank", "sum"), clicks=("label", "sum"), rows=("label", "size")
    )
    each = each[(each["clicks"] > 0) & (each["clicks"] < each["rows"])]
    clicks, weight = each["clicks"], each["rows"] / each["rows"].sum()
    auc = (each["rank"] - clicks * (clicks + 1) / 2) / (clicks * (each["rows"] - clicks))
    influence = weight * (auc - (weight * auc).sum())
    return over_users(influence.to_numpy(float), each.index.to_numpy())


def logloss_error(label: np.ndarray, probability: np.ndarray, user: np.ndarray) -> float | None:
    least = np.finfo(np.float64).eps
    given = np.where(label == 1, probability, 1 - probability).clip(least)
    loss = -np.log(given)
    return over_users((loss - loss.mean()) / len(loss), user) if len(loss) else None


def over_users(influence: np.ndarray, user: np.ndarray) -> float | None:
    """The standard error by the rows' `influence` (n,), which sums to 0; None for one user."""
    users, place = np.unique(user, return_inverse=True)
    if len(users) < 2:
        return None
    sums = np.bincount(place, weights=influence)
    return float(np.sqrt(len(users) / (len(users) - 1) * (sums**2).sum()))
