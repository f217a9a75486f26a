"""What boosted trees read: the numbers of stage `companions`, and the levels, a column each.

Letters: n rows, F columns.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ctr.engine.data import BLOCK, forget_pages, numbers_read, refuse_other_lengths
from ctr.engine.new_targets import drawn, numbers_of_new
from pipeline.common import paths
from pipeline.common.files import read_array
from pipeline.settings.ctr.train import Train
from pipeline.settings.ctr.training import Features
from pipeline.tables.split import LEVEL_COLUMNS, Split


@dataclass(frozen=True)
class Data:
    """Of the splits `train` and `valid`."""

    read: Callable[[str], np.ndarray]
    """A split's rows, float32 (n, F): large, so that they are read when needed and not kept."""
    names: list[str]
    """Of the F columns."""
    label: Mapping[str, np.ndarray]
    """int (n,)"""
    user: np.ndarray
    """int (n,), valid's."""


def load_data(settings: Train) -> Data:
    """Some targets of train are shown as new items, as `train.new_targets` says."""
    features = settings.features

    def read(split: str) -> np.ndarray:
        rows = read_rows(split, features)
        if split == "train" and settings.new_targets:
            show_new(rows, features, settings.new_targets, settings.seed)
        return rows

    return Data(
        read,
        column_names(features),
        {split: read_column(split, "label") for split in ("train", "valid")},
        read_column("valid", "user"),
    )


def read_column(split: str, name: str) -> np.ndarray:
    """int32 (n,), a copy: a view would keep the whole file's pages."""
    clicks: Any = Split.load(split)
    column = np.array(clicks.column(name))
    forget_pages(clicks.rows.base)
    return column


def column_names(features: Features) -> list[str]:
    """F of them; the numbers first, in their own order."""
    return [*numbers_read(features), *(LEVEL_COLUMNS if features.levels else ())]


def read_rows(split: str, features: Features) -> np.ndarray:
    """float32 (n, F): what is switched off is not read."""
    clicks, places = Split.load(split), [*numbers_read(features).values()]
    rows = np.empty((len(clicks), len(column_names(features))), np.float32)
    if places:
        numbers: Any = read_array(paths.companions_path(split))
        lengths = {paths.split_path(split): clicks, paths.companions_path(split): numbers}
        refuse_other_lengths(lengths)
        for start in range(0, len(rows), BLOCK):
            part = slice(start, start + BLOCK)
            rows[part, : len(places)] = numbers[part][:, places]
            forget_pages(numbers.base)
    if features.levels:
        for place, name in enumerate(LEVEL_COLUMNS, start=len(places)):
            rows[:, place] = read_column(split, name)
    return rows


def show_new(rows: np.ndarray, features: Features, share: float, seed: int) -> None:
    """Write what is known of new targets into a share of the rows, (n, F)."""
    told, value = (x.numpy() for x in numbers_of_new(features))
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        new = drawn(torch.arange(start, start + len(part)), share, seed).numpy()
        numbers = part[:, : len(told)]
        numbers[:] = np.where(new[:, None] & told, value, numbers)
