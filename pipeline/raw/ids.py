"""Raw ids to dense ids 1..N; 0 is padding on both sides."""

from dataclasses import dataclass

import numpy as np

UNKNOWN = -1


@dataclass(frozen=True)
class DenseIds:
    """Raw id `raw[i]` is dense id i + 1."""

    raw: np.ndarray
    """int64 (N,), ascending, positive, without duplicates."""
    _table: np.ndarray
    """int32: the dense id of every raw id, where raw ids are small enough to index by."""

    @staticmethod
    def of(raw: np.ndarray) -> "DenseIds":
        """From positive ids in ascending order."""
        size = int(raw[-1]) + 1 if len(raw) else 1
        if size > 16 * len(raw) + 1_000_000:
            return DenseIds(raw, np.empty(0, np.int32))
        table = np.full(size, UNKNOWN, np.int32)
        table[0] = 0
        table[raw] = np.arange(1, len(raw) + 1, dtype=np.int32)
        return DenseIds(raw, table)

    def __len__(self) -> int:
        return len(self.raw)

    def dense(self, ids: np.ndarray) -> np.ndarray:
        """int32, the shape of `ids`: 0 stays 0, an id that is not in `raw` becomes UNKNOWN."""
        if len(self._table):
            out_of_range = (ids < 0) | (ids >= len(self._table))
            if not out_of_range.any():
                return self._table[ids]
            return np.where(out_of_range, UNKNOWN, self._table[np.where(out_of_range, 0, ids)])
        # uint64 and int64 would meet as float64, which cannot tell huge ids apart. What is beyond
        # int64 turns negative, and is no id.
        ids = ids.astype(np.int64, copy=False)
        place = np.minimum(np.searchsorted(self.raw, ids), len(self.raw) - 1)
        found = np.where(self.raw[place] == ids, place + 1, UNKNOWN)
        return np.where(ids == 0, 0, found).astype(np.int32)
