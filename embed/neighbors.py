"""Stage `neighbors`: each item's nearest items by cosine.

Writes embeddings/neighbors/neighbors.npz: ids int32 (N + 1, k), dense, and cosine float32
(N + 1, k), nearest first. Where an item has fewer than k neighbours, id 0 with cosine 0 fills the
row.
"""

import faiss
import numpy as np

from embed.vectors.nearest import Neighbors, exact_recall, nearest_items, searching_gpus
from pipeline.common.files import Outputs, read_array, versions
from pipeline.common.outlook import tell_cores
from pipeline.common.paths import ITEM, NEIGHBORS, array_info, metrics_path
from pipeline.common.stage import made, run
from pipeline.settings.embed.neighbors import Neighbors as Settings


def main(section: Settings) -> None:
    tell_cores("neighbors", "fp32", gpus=searching_gpus())
    vectors = np.asarray(read_array(ITEM))
    k = section.k if section.enabled else 0
    found = nearest_items(vectors, k, section.exact_below, section.seed)
    real = found.ids > 0
    metrics = {
        "items": len(vectors) - 1,
        "k": k,
        "index": found.index,
        "mean_cosine": float(found.cosine[real].mean(dtype=np.float64)) if real.any() else 0.0,
        "recall": exact_recall(vectors, found, section.seed),
    }
    with Outputs() as outputs:
        _write(outputs, found, section.seed)
        outputs.json(metrics_path("neighbors"), metrics)
    made("{index}, k {k}, mean cosine {mean_cosine:.4f}, recall {recall:.4f}".format_map(metrics))


def _write(outputs: Outputs, found: Neighbors, seed: int) -> None:
    with outputs.path(NEIGHBORS).open("wb") as file:
        np.savez(file, ids=found.ids, cosine=found.cosine)
    info = {
        "ids": {"shape": found.ids.shape, "dtype": str(found.ids.dtype)},
        "cosine": {"shape": found.cosine.shape, "dtype": str(found.cosine.dtype)},
        "index": found.index,
        "seed": seed,
        "versions": versions("numpy") | {"faiss": faiss.__version__},
    }
    outputs.json(array_info(NEIGHBORS), info)


if __name__ == "__main__":
    run("neighbors", main)
