"""What a logistic regression makes of item vectors: seconds, and no noise between seeds.

It reads no ids: of a row both levels, the target's vector, its products with the mean vectors of
the last items of the history, and its cosines with each of them. It says what the vectors hold,
where the judge says what DIN makes of them.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from ctr.evaluation.metrics import auc
from pipeline.tables.split import Split

RECENT = 10
PENALTY = 1 / 0.003
"""Of the squared weights of standardised columns, beside the sum of the log losses of all rows."""

CHUNK = 2048
"""Rows whose histories' vectors are in memory at a time."""


def read(
    vectors: np.ndarray, train: Split, valid: Split, cold: np.ndarray, history: int
) -> dict[str, float | None]:
    """AUC on valid's rows that are `cold` (n,) and on the others, named as by the judge.

    `vectors` is float32 (N + 1, d); columns that are all zero take no part. Of each history
    the last `history` items are read.
    """
    vectors = vectors[:, vectors.any(axis=0)]
    scale = StandardScaler()
    known = scale.fit_transform(columns(vectors, train, history))
    model = LogisticRegression(C=1 / PENALTY, max_iter=60).fit(known, train.label)
    logits = model.decision_function(scale.transform(columns(vectors, valid, history)))
    return {
        "auc_cold_items": auc(valid.label[cold], logits[cold]),
        "auc_warm_items": auc(valid.label[~cold], logits[~cold]),
    }


def columns(vectors: np.ndarray, rows: Split, history: int) -> np.ndarray:
    """float32 (n, 8 + 3 d)."""
    return np.concatenate(
        [
            chunk_columns(vectors, Split(rows.rows[start : start + CHUNK]), history)
            for start in range(0, len(rows), CHUNK)
        ]
    )


def chunk_columns(vectors: np.ndarray, rows: Split, last: int) -> np.ndarray:
    length = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    unit = vectors / length
    history = rows.history[:, -last:]
    target = vectors[rows.target]  # (n, d)
    recent = target * mean_vector(vectors, history[:, -RECENT:])
    whole = target * mean_vector(vectors, history)
    cosine = np.einsum("nld,nd->nl", unit[history], unit[rows.target])  # 0 for padding
    nearest = np.sort(cosine, axis=1)
    likes, views = rows.column("likes_level"), rows.column("views_level")
    scalars = [likes, views, recent.sum(axis=1), whole.sum(axis=1), cosine[:, -3:].mean(axis=1)]
    scalars += [nearest[:, -count:].mean(axis=1) for count in (1, 5, 15)]
    return np.column_stack([*scalars, target, recent, whole]).astype(np.float32)


def mean_vector(vectors: np.ndarray, history: np.ndarray) -> np.ndarray:
    """(n, d) over the real items of `history` (n, l), zero where there are none."""
    return vectors[history].sum(axis=1) / np.maximum((history > 0).sum(axis=1), 1)[:, None]
