"""The recipes of section `fuse`: one vector an item, of encoders' features and of clicks."""

from pathlib import Path

import numpy as np

from embed.vectors.content import Content
from pipeline.common.files import InputError
from pipeline.common.paths import ALIGNED, LEARNED

NEGLIGIBLE = 1e-12
"""A component's variance over the first one's, below which it is float32 rounding."""


def fuse(
    content: Content, aligned: np.ndarray, recipe: str, dim: int, asked: str = "fuse.recipe"
) -> tuple[np.ndarray, np.ndarray]:
    """One vector an item, float32 (N + 1, dim), and the variance ratios of PCA's components.

    `aligned` (N + 1, a) is what `align` wrote. The encoders' standardised features, one after the
    other, are reduced by PCA, fitted on items with at least one of them (`pca`), or must fit in
    `dim` (`concat`); absent ones are zero, which is the mean, and so add nothing. `both` puts the
    first components after the aligned columns, at the same mean norm. Fewer columns than `dim` are
    followed by zeros. An item without content is a row of zeros. All is scaled by one scalar so
    that rows that are not zero have a mean norm of 1: cosines do not change, and models meet inputs
    of a known size. `asked` names the settings that ask for the recipe, for errors.

    Raises InputError if the recipe needs columns that there are none of, or has too many of them.
    """
    explained = np.zeros(0)
    columns = []
    if recipe in ("align", "both"):
        columns.append(unit_scale(_aligned_rows(aligned, content.present, asked)))
    if recipe in ("pca", "both"):
        reduced, explained = principal(joined(content), dim - sum(c.shape[1] for c in columns))
        columns.append(unit_scale(reduced))
    if recipe == "concat":
        columns.append(joined(content))
    rows = np.concatenate(columns, axis=1)
    if rows.shape[1] > dim:
        raise InputError(
            f"params.yaml: {asked}: concat, but the features are {rows.shape[1]} columns together "
            f"and fuse.dim is {dim}; take the recipe pca, or smaller encoders"
        )
    vectors = np.zeros((len(content.present), dim), np.float32)
    vectors[content.present, : rows.shape[1]] = unit_scale(rows)
    assert np.isfinite(vectors).all()
    return vectors, explained


def fuse_learned(learned: np.ndarray, dim: int) -> np.ndarray:
    """`learned` (N + 1, a), what `align` wrote of behaviour, as (N + 1, dim) float32, scaled alike.

    Raises InputError if it has no columns.
    """
    if not learned.shape[1]:
        raise _without_columns(LEARNED, "fuse.task1")
    vectors = np.zeros((len(learned), dim), np.float32)
    vectors[:, : learned.shape[1]] = unit_scale(np.asarray(learned, np.float64))
    return vectors


def joined(content: Content) -> np.ndarray:
    """The features (n, c) of the items that have any."""
    return np.asarray(np.concatenate(content.parts, axis=1)[content.present])


def _aligned_rows(aligned: np.ndarray, present: np.ndarray, asked: str) -> np.ndarray:
    if not aligned.shape[1]:
        raise _without_columns(ALIGNED, asked)
    return np.asarray(aligned[present], dtype=np.float64)


def _without_columns(path: Path, asked: str) -> InputError:
    return InputError(
        f"{path}: has no columns, since train's clicks are too few to learn from; "
        f"set {asked} to pca in params.yaml"
    )


def principal(rows: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores (n, c) on the first c <= dim components that have variance, and their ratios (c,)."""
    components = min(dim, *rows.shape)
    if components == 0 or not np.ptp(rows, axis=0).any():
        return np.zeros((len(rows), 0)), np.zeros(0)
    centred = rows - rows.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred)  # ascending
    variance, axes = values[::-1].clip(min=0), vectors[:, ::-1]  # (d,), (d, d)
    kept = min(components, int((variance > NEGLIGIBLE * variance[0]).sum()))
    largest = np.abs(axes).argmax(axis=0)
    axes = axes * np.sign(axes[largest, np.arange(len(largest))])  # or runs would differ by it
    return centred @ axes[:, :kept], (variance / variance.sum())[:kept]


def unit_scale(rows: np.ndarray) -> np.ndarray:
    """`rows` (n, c) times one scalar, so that those that are not zero have a mean norm of 1."""
    norms = np.linalg.norm(rows, axis=1)
    norms = norms[norms > 0]
    return rows / norms.mean() if len(norms) else rows
