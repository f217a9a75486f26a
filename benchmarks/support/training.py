"""QIN's training and prediction as the pipeline does them: what `bench_train` measures.

Steps, data path and scoring are those of `ctr` itself, with the published settings. All rows of the
split are there, epochs are cut to a few batches: one warms up, one is timed, and one has a clock at
every part of a step. Runs in the working directory, where `training_world` or the pipeline wrote
the data, on the device that Accelerate finds. Linux only (/proc).

    python -m benchmarks.support.training --steps 3 --precision bf16 --json training.json
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor

from benchmarks.support.measuring import Stopwatch, device_memory, matmul_rate
from benchmarks.support.memory import memory
from ctr import train
from ctr.engine import loop
from ctr.engine.checkpoint import Progress
from ctr.engine.data import ClickLog, Table, shuffled_batches
from ctr.engine.learner import Learner
from ctr.engine.machine import open_accelerator, prepare_cpu
from ctr.engine.scoring import score
from ctr.models.architecture import build_model, qin_config
from ctr.models.base import Clicks, ItemTable
from ctr.models.qin import QINConfig
from pipeline.common.files import write_json
from pipeline.settings.ctr.train import Train
from pipeline.settings.params import load_params

RECIPE = Path(__file__).parents[2] / "recipes/microlens_1m_published.yaml"
"""The published settings."""
DTYPES = {
    "no": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
"""What each precision multiplies."""


class TimedLearner(Learner):
    """A learner whose steps are cut by a watch, if it has one."""

    watch: Stopwatch | None = None

    def step(self, clicks: Clicks, label: Tensor, items: ItemTable, weight: float) -> Tensor:
        if self.watch is None:
            return super().step(clicks, label, items, weight)
        self.watch.lap("data")
        loss = self.loss(clicks, label, items)
        self.watch.lap("forward")
        self.backward(loss * weight)
        self.watch.lap("backward")
        self.update()
        self.watch.lap("optimizer")
        return loss.detach()


def measure(settings: Train, steps: int, scored_batches: int) -> dict[str, Any]:
    """Rates, seconds a step by phase, peak bytes, and the loss of each epoch of `steps` batches."""
    prepare_cpu()
    accelerator = open_accelerator("train", settings.mixed_precision)
    torch.manual_seed(settings.seed)
    data = train.load_data(settings, accelerator)
    config = qin_config(settings, data.items, len(data.train.columns))
    learner = TimedLearner(build_model(config, settings), settings, accelerator)
    batches = shuffled_batches(data.train, settings.batch_size, settings.seed, epoch=1)
    warm, timed, scored = batches[:1], batches[:steps], batches[:scored_batches]
    losses = [loop.train_epoch(learner, data, warm, Progress())]
    watch = Stopwatch(accelerator.device)
    losses.append(loop.train_epoch(learner, data, timed, Progress()))
    watch.lap("training")
    learner.watch = Stopwatch(accelerator.device)
    losses.append(loop.train_epoch(learner, data, timed, Progress()))
    peaks = {"host": memory("VmHWM"), "device": device_memory(accelerator.device)}
    for part in (warm, scored):
        log = taken(data.train, part)
        watch.lap("between")
        score(learner.network, [log], data.items, settings.batch_size, accelerator)
    watch.lap("prediction")

    rate = samples(timed) * data.train.world / watch.seconds["training"]
    return {
        "device": str(accelerator.device),
        "precision": settings.mixed_precision,
        "samples_per_s": rate,
        "predicted_per_s": samples(scored) * data.train.world / watch.seconds["prediction"],
        "seconds": {name: spent / steps for name, spent in learner.watch.seconds.items()},
        "loader_share": learner.watch.seconds["data"] / learner.watch.total(),
        "flops_per_s": rate * flops_a_sample(config, settings.history),
        "matmul_flops_per_s": matmul_rate(
            accelerator.device, DTYPES[settings.mixed_precision], settings.batch_size
        ),
        "peak_bytes": peaks,
        "losses": losses,
    }


def samples(batches: list[tuple[Tensor, float]]) -> int:
    return sum(len(rows) for rows, _weight in batches)


def taken(log: ClickLog, batches: list[tuple[Tensor, float]]) -> ClickLog:
    """A log of the rows of some batches, on the log's device."""
    place = torch.cat([rows for rows, _weight in batches])
    clicks, numbers = (Table(x.rows[place].to(log.device)) for x in (log.clicks, log.numbers))
    return replace(log, clicks=clicks, numbers=numbers, total=len(place) * log.world)


def flops_a_sample(config: QINConfig, history: int) -> int:
    """Of one training step, forward and backward, in the matrix products that each sample needs."""
    rows = 1 if config.collapsed else config.rows
    qnn = config.layers * rows * config.qnn_dim**2
    asta = 2 * config.item_dim**2 + 2 * history * config.item_dim
    return 3 * 2 * (qnn + asta)


def main() -> None:
    published = load_params(RECIPE).train
    parser = argparse.ArgumentParser(description="Speed and memory of QIN's training.")
    parser.add_argument("--batch-size", type=int, default=published.batch_size)
    parser.add_argument("--history", type=int, default=published.history)
    parser.add_argument("--embedding-dim", type=int, default=published.embedding_dim)
    parser.add_argument("--precision", choices=tuple(DTYPES), default="no")
    parser.add_argument("--residence", choices=("auto", "device", "file"), default="auto")
    parser.add_argument("--collapsed", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--steps", type=int, default=3, help="of an epoch")
    parser.add_argument("--scored", type=int, default=10, help="batches, after one to warm up")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = vars(parser.parse_args())
    path, steps, scored = (options.pop(name) for name in ("json", "steps", "scored"))
    options["mixed_precision"] = options.pop("precision")
    options["attention_dim"] = 6 * options["embedding_dim"]  # twice the item's width, as published
    settings = Train.model_validate(published.model_dump() | options)
    measured = measure(settings, steps, scored)
    if PartialState().is_main_process:
        print(json.dumps(measured, indent=2))
        if path is not None:
            write_json(path, measured)


if __name__ == "__main__":
    main()
