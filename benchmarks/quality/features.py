"""What each kind of number of stage `companions` is worth to a ranking model, and to the blend.

For the data that the pipeline has ingested, embedded and counted in the working directory, with its
`params.yaml`. A model is trained as stage `train` does it with all kinds, without each of them,
with each alone beside the published inputs, and with these alone; by several seeds, which are the
same for all. Beside each mean AUC on valid stands its mean difference to that of all kinds and the
standard error of that, over seeds. Below, of several models, the blend of them with all kinds, and
without each of them.

    python -m benchmarks.quality.features [--models main trees] [--runs 3] [--json PATH]

To keep it short: `--kinds`, those that are switched; `--epochs`, at most so many (of boosted trees
ten times as many trees); `--rows`, the last ones of train.
"""

import argparse
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.seeds import deviation, difference
from benchmarks.quality.trained import trained
from benchmarks.quality.worlds import world_with
from ctr.blend import choose, held_out_gain
from ctr.boosting.training import SCORED
from ctr.engine.machine import prepare_cpu
from ctr.evaluation.metrics import auc
from pipeline.common.files import read_array, write_json
from pipeline.common.paths import companions_path, split_path
from pipeline.settings.ctr.train import Train, overridden
from pipeline.settings.ctr.training import NUMBERS
from pipeline.settings.params import Params, load_params
from pipeline.tables.split import Split

ALL = "all"


def main() -> None:
    params = load_params()
    parser = argparse.ArgumentParser(description="What each kind of number is worth.")
    parser.add_argument("--models", nargs="+", choices=params.models, default=[*params.models])
    parser.add_argument("--kinds", nargs="*", choices=NUMBERS, default=NUMBERS)
    parser.add_argument("--runs", type=int, default=3, help="seeds")
    parser.add_argument("--epochs", type=int, help="of a model, at most")
    parser.add_argument("--rows", type=int, help="of train, the last ones")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    if not params.companions.enabled:
        parser.error("companions.enabled is false, so that there are no numbers")
    prepare_cpu()
    file = options.json.absolute() if options.json else None
    with world_with(last_rows(options.rows)) if options.rows else nullcontext():
        measured(
            {
                name: shortened(params.ranking_model(name), options.epochs)
                for name in options.models
            },
            options.kinds,
            options.runs,
            params,
            file,
        )


def last_rows(count: int) -> dict[Path, np.ndarray]:
    """Of train, and what was counted of all of it."""
    paths = split_path("train"), companions_path("train")
    return {path: read_array(path)[-count:] for path in paths}


def shortened(settings: Train, epochs: int | None) -> Train:
    if epochs is None:
        return settings
    return changed(settings, {"epochs": epochs, "lightgbm": {"trees": SCORED * epochs}})


def changed(settings: Train, changes: Mapping[str, Any]) -> Train:
    return Train.model_validate(overridden(settings.model_dump(), changes))


def variants(kinds: Sequence[str]) -> dict[str, set[str]]:
    """The kinds that are on, by the name of a row of the table."""
    return {
        ALL: {*NUMBERS},
        **{f"without {kind}": {*NUMBERS} - {kind} for kind in kinds},
        **{f"{kind} alone": {kind} for kind in kinds},
        "none": set(),
    }


def measured(
    models: Mapping[str, Train],
    kinds: Sequence[str],
    runs: int,
    params: Params,
    file: Path | None = None,
) -> dict[str, Any]:
    """Train and print all; the figures go to `file` as they come."""
    valid = Split.load("valid")
    figures: dict[str, Any] = {"models": {}}
    scores: list[list[np.ndarray]] = []
    """Of each model and run with all kinds, (n,)."""
    for name, settings in models.items():
        print(f"{name + ', ' + settings.model:28}{'AUC':>8}{'sd':>8}{'to all':>18}{'seconds':>9}")
        found = figures["models"][name] = {}
        for variant, on in variants(kinds).items():
            features = {kind: kind in on for kind in NUMBERS}
            results = [
                trained(changed(settings, {"features": features, "seed": settings.seed + run}))
                for run in range(runs)
            ]
            if variant == ALL:
                scores.append([logits for logits, _ in results])
            found[variant] = {
                "auc": [auc(valid.label, logits) for logits, _ in results],
                "seconds": float(np.mean([told["seconds"] for _, told in results])),
            }
            print_row(variant, found)
            if file is not None:
                write_json(file, figures)
    if len(models) > 1:
        figures["blend"] = blends([*models], np.array(scores), valid, params.blend.min_gain)
        print_blends(figures["blend"])
        if file is not None:
            write_json(file, figures)
    return figures


def print_row(variant: str, found: Mapping[str, Mapping[str, Any]]) -> None:
    own = np.array(found[variant]["auc"])
    print(
        f"{variant:28}{own.mean():8.4f}{deviation(own)}{difference(own, found[ALL]['auc']):>18}"
        f"{found[variant]['seconds']:9.0f}",
        flush=True,
    )


def blends(
    names: Sequence[str], scores: np.ndarray, valid: Split, min_gain: float
) -> dict[str, dict[str, Any]]:
    """Of all models, and of all but one: `scores` (models, runs, n)."""
    left_out = {ALL: None} | {f"without {name}": place for place, name in enumerate(names)}
    found: dict[str, dict[str, Any]] = {}
    for variant, place in left_out.items():
        kept = [other for other in range(len(names)) if other != place]
        aucs, chosen, gains = [], [], []
        for run in range(scores.shape[1]):
            own = scores[kept, run]
            best = choose(own, valid.label, min_gain)
            aucs.append(auc(valid.label, own[best].mean(0)))
            chosen.append([names[kept[model]] for model in best])
            gains.append(held_out_gain(own, valid, min_gain).mean)
        found[variant] = {"auc": aucs, "chosen": chosen, "held_out_gain": gains}
    return found


def print_blends(found: Mapping[str, Mapping[str, Any]]) -> None:
    print(
        f"{'blend':28}{'AUC':>8}{'sd':>8}{'to all':>18}  to the best on users that did not choose"
    )
    for variant, figures in found.items():
        own = np.array(figures["auc"])
        gains = [gain for gain in figures["held_out_gain"] if gain is not None]
        gain = f"{np.mean(gains):+.4f}" if gains else "-"
        line = (
            f"{variant:28}{own.mean():8.4f}{deviation(own)}{difference(own, found[ALL]['auc']):>18}"
        )
        print(f"{line}  {gain}")


if __name__ == "__main__":
    main()
