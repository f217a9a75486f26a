"""Stage `diagnose`: what Task 1's item embedding is worth, in seconds and before any CTR model.

Writes metrics/embeddings.json. A value that the data cannot give is null.
"""

import numpy as np

from embed.vectors import geometry, retrieval
from pipeline.common.files import Outputs, read_array
from pipeline.common.outlook import tell_cores
from pipeline.common.paths import TASK1_ITEM, metrics_path
from pipeline.common.stage import made, run, shown
from pipeline.settings.embed.diagnose import Diagnose
from pipeline.tables.auc import auc
from pipeline.tables.split import Split


def main(section: Diagnose) -> None:
    tell_cores("diagnose", "fp32")
    found = diagnose(
        np.asarray(read_array(TASK1_ITEM)), Split.load("train"), Split.load("valid"), section
    )
    with Outputs() as outputs:
        outputs.json(metrics_path("embeddings"), found)
    recall = f"recall_{section.k}"
    made(
        f"recall@{section.k} {shown(found[recall])} (popular items "
        f"{shown(found[f'{recall}_popular'])}), AUC of the cosine {shown(found['separation'])}, "
        f"effective rank {shown(found['effective_rank'])}"
    )


def diagnose(
    vectors: np.ndarray, train: Split, valid: Split, settings: Diagnose
) -> dict[str, float | int | None]:
    """Measures of `vectors`, (N + 1, d) with padding in row 0, by name."""
    unit = geometry.unit_vectors(vectors)
    popularity = retrieval.popularity(train, len(vectors) - 1)
    return {
        **of_vectors(vectors, unit, settings),
        **of_retrieval(unit, popularity, valid, settings),
        **of_ranking(unit, popularity, valid, settings),
    }


def of_vectors(
    vectors: np.ndarray, unit: np.ndarray, settings: Diagnose
) -> dict[str, float | int | None]:
    return {
        "items": len(vectors) - 1,
        "without_vector": int((~geometry.has_vector(vectors[1:])).sum()),
        "mean_norm": geometry.mean_norm(vectors),
        "effective_rank": geometry.effective_rank(vectors),
        "uniformity": geometry.uniformity(unit, settings.pairs, settings.seed),
        "near_duplicates": geometry.near_duplicates(
            unit, settings.near_duplicate, settings.sample, settings.seed
        ),
    }


def of_retrieval(
    unit: np.ndarray, popularity: retrieval.Popularity, valid: Split, settings: Diagnose
) -> dict[str, float | int | None]:
    """Recall over valid's next clicks: of the embedding, of popular items, and of random ones."""
    places = retrieval.next_clicks(valid)
    aligned = retrieval.alignment(unit, Split(valid.rows[places]))
    if len(places) > settings.sample:
        random = np.random.default_rng(settings.seed)
        places = np.sort(random.choice(places, settings.sample, replace=False))
    rows = Split(valid.rows[places])
    cold = ~popularity.seen[rows.target]
    hits = retrieval.hits(unit, rows, settings.window, settings.k)
    recall = f"recall_{settings.k}"
    return {
        "alignment": aligned,
        "recall_rows": len(rows),
        "recall_rows_cold": int(cold.sum()),
        recall: _mean(hits),
        f"{recall}_cold": _mean(hits[cold]),
        f"{recall}_popular": _mean(retrieval.popular_hits(popularity.clicks, rows, settings.k)),
        f"{recall}_chance": _mean(retrieval.chance_hits(unit, rows, settings.k)),
    }


def of_ranking(
    unit: np.ndarray, popularity: retrieval.Popularity, valid: Split, settings: Diagnose
) -> dict[str, float | None]:
    """AUC on valid of the cosine of target and history."""
    scores = retrieval.cosine_scores(unit, valid, settings.window)
    cold = ~popularity.seen[valid.target]
    return {
        "separation": auc(valid.label, scores),
        "separation_cold": auc(valid.label[cold], scores[cold]),
    }


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


if __name__ == "__main__":
    run("diagnose", main)
