"""Stage `fuse`: one vector an item by the recipes asked for, and Task 1's file.

Writes embeddings/item/vectors.npy (N + 1, dim) float32, which the ranking models read, and likewise
Task 1's vectors, embeddings/item/task1.npy and submissions/task1/item_info.parquet; and for the eye
how much of the features' variance PCA keeps, whatever the recipe.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from embed.vectors.content import Content, load_content
from embed.vectors.given import given_vectors
from embed.vectors.recipes import fuse, fuse_learned, joined, principal
from pipeline.common.files import InputError, Outputs, read_array, versions
from pipeline.common.paths import (
    ALIGNED,
    EXPLAINED_VARIANCE,
    GIVEN_ITEM,
    GIVEN_ITEM_EMB,
    ITEM,
    ITEM_INFO,
    LEARNED,
    TASK1_ITEM,
    VectorFiles,
    metrics_path,
)
from pipeline.common.stage import made, run
from pipeline.settings.embed.fuse import Fuse, Task1Recipe
from pipeline.tables.item_info import MAX_DIM, write_item_info

GIVEN = {"item_info": GIVEN_ITEM, "item_emb": GIVEN_ITEM_EMB}
"""By `fuse.given`."""


def main(section: Fuse, encoders: Sequence[VectorFiles]) -> None:
    content = None if section.recipe == section.task1 == "given" else load_content(encoders)
    if section.task1 == section.recipe:
        vectors, explained = by_recipe(
            "fuse.recipe and fuse.task1", section.recipe, section, content
        )
        task1 = vectors
    else:
        vectors, explained = by_recipe("fuse.recipe", section.recipe, section, content)
        task1, _ = by_recipe("fuse.task1", section.task1, section, content)
    items = len(vectors) - 1
    metrics: dict[str, Any] = {
        "recipe": section.recipe,
        "items": items,
        "items_without": without(vectors),
        "dim": vectors.shape[1],
        "task1": {"recipe": section.task1, "items_without": without(task1), "dim": task1.shape[1]},
    }
    if section.recipe in ("pca", "both"):
        ratio = min(1.0, float(explained.sum()))
        metrics |= {"components": len(explained), "explained_variance_ratio": ratio}
    elif section.recipe == "given":
        explained = principal(vectors[vectors.any(axis=1)], section.dim)[1]
    elif content is not None:
        explained = principal(joined(content), section.dim)[1]
    with Outputs() as outputs:
        provenance = versions("numpy")
        outputs.array(ITEM, vectors, recipe=section.recipe, versions=provenance)
        outputs.array(TASK1_ITEM, task1, recipe=section.task1, versions=provenance)
        write_item_info(outputs.path(ITEM_INFO), task1)
        outputs.json(metrics_path("fuse"), metrics)
        explained_by(explained).to_csv(outputs.path(EXPLAINED_VARIANCE), index=False)
    made(
        f"{section.recipe} of {items:,} items, {without(vectors):,} without content, dim "
        f"{vectors.shape[1]}; Task 1: {section.task1}, {without(task1):,} without a vector"
    )


def without(vectors: np.ndarray) -> int:
    """Items whose row of (N + 1, d) is zero."""
    return len(vectors) - 1 - int(vectors.any(axis=1).sum())


def by_recipe(
    asked: str, recipe: Task1Recipe, section: Fuse, content: Content | None
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors float32 (N + 1, d), and the variance ratios of PCA's components where there are any.

    `asked` names the settings that ask for `recipe`, for errors; `content` is not read for `given`.
    """
    if recipe == "given":
        return _given_item_vectors(section, asked), np.zeros(0)
    if recipe == "learned":
        return fuse_learned(read_array(LEARNED), section.dim), np.zeros(0)
    assert content is not None
    return fuse(content, read_array(ALIGNED), recipe, section.dim, asked)


def _given_item_vectors(section: Fuse, asked: str) -> np.ndarray:
    path = GIVEN[section.given]
    remedy = f"take {_other(section)}another {asked}"
    vectors, _ = given_vectors(path, f"fuse.given: {section.given}", remedy)
    if vectors.shape[1] > MAX_DIM:
        raise InputError(
            f"{path}: the source's item vectors have {vectors.shape[1]} columns, Task 1 allows "
            f"{MAX_DIM}; in params.yaml {remedy}"
        )
    return vectors


def _other(section: Fuse) -> str:
    """The other table of the source, if it has vectors, for an error."""
    others = (name for name in GIVEN if name != section.given)
    return "".join(
        f"fuse.given: {name}, or " for name in others if read_array(GIVEN[name]).shape[1]
    )


def explained_by(ratios: np.ndarray) -> pd.DataFrame:
    """The share of the variance that the first 1, 2, ... components hold, from that of each."""
    share = np.minimum(1.0, np.cumsum(ratios))
    return pd.DataFrame({"components": np.arange(1, len(ratios) + 1), "explained": share})


if __name__ == "__main__":
    run("fuse", main)
