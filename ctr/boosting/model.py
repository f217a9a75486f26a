"""Trained trees beside what it takes to use them, and their scores."""

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ctr.boosting.library import booster_of, library, tell, threads
from ctr.boosting.rows import column_names, read_rows
from ctr.engine.data import numbers_read
from ctr.models.trained_on import item_digests, read_description
from pipeline.common import paths
from pipeline.common.files import InputError
from pipeline.common.launch import use_all_cores
from pipeline.common.paths import ModelFiles
from pipeline.common.scratch import file_sha256
from pipeline.settings.ctr.train import Train

ROWS_AT_A_TIME = 1 << 14


def described(settings: Train) -> Mapping[str, Any]:
    """What `scores` reads beside the trees."""
    read = [paths.ROW_FEATURES] if numbers_read(settings.features) else []
    return {
        "model": settings.model,
        "config": {"columns": column_names(settings.features)},
        "train": settings.model_dump(),
        "items": item_digests() | {str(path): file_sha256(path) for path in read},
    }


def scores(files: ModelFiles, splits: Sequence[str], section: str) -> dict[str, Tensor]:
    """Each split's logits, float32 (n,).

    Raises InputError where items or numbers are not those that the trees were trained on.
    """
    settings = Train.model_validate(read_description(files)["train"])
    lightgbm = library(section)
    use_all_cores()
    tell("predict", lightgbm)
    booster = load(lightgbm, files)
    return {split: logits(booster, read_rows(split, settings.features)) for split in splits}


def logits(booster: Any, rows: np.ndarray) -> Tensor:
    """float32 (n,) of `rows` (n, F)."""
    found = np.empty(len(rows), np.float32)
    with tqdm(
        total=len(rows), desc="scoring", unit="row", unit_scale=True, leave=False, disable=None
    ) as bar:
        for start in range(0, len(rows), ROWS_AT_A_TIME):
            part = slice(start, start + ROWS_AT_A_TIME)
            found[part] = booster.predict(rows[part], raw_score=True, num_threads=threads())
            bar.update(len(found[part]))
    return torch.from_numpy(found)


def load(lightgbm: ModuleType, files: ModelFiles) -> Any:
    """LightGBM's booster. Raises InputError where the file is no model."""
    try:
        return booster_of(lightgbm, files.trees)
    except ValueError as error:
        raise InputError(
            f"{files.trees}: is no model that LightGBM can read: {error}; train again"
        ) from None
