"""What each recipe of item vectors is worth: judge, QIN, cold items, retrieval, and seconds.

For the data that the pipeline has ingested and embedded in the working directory, with its
`params.yaml`. `zeros` and `random` are there to be beaten; `align:48` is with another `align.dim`,
`align:white` or `align:48:white` with columns of equal deviation. `--without-qin` asks the judge
alone. Ends with how well each cheap diagnostic of `metrics/embeddings.json` ranks the
recipes as the judge does (Spearman's rank correlation).

    python -m benchmarks.bench_recipes [--recipes pca align] [--runs 3] [--json PATH]

With `--hold-out 5` each fifth of the items is made cold in turn, and the judge alone asked;
with `--linear` a logistic regression, which takes seconds and has no seeds.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks.quality import cold_items
from benchmarks.quality.recipes import NAMES, RECIPES, recipe_name, vectors_of
from benchmarks.quality.trained import network
from benchmarks.support.accelerator import opened
from ctr.engine.data import load_items
from ctr.engine.loop import load_data, none_for_nan
from ctr.engine.machine import prepare_cpu
from ctr.evaluation.metrics import auc
from ctr.judge import judge
from ctr.models.base import columns_in_use
from ctr.task1.items import load_judged_items
from embed.diagnose import diagnose
from embed.vectors.content import load_content
from embed.vectors.nearest import nearest_items
from pipeline.common.files import write_json
from pipeline.settings.ctr.judge import Judge
from pipeline.settings.params import Params, load_params
from pipeline.tables.item_info import write_item_info
from pipeline.tables.split import Split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", nargs="+", type=recipe_name, default=RECIPES)
    parser.add_argument("--runs", type=int, default=3, help="seeds of the judge, and of QIN")
    parser.add_argument(
        "--hold-out", type=int, metavar="N", help="make each of N parts of the items cold instead"
    )
    parser.add_argument(
        "--linear", action="store_true", help="with --hold-out: a logistic regression judges"
    )
    parser.add_argument(
        "--without-qin", dest="with_qin", action="store_false", help="ask the judge alone"
    )
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    if options.hold_out is not None and options.hold_out < 2:
        parser.error(f"--hold-out is {options.hold_out}; of 1 part train would keep nothing")
    params = load_params()
    params = params.model_copy(
        update={"judge": params.judge.model_copy(update={"runs": options.runs})}
    )
    prepare_cpu()
    if options.hold_out is not None:
        parts, file = options.hold_out, options.json
        cold_items.compare(options.recipes, parts, params, file, options.linear)
        return
    results = {}
    for recipe in options.recipes:
        results[recipe] = measured(recipe, params, options.with_qin)
        print_row(recipe, results[recipe], params.diagnose.k, header=len(results) == 1)
        if options.json:
            write_json(options.json, results)
    print_correlations(results)


def measured(recipe: str, params: Params, with_qin: bool) -> dict[str, Any]:
    started = time.perf_counter()
    vectors = vectors_of(recipe, load_content(params.content_files()), params)
    seconds = time.perf_counter() - started
    return {
        "judge": judged(vectors, params.judge),
        "qin": ranked_by_qin(vectors, params, params.judge.runs) if with_qin else None,
        "diagnostics": diagnose(vectors, Split.load("train"), Split.load("valid"), params.diagnose),
        "seconds": seconds,
    }


def judged(vectors: np.ndarray, section: Judge) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "item_info.parquet"
        write_item_info(file, vectors)
        accelerator = opened("judge", section.mixed_precision)
        data = load_data(load_judged_items(file, accelerator.device), section, accelerator)
        return judge(data, section, accelerator)


def ranked_by_qin(vectors: np.ndarray, params: Params, runs: int) -> dict[str, float | None]:
    """QIN's AUC on valid with these vectors and the neighbours found by them.

    Of all targets, and of those that train has and lacks as targets: means over `runs` seeds, from
    `train.seed` on, and the deviation (n - 1) between them.
    """
    section = params.neighbors
    near = nearest_items(vectors, section.k, section.exact_below, section.seed)
    device = opened("train", params.train.mixed_precision).device
    items = load_items(params.train.features, device)._replace(
        content=columns_in_use(torch.from_numpy(vectors)).to(device),
        neighbors=torch.from_numpy(near.ids).to(device),
        cosine=torch.from_numpy(near.cosine).to(device),
    )
    valid = Split.load("valid")
    warm = np.isin(valid.target, Split.load("train").target)
    aucs = []
    for seed in range(params.train.seed, params.train.seed + runs):
        logits, _epoch = network(params.train.model_copy(update={"seed": seed}), items)
        aucs.append([auc(valid.label[rows], logits[rows]) for rows in (warm | ~warm, warm, ~warm)])
    found = np.array(aucs, dtype=float)
    mean = [none_for_nan(float(value)) for value in found.mean(axis=0)]
    return {
        **dict(zip(("auc", "auc_warm_items", "auc_cold_items"), mean, strict=True)),
        "auc_std": float(found[:, 0].std(ddof=1)) if runs > 1 else None,
    }


def print_row(recipe: str, result: dict[str, Any], k: int, header: bool) -> None:
    tested = ("± sd", "cold")
    columns = ("judge", *tested, "QIN", *tested, f"recall@{k}", "separation", "seconds")
    if header:
        print(f"{'':{NAMES}}" + "".join(f"{name:>12}" for name in columns))
    found = result["diagnostics"]
    cells = [
        result[judge] and result[judge][metric]
        for judge in ("judge", "qin")
        for metric in ("auc", "auc_std", "auc_cold_items")
    ]
    cells += [found[f"recall_{k}"], found["separation"]]
    text = "".join(f"{'-' if cell is None else format(cell, '.4f'):>12}" for cell in cells)
    print(f"{recipe:{NAMES}}{text}{result['seconds']:>12.1f}", flush=True)


def print_correlations(results: dict[str, Any]) -> None:
    """Over the recipes that have the diagnostic; one that is the same for all says nothing."""
    for name in next(iter(results.values()))["diagnostics"]:
        pairs = [
            (result["diagnostics"][name], result["judge"]["auc"])
            for result in results.values()
            if result["diagnostics"][name] is not None
        ]
        if len({value for value, _ in pairs}) > 1:
            rank = spearmanr(*zip(*pairs, strict=True)).statistic
            print(f"{name:24} ranks {len(pairs)} recipes as the judge does: {rank:+.2f}")


if __name__ == "__main__":
    main()
