"""What boosted trees read: the numbers of stage `companions`, and the levels, a column each.

Letters: n rows, F columns.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctr.engine.data import BLOCK, forget_pages, number_columns, refuse_other_lengths
from pipeline.common import paths
from pipeline.common.files import read_array, read_json
from pipeline.settings.ctr.training import Features
from pipeline.tables.split import Split

LEVELS = ("likes_level", "views_level")


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


def load_data(features: Features) -> Data:
    return Data(
        lambda split: read_rows(split, features),
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
    places = number_columns(features)
    names = read_json(paths.ROW_FEATURES)["names"] if places else []
    return [*(names[place] for place in places), *(LEVELS if features.levels else ())]


def read_rows(split: str, features: Features) -> np.ndarray:
    """float32 (n, F): what is switched off is not read."""
    clicks, places = Split.load(split), number_columns(features)
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
        for place, name in enumerate(LEVELS, start=len(places)):
            rows[:, place] = read_column(split, name)
    return rows
