"""Training of a ranking model; the epoch with the best AUC on valid is kept."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau
from tqdm import tqdm

from ctr.engine.checkpoint import Checkpoints, Progress
from ctr.engine.data import ClickLog, shuffled_batches
from ctr.engine.learner import Learner, Settings
from ctr.engine.machine import FREED_MEMORY
from ctr.engine.new_targets import NewTargets
from ctr.engine.scoring import score
from ctr.evaluation.metrics import auc, gauc, logloss
from ctr.models.base import CTRModel, ItemTable
from pipeline.common import paths
from pipeline.common.files import InputError
from pipeline.common.outlook import Watch, duration
from pipeline.common.section import Residence
from pipeline.common.stage import shown
from pipeline.settings.ctr.training import Features
from pipeline.tables.split import Split

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
    new: NewTargets | None = None
    """What makes some of train's targets new items; none, if there are to be none."""
    valid_parts: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Masks over valid's rows: an entry of the curve has the AUC of each, by its name."""


@dataclass(frozen=True)
class Trained:
    curve: list[dict[str, float]]
    """One entry an epoch: epoch, train_loss, auc, gauc, logloss (on valid), learning_rate."""
    best_epoch: int
    weights: dict[str, Tensor]
    """Of the best epoch, on the host."""
    parameters: int

    @property
    def at(self) -> str:
        """Where the best epoch is, in words."""
        return f"in epoch {self.best_epoch} of {len(self.curve)}"


class Reads(Protocol):
    """Settings of what is read of the clicks."""

    @property
    def features(self) -> Features: ...
    @property
    def history(self) -> int: ...
    @property
    def residence(self) -> Residence: ...
    @property
    def last_rows(self) -> int: ...


def load_data(items: ItemTable, settings: Reads, accelerator: Accelerator) -> TrainingData:
    """This process's rows of both splits, and `items`.

    Raises InputError if train has too few rows for the processes there are.
    """

    def load(split: str, last: int = 0) -> ClickLog:
        return ClickLog.load(
            split,
            settings.history,
            settings.features,
            accelerator.device,
            accelerator.process_index,
            accelerator.num_processes,
            settings.residence,
            last,
        )

    valid, train = Split.load("valid"), load("train", settings.last_rows)
    refuse_few_rows(train.total, accelerator.num_processes)
    return TrainingData(train, load("valid"), valid.label, valid.user, items)


def fit(
    model: CTRModel,
    data: TrainingData,
    settings: Settings,
    accelerator: Accelerator,
    checkpoints: Checkpoints | None = None,
) -> Trained:
    """Train until `patience` epochs bring no better AUC on valid; each of them halves the rate.

    With `checkpoints` the run goes on from the last one, and leaves them as it goes.
    """
    refuse_one_class(data.valid_label)
    accelerator.free_memory()  # of an earlier run's model, which a checkpoint would hold too
    learner = Learner(model, settings, accelerator)
    schedule = ReduceLROnPlateau(
        learner.optimizer.optimizer, "max", factor=0.5, patience=0, threshold=0, min_lr=1e-6
    )
    progress = Progress()
    if checkpoints is not None:
        checkpoints.restore(settings.seed, progress, schedule)
    watch: Watch | None = None
    while not ended(progress, settings):
        epoch, done = progress.epoch, len(progress.losses)
        entry = {"epoch": epoch, "learning_rate": learner.optimizer.param_groups[0]["lr"]}
        started = time.perf_counter()
        batches = shuffled_batches(data.train, settings.batch_size, settings.seed, epoch)
        if watch is None:
            watch = watched(len(batches), settings, accelerator)
        after_batch = in_turn(watch, checkpoints)
        entry["train_loss"] = train_epoch(learner, data, batches, progress, after_batch)
        samples = data.train.total * (1 - done / len(batches))
        rate = samples / (time.perf_counter() - started)
        entry |= evaluate(model, data, settings.batch_size, accelerator)
        if entry["auc"] > max((earlier["auc"] for earlier in progress.curve), default=-math.inf):
            progress.best_epoch, progress.best_weights = epoch, host_weights(model)
        progress.end_epoch(entry)
        schedule.step(entry["auc"])
        if accelerator.is_main_process:
            log.info(progress_line(entry, rate, epoch == progress.best_epoch))
        if checkpoints is not None:
            checkpoints.after_epoch(last=ended(progress, settings))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Trained(progress.curve, progress.best_epoch, progress.best_weights, parameters)


