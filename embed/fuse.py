"""Stage `fuse`: text and image vectors to one vector an item, and Task 1's file.

Writes embeddings/item.npy (N + 1, dim) float32 and submissions/task1/item_info.parquet.
"""

import logging
from typing import Any

import numpy as np
from sklearn.decomposition import PCA

from embed.given import given_vectors
from pipeline.item_info import write_item_info
from pipeline.params import Fuse, Params
from pipeline.schema import (
    GIVEN_ITEM,
    IMAGE,
    IMAGE_PRESENT,
    ITEM,
    ITEM_INFO,
    TEXT,
    TEXT_PRESENT,
    InputError,
    Outputs,
    metrics_path,
    read_array,
    versions,
)
from pipeline.stage import run

MAX_DIM = 128
"""Task 1's rule."""

NEGLIGIBLE = 1e-12
"""A component's variance over the first one's, below which it is float32 rounding."""

log = logging.getLogger(__name__)


def main(params: Params) -> None:
    if params.fuse.given:
        vectors = _given_item_vectors()
        provenance: dict[str, Any] = {"encoder": "given"}
        metrics: dict[str, Any] = {"given": True}
    else:
        vectors, explained = _fused(params.fuse)
        provenance = {"pca": params.fuse.pca, "versions": versions("scikit-learn", "numpy")}
        metrics = {
            "given": False,
            "components": len(explained),
            "explained_variance_ratio": min(1.0, float(explained.sum())),
        }
    items = len(vectors) - 1
    metrics |= {
        "items": items,
        "items_without": items - int(vectors.any(axis=1).sum()),
        "dim": vectors.shape[1],
    }
    with Outputs() as outputs:
        outputs.array(ITEM, vectors, **provenance)
        write_item_info(outputs.path(ITEM_INFO), vectors)
        outputs.json(metrics_path("fuse"), metrics)
    log.info("%(items)d items, dim %(dim)d, %(items_without)d without content", metrics)


def _given_item_vectors() -> np.ndarray:
    vectors, _ = given_vectors(GIVEN_ITEM, "fuse.given")
    if vectors.shape[1] > MAX_DIM:
        raise InputError(
            f"{GIVEN_ITEM}: the source's item vectors have {vectors.shape[1]} columns, Task 1 "
            f"allows {MAX_DIM}; set fuse.given to false in params.yaml"
        )
    return vectors


def _fused(section: Fuse) -> tuple[np.ndarray, np.ndarray]:
    return fuse(
        read_array(TEXT),
        read_array(TEXT_PRESENT),
        read_array(IMAGE),
        read_array(IMAGE_PRESENT),
        section.dim,
        section.pca,
    )


def fuse(
    text: np.ndarray,
    text_present: np.ndarray,
    image: np.ndarray,
    image_present: np.ndarray,
    dim: int,
    pca: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """One vector an item, float32 (N + 1, dim), and the variance ratio of each component kept.

    text (N + 1, d_text), image (N + 1, d_image), present (N + 1,) bool. Each modality's present
    rows are L2-normalised and centred by their mean; absent rows take the mean, which is zero, and
    so add nothing. The concatenation is reduced by PCA, fitted on items with at least one modality,
    or must fit in `dim`. Fewer components than `dim` are padded with columns of zeros. An item with
    neither modality is a row of zeros. All is scaled by one scalar so that rows that are not zero
    have a mean norm of 1: cosines do not change, and models meet inputs of a known size.

    Raises InputError if `pca` is off and the concatenation is wider than `dim`.
    """
    parts = [standardize(text, text_present), standardize(image, image_present)]
    joined = np.concatenate(parts, axis=1)
    if not pca and joined.shape[1] > dim:
        raise InputError(
            f"params.yaml: fuse.pca is false, but text ({text.shape[1]}) and image "
            f"({image.shape[1]}) are {joined.shape[1]} columns together and fuse.dim is {dim}; "
            "set fuse.pca to true or use smaller encoders"
        )
    present = np.asarray(text_present | image_present)
    reduced, explained = _principal(joined[present], dim) if pca else _as_they_are(joined[present])
    vectors = np.zeros((len(joined), dim), np.float32)
    vectors[present, : reduced.shape[1]] = reduced / _mean_norm(reduced)
    assert np.isfinite(vectors).all()
    return vectors, explained


def standardize(vectors: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Present rows to unit length and mean zero, absent ones zero; float64, of the same shape."""
    result = np.zeros(vectors.shape)
    rows = np.asarray(vectors[present], dtype=np.float64)
    if len(rows):
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        unit = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
        result[present] = unit - unit.mean(axis=0)
    return result


def _principal(rows: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores (n, c) on the first c <= dim components that have variance, and their ratios (c,)."""
    components = min(dim, *rows.shape)
    if components == 0 or not np.ptp(rows, axis=0).any():
        return np.zeros((len(rows), 0)), np.zeros(0)
    # Exact, and scikit-learn fixes the signs, so that runs agree.
    pca = PCA(components, svd_solver="covariance_eigh").fit(rows)
    kept = int((pca.explained_variance_ > NEGLIGIBLE * pca.explained_variance_[0]).sum())
    return pca.transform(rows)[:, :kept], pca.explained_variance_ratio_[:kept]


def _as_they_are(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows unchanged, and each column's share of the variance."""
    variance = rows.var(axis=0) if len(rows) else np.zeros(rows.shape[1])
    return rows, variance / max(variance.sum(), np.finfo(float).tiny)


def _mean_norm(rows: np.ndarray) -> float:
    """Mean length of the rows that are not zero; 1 if there is none."""
    norms = np.linalg.norm(rows, axis=1)
    norms = norms[norms > 0]
    return float(norms.mean()) if len(norms) else 1.0


if __name__ == "__main__":
    run(main)
