"""Tiny worlds in which a model was trained, has predicted, and was packaged."""

from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit

from ctr import predict, train
from pipeline.common import paths
from pipeline.settings.ctr.training import NUMBERS
from pipeline.settings.params import Params
from pipeline.tables.split import Split
from serving import package
from tests.support.worlds.packaged import write_source
from tests.support.worlds.tiny_world import ITEMS, forget_accelerator, tiny_params

IDS = np.array([0, *(7 * item + 1 for item in range(1, ITEMS + 1))])
"""The source's, by dense ids."""
UNKNOWN = 6
"""An id that the source does not have."""
FOLDER = paths.package_path(paths.MAIN_MODEL)
TITLES = ["", *("" if item == 4 else f"thing [{item}]" for item in range(1, ITEMS + 1))]

NO_NUMBERS = dict.fromkeys(NUMBERS, False)
TRANSFORMER = {"layers": 1, "heads": 2, "width": 8, "feedforward": 8, "cross_layers": 1}
KINDS: dict[str, dict[str, Any]] = {
    "qin": {},
    "qin without numbers": {"features": NO_NUMBERS},
    "qin without history and levels": {"features": {"history": False, "levels": False}},
    "transformer_dcn": {
        "model": "transformer_dcn",
        "transformer_dcn": TRANSFORMER | {"last": 2, "tower": [8]},
    },
    "lightgbm": {"model": "lightgbm", "lightgbm": {"trees": 30}},
    "lightgbm of levels": {"model": "lightgbm", "features": NO_NUMBERS, "lightgbm": {"trees": 3}},
}
"""What each sets in section `train`."""


class Row(NamedTuple):
    history: np.ndarray
    """Raw ids, without padding, the youngest last."""
    target: int
    likes_level: int
    views_level: int
    probability: float
    """By stage `predict`."""


def params_of(kind: str) -> Params:
    base = tiny_params().train.model_dump()
    changes = {
        key: base[key] | value if isinstance(value, dict) else value
        for key, value in KINDS[kind].items()
    }
    return tiny_params(**{"epochs": 1, "learning_rate": 0.02} | changes)


def write_packaged(kind: str) -> None:
    """Into the working directory."""
    write_source(IDS, TITLES)
    params = params_of(kind)
    for stage, section in ((train, params.train), (predict, params.predict)):
        forget_accelerator()
        stage.main(section)
    forget_accelerator()
    package.main()


def rows_of(world: Path, split: str) -> Iterator[Row]:
    """Every row of a split, with what was predicted of it."""
    with chdir(world):
        rows = Split.load(split)
        predicted = pd.read_parquet(paths.logits_path(paths.MAIN_MODEL, split))
    probability = expit(predicted["logit"].to_numpy(np.float64))
    target, likes, views = (
        rows.column(name).tolist() for name in ("target", "likes_level", "views_level")
    )
    for row in range(len(rows)):
        history, item = rows.history[row], int(IDS[target[row]])
        read = IDS[history[history > 0]]
        yield Row(read, item, likes[row], views[row], float(probability[row]))


def files_in(folder: Path) -> set[str]:
    """By their paths in it."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
