"""40 items and some hundred clicks on them, as `ingest` and `embed/` would leave them on disk.

A click is likely on an item of even number, whoever sees it, and unlikely on the others.
"""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from ruamel.yaml import YAML
from torch import Tensor

from ctr import companions, train
from ctr.engine.data import ClickLog
from ctr.engine.scoring import score
from ctr.evaluation.metrics import auc, logloss
from ctr.models.architecture import load_model
from ctr.models.base import Clicks
from pipeline.common import paths
from pipeline.common.files import Outputs, read_array, write_array, write_json
from pipeline.common.paths import PARAMS
from pipeline.settings.params import Params, load_params
from pipeline.tables.split import LEVELS, Split

REPOSITORY = Path(__file__).resolve().parents[3]
BIN = Path(sys.executable).parent

ITEMS, TAGS, CONTENT, NEIGHBORS, USERS, HISTORY = 40, 6, 6, 3, 12, 8
TRAIN_ROWS, VALID_ROWS, TEST_ROWS = 600, 150, 101
NOISE = 0.1
"""Share of the labels that are turned over."""
NEARLY_TIED = 1e-3
"""Of an AUC over 150 rows: what some pairs count whose order rounding may turn over.

A row's logit is rounded otherwise in another place of a batch.
"""

TINY_ENCODER = {
    "embed_dim": 16,
    "image_size": 32,
    "patch_size": 8,
    "image_width": 32,
    "image_layers": 1,
    "text_width": 32,
    "text_layers": 1,
    "epochs": 2,
    "batch_size": 16,
}
TINY_SIZES = {
    "history": 5,
    "embedding_dim": 4,
    "numbers_dim": 4,
    "attention_dim": 8,
    "layers": 2,
    "rows": 2,
    "learning_rate": 0.01,
    "batch_size": 100,
    "epochs": 4,
}
TINY_COUNTS = {"window": 6, "within": 3, "folds": 4, "kept": 5}
"""Of `companions`."""


def tiny_params(
    *,
    predict: dict[str, Any] | None = None,
    blend: dict[str, Any] | None = None,
    models: dict[str, dict[str, Any]] | None = None,
    **train: Any,
) -> Params:
    """The repository's settings with a tiny model, and changes to four sections."""
    content = load_params(REPOSITORY / PARAMS).model_dump()
    content["companions"] |= TINY_COUNTS
    content["train"] |= TINY_SIZES | train
    content["predict"] |= predict or {}
    content["blend"] |= blend or {}
    content["models"] |= models or {}
    return Params.model_validate(content)


VECTOR_FILES = paths.content_files([paths.MAIN_MODEL], [paths.MAIN_MODEL])
"""Of the encoders that the committed settings have."""


@contextmanager
def on_cpu() -> Iterator[None]:
    """Accelerate on a CPU (where equal seeds give equal bytes), in one process, outside DVC."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        patch.setenv("OMP_NUM_THREADS", "2")  # a user's choice, which the stages then respect
        for name in ("DVC_STAGE", "LOCAL_WORLD_SIZE", "ACCELERATE_MIXED_PRECISION"):
            patch.delenv(name, raising=False)
        torch.set_num_threads(1)  # the fastest for tiny models
        forget_accelerator()
        yield
        forget_accelerator()
        torch.set_num_threads(threads)


def run_main(stage: ModuleType, params: Params, model: str = paths.MAIN_MODEL) -> None:
    """A stage's own `main`, with its part of `params`."""
    name = stage.__name__.rpartition(".")[2]
    section = f"embed_{name}" if name in ("text", "image", "vlm") else name
    stage.main(*params.arguments(section, model))


def write_params(params: Params) -> None:
    with PARAMS.open("w", encoding="utf-8") as file:
        YAML().dump(params.model_dump(), file)


def write_world(valid_rows: int = VALID_ROWS) -> None:
    """All that `train` and `predict` read, into the working directory."""
    write_clicks_and_items(valid_rows)
    for path, content in companions_of_world(valid_rows).items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


