"""Stage `train`: QIN on the train split; the epoch with the best AUC on valid is kept."""

import logging
import math
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from safetensors.torch import save_file
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau
from tqdm import tqdm

from ctr.data import ClickLog, load_items, shuffled_batches
from ctr.learner import Learner
from ctr.machine import open_accelerator, prepare_cpu
from ctr.metrics import auc, gauc, logloss
from ctr.qin import QIN, ItemTable, QINConfig
from ctr.scoring import score
from pipeline import schema
from pipeline.launch import refuse_lost_processes
from pipeline.params import Params, Train
from pipeline.schema import InputError, Outputs, Split
from pipeline.stage import run

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingData:
    train: ClickLog
    valid: ClickLog
    valid_label: np.ndarray
    """Of all of valid, in every process; so is `valid_user`."""
    valid_user: np.ndarray
    items: ItemTable
    """On the device that trains."""


@dataclass(frozen=True)
class Trained:
    curve: list[dict[str, float]]
    """One entry an epoch: epoch, train_loss, auc, gauc, logloss (on valid), learning_rate."""
    best_epoch: int
    weights: dict[str, Tensor]
    """Of the best epoch, on the host."""
    parameters: int


def main(params: Params) -> None:
    settings = params.train
    prepare_cpu()
    accelerator = open_accelerator("train", settings.mixed_precision)
    refuse_lost_processes("train", accelerator.num_processes, settings.launch)
    refuse_uneven_batches(settings.batch_size, accelerator.num_processes)
    set_seed(settings.seed)
    data = load_data(settings, accelerator)
    refuse_few_rows(data.train.total, accelerator.num_processes)
    config = model_config(settings, data.items)
    model = QIN(config)
    if accelerator.device.type == "cuda":
        torch.cuda.manual_seed(settings.seed + accelerator.process_index)  # a dropout of its own
    trained = fit(model, data, settings, accelerator)
    if accelerator.is_main_process:
        write(trained, config, settings)
    accelerator.end_training()


def refuse_uneven_batches(batch_size: int, processes: int) -> None:
    """Every process has an equal part of a batch, and batch norm needs two rows."""
    if batch_size % processes or batch_size < 2 * processes:
        raise InputError(
            f"params.yaml: train.batch_size is {batch_size} for {processes} processes; "
            f"make it a multiple of {processes}, at least {2 * processes}"
        )


def refuse_few_rows(rows: int, processes: int) -> None:
    if rows < 2 * processes:
        raise InputError(
            f"{schema.split_path('train')}: found {rows} rows for {processes} processes; "
            "batch norm needs at least two in each"
        )


def load_data(settings: Train, accelerator: Accelerator) -> TrainingData:
    def load(split: str) -> ClickLog:
        return ClickLog.load(
            split,
            settings.history,
            settings.features,
            accelerator.device,
            accelerator.process_index,
            accelerator.num_processes,
            settings.residence,
        )

    valid = Split.load("valid")
    items = load_items(settings.features, accelerator.device)
    return TrainingData(load("train"), load("valid"), valid.label, valid.user, items)


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


def fit(model: QIN, data: TrainingData, settings: Train, accelerator: Accelerator) -> Trained:
    """Train until `patience` epochs bring no better AUC on valid; each of them halves the rate."""
    learner = Learner(model, settings, accelerator)
    schedule = ReduceLROnPlateau(
        learner.optimizer.optimizer, "max", factor=0.5, patience=0, threshold=0, min_lr=1e-6
    )
    curve: list[dict[str, float]] = []
    best_epoch, best_auc, best_weights = 0, -math.inf, {}
    for epoch in range(1, settings.epochs + 1):
        entry = {"epoch": epoch, "learning_rate": learner.optimizer.param_groups[0]["lr"]}
        started = time.perf_counter()
        batches = shuffled_batches(data.train, settings.batch_size, settings.seed, epoch)
        entry["train_loss"] = train_epoch(learner, data, batches, epoch)
        rate = data.train.total / (time.perf_counter() - started)
        entry |= evaluate(model, data, settings.batch_size, accelerator)
        curve.append(entry)
        if entry["auc"] > best_auc:
            best_epoch, best_auc, best_weights = epoch, entry["auc"], host_weights(model)
        if accelerator.is_main_process:
            log.info(progress_line(entry, rate, epoch == best_epoch))
        if epoch - best_epoch >= settings.patience:
            break
        schedule.step(entry["auc"])
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Trained(curve, best_epoch, best_weights, parameters)


def train_epoch(
    learner: Learner, data: TrainingData, batches: list[tuple[Tensor, float]], epoch: int
) -> float:
    """One pass over `batches`; the mean cross-entropy a sample in nats, without the penalty."""
    learner.model.train()
    accelerator = learner.accelerator
    clicked = data.train.batches([rows for rows, _ in batches])
    losses = []  # stay on the device until the epoch ends
    with progress_bar(data.train.total, epoch, accelerator) as bar:
        for (rows, weight), (clicks, label) in zip(batches, clicked, strict=True):
            losses.append(learner.step(clicks, label, data.items, weight) * len(rows))
            bar.update(len(rows) * accelerator.num_processes)
    total = torch.stack(losses).sum()
    rows = total.new_full((), sum(len(rows) for rows, _ in batches))
    return float(accelerator.reduce(total)) / float(accelerator.reduce(rows))


def progress_bar(samples: int, epoch: int, accelerator: Accelerator) -> Any:
    """A bar in the main process, where there is a terminal."""
    return tqdm(
        total=samples,
        desc=f"epoch {epoch}",
        unit="sample",
        unit_scale=True,
        leave=False,
        disable=None if accelerator.is_main_process else True,
    )


def evaluate(
    model: QIN, data: TrainingData, batch_size: int, accelerator: Accelerator
) -> dict[str, float]:
    """AUC, gAUC and logloss over all rows of valid, the same in every process."""
    (logits,) = score(model, [data.valid], data.items, batch_size, accelerator)
    if not logits.isfinite().all():
        raise InputError(
            "training diverged: the model's logits are not finite; lower train.learning_rate, "
            "or set train.mixed_precision to bf16 or no"
        )
    label, probability = data.valid_label, logits.double().sigmoid().numpy()
    metrics = {
        "auc": auc(label, probability),
        "gauc": gauc(label, probability, data.valid_user),
        "logloss": logloss(label, probability),
    }
    return {name: math.nan if value is None else value for name, value in metrics.items()}


def host_weights(model: QIN) -> dict[str, Tensor]:
    """A copy of the model's state on the host."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def progress_line(entry: dict[str, float], rate: float, is_best: bool) -> str:
    return (
        f"epoch {entry['epoch']:3d}  loss {entry['train_loss']:.4f}  "
        f"valid AUC {entry['auc']:.4f}  gAUC {entry['gauc']:.4f}  logloss {entry['logloss']:.4f}  "
        f"lr {entry['learning_rate']:.1e}  {rate:,.0f} samples/s{'  *' if is_best else ''}"
    )


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
        save_file(trained.weights, outputs.path(schema.MODEL))
        outputs.json(schema.MODEL_CONFIG, {"qin": asdict(config), "train": settings.model_dump()})
        outputs.json(schema.metrics_path("train"), metrics)
        pd.DataFrame(trained.curve).to_csv(outputs.path(schema.TRAIN_CURVE), index=False)


def none_for_nan(value: float) -> float | None:
    """JSON has no NaN; gAUC is NaN where no user of valid has both labels."""
    return None if math.isnan(value) else value


if __name__ == "__main__":
    run(main)
