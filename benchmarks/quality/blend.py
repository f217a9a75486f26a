"""What a blend of ranking models adds to the best one of them, on users that did not choose it.

For the data that the pipeline has ingested and embedded in the working directory, with its
`params.yaml`: its models, or beside the default ones a second seed, another number of rows, and the
transformer. Each is trained as stage `train` does it.

    python -m benchmarks.quality.blend [--json PATH]
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.trained import trained
from ctr.blend import choose, held_out_gain
from ctr.engine.machine import prepare_cpu
from ctr.evaluation.metrics import auc
from pipeline.common.files import write_json
from pipeline.settings.ctr.train import Train
from pipeline.settings.params import Params, load_params
from pipeline.tables.split import Split

MODELS: dict[str, dict[str, Any]] = {
    "trees": {"model": "lightgbm"},
    "seed_7": {"seed": 7},
    "rows_3": {"rows": 3},
    "transformer": {"model": "transformer_dcn", "patience": 3},
}

DEFAULT = {"main", "trees"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    path = parser.parse_args().json
    params = with_models(load_params())
    prepare_cpu()
    figures = measured(params)
    print_blend(figures)
    if path is not None:
        write_json(path, figures)


def with_models(params: Params) -> Params:
    """`MODELS` beside the first one, where the settings name no others than the default ones."""
    if not {*params.models} <= DEFAULT:
        return params
    content = params.model_dump()
    content["models"] |= MODELS
    return Params.model_validate(content)


def measured(params: Params) -> dict[str, Any]:
    """Each model's AUC, epochs and seconds, and what the blend of them is worth."""
    valid, models, logits = Split.load("valid"), {}, []
    print(f"{'':16}{'model':>18}{'AUC':>10}{'epoch':>8}{'seconds':>10}")
    for name, settings in params.ranking_models().items():
        found, figures = trained(settings)
        logits.append(found)
        models[name] = figures | {"auc": auc(valid.label, found)}
        print_model(name, settings, models[name])
    scores = np.stack(logits)
    chosen = choose(scores, valid.label, params.blend.min_gain)
    gain = held_out_gain(scores, valid, params.blend.min_gain)
    return {
        "models": models,
        "chosen": [list(models)[place] for place in chosen],
        "auc": auc(valid.label, scores[chosen].mean(0)),
        "best_model_auc": max(figures["auc"] for figures in models.values()),
        "held_out_gain": gain.mean,
        "held_out_gain_se": gain.standard_error,
    }


def print_model(name: str, settings: Train, figures: dict[str, Any]) -> None:
    cells = f"{figures['auc']:>10.4f}{figures['epoch']:>8}{figures['seconds']:>10.0f}"
    print(f"{name:16}{settings.model:>18}{cells}", flush=True)


def print_blend(figures: dict[str, Any]) -> None:
    best, auc = figures["best_model_auc"], figures["auc"]
    print(f"blend of {' + '.join(figures['chosen'])}: {auc:.4f}, {auc - best:+.4f} to the best")
    if figures["held_out_gain"] is not None:
        gain, error = figures["held_out_gain"], figures["held_out_gain_se"]
        print(f"on users that did not choose it: {gain:+.4f}, standard error {error:.4f}")


if __name__ == "__main__":
    main()
