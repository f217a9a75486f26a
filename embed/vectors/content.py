"""The frozen features of titles and covers, each on a footing with the others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.common.files import read_array
from pipeline.common.paths import VectorFiles


@dataclass(frozen=True)
class Content:
    parts: list[np.ndarray]
    """One an encoder, float64 (N + 1, d): present rows of unit length less their mean, others 0."""
    present: np.ndarray
    """bool (N + 1,): items that at least one encoder has read."""


def load_content(encoders: Sequence[VectorFiles]) -> Content:
    """What the embed stages wrote; an encoder that was switched off gives no columns."""
    present = [np.asarray(read_array(files.present)) for files in encoders]
    parts = [
        standardize(read_array(files.vectors), rows)
        for files, rows in zip(encoders, present, strict=True)
    ]
    return Content(parts, np.logical_or.reduce(present))


def standardize(vectors: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Present rows to unit length and mean zero, absent ones zero; float64, of the same shape."""
    result = np.zeros(vectors.shape)
    rows = np.asarray(vectors[present], dtype=np.float64)
    if len(rows):
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        unit = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
        result[present] = unit - unit.mean(axis=0)
    return result
