"""What the workers of a session have in common."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path

import pytest


@contextmanager
def shared(factory: pytest.TempPathFactory, name: str) -> Iterator[Path]:
    """A folder of the session, which one worker at a time is in; the first finds it empty."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    folder.mkdir(exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        flock(lock, LOCK_EX)
        yield folder


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder of the session that the first worker fills, and that no test changes."""
    with shared(factory, name) as folder:
        made, partial = folder / "made", folder / f"partial-{os.getpid()}"
        if not made.exists():
            shutil.rmtree(partial, ignore_errors=True)  # of a call that failed
            partial.mkdir()
            make(partial)
            partial.rename(made)
    return made