def watched(batches: int, settings: Settings, accelerator: Accelerator) -> Watch:
    """Tells, in the main process, what an epoch takes."""
    epochs, patience = settings.epochs, settings.patience

    def tell(seconds: float) -> None:
        told = f"an epoch takes about {duration(seconds)} without scoring valid"
        if epochs > 1:
            told += f", all {epochs} of them {duration(seconds * epochs)}"
        if epochs > patience:
            told += ", unless patience ends it"
        if accelerator.is_main_process:
            log.info(told)

    return Watch(batches, tell)


def in_turn(watch: Watch, checkpoints: Checkpoints | None) -> Callable[[], None]:
    """What is done after each batch."""

    def after_batch() -> None:
        watch.after_batch()
        if checkpoints is not None:
            checkpoints.after_batch()

    return after_batch


def ended(progress: Progress, settings: Settings) -> bool:
    return len(progress.curve) >= min(settings.epochs, progress.best_epoch + settings.patience)


def train_epoch(
    learner: Learner,
    data: TrainingData,
    batches: list[tuple[Tensor, float]],
    progress: Progress,
    after_batch: Callable[[], None] | None = None,
) -> float:
    """One pass over `batches`, or over those that `progress` has not done yet.

    Returns the mean cross-entropy a sample in nats, without the penalty.
    """
    learner.model.train()
    accelerator, losses = learner.accelerator, progress.losses
    left = batches[len(losses) :]
    clicked = data.train.batches([rows for rows, _ in left])
    items = data.new.items if data.new else data.items
    with progress_bar(data.train.total, progress.epoch, accelerator) as bar:
        bar.update(data.train.total * len(losses) // len(batches))
        for (rows, weight), (clicks, label) in zip(left, clicked, strict=True):
            if data.new:
                clicks = data.new.shown(clicks, rows, progress.epoch)
            losses.append(learner.step(clicks, label, items, weight) * len(rows))
            FREED_MEMORY.bound()
            bar.update(len(rows) * accelerator.num_processes)
            if after_batch is not None:
                after_batch()
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
    model: CTRModel, data: TrainingData, batch_size: int, accelerator: Accelerator
) -> dict[str, float]:
    """AUC, gAUC and logloss over all rows of valid, and AUC over each of its parts; the same in
    every process."""
    (logits,) = score(model, [data.valid], data.items, batch_size, accelerator)
    if not logits.isfinite().all():
        raise InputError(
            "training diverged: the model's logits are not finite; in params.yaml lower "
            "learning_rate of what this stage trains, or set its mixed_precision to bf16 or no"
        )
    label, probability = data.valid_label, logits.double().sigmoid().numpy()
    parts = {
        name: nan_for_none(auc(label[part], probability[part]))
        for name, part in data.valid_parts.items()
    }
    return measured(label, probability, data.valid_user) | parts


def measured(label: np.ndarray, probability: np.ndarray, user: np.ndarray) -> dict[str, float]:
    """AUC, gAUC and logloss of rows (n,); NaN for what they do not have."""
    metrics = {
        "auc": auc(label, probability),
        "gauc": gauc(label, probability, user),
        "logloss": logloss(label, probability),
    }
    return {name: nan_for_none(value) for name, value in metrics.items()}


def nan_for_none(value: float | None) -> float:
    return math.nan if value is None else value


def host_weights(model: CTRModel) -> dict[str, Tensor]:
    """A copy of the model's state on the host."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def progress_line(entry: dict[str, float], rate: float, is_best: bool, step: str = "epoch") -> str:
    gauc = shown(none_for_nan(entry["gauc"]))
    return (
        f"{step} {entry['epoch']:3d}  loss {entry['train_loss']:.4f}  "
        f"valid AUC {entry['auc']:.4f}  gAUC {gauc}  logloss {entry['logloss']:.4f}  "
        f"lr {entry['learning_rate']:.1e}  {rate:,.0f} samples/s{'  *' if is_best else ''}"
    )


def none_for_nan(value: float) -> float | None:
    """JSON has no NaN; gAUC is NaN where no user of valid has both labels."""
    return None if math.isnan(value) else value


def refuse_one_class(label: np.ndarray) -> None:
    """Of valid."""
    if label.min() == label.max():
        raise InputError(
            f"{paths.split_path('valid')}: all labels are {label[0]}; AUC, by which the best epoch "
            "is chosen, needs both"
        )


def refuse_few_rows(rows: int, processes: int) -> None:
    if rows < 2 * processes:
        raise InputError(
            f"{paths.split_path('train')}: found {rows} rows for {processes} processes; "
            "batch norm needs at least two in each"
        )
