"""Standard errors of metrics: how far another draw of users would move them.

By what each row, and so each user, adds to a metric about its value, as `pipeline/tables/auc.py`
does it for AUC.

All over numpy arrays of one length n, as `ctr.evaluation.metrics` has them. An error is None where
it cannot be known, as for one user alone.
"""

import numpy as np

from ctr.evaluation.metrics import user_aucs
from pipeline.tables.auc import over_users


def gauc_error(label: np.ndarray, score: np.ndarray, user: np.ndarray) -> float | None:
    """None where no user, or but one, has both labels."""
    each, rows = user_aucs(label, score, user)
    weight = rows / rows.sum()
    return over_users(weight * (each - weight @ each), np.arange(len(each)))


def logloss_error(label: np.ndarray, probability: np.ndarray, user: np.ndarray) -> float | None:
    least = np.finfo(np.float64).eps
    given = np.where(label == 1, probability, 1 - probability).clip(least)
    loss = -np.log(given)
    return over_users((loss - loss.mean()) / len(loss), user) if len(loss) else None
