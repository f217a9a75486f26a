"""Stage `train`: a model on the train split; the epoch with the best AUC on valid is kept.

Of boosted trees (`ctr/boosting/`) an epoch is a number of trees.

The model is `main`, or the one that `--model NAME` names.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from accelerate import Accelerator
from safetensors.torch import save

from ctr.boosting.library import library, tell
from ctr.boosting.model import described as trees_described
from ctr.boosting.rows import load_data as load_rows
from ctr.boosting.saved import saving
from ctr.boosting.training import Grown, grow
from ctr.engine import loop
from ctr.engine.checkpoint import checkpointing
from ctr.engine.data import load_items
from ctr.engine.loop import Trained, TrainingData, fit, none_for_nan
from ctr.engine.machine import seed_dropout, training_machine
from ctr.engine.new_targets import NewTargets
from ctr.models.architecture import build_model, described, model_config
from ctr.models.base import ItemTable
from pipeline.common import paths
from pipeline.common.files import Outputs
from pipeline.common.launch import open_processes
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
    paths.ROW_FEATURES,
    paths.companions_path("train"),
    paths.companions_path("valid"),
)
TREE_INPUTS = (
    paths.split_path("train"),
    paths.split_path("valid"),
    paths.ROW_FEATURES,
    paths.companions_path("train"),
    paths.companions_path("valid"),
)
"""What trees read of `INPUTS`."""


def main(settings: Train, model: str = MAIN_MODEL) -> None:
    if settings.model == "lightgbm":
        train_trees(settings, model)
    else:
        train_network(settings, model)


def train_network(settings: Train, model: str) -> None:
    section = model_section(model)
    deterministic = settings.deterministic
    with training_machine("train", section, settings, deterministic=deterministic) as accelerator:
        data = load_data(settings, accelerator)
        config = model_config(settings, data.items, len(data.train.columns))
        network = build_model(config, settings)
        seed_dropout(settings.seed, accelerator)
        stage = stage_of("train", model)
        with checkpointing(stage, settings, INPUTS, accelerator) as checkpoints:
            trained = fit(network, data, settings, accelerator, checkpoints)
            if accelerator.is_main_process:
                files = model_files(model)
                description = described(config, settings)
                write(trained, save(trained.weights), files.weights, description, files)


def train_trees(settings: Train, model: str) -> None:
    """On the CPU, in the main process: the others have nothing to do."""
    section, files = model_section(model), model_files(model)
    state = open_processes("train", settings.launch)
    if state.is_main_process:
        lightgbm = library(section)
        tell(section, lightgbm, state.num_processes)
        with saving(stage_of("train", model), settings, TREE_INPUTS, state) as saved:
            grown = grow(lightgbm, load_rows(settings), settings, saved)
            write(grown, grown.text.encode(), files.trees, trees_described(settings), files)


def load_data(
    settings: Train, accelerator: Accelerator, items: ItemTable | None = None
) -> TrainingData:
    """With `items` on the accelerator's device, or those that the stages before have left."""
    if items is None:
        items = load_items(settings.features, accelerator.device)
    data = loop.load_data(items, settings, accelerator)
    if not settings.new_targets:
        return data
    new = NewTargets.of(data.train, items, settings.new_targets, settings.seed)
    return replace(data, new=new)


def write(
    trained: Trained | Grown,
    content: bytes,
    path: Path,
    description: Mapping[str, Any],
    files: ModelFiles,
) -> None:
    """The best model in `path` with what is needed to use it, the curve, and the metrics."""
    best = next(entry for entry in trained.curve if entry["epoch"] == trained.best_epoch)
    metrics = {
        "epochs": trained.curve[-1]["epoch"],
        "best_epoch": trained.best_epoch,
        "parameters": trained.parameters,
        **{name: none_for_nan(best[name]) for name in ("auc", "gauc", "logloss")},
    }
    with Outputs() as outputs:
        outputs.path(path).write_bytes(content)
        outputs.json(files.config, description)
        outputs.json(files.metrics, metrics)
        pd.DataFrame(trained.curve).to_csv(outputs.path(files.curve), index=False)
    for other in {files.weights, files.trees} - {path}:
        other.unlink(missing_ok=True)  # of an earlier model of this name
    made(f"{path}, valid AUC {best['auc']:.4f} {trained.at}")


if __name__ == "__main__":
    run_for_model("train", main, launched=True)
