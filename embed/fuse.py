"""Stage `fuse`: one vector an item by the recipe asked for, and Task 1's file.

Writes embeddings/item/vectors.npy (N + 1, dim) float32 and submissions/task1/item_info.parquet,
and for the eye how much of the features' variance PCA keeps, whatever the recipe.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

from embed.vectors.content import Content, load_content
from embed.vectors.given import given_vectors
from pipeline.common.files import InputError, Outputs, read_array, versions
from pipeline.common.paths import (
    ALIGNED,
    EXPLAINED_VARIANCE,
    GIVEN_ITEM,
    GIVEN_ITEM_EMB,
    ITEM,
    ITEM_INFO,
    VectorFiles,
    metrics_path,
)
from pipeline.common.stage import made, run
from pipeline.settings.embed.fuse import Fuse
from pipeline.tables.item_info import MAX_DIM, write_item_info

GIVEN = {"item_info": GIVEN_ITEM, "item_emb": GIVEN_ITEM_EMB}
"""By `fuse.given`."""
NEGLIGIBLE = 1e-12
"""A component's variance over the first one's, below which it is float32 rounding."""


def main(section: Fuse, encoders: Sequence[VectorFiles]) -> None:
    if section.recipe == "given":
        vectors = _given_item_vectors(section)
        explained = _principal(vectors[vectors.any(axis=1)], section.dim)[1]
    else:
        content = load_content(encoders)
        vectors, explained = fuse(content, read_array(ALIGNED), section)
        if not len(explained):  # the recipe has no use for PCA
            explained = _principal(_joined(content), section.dim)[1]
    items = len(vectors) - 1
    metrics: dict[str, Any] = {
        "recipe": section.recipe,
        "items": items,
        "items_without": items - int(vectors.any(axis=1).sum()),
        "dim": vectors.shape[1],
    }
    if section.recipe in ("pca", "both"):
        ratio = min(1.0, float(explained.sum()))
        metrics |= {"components": len(explained), "explained_variance_ratio": ratio}
    with Outputs() as outputs:
        provenance = versions("scikit-learn", "numpy")
        outputs.array(ITEM, vectors, recipe=section.recipe, versions=provenance)
        write_item_info(outputs.path(ITEM_INFO), vectors)
        outputs.json(metrics_path("fuse"), metrics)
        explained_by(explained).to_csv(outputs.path(EXPLAINED_VARIANCE), index=False)
    made(
        "{recipe} of {items:,} items, {items_without:,} without content, dim {dim}".format_map(
            metrics
        )
    )


def _given_item_vectors(section: Fuse) -> np.ndarray:
    path = GIVEN[section.given]
    vectors, _ = given_vectors(path, f"fuse.given: {section.given}", f"take {_other(section)}")
    if vectors.shape[1] > MAX_DIM:
        raise InputError(
            f"{path}: the source's item vectors have {vectors.shape[1]} columns, Task 1 allows "
            f"{MAX_DIM}; in params.yaml take {_other(section)}"
        )
    return vectors


def _other(section: Fuse) -> str:
    """What else the settings can say: the other table of the source, if it has vectors."""
    others = (name for name in GIVEN if name != section.given)
    there = [f"fuse.given: {name}, or " for name in others if read_array(GIVEN[name]).shape[1]]
    return f"{''.join(there)}another fuse.recipe"


def fuse(content: Content, aligned: np.ndarray, section: Fuse) -> tuple[np.ndarray, np.ndarray]:
    """One vector an item, float32 (N + 1, dim), and the variance ratios of PCA's components.

    `aligned` (N + 1, a) is what `align` wrote. The encoders' standardised features, one after the
    other, are reduced by PCA, fitted on items with at least one of them (`pca`), or must fit in
    `dim` (`concat`); absent ones are zero, which is the mean, and so add nothing. `both` puts the
    first components after the aligned columns, at the same mean norm. Fewer columns than `dim` are
    followed by zeros. An item without content is a row of zeros. All is scaled by one scalar so
    that rows that are not zero have a mean norm of 1: cosines do not change, and models meet inputs
    of a known size.

    Raises InputError if the recipe needs columns that there are none of, or has too many of them.
    """
    joined = _joined(content)
    explained = np.zeros(0)
    columns = []
    if section.recipe in ("align", "both"):
        columns.append(_unit_scale(_aligned_rows(aligned, content.present)))
    if section.recipe in ("pca", "both"):
        reduced, explained = _principal(joined, section.dim - sum(c.shape[1] for c in columns))
        columns.append(_unit_scale(reduced))
    if section.recipe == "concat":
        columns.append(joined)
    rows = np.concatenate(columns, axis=1)
    if rows.shape[1] > section.dim:
        raise InputError(
            f"params.yaml: fuse.recipe is concat, but the features are {rows.shape[1]} columns "
            f"together and fuse.dim is {section.dim}; take the recipe pca, or smaller encoders"
        )
    vectors = np.zeros((len(content.present), section.dim), np.float32)
    vectors[content.present, : rows.shape[1]] = _unit_scale(rows)
    assert np.isfinite(vectors).all()
    return vectors, explained


def explained_by(ratios: np.ndarray) -> pd.DataFrame:
    """The share of the variance that the first 1, 2, ... components hold, from that of each."""
    share = np.minimum(1.0, np.cumsum(ratios))
    return pd.DataFrame({"components": np.arange(1, len(ratios) + 1), "explained": share})


def _joined(content: Content) -> np.ndarray:
    """The features (n, c) of the items that have any."""
    return np.asarray(np.concatenate(content.parts, axis=1)[content.present])


def _aligned_rows(aligned: np.ndarray, present: np.ndarray) -> np.ndarray:
    if not aligned.shape[1]:
        raise InputError(
            f"{ALIGNED}: has no columns, since train's clicks are too few to learn from; "
            "set fuse.recipe to pca in params.yaml"
        )
    return np.asarray(aligned[present], dtype=np.float64)


def _principal(rows: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores (n, c) on the first c <= dim components that have variance, and their ratios (c,)."""
    components = min(dim, *rows.shape)
    if components == 0 or not np.ptp(rows, axis=0).any():
        return np.zeros((len(rows), 0)), np.zeros(0)
    # Exact, and scikit-learn fixes the signs, so that runs agree.
    pca = PCA(components, svd_solver="covariance_eigh").fit(rows)
    kept = int((pca.explained_variance_ > NEGLIGIBLE * pca.explained_variance_[0]).sum())
    return pca.transform(rows)[:, :kept], pca.explained_variance_ratio_[:kept]


def _unit_scale(rows: np.ndarray) -> np.ndarray:
    """`rows` (n, c) times one scalar, so that those that are not zero have a mean norm of 1."""
    norms = np.linalg.norm(rows, axis=1)
    norms = norms[norms > 0]
    return rows / norms.mean() if len(norms) else rows


if __name__ == "__main__":
    run("fuse", main)
