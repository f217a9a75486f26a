"""What content is worth to QIN: on items that train has, and on those that it has nowhere.

The items are split at random into parts. With each seed another part is taken out of train, so that
its items are cold. Then vectors are made by each recipe, neighbours found and the numbers of stage
`companions` counted, all anew, and QIN is trained. Of the recipes `zeros` knows no content. AUC on
valid, means and deviations over seeds, and the mean difference to `zeros` with its standard error.

    python -m benchmarks.quality.content [--recipes zeros align] [--runs 3] [--parts 5]

For the data that the pipeline has ingested and embedded in the working directory.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from benchmarks.quality.cold_items import parts, world_without
from benchmarks.quality.recipes import recipe_name, vectors_of
from benchmarks.quality.seeds import deviation, difference
from benchmarks.quality.trained import network
from benchmarks.quality.worlds import world_with
from ctr import companions
from ctr.engine.machine import prepare_cpu
from ctr.evaluation.metrics import auc
from embed import neighbors
from embed.vectors.content import load_content
from pipeline.common.files import read_json
from pipeline.common.paths import COMPANIONS, ITEM, NEIGHBORS, STATS, metrics_path
from pipeline.settings.params import Params, load_params
from pipeline.tables.split import Split

WITHOUT = "zeros"
OVER = ("items of train", "cold items")


def main() -> None:
    parser = argparse.ArgumentParser(description="What content is worth to QIN.")
    parser.add_argument("--recipes", nargs="+", type=recipe_name, default=[WITHOUT, "align"])
    parser.add_argument("--runs", type=int, default=3, help="seeds, each with its part")
    parser.add_argument("--parts", type=int, default=5, help="of the items; one is cold")
    options = parser.parse_args()
    if WITHOUT not in options.recipes or options.parts < 2:
        parser.error(f"needs {WITHOUT} among the recipes, and two parts or more")
    prepare_cpu()
    params = load_params()
    found = {recipe: np.zeros((options.runs, 2)) for recipe in options.recipes}
    for run in range(options.runs):
        for recipe, aucs in by_recipe(options.recipes, run, options.parts, params):
            found[recipe][run] = aucs
            print(f"seed {run + 1}, {recipe}: {aucs[0]:.4f} and {aucs[1]:.4f}", flush=True)
    print("\n".join(table(found)))


def by_recipe(
    recipes: list[str], run: int, count: int, params: Params
) -> Iterator[tuple[str, tuple[float, float]]]:
    """Of each recipe the AUC over the targets that train has, and over the cold ones."""
    cold = parts(read_json(STATS)["items"], count, params.train.seed)[run % count]
    settings = params.train.model_copy(update={"seed": params.train.seed + run})
    valid = Split.load("valid")
    new = np.isin(valid.target, cold)
    with world_without(cold):
        for recipe in recipes:
            with counted(recipe, params):
                logits, _epoch = network(settings)
            known, unknown = (auc(valid.label[rows], logits[rows]) for rows in (~new, new))
            if known is None or unknown is None:
                raise SystemExit("error: valid has one label alone; make fewer parts")
            yield recipe, (known, unknown)


@contextmanager
def counted(recipe: str, params: Params) -> Iterator[None]:
    """Work where item vectors are made by `recipe`, and all that is made of them is made anew."""
    vectors = vectors_of(recipe, load_content(params.content_files()), params)
    with world_with({ITEM: vectors}):
        for folder in (COMPANIONS.parent, metrics_path("companions").parent, NEIGHBORS.parent):
            folder.unlink(missing_ok=True)  # a link: what it leads to stays as it is
            folder.mkdir(parents=True)
        neighbors.main(params.neighbors)
        companions.main(params.companions)
        yield


def table(found: dict[str, np.ndarray]) -> Iterator[str]:
    yield f"{'':12}" + "".join(f"{name:>34}" for name in OVER)
    for recipe, aucs in found.items():
        cells = []
        for place in range(len(OVER)):
            own, without = aucs[:, place], found[WITHOUT][:, place]
            spread = f"({deviation(own).strip() or '-'})"
            cells.append(f"{own.mean():.4f} {spread}  {difference(own, without):16}")
        yield f"{recipe:12}" + "".join(f"{cell:>34}" for cell in cells)


if __name__ == "__main__":
    main()