@cache
def companions_of_world(valid_rows: int) -> dict[Path, bytes]:
    """What stage `companions` writes, but for its metrics; it runs once."""
    with (
        TemporaryDirectory() as folder,
        chdir(folder),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(companions, "available_cores", lambda: 1)
        write_clicks_and_items(valid_rows)
        companions.main(tiny_params().companions)
        return contents(paths.ROW_FEATURES.parent.rglob("*"))


def write_clicks_and_items(valid_rows: int = VALID_ROWS) -> None:
    """All that stage `companions` reads, and more."""
    rng = np.random.default_rng(11)
    write_array(paths.split_path("train"), clicks(rng, TRAIN_ROWS))
    write_array(paths.split_path("valid"), clicks(rng, valid_rows))
    test = clicks(rng, TEST_ROWS)
    test[:, Split.TAIL.index("label") - len(Split.TAIL)] = -1
    write_array(paths.split_path("test"), test)
    write_array(paths.TEST_ID, 1000 + 3 * rng.permutation(TEST_ROWS))
    write_array(paths.TAGS, item_table(rng.integers(0, TAGS, (ITEMS, 2)), np.int32))
    write_array(paths.ITEM, item_table(rng.normal(size=(ITEMS, CONTENT)), np.float32))
    nearest = [rng.permutation(ITEMS)[:NEIGHBORS] + 1 for _ in range(ITEMS)]
    with Outputs() as outputs, outputs.path(paths.NEIGHBORS).open("wb") as file:
        cosine = rng.uniform(size=(ITEMS, NEIGHBORS))
        ids = item_table(np.stack(nearest), np.int32)
        np.savez(file, ids=ids, cosine=item_table(cosine, np.float32))
    write_json(paths.STATS, {"items": ITEMS, "tags": TAGS})


def clicks(rng: np.random.Generator, rows: int) -> np.ndarray:
    """int32 (rows, HISTORY + 5), laid out as `Split`; histories of every length."""
    history = rng.integers(1, ITEMS + 1, (rows, HISTORY))
    history[np.arange(HISTORY) < rng.integers(0, HISTORY + 1, (rows, 1))] = 0
    target = rng.integers(1, ITEMS + 1, rows)
    label = (target % 2 == 0) ^ (rng.random(rows) < NOISE)
    likes, views = rng.integers(0, LEVELS, (2, rows))
    user = rng.integers(1, USERS + 1, rows)
    return np.column_stack([history, target, likes, views, label, user]).astype(np.int32)


def item_table(rows: np.ndarray, dtype: type[np.generic]) -> np.ndarray:
    """`rows` (N, d) under a padding row of zeros."""
    return np.concatenate([np.zeros_like(rows[:1]), rows]).astype(dtype)


def read_curve() -> pd.DataFrame:
    """One row an epoch."""
    return pd.read_csv(paths.MAIN.curve, dtype=str).map(float)  # to the last bit


def rescored(batch_size: int, model: str = paths.MAIN_MODEL) -> dict[str, float | None]:
    """AUC and logloss of the saved model on valid, in this process."""
    network, settings = load_model(paths.model_files(model))
    accelerator = Accelerator()
    data = train.load_data(settings, accelerator)
    (logits,) = score(network, [data.valid], data.items, batch_size, accelerator)
    label, probability = data.valid_label, logits.double().sigmoid().numpy()
    return {"auc": auc(label, probability), "logloss": logloss(label, probability)}


def one_batch(log: ClickLog, rows: Tensor) -> tuple[Clicks, Tensor]:
    """The clicks of the numbered rows and their labels."""
    return next(log.batches([rows]))


def keep_rows(split: str, count: int) -> None:
    """The first rows of a split, and what is told of them."""
    for path in (paths.split_path(split), paths.companions_path(split)):
        write_array(path, read_array(path)[:count].copy())


def first_rows(log: ClickLog, count: int) -> ClickLog:
    """A log of the first own rows of another."""
    tables = [table._replace(rows=table.rows[:count]) for table in (log.clicks, log.numbers)]
    return replace(log, clicks=tables[0], numbers=tables[1], total=count)


def contents(files: Iterable[Path]) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in files if path.is_file()}


def forget_accelerator() -> None:
    """Make the next Accelerator a new one, as in a process of its own."""
    AcceleratorState._reset_state(reset_partial_state=True)


def run_command(command: list[str]) -> str:
    """What `command` says, the repository on its path; it must succeed, and within two minutes."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("OMP_NUM_THREADS", None)  # the launcher's business
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        output, _ = process.communicate(timeout=120)
    finally:
        process.terminate()  # and not kill: a launcher still has to end its workers
    assert process.returncode == 0, output
    return output
