"""A full disk, told before much work where it can be foreseen, and by name where not."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.common.files import DISK_FULL, InputError

REMEDY = "free some, or let XDG_CACHE_HOME name a folder on a larger disk"


def require_space(folder: Path, size: int, what: str) -> None:
    """InputError unless `size` bytes of `what` fit on the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise InputError(
            f"{folder}: {size:,} bytes of {what} are to come and {free:,} are free, "
            f"{size - free:,} too few; {REMEDY}"
        )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """InputError naming `path` where the disk is full, which the system's error does not."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise InputError(f"{path}: could not be written: {error}; {REMEDY}") from error
        raise
