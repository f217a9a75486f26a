"""Partial results of an extraction: a file a shard, in a folder that survives a kill.

Every shard is sealed with a digest, and written whole or not at all.
"""

import hashlib
import json
import logging
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from pipeline.common import scratch
from pipeline.common.files import replacing

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
        self.stage = scratch.SCRATCH / stage
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
        """The outputs are written: remove these shards, and those of earlier fingerprints."""
        scratch.clear(self.stage, self.fingerprint)

    def _seal(self, number: int, content: bytes) -> bytes:
        digest = hashlib.sha256(f"{self.fingerprint} {number} ".encode())
        digest.update(content)
        return digest.digest()


def text_sha256(texts: list[str]) -> str:
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()
