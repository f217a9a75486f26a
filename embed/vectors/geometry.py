"""What an embedding's vectors show by themselves, without clicks.

`vectors` and `unit` are float32 (N + 1, d): row i is item i, row 0 padding, a row of zeros an item
without a vector; `unit` is `vectors` at unit length.
"""

import numpy as np

from embed.vectors.nearest import exact_search, unit_rows

PAIRS_AT_A_TIME = 2**16
"""67 MB at 128 dimensions."""

ROWS_AT_A_TIME = 2**14

NEGLIGIBLE = 1e-13
"""Variance over the squared size of the vectors, below which it is float32 rounding."""


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    items, rows = unit_rows(vectors)
    unit = np.zeros(vectors.shape, np.float32)
    unit[items] = rows
    return unit


def has_vector(vectors: np.ndarray) -> np.ndarray:
    """bool (N + 1,)."""
    return np.asarray(vectors.any(axis=1))


def mean_norm(vectors: np.ndarray) -> float | None:
    """Mean length of the vectors; None where no item has one."""
    norms = np.sqrt(np.einsum("nd,nd->n", vectors[1:], vectors[1:], dtype=np.float64))
    return float(norms[norms > 0].mean()) if norms.any() else None


def effective_rank(vectors: np.ndarray) -> float | None:
    """exp(entropy) of the centred vectors' singular values, scaled to sum 1 (Roy & Vetterli 2007).

    Between 1, all on a line, and d, as wide in every direction. None where vectors do not differ.
    """
    rows = vectors[1:][has_vector(vectors[1:])]
    if not len(rows):
        return None
    mean = rows.mean(axis=0, dtype=np.float64)
    gram, size = np.zeros((len(mean), len(mean))), 0.0
    for start in range(0, len(rows), ROWS_AT_A_TIME):
        piece = rows[start : start + ROWS_AT_A_TIME].astype(np.float64)
        size += float((piece**2).sum())
        gram += (piece - mean).T @ (piece - mean)
    variance = np.linalg.eigvalsh(gram)
    singular = np.sqrt(variance[variance > NEGLIGIBLE * size])
    if not len(singular):
        return None
    share = singular / singular.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def uniformity(unit: np.ndarray, pairs: int, seed: int) -> float | None:
    """log mean exp(-2 |x - y|^2) over pairs of different items (Wang & Isola 2020).

    From 0, all items in one point, down to about -4, spread over the sphere. Over all pairs if they
    are no more than `pairs`, else over so many random ones. None for fewer than two vectors.
    """
    items = np.flatnonzero(has_vector(unit))
    if len(items) < 2:
        return None
    first, second = _pairs(len(items), pairs, seed)
    total = 0.0
    for start in range(0, len(first), PAIRS_AT_A_TIME):
        piece = slice(start, start + PAIRS_AT_A_TIME)
        one, other = unit[items[first[piece]]], unit[items[second[piece]]]
        cosine = np.einsum("pd,pd->p", one, other).clip(-1, 1)
        total += float(np.exp(4 * (cosine.astype(np.float64) - 1)).sum())  # |x - y|^2 = 2 - 2 cos
    return float(np.log(total / len(first)))


def _pairs(n: int, most: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two different numbers below n >= 2, pair by pair."""
    if n * (n - 1) // 2 <= most:
        return np.triu_indices(n, 1)
    random = np.random.default_rng(seed)
    first, second = random.integers(0, n, most), random.integers(0, n - 1, most)
    return first, second + (second >= first)


def near_duplicates(unit: np.ndarray, threshold: float, sample: int, seed: int) -> float | None:
    """Share of items that have another item at a cosine above `threshold`.

    Of `sample` random items with a vector, each compared with all. None where no item has one.
    """
    rows = unit[has_vector(unit)]
    if not len(rows):
        return None
    random = np.random.default_rng(seed)
    asked = np.sort(random.choice(len(rows), min(sample, len(rows)), replace=False))
    cosine, _ = exact_search(rows, 1).index.search(rows[asked], 2)
    # The highest is the item's own, or, among equal vectors, as high as the second. Of a single
    # item faiss gives the lowest float as the second.
    return float((cosine[:, 1] > threshold).mean())
