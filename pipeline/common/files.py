"""How an output is written and read: whole or not at all, with what it is beside it.

Outputs are written under a temporary name and renamed. Every array has its shape, dtype and
provenance in a JSON file beside it.
"""

import errno
import functools
import json
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.numpy import save_file

from pipeline.common.paths import array_info

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CUT_SHORT = "requested and"
"""What numpy says instead: `100 requested and 60 written`."""

SHOWN_NAMES = 4
"""Of files or weights, that an error shows."""


class InputError(Exception):
    """Something the user gave is wrong. The message says where, what was found, and what to do."""


def some_of(names: Collection[str]) -> str:
    """The first of `names` in their order, and how many more there are: for an error."""
    more = f" and {len(names) - SHOWN_NAMES:,} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(sorted(names)[:SHOWN_NAMES]) + more if names else "nothing"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, moved over it when the block ends well, else removed.

    Raises InputError naming `path` where the disk is full, which the system's error does not.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        if error.filename is None and (error.errno in DISK_FULL or CUT_SHORT in str(error)):
            raise InputError(f"{path}: could not be written: {error}; free some space") from error
        raise
    finally:
        partial.unlink(missing_ok=True)


class Outputs(ExitStack):
    """Outputs that appear together when the `with` block ends well, or not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.partial: dict[Path, Path] = {}
        """The temporary name of each until then."""

    def path(self, path: Path) -> Path:
        """A temporary name to write to now, which becomes `path` at the end."""
        self.partial[path] = self.enter_context(replacing(path))
        return self.partial[path]

    def json(self, path: Path, content: Mapping[str, Any]) -> None:
        """`content` with sorted keys; NaN and infinity are refused, since JSON has neither."""
        text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
        self.path(path).write_text(text + "\n", encoding="utf-8")

    def array(self, path: Path, array: np.ndarray, **provenance: Any) -> None:
        """`array` as .npy, and its shape, dtype and `provenance` as JSON beside it."""
        with self.path(path).open("wb") as file:
            np.save(file, array, allow_pickle=False)
        self.array_info(path, array, **provenance)

    def tensors(self, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
        """Named arrays as safetensors, which anyone may read (its own way of writing lets nobody).

        Not through one string of bytes: they may be gigabytes.
        """
        partial = self.path(path)
        save_file(dict(arrays), partial)
        partial.chmod(0o644)

    def array_info(self, path: Path, array: np.ndarray, **provenance: Any) -> None:
        content = {"shape": array.shape, "dtype": str(array.dtype), **provenance}
        self.json(array_info(path), content)


def forget_others(kept: Iterable[Path]) -> None:
    """Remove the folders beside those `kept`: they are of a model or an encoder that was taken out
    of the settings, and DVC counts them as inputs of the stage that reads all of them."""
    folders = set(kept)
    for beside in {folder.parent for folder in folders}:
        for path in beside.iterdir():
            if path.is_dir() and path not in folders:
                shutil.rmtree(path)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    with Outputs() as outputs:
        outputs.json(path, content)


def write_array(path: Path, array: np.ndarray, **provenance: Any) -> None:
    with Outputs() as outputs:
        outputs.array(path, array, **provenance)


def read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def read_array(path: Path, mode: Literal["r", "c"] = "r") -> np.ndarray:
    """The array at `path`, memory-mapped: read-only, or `c` where changes stay in memory.

    Raises InputError if it is no array of numbers.
    """
    try:
        return np.load(path, mmap_mode=mode, allow_pickle=False)
    except ValueError as error:
        raise InputError(f"{path}: not an array of numbers: {error}; run `dvc repro`") from None


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of `packages`, for an array's provenance."""
    return {package: installed_version(package) for package in packages}


installed_version = functools.cache(version)
"""It reads a file each time, and stages ask for the same again."""
