"""Stage `judge`: what Task 1's file is worth, as the organisers judge it.

Trains their DIN (`ctr/task1/din.py`) on the file at `judge.file`, from which alone item ids, tags
and vectors are read, and writes metrics/task1.json: the best epoch's metrics on valid, means over
`judge.runs` runs with the seeds seed, seed + 1, ... As in the competition only five settings may be
tuned: both regularizers, dropout, learning rate and batch size.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.utils import set_seed

from ctr.engine.checkpoint import Checkpoints, checkpointing
from ctr.engine.loop import TrainingData, fit, load_data, none_for_nan
from ctr.engine.machine import seed_dropout, training_machine
from ctr.task1.din import DIN, DINConfig
from ctr.task1.items import load_judged_items
from pipeline.common import paths
from pipeline.common.files import write_json
from pipeline.common.stage import made, run, shown
from pipeline.settings.ctr.judge import Judge
from pipeline.tables.split import LEVELS, Split


def main(section: Judge) -> None:
    file = Path(section.file)
    inputs = (file, paths.split_path("train"), paths.split_path("valid"), paths.STATS)
    with training_machine("judge", "judge", section) as accelerator:
        data = load_data(load_judged_items(file, accelerator.device), section, accelerator)
        with checkpointing("judge", section, inputs, accelerator) as checkpoints:
            verdict = judge(data, section, accelerator, checkpoints)
            if accelerator.is_main_process:
                write_json(paths.TASK1_METRICS, verdict)
                made(f"{file}: valid AUC {shown(verdict['auc'])}")


def judge(
    data: TrainingData,
    section: Judge,
    accelerator: Accelerator,
    checkpoints: Checkpoints | None = None,
) -> dict[str, Any]:
    """The judgement of the items in `data`, means over the runs; the same in every process.

    `auc_std` is the deviation between runs (n - 1), null for a single one.
    """
    data = in_parts(data, np.isin(Split.load("valid").target, Split.load("train").target))
    judged = [
        judged_once(data, section.model_copy(update={"seed": seed}), accelerator, checkpoints)
        for seed in range(section.seed, section.seed + section.runs)
    ]
    means = {name: mean_of([run[name] for run in judged]) for name in judged[0]}
    aucs = np.array([run["auc"] for run in judged], dtype=float)
    return {
        **means,
        "auc_std": none_for_nan(float(aucs.std(ddof=1))) if len(aucs) > 1 else None,
        "dim": data.items.content.shape[1],
        "runs": section.runs,
        "train_rows": data.train.total,
    }


def in_parts(data: TrainingData, warm: np.ndarray) -> TrainingData:
    """With AUC of valid's `warm` rows, a mask, and of the others told beside.

    Warm is a target that occurs anywhere in train, as for QIN, whatever `judge.rows` leaves of it.
    """
    return replace(data, valid_parts={"auc_warm_items": warm, "auc_cold_items": ~warm})


def judged_once(
    data: TrainingData,
    section: Judge,
    accelerator: Accelerator,
    checkpoints: Checkpoints | None = None,
) -> dict[str, float | None]:
    """The best epoch of one run: metrics over valid, and AUC of its parts."""
    set_seed(section.seed)
    model = DIN(
        DINConfig(
            items=len(data.items.id) - 1,
            tags=int(data.items.tags.max()) + 1,
            levels=LEVELS,
            content_dim=data.items.content.shape[1],
            net_dropout=section.net_dropout,
        ),
        data.items.content,
    )
    seed_dropout(section.seed, accelerator)
    trained = fit(model, data, section, accelerator, checkpoints)
    best = trained.curve[trained.best_epoch - 1]
    names = ("auc", "gauc", "logloss", *data.valid_parts)
    return {
        **{name: none_for_nan(best[name]) for name in names},
        "best_epoch": float(trained.best_epoch),
    }


def mean_of(values: list[float | None]) -> float | None:
    """None where any of the values is."""
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if len(present) == len(values) else None


if __name__ == "__main__":
    run("judge", main, launched=True)
