"""The files of a package, the folder that a model is scored from, and how they are read.

config.json           the model's kind, sizes and settings (as in models/<name>/)
model.safetensors     its weights; of boosted trees model.txt
items.parquet         of every item its raw id, title and levels; row i is item i, row 0 padding
items.safetensors     its vector, tags and neighbours
numbers.json          the names of a row's numbers, their means and deviations, how they are counted
tallies.safetensors   what these are computed from, where the model reads any
README.md             the model card
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open

from pipeline.common.files import InputError

CONFIG, ITEMS, ITEM_ARRAYS = "config.json", "items.parquet", "items.safetensors"
NUMBERS, TALLIES, CARD = "numbers.json", "tallies.safetensors", "README.md"
WEIGHTS, TREES = "model.safetensors", "model.txt"
OPTIONAL = {WEIGHTS, TREES, TALLIES}
COLUMNS = ("item_id", "title", "likes_level", "views_level")
ARRAYS = ("content", "tags", "neighbors", "cosine")


class Package(NamedTuple):
    """What is read of a package at once; weights and tallies are opened by those who use them."""

    folder: Path
    config: dict[str, Any]
    numbers: dict[str, Any]
    items: dict[str, np.ndarray]
    """`item_id` int64, `title` str, `likes_level` and `views_level` int64, (N + 1,) each."""
    arrays: dict[str, np.ndarray]
    """Those of ARRAYS, (N + 1, ...)."""

    def path(self, name: str) -> Path:
        return self.folder / name


def read_package(folder: Path) -> Package:
    """Raises InputError for a folder that is no whole package, naming the file."""
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder; expected one that stage `package` has written: run "
            "`dvc repro package`"
        )
    config, numbers = read_object(folder / CONFIG), read_object(folder / NUMBERS)
    items, arrays = read_items(folder / ITEMS), read_arrays(folder / ITEM_ARRAYS)
    with reading(folder / ITEM_ARRAYS):
        arrays = {name: arrays[name] for name in ARRAYS}
    for name, array in arrays.items():
        if len(array) != len(items["item_id"]):
            raise InputError(
                f"{folder / ITEM_ARRAYS}: {name} has {len(array)} rows, {folder / ITEMS} has "
                f"{len(items['item_id'])}; run `dvc repro package`"
            )
    return Package(folder, config, numbers, items, arrays)


def read_object(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise missing(path) from None
    except (ValueError, TypeError) as error:
        raise damaged(path, error) from None


def read_items(path: Path) -> dict[str, np.ndarray]:
    try:
        table = pq.read_table(path, columns=[*COLUMNS])
        return {name: table[name].to_numpy() for name in COLUMNS}
    except FileNotFoundError:
        raise missing(path) from None
    except (pa.ArrowException, OSError, KeyError) as error:
        raise damaged(path, error) from None


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Every array of a safetensors file, by name."""
    try:
        with safe_open(path, "numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except FileNotFoundError:
        raise missing(path) from None
    except SafetensorError as error:
        raise damaged(path, error) from None


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """InputError naming `path` where what was read of it is not what the block expects."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(path, error) from None


def missing(path: Path) -> InputError:
    return InputError(f"{path}: not there, so the package is not whole; run `dvc repro package`")


def damaged(path: Path, error: Exception) -> InputError:
    told = f"it has no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
    return InputError(f"{path}: cannot be read: {told}; run `dvc repro package`")
