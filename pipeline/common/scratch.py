"""Work in progress of a stage, in scratch/: no output of it, so that DVC leaves it alone.

What lies in `scratch/<stage>/<fingerprint>/` survives a kill. The fingerprint covers all that its
bytes depend on: what another input, setting, version or code computed is in another folder.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from pipeline.common.files import InputError
from pipeline.common.launcher import is_first_process

SCRATCH = Path("scratch")
WAIT = 60.0
"""Seconds that a run waits for an earlier one of the same stage, which may be about to end."""
PIECE = 1 << 20
"""Bytes of a file that are hashed at a time."""

log = logging.getLogger(__name__)


@contextmanager
def locked(stage: Path) -> Iterator[None]:
    """Hold the lock of the folder `stage`, which ends with the process at the latest.

    It is a record lock, which worker processes do not inherit. Raises InputError where another run
    still holds it after `WAIT` seconds.
    """
    stage.mkdir(parents=True, exist_ok=True)
    path = stage / "lock"
    with path.open("a+") as file:
        _wait_for_lock(file, path)
        yield


def _wait_for_lock(file: TextIO, path: Path) -> None:
    end = time.monotonic() + WAIT
    told = False
    while not _took_lock(file):
        if time.monotonic() >= end:
            raise _at_work(path)
        if not told:
            log.info("an earlier run of this stage is still at work; waiting for it to end")
            told = True
        time.sleep(0.1)


def _took_lock(file: TextIO) -> bool:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _at_work(path: Path) -> InputError:
    return InputError(
        f"another run of this stage is at work ({path} is locked), perhaps one that "
        "outlived the command that started it; wait for it, or end it"
    )


def clear(stage: Path, fingerprint: str) -> None:
    """Remove what is kept in the folder `stage` when the outputs of a run are written.

    Inside `dvc repro` what that run itself has kept stays until the next one: DVC has not recorded
    the outputs yet, and killed now it would delete them and start again.
    """
    kept = fingerprint if under_dvc() else ""
    for folder in stage.iterdir():
        if folder.is_dir() and folder.name != kept:
            shutil.rmtree(folder)


def under_dvc() -> bool:
    return "DVC_STAGE" in os.environ


def fingerprint(identity: Mapping[str, Any]) -> str:
    """A digest of what results depend on."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The keys, joined by dots, whose values differ."""
    found = []
    for key in sorted({*old, *new}):
        before, now = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            found += [f"{key}.{inner}" for inner in differences(before, now)]
        elif before != now:
            found.append(key)
    return found


def code_sha256(*folders: str) -> dict[str, str]:
    """A digest of each file in the project's `folders` that this process has loaded.

    By its path from the repository's root; code in a folder below counts as well.
    """
    root = Path(__file__).resolve().parents[2]
    files = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
    packages = {f"/{Path(folder).parts[0]}/" for folder in folders}
    own = [file for file in files if any(name in file for name in packages)]  # few of thousands
    loaded = sorted({Path(file).resolve() for file in own})
    return {
        path.relative_to(root).as_posix(): file_sha256(path)
        for path in loaded
        if any(path.is_relative_to(root / folder) for folder in folders)
    }


def files_of(kind: type) -> list[str]:
    """The project's files of a class and its bases, as `code_sha256` takes them."""
    modules = [each.__module__ for each in kind.__mro__ if each.__module__.startswith("pipeline.")]
    return [f"{name.replace('.', '/')}.py" for name in modules]


def file_sha256(path: Path) -> str:
    """Where it takes more than a second, as of all covers, with a bar in the main process."""
    digest = hashlib.sha256()
    with (
        path.open("rb") as file,
        tqdm(
            desc=f"sha256 of {path.name}",
            total=path.stat().st_size,
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            leave=False,
            disable=None if is_first_process() else True,
            delay=1,
        ) as bar,
    ):
        while piece := file.read(PIECE):
            digest.update(piece)
            bar.update(len(piece))
    return digest.hexdigest()
