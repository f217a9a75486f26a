"""The user's cache folder: what is fetched or unpacked once, for every copy of the repository.

`~/.cache/mmctr` on Linux, `~/Library/Caches/mmctr` on macOS; XDG_CACHE_HOME names another place.
"""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from platformdirs import user_cache_path

log = logging.getLogger(__name__)


def folder() -> Path:
    return user_cache_path("mmctr")


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Be alone at work on `folder`, once whoever is has ended: a download may take hours."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            log.info("another run is filling %s; waiting for it to end", folder)
            fcntl.lockf(file, fcntl.LOCK_EX)
        yield
