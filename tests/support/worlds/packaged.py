"""The package of the tiny world, with a QIN of random weights: as stage `package` writes it."""

import shutil
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

from ctr.covisitation.describe import NAMES
from ctr.models.architecture import build_model, described, model_config
from ctr.models.base import items_read
from pipeline.common import paths
from pipeline.common.files import read_json, write_json
from serving import package
from tests.support.worlds.tiny_world import (
    HISTORY,
    ITEMS,
    TRAIN_ROWS,
    USERS,
    tiny_params,
    write_world,
)

IDS: list[int] = (100 + 3 * np.arange(ITEMS)).tolist()
"""Raw ids, with gaps."""
TITLES = ["", *(f"película {number} 映画" for number in range(2, ITEMS + 1))]
"""One has none."""


def write_package(to: Path) -> Path:
    with TemporaryDirectory() as world, chdir(world):
        write_source([0, *IDS], ["", *TITLES])
        write_model()
        package.main()
        shutil.copytree(paths.package_path(paths.MAIN_MODEL), to)
    return to


def write_source(ids: Sequence[int] | np.ndarray, titles: Sequence[str]) -> None:
    """The tiny world into the working directory, with what a package tells of the data.

    Raw ids and titles by dense ids, padding's first.
    """
    write_world()
    settings = {"source": "sample", "history": HISTORY}
    more = {"settings": settings, "users": USERS, "rows_train": TRAIN_ROWS}
    write_json(paths.STATS, read_json(paths.STATS) | more)
    pq.write_table(pa.table({"item_id": ids, "title": titles}), paths.ITEMS)


def write_model() -> None:
    """And what is told of its training."""
    settings = tiny_params().train
    arrays = {name: torch.from_numpy(array) for name, array in package.item_arrays().items()}
    config = model_config(settings, items_read(settings.features, **arrays), len(NAMES))
    model = build_model(config, settings)
    generator = torch.Generator().manual_seed(5)
    state = model.state_dict()
    for name, weight in state.items():
        if weight.is_floating_point() and not name.endswith("running_var"):
            state[name] = weight + 0.1 * torch.randn(weight.shape, generator=generator)
    paths.MAIN.weights.parent.mkdir(parents=True)
    save_file(state, paths.MAIN.weights)
    write_json(paths.MAIN.config, described(config, settings))
    told = {"best_epoch": 1, "epochs": 1, "parameters": 1}
    write_json(paths.MAIN.metrics, told | dict.fromkeys(("auc", "gauc", "logloss")))
