"""Stage `train`: QIN on the train split; the epoch with the best AUC on valid is kept."""

from dataclasses import asdict

import pandas as pd
from accelerate import Accelerator
from accelerate.utils import set_seed
from safetensors.torch import save

from ctr import training
from ctr.checkpoint import checkpointing
from ctr.data import load_items
from ctr.machine import deterministic_algorithms, open_accelerator, prepare_cpu
from ctr.model import ItemTable
from ctr.qin import QIN, QINConfig
from ctr.training import (
    Trained,
    TrainingData,
    fit,
    none_for_nan,
    refuse_uneven_batches,
    seed_dropout,
)
from pipeline import schema
from pipeline.launch import refuse_lost_processes
from pipeline.params import Params, Train
from pipeline.schema import Outputs
from pipeline.stage import run

INPUTS = (
    schema.split_path("train"),
    schema.split_path("valid"),
    schema.ITEM,
    schema.TAGS,
    schema.NEIGHBORS,
    schema.STATS,
)


def main(params: Params) -> None:
    prepare_cpu()
    with deterministic_algorithms(params.train.deterministic):
        train(params.train)


def train(settings: Train) -> None:
    accelerator = open_accelerator("train", settings.mixed_precision)
    refuse_lost_processes("train", accelerator.num_processes, settings.launch)
    refuse_uneven_batches("train", settings.batch_size, accelerator.num_processes)
    set_seed(settings.seed)
    data = load_data(settings, accelerator)
    config = model_config(settings, data.items)
    model = build_model(config, settings)
    seed_dropout(settings.seed, accelerator)
    with checkpointing("train", settings, INPUTS, accelerator) as checkpoints:
        trained = fit(model, data, settings, accelerator, checkpoints)
        if accelerator.is_main_process:
            write(trained, config, settings)
    accelerator.end_training()


def load_data(settings: Train, accelerator: Accelerator) -> TrainingData:
    items = load_items(settings.features, accelerator.device)
    return training.load_data(
        items, settings.history, settings.features, accelerator, settings.residence
    )


def model_config(settings: Train, items: ItemTable) -> QINConfig:
    stats = schema.read_json(schema.STATS)
    return QINConfig(
        items=stats["items"],
        tags=stats["tags"],
        levels=schema.LEVELS,
        content_dim=items.content.shape[1],
        embedding_dim=settings.embedding_dim,
        attention_dim=settings.attention_dim,
        layers=settings.layers,
        rows=settings.rows,
        dropout=settings.dropout,
        neighbors=items.neighbors.shape[1] > 0,
        collapsed=settings.collapsed,
    )


def build_model(config: QINConfig, settings: Train) -> QIN:
    model = QIN(config)
    if settings.compile:
        model.qnn.compile(dynamic=False)  # the other parts have sizes that change by the batch
    return model


def write(trained: Trained, config: QINConfig, settings: Train) -> None:
    """The best weights with what is needed to use them, the curve, and the metrics."""
    best = trained.curve[trained.best_epoch - 1]
    metrics = {
        "epochs": len(trained.curve),
        "best_epoch": trained.best_epoch,
        "parameters": trained.parameters,
        **{name: none_for_nan(best[name]) for name in ("auc", "gauc", "logloss")},
    }
    with Outputs() as outputs:
        outputs.path(schema.MODEL).write_bytes(save(trained.weights))
        outputs.json(schema.MODEL_CONFIG, {"qin": asdict(config), "train": settings.model_dump()})
        outputs.json(schema.metrics_path("train"), metrics)
        pd.DataFrame(trained.curve).to_csv(outputs.path(schema.TRAIN_CURVE), index=False)


if __name__ == "__main__":
    run("train", main)
