"""What semantic ids are worth to QIN and to boosted trees.

An item's vector (`fuse.recipe`) by residual quantisation is LEVELS words, coarse to fine, each one
of 2^BITS: the next level's words are of what the ones before leave. QIN reads an item's words as
further tags of it, boosted trees the target's as categorical columns. The same seeds with them and
without; AUC on valid, and the mean difference with its standard error.

    python -m benchmarks.quality.semantic_ids [--models main trees] [--runs 3]

For the data that the pipeline has ingested, embedded and counted in the working directory.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import faiss
import numpy as np

from benchmarks.quality.seeds import difference
from benchmarks.quality.trained import network
from benchmarks.quality.worlds import world_with
from ctr.boosting.forest import parameters
from ctr.boosting.library import library
from ctr.boosting.rows import load_data
from ctr.engine.machine import prepare_cpu
from ctr.evaluation.metrics import auc
from pipeline.common.files import read_array, read_json, write_json
from pipeline.common.paths import ITEM, STATS, TAGS
from pipeline.settings.ctr.train import Train
from pipeline.settings.params import load_params
from pipeline.tables.split import Split

LEVELS, BITS = 3, 6


def main() -> None:
    parser = argparse.ArgumentParser(description="What semantic ids are worth.")
    parser.add_argument("--models", nargs="+", default=["main", "trees"])
    parser.add_argument("--runs", type=int, default=3, help="seeds")
    options = parser.parse_args()
    params = load_params()
    prepare_cpu()
    codes = semantic_ids(read_array(ITEM))
    label = Split.load("valid").label
    print(f"{len({*map(tuple, codes)}):,} different ids of {len(codes) - 1:,} items")
    print(f"{'':12}{'without':>9}{'with':>9}{'difference':>20}")
    for name in options.models:
        settings = params.ranking_model(name)
        scored = trees if settings.model == "lightgbm" else by_tags
        aucs = np.array(
            [
                [auc(label, logits) for logits in scored(changed, codes)]
                for changed in (
                    settings.model_copy(update={"seed": settings.seed + run})
                    for run in range(options.runs)
                )
            ],
            dtype=float,
        )
        cells = "".join(f"{value:9.4f}" for value in aucs.mean(axis=0))
        print(f"{name:12}{cells}{difference(aucs[:, 1], aucs[:, 0]):>20}", flush=True)


def semantic_ids(vectors: np.ndarray) -> np.ndarray:
    """int32 (N + 1, LEVELS), words 1..2^BITS of `vectors` (N + 1, d); 0 for a row of zeros."""
    present = vectors.any(axis=1)
    rows = np.ascontiguousarray(vectors[present], np.float32)
    quantizer = faiss.ResidualQuantizer(rows.shape[1], LEVELS, BITS)
    quantizer.cp.min_points_per_centroid = 1  # faiss warns of less than 39, which 2,500 items have
    quantizer.train(rows)
    codes = np.zeros((len(vectors), LEVELS), np.int32)
    codes[present] = 1 + faiss.unpack_bitstrings(quantizer.compute_codes(rows), LEVELS, BITS)
    return codes


def by_tags(settings: Train, codes: np.ndarray) -> Iterator[np.ndarray]:
    """The logits for valid (n,) without and with the `codes` (N + 1, LEVELS) among the tags."""
    yield network(settings)[0]
    with tagged(codes):
        yield network(settings)[0]


@contextmanager
def tagged(codes: np.ndarray) -> Iterator[None]:
    """Work where the words of each level are tags of their own, after those of the source."""
    stats, tags = read_json(STATS), read_array(TAGS)
    first = stats["tags"] - 1 + (np.arange(LEVELS) << BITS)
    words = np.where(codes > 0, codes + first, 0).astype(tags.dtype)
    with world_with({TAGS: np.concatenate([tags, words], axis=1)}):
        write_json(STATS, stats | {"tags": int(stats["tags"] + (LEVELS << BITS))})
        yield


def trees(settings: Train, codes: np.ndarray) -> Iterator[np.ndarray]:
    """The logits for valid (n,) without and with the target's `codes` (N + 1, LEVELS)."""
    yield grown(settings, codes[:, :0])
    yield grown(settings, codes)


def grown(settings: Train, codes: np.ndarray) -> np.ndarray:
    """As stage `train` does it, but that valid is scored at every tree, not at every tenth, and for
    the draw of each tree's columns."""
    lightgbm, data = library("train"), load_data(settings)
    names = [f"word_{level}" for level in range(codes.shape[1])]
    rows: dict[str, np.ndarray] = {}
    sets: dict[str, Any] = {}
    for split in ("train", "valid"):
        told = codes[Split.load(split).target].astype(np.float32)
        rows[split] = np.concatenate([data.read(split), told], axis=1)
        sets[split] = lightgbm.Dataset(
            rows[split],
            data.label[split],
            feature_name=[*data.names, *names],
            categorical_feature=names,
            reference=sets.get("train"),
            params=parameters(settings),
        )
    stop = lightgbm.early_stopping(settings.lightgbm.patience, verbose=False)
    booster = lightgbm.train(
        parameters(settings) | {"metric": "auc", "feature_fraction_seed": settings.seed},
        sets["train"],
        settings.lightgbm.trees,
        valid_sets=[sets["valid"]],
        callbacks=[stop],
    )
    return np.asarray(booster.predict(rows["valid"], raw_score=True))


if __name__ == "__main__":
    main()
