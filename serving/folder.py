"""The files of a package, the folder that a model is scored from, and how they are read.

config.json           the model's kind, sizes and settings (as in models/<name>/)
model.safetensors     its weights; of boosted trees model.txt
items.parquet         of every item its raw id, title and levels; row i is item i, row 0 padding
items.safetensors     its vector, tags and neighbours
numbers.json          the names of a row's numbers, their means and deviations, how they are counted
tallies/              what these are computed from, where the model reads any
SHA256SUMS            of all these, as `sha256sum --check` reads it
README.md             the model card, which anyone may change

What is read into memory is compared with its sum; the pairs of tallies/ may be gigabytes, which are
read where they lie, and must have the shapes that they should. To renew a package that is in use
put another folder in its place: what is written over files that are read so ends who reads them.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open
from tqdm import tqdm

from ctr.covisitation.tallies import OF_ITEMS_FILE, PAIR_FILES, PAIR_VALUES, VALUES, Tallies
from pipeline.common.files import InputError, some_of
from pipeline.tables.split import LEVEL_COLUMNS

CONFIG, ITEMS, ITEM_ARRAYS = "config.json", "items.parquet", "items.safetensors"
NUMBERS, SUMS, CARD = "numbers.json", "SHA256SUMS", "README.md"
WEIGHTS, TREES = "model.safetensors", "model.txt"
TALLIES = "tallies"
MAPPED = {f"{TALLIES}/{name}" for name in PAIR_FILES}
NEEDED = {CONFIG, ITEMS, ITEM_ARRAYS, NUMBERS}
OPTIONAL = {WEIGHTS, TREES, f"{TALLIES}/{OF_ITEMS_FILE}", *MAPPED}
COLUMNS = ("item_id", "title", *LEVEL_COLUMNS)
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
    compare_sums(folder)
    config, numbers = read_object(folder / CONFIG), read_object(folder / NUMBERS)
    items, arrays = read_items(folder / ITEMS), read_arrays(folder / ITEM_ARRAYS)
    with reading(folder / ITEM_ARRAYS):
        arrays = {name: arrays[name] for name in ARRAYS}
    for name, array in arrays.items():
        if len(array) != len(items["item_id"]):
            told = f"{name} has {len(array)} rows, {folder / ITEMS} has {len(items['item_id'])}"
            raise refused(folder / ITEM_ARRAYS, told)
    return Package(folder, config, numbers, items, arrays)


def sums_of(files: Mapping[str, Path]) -> str:
    """A line of SHA256SUMS for each of `files`, which are now at the paths."""
    bar = tqdm(sorted(files.items()), "sums", unit="file", leave=False, disable=None)
    return "".join(f"{sha256(path)}  {name}\n" for name, path in bar)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def compare_sums(folder: Path) -> None:
    """InputError where a file that is read into memory is not the one that was packaged."""
    path = folder / SUMS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise missing(path) from None
    except ValueError as error:
        raise damaged(path, error) from None
    sums = {name: expected for expected, _, name in (line.partition("  ") for line in lines)}
    there = NEEDED | {name for name in OPTIONAL if (folder / name).exists()}
    if unlisted := there - sums.keys():
        raise refused(path, f"tells nothing of {some_of(unlisted)}")
    for name in sorted((NEEDED | OPTIONAL) & sums.keys()):
        if not (folder / name).is_file():
            raise missing(folder / name)
        if name not in MAPPED and sha256(folder / name) != sums[name]:
            raise refused(folder / name, f"is another file than {path} tells of")


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


def read_tallies(folder: Path) -> Tallies | None:
    """What is counted of train, pairs where they lie; none where `companions.tallies` was off."""
    path = folder / TALLIES / OF_ITEMS_FILE
    items = read_arrays(path)
    with reading(path):
        start = items["start"]
        count = int(start[-1])
    shapes = dict.fromkeys(PAIR_FILES, (count,)) | {PAIR_VALUES: (count, len(VALUES))}
    pairs = {name: read_mapped(folder / TALLIES / name, shapes[name]) for name in PAIR_FILES}
    if len(start) == 1:
        return None
    with reading(path):
        return Tallies.of_files(items, pairs)


def read_mapped(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Of that `shape`; of float32 the values of pairs, of whole numbers all others."""
    try:
        found = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except FileNotFoundError:
        raise missing(path) from None
    except (OSError, ValueError, EOFError) as error:
        raise damaged(path, error) from None
    kinds = ("float32",) if path.name == PAIR_VALUES else ("int32", "int64")
    if found.shape != shape or str(found.dtype) not in kinds:
        expected = f"expected {shape} of {' or '.join(kinds)}"
        raise refused(path, f"is {found.shape} of {found.dtype}; {expected}")
    return found


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """InputError naming `path` where what was read of it is not what the block expects."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(path, error) from None


def missing(path: Path) -> InputError:
    return refused(path, "not there, so the package is not whole")


def damaged(path: Path, error: Exception) -> InputError:
    told = f"it has no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
    return refused(path, f"cannot be read: {told}")


def refused(path: Path, told: str) -> InputError:
    return InputError(
        f"{path}: {told}; copy the package again, whole, or write it anew by `dvc repro package`"
    )
