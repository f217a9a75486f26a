"""The reader of covers: parquet row groups, decoded in worker processes, in batches of pixels."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL.Image import Image
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from tqdm import tqdm

from embed.covers import CoverError, decode

ToPixels = Callable[[Image], np.ndarray]
"""An RGB image to uint8 (3, S, S); picklable, since worker processes receive it."""


@dataclass(frozen=True)
class CoverBatch:
    """Decoded covers; arrays rather than tensors, which would travel through /dev/shm."""

    items: np.ndarray
    """Dense item ids of the readable covers, (B,) int32."""
    pixels: np.ndarray
    """(B, 3, S, S) uint8."""
    unreadable: list[tuple[int, str]]
    """(dense item id, reason) of the others."""

    def __len__(self) -> int:
        return len(self.items) + len(self.unreadable)


class CoverBatches(IterableDataset[CoverBatch]):
    """The covers at `path`; each worker takes every W-th row group and holds one at a time.

    A batch never spans row groups, so that batches are the same for any number of workers.
    """

    def __init__(self, path: Path, batch_size: int, to_pixels: ToPixels) -> None:
        self.path = path
        self.batch_size = batch_size
        self.to_pixels = to_pixels

    def __iter__(self) -> Iterator[CoverBatch]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        with pq.ParquetFile(self.path) as file:
            for group in range(first, file.num_row_groups, step):
                table = file.read_row_group(group, use_threads=False)
                yield from self._batches(table)

    def _batches(self, table: pa.Table) -> Iterator[CoverBatch]:
        """Batches of nearly equal size, so that none is left with a row or two."""
        count = -(-len(table) // self.batch_size)
        bounds = np.linspace(0, len(table), count + 1).astype(int)
        for start, stop in pairwise(bounds):
            yield self._decode(table.slice(start, stop - start))

    def _decode(self, table: pa.Table) -> CoverBatch:
        items: list[int] = []
        pixels: list[np.ndarray] = []
        unreadable: list[tuple[int, str]] = []
        for item, data in zip(table["item"].to_pylist(), table["image"].to_pylist(), strict=True):
            try:
                pixels.append(self.to_pixels(decode(data)))
                items.append(item)
            except CoverError as error:
                unreadable.append((item, str(error)))
        stacked = np.stack(pixels) if pixels else np.empty((0, 3, 0, 0), np.uint8)
        return CoverBatch(np.array(items, np.int32), stacked, unreadable)


def read_covers(
    path: Path, batch_size: int, to_pixels: ToPixels, workers: int
) -> Iterator[CoverBatch]:
    """Every cover once, in an order that depends on the file and `workers` alone."""
    metadata = pq.read_metadata(path)
    loader = DataLoader(
        CoverBatches(path, batch_size, to_pixels),
        batch_size=None,
        num_workers=min(workers, metadata.num_row_groups),
        collate_fn=_unchanged,
    )
    with tqdm(total=metadata.num_rows, desc="covers", unit="cover", disable=None) as bar:
        for batch in loader:
            yield batch
            bar.update(len(batch))


def _unchanged(batch: Any) -> Any:
    """In place of the default collation, which would turn arrays into tensors."""
    return batch
