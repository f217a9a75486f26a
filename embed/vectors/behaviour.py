"""What the clicks in train say of items: which go together, and how often each is clicked.

A contrastive objective over (history item, clicked target) pairs with negatives drawn by popularity
and corrected for it has pointwise mutual information as its optimum (Levy & Goldberg 2014). That is
counted here and factorised, which takes no training and loses nothing to it.
"""

import logging
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.linalg import eigsh
from tqdm import tqdm

from pipeline.settings.embed.align import Align
from pipeline.tables.split import Split

CHUNK = 1 << 18
"""Clicks whose pairs are counted at a time, which bounds memory."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Behaviour:
    """Row i is item i, row 0 padding."""

    company: np.ndarray
    """float64 (N + 1, k): items clicked in the same company have like vectors; mean norm 1."""
    appeal: np.ndarray
    """float64 (N + 1,): log odds of a click on the item against those of all rows, shrunk to 0."""
    shown: np.ndarray
    """int64 (N + 1,): rows of train with the item as target."""
    known: np.ndarray
    """bool (N + 1,): shown, and in at least one pair."""
    pairs: int
    """Pairs of a history item and a clicked target."""


def behaviour(train: Split, items: int, section: Align) -> Behaviour:
    """Of `items` items, from the rows of `train` alone.

    A clicked target is paired with the last items of its history. What was seen and what was
    expected of each pair are smoothed, and click rates drawn towards the mean, as `section` says.
    """
    together = pair_counts(train, items, section.window)
    mutual = positive_mutual_information(together, section.smoothing)
    shown = np.bincount(train.target, minlength=items + 1)
    appeal = log_odds(train, shown, section.prior)
    paired = np.asarray(together.sum(axis=1)) > 0
    known = paired & (shown > 0)
    known[0] = False
    log.info("factorising how often %s items were clicked together", f"{known.sum():,}")
    company = factors(mutual, section.dim, known)
    return Behaviour(company, appeal, shown, known, int(together.sum()) // 2)


def pair_counts(train: Split, items: int, window: int) -> csr_array:
    """(N + 1, N + 1), symmetric: how often one item was clicked with the other in its history."""
    clicked = np.flatnonzero(train.label == 1)
    counts = csr_array((items + 1, items + 1), dtype=np.float64)
    starts = range(0, len(clicked), CHUNK)
    for start in tqdm(starts, "pairs of clicks", unit="part", leave=False, disable=None):
        rows = clicked[start : start + CHUNK]
        history = train.history[rows, -window:]  # (n, window)
        target = np.repeat(train.target[rows], history.shape[1])
        seen = history.reshape(-1)
        real = seen > 0
        shape = counts.shape
        counts += coo_array((np.ones(real.sum()), (target[real], seen[real])), shape).tocsr()
    return (counts + counts.T).tocsr()


def positive_mutual_information(counts: csr_array, smoothing: float) -> csr_array:
    """log((seen + s) / (expected + s)) of each pair of `counts`, where it is positive."""
    degree = np.asarray(counts.sum(axis=1))
    seen = counts.tocoo()
    expected = degree[seen.row] * degree[seen.col] / max(degree.sum(), 1.0)
    values = np.log((seen.data + smoothing) / (expected + smoothing))
    positive = values > 0
    entries = (values[positive], (seen.row[positive], seen.col[positive]))
    return coo_array(entries, counts.shape).tocsr()


def factors(matrix: csr_array, dim: int, known: np.ndarray) -> np.ndarray:
    """(N + 1, dim): the best factorisation of the symmetric `matrix` by its own transpose.

    Columns of the largest eigenvalues first; of mean norm 1 over the `known` rows, zero elsewhere.
    """
    result = np.zeros((matrix.shape[0], dim))
    part = matrix[known][:, known]
    count = min(dim, part.shape[0] - 1)
    if count < 1 or not part.nnz:
        return result
    start, rng = np.ones(part.shape[0]), np.random.default_rng(0)  # or other bytes each time
    values, vectors = eigsh(part, k=count, which="LA", v0=start, rng=rng)
    order = np.argsort(-values)
    vectors = vectors[:, order] * np.sqrt(values[order].clip(min=0))
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(count)])
    result[known, :count] = vectors * signs
    return result / max(np.linalg.norm(result[known], axis=1).mean(), np.finfo(float).tiny)


def log_odds(train: Split, shown: np.ndarray, prior: float) -> np.ndarray:
    """float64 (N + 1,): each item's log odds of a click, less those of all rows."""
    clicks = np.bincount(train.target, weights=train.label, minlength=len(shown))
    mean = (train.label.sum() + 0.5) / (len(train) + 1)
    rate = (clicks + prior * mean) / (shown + prior)
    return np.log(rate / (1 - rate)) - np.log(mean / (1 - mean))
