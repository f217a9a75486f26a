"""Stage `train`: a model on the train split; the epoch with the best AUC on valid is kept.

The model is `main`, or the one that `--model NAME` names.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from accelerate import Accelerator
from safetensors.torch import save

from ctr.engine import loop
from ctr.engine.checkpoint import checkpointing
from ctr.engine.data import load_items
from ctr.engine.loop import Trained, TrainingData, fit, none_for_nan
from ctr.engine.machine import seed_dropout, training_machine
from ctr.models.architecture import build_model, described, model_config
from pipeline.common import paths
from pipeline.common.files import Outputs
from pipeline.common.paths import MAIN_MODEL, ModelFiles, model_files, model_section
from pipeline.common.stage import made, run_for_model, stage_of
from pipeline.settings.ctr.train import Train

INPUTS = (
    paths.split_path("train"),
    paths.split_path("valid"),
    paths.ITEM,
    paths.TAGS,
    paths.NEIGHBORS,
    paths.STATS,
)


def main(settings: Train, model: str = MAIN_MODEL) -> None:
    section = model_section(model)
    deterministic = settings.deterministic
    with training_machine("train", section, settings, deterministic=deterministic) as accelerator:
        data = load_data(settings, accelerator)
        config = model_config(settings, data.items)
        network = build_model(config, settings)
        seed_dropout(settings.seed, accelerator)
        stage = stage_of("train", model)
        with checkpointing(stage, settings, INPUTS, accelerator) as checkpoints:
            trained = fit(network, data, settings, accelerator, checkpoints)
            if accelerator.is_main_process:
                write(trained, described(config, settings), model_files(model))


def load_data(settings: Train, accelerator: Accelerator) -> TrainingData:
    return loop.load_data(load_items(settings.features, accelerator.device), settings, accelerator)


def write(trained: Trained, description: Mapping[str, Any], files: ModelFiles) -> None:
    """The best weights with what is needed to use them, the curve, and the metrics."""
    best = trained.curve[trained.best_epoch - 1]
    metrics = {
        "epochs": len(trained.curve),
        "best_epoch": trained.best_epoch,
        "parameters": trained.parameters,
        **{name: none_for_nan(best[name]) for name in ("auc", "gauc", "logloss")},
    }
    with Outputs() as outputs:
        outputs.path(files.weights).write_bytes(save(trained.weights))
        outputs.json(files.config, description)
        outputs.json(files.metrics, metrics)
        pd.DataFrame(trained.curve).to_csv(outputs.path(files.curve), index=False)
    made(
        f"{files.weights}, valid AUC {best['auc']:.4f} in epoch {trained.best_epoch} of "
        f"{len(trained.curve)}"
    )


if __name__ == "__main__":
    run_for_model("train", main, launched=True)
