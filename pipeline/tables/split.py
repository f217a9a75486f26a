"""One split of the click log, as `ingest` leaves it."""

from dataclasses import dataclass

import numpy as np

from pipeline.common.files import read_array
from pipeline.common.paths import split_path

LEVELS = 11
"""LEVEL_COLUMNS run from 0 to 10."""
LEVEL_COLUMNS = ("likes_level", "views_level")


@dataclass(frozen=True)
class Split:
    """One split of the click log: an int32 matrix (n, L + 5), usually memory-mapped.

    Item and user ids are dense (1..N, 0 is padding). `history` is padded on the left, the most
    recent item last. `label` is 0 or 1, and -1 throughout a split without labels.
    """

    rows: np.ndarray

    TAIL = ("target", *LEVEL_COLUMNS, "label", "user")
    """The columns after the history, in order."""

    @staticmethod
    def load(split: str) -> "Split":
        return Split(read_array(split_path(split)))

    @property
    def history(self) -> np.ndarray:
        return self.rows[:, : -len(self.TAIL)]

    def column(self, name: str) -> np.ndarray:
        return self.rows[:, self.TAIL.index(name) - len(self.TAIL)]

    @property
    def target(self) -> np.ndarray:
        return self.column("target")

    @property
    def label(self) -> np.ndarray:
        return self.column("label")

    @property
    def user(self) -> np.ndarray:
        return self.column("user")

    def __len__(self) -> int:
        return len(self.rows)
