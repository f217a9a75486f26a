"""Standard errors of metrics: how far another draw of users would move them.

By what each row, and so each user, adds to a metric about its value, as `pipeline/tables/auc.py`
does it for AUC.

All over numpy arrays of one length n, as `ctr.evaluation.metrics` has them. An error is None where
it cannot be known, as for one user alone.
"""

import numpy as np
import pandas as pd

from pipeline.tables.auc import over_users


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
