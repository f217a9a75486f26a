"""The judge's AUC on items that train never shows, for each recipe: by making items cold.

The items are split at random into parts. In turn each part is taken out of train altogether, rows
that it is the target of and its places in histories, so that neither `align` nor the judge can know
it; then every row of valid with such a target counts. Each row of valid is a cold one once, where
the data's own cold items may be too few to tell recipes apart. Differences between recipes are
those of the same part and seeds, and their standard error is over parts.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.quality.linear_reader import read
from benchmarks.quality.recipes import NAMES, vectors_of
from benchmarks.quality.seeds import paired
from benchmarks.quality.worlds import world_with
from benchmarks.support.accelerator import opened
from ctr.engine.loop import load_data
from ctr.judge import in_parts, judged_once
from ctr.task1.items import load_judged_items
from embed.vectors.content import load_content
from pipeline.common.files import read_array, read_json, write_json
from pipeline.common.paths import STATS, split_path
from pipeline.settings.params import Params
from pipeline.tables.item_info import write_item_info
from pipeline.tables.split import Split

BASELINE = "pca"

Verdicts = dict[str, list[list[dict[str, float | None]]]]
"""By recipe, part and run what the judge says; cold is the part, and nothing else."""


def compare(
    recipes: Sequence[str], count: int, params: Params, file: Path | None, linear: bool = False
) -> Verdicts:
    """Judge `recipes` on `count` parts, `judge.runs` times each, and print what was found.

    With `linear` a logistic regression reads the vectors instead, once.
    """
    section, verdicts = params.judge, Verdicts()
    for number, items in enumerate(parts(read_json(STATS)["items"], count, section.seed)):
        seeds = range(section.seed + number, section.seed + number + count * section.runs, count)
        with world_without(items):
            for recipe in recipes:
                if linear:
                    judged = [read_cold(recipe, items, params)]
                else:
                    judged = judged_cold(recipe, items, seeds, params)
                verdicts.setdefault(recipe, []).append(judged)
        if file:
            write_json(file, verdicts)
    rows = len(Split.load("valid"))
    print(f"{rows} rows of valid, each cold in one of {count} parts")
    for recipe in recipes:
        print(row(recipe, verdicts))
    return verdicts


def row(recipe: str, verdicts: Verdicts) -> str:
    """Mean AUC, and its mean difference to BASELINE with the standard error of that."""
    cells = [f"{recipe:{NAMES}}"]
    for name, metric in (("cold", "auc_cold_items"), ("others", "auc_warm_items")):
        own = by_part(verdicts[recipe], metric)
        cells.append(f"{name} {own.mean():.4f}")
        if recipe != BASELINE and BASELINE in verdicts:
            mean, error = paired(own, by_part(verdicts[BASELINE], metric))
            cells.append(f"{mean:+.4f} ± {error:.4f}")
    return "  ".join(cells)


def by_part(verdicts: list[list[dict[str, float | None]]], metric: str) -> np.ndarray:
    """`metric` of each part (n,), the mean over its runs; NaN where it lacks one of the labels."""
    values = [[run[metric] for run in runs] for runs in verdicts]
    return np.array(values, dtype=float).mean(axis=1)


def parts(items: int, count: int, seed: int) -> list[np.ndarray]:
    """The ids 1..items, shuffled, in `count` parts."""
    return np.array_split(1 + np.random.default_rng(seed).permutation(items), count)


def without(train: Split, items: np.ndarray) -> np.ndarray:
    """int32 rows of `train` whose target is none of `items`, their histories closed up over them.

    Histories stay padded on the left.
    """
    rows = train.rows[~np.isin(train.target, items)]  # a copy
    history = Split(rows).history  # a view
    kept = (history > 0) & ~np.isin(history, items)
    order = np.argsort(kept, axis=1, kind="stable")
    history[:] = np.take_along_axis(np.where(kept, history, 0), order, axis=1)
    return rows


@contextmanager
def world_without(items: np.ndarray) -> Iterator[None]:
    """Work in a copy of the working directory, of links, whose train does not know `items`."""
    train = split_path("train")
    with world_with({train: without(Split(read_array(train)), items)}):
        yield


def judged_cold(
    recipe: str, items: np.ndarray, seeds: range, params: Params
) -> list[dict[str, float | None]]:
    """The judgement by each seed, cold being `items` and nothing else, in their world."""
    file = Path("cold_items.parquet")
    write_item_info(file, vectors_of(recipe, load_content(params.content_files()), params))
    accelerator = opened("judge", params.judge.mixed_precision)
    table = load_judged_items(file, accelerator.device)
    warm = ~np.isin(Split.load("valid").target, items)
    data = in_parts(load_data(table, params.judge, accelerator), warm)
    sections = [params.judge.model_copy(update={"seed": seed}) for seed in seeds]
    return [judged_once(data, section, accelerator) for section in sections]


def read_cold(recipe: str, items: np.ndarray, params: Params) -> dict[str, float | None]:
    """What a logistic regression makes of the rows that the judge has too."""
    vectors = vectors_of(recipe, load_content(params.content_files()), params)
    train, valid = Split(Split.load("train").rows[-params.judge.rows :]), Split.load("valid")
    return read(vectors, train, valid, np.isin(valid.target, items), params.judge.history)
