"""Partial results of an extraction: a file a shard, in a folder that survives a kill.

`scratch/<stage>/<fingerprint>/` is no output of the stage, so DVC leaves it alone. The fingerprint
covers all that the bytes depend on: what another input, setting, model, version or code computed is
in another folder. Every shard is sealed with a digest, and written whole or not at all.
"""

import fcntl
import hashlib
import json
import logging
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.schema import InputError, replacing

SCRATCH = Path("scratch")
SEAL = hashlib.sha256().digest_size

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shard:
    """The vectors of a run of items."""

    items: np.ndarray
    """(n,) int32: the rows of the stage's output that the vectors belong to."""
    vectors: np.ndarray
    """(n, d) float32, finite."""
    unreadable: list[tuple[int, str]]
    """(dense item id, reason)."""

    def to_bytes(self) -> bytes:
        buffer = BytesIO()
        unreadable = np.frombuffer(json.dumps(self.unreadable).encode(), np.uint8)
        np.savez(buffer, items=self.items, vectors=self.vectors, unreadable=unreadable)
        return buffer.getvalue()

    @staticmethod
    def from_bytes(content: bytes) -> "Shard":
        with np.load(BytesIO(content), allow_pickle=False) as arrays:
            unreadable = json.loads(arrays["unreadable"].tobytes())
            faults = [(int(item), str(reason)) for item, reason in unreadable]
            return Shard(arrays["items"], arrays["vectors"], faults)


class Shards:
    """The shards of one stage with one fingerprint."""

    def __init__(self, stage: str, fingerprint: str) -> None:
        self.stage = SCRATCH / stage
        self.folder = self.stage / fingerprint
        self.fingerprint = fingerprint

    def path(self, number: int) -> Path:
        return self.folder / f"shard-{number:05d}"

    def write(self, number: int, shard: Shard) -> None:
        content = shard.to_bytes()
        with replacing(self.path(number)) as partial:
            partial.write_bytes(self._seal(number, content) + content)

    def read(self, number: int) -> Shard | None:
        """None if the shard is not there, or not what was written for this number and folder."""
        path = self.path(number)
        if not path.is_file():
            return None
        content = path.read_bytes()
        if content[:SEAL] != self._seal(number, content[SEAL:]):
            log.warning("%s is damaged or belongs elsewhere; it is not used", path)
            return None
        return Shard.from_bytes(content[SEAL:])

    def missing(self, count: int) -> list[int]:
        """Which of `count` shards have yet to be computed."""
        missing = [number for number in range(count) if self.read(number) is None]
        if len(missing) < count:
            log.info("%d of %d shards are there from an earlier run", count - len(missing), count)
        return missing

    def clear(self) -> None:
        """Remove these shards, and those of earlier fingerprints."""
        for folder in self.stage.iterdir():
            if folder.is_dir():
                shutil.rmtree(folder)

    @contextmanager
    def lock(self, exclusive: bool) -> Iterator[None]:
        """Hold the stage's lock, with the other processes of this launch but no other launch.

        The main process comes first and finds nobody (`exclusive`), the others join it. The lock
        is a record lock, which worker processes do not inherit: it ends with the process.
        """
        path = self.stage / "lock"
        with path.open("a+") as file:
            try:
                if exclusive:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                raise InputError(
                    f"another run of this stage is at work ({path} is locked), perhaps one that "
                    "outlived the command that started it; wait for it, or end it"
                ) from None
            yield

    def _seal(self, number: int, content: bytes) -> bytes:
        digest = hashlib.sha256(f"{self.fingerprint} {number} ".encode())
        digest.update(content)
        return digest.digest()


def fingerprint(identity: Mapping[str, Any]) -> str:
    """A digest of what the vectors depend on: `identity`, and the code loaded from this package."""
    content = json.dumps({**identity, "code": code_sha256()}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def code_sha256() -> dict[str, str]:
    """A digest of each file of this package that the process has loaded."""
    package = Path(__file__).resolve().parent
    files = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
    near = [Path(file) for file in files if Path(file).parent.name == package.name]
    own = sorted({path.resolve() for path in near if path.resolve().parent == package})
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in own}


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_sha256(texts: list[str]) -> str:
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def arithmetic(device: torch.device) -> dict[str, Any]:
    """What else rounding depends on: the kind of GPU, or on a CPU the number of threads."""
    if device.type == "cuda":
        return {"device": torch.cuda.get_device_name(device)}
    return {"device": "cpu", "threads": torch.get_num_threads()}
