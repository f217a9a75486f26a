"""The reader of covers: any run of rows of the covers' file, decoded in worker processes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL.Image import Image
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from embed.covers.decode import CoverError, decode
from embed.extraction.batches import even_spans, unchanged

ToPixels = Callable[[Image], np.ndarray]
"""An RGB image to (3, S, S): uint8, or float32 as the model reads it. Picklable, since worker
processes receive it."""


@dataclass(frozen=True)
class CoverBatch:
    """Decoded covers; arrays rather than tensors, which would travel through /dev/shm."""

    items: np.ndarray
    """Dense item ids of the readable covers, (B,) int32."""
    pixels: np.ndarray
    """(B, 3, S, S), uint8 or float32."""
    unreadable: list[tuple[int, str]]
    """(dense item id, reason) of the others."""

    def __len__(self) -> int:
        return len(self.items) + len(self.unreadable)


class CoverFile:
    """The covers at `path`, read by rows; what is held at a time are the row groups they lie in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata = pq.read_metadata(path)
        groups = range(self.metadata.num_row_groups)
        sizes = [self.metadata.row_group(group).num_rows for group in groups]
        self.ends = np.cumsum(sizes, dtype=np.int64)
        """The row after each row group's last."""

    def __len__(self) -> int:
        return int(self.metadata.num_rows)

    def items(self) -> np.ndarray:
        """The dense item id of each row, ascending, (rows,) int32."""
        return np.asarray(pq.read_table(self.path, columns=["item"])["item"])

    def rows(self, start: int, stop: int) -> pa.Table:
        """Rows start..stop - 1: `item` int32 and `image` binary."""
        first, last = np.searchsorted(self.ends, (start, stop - 1), side="right")
        before = int(self.ends[first - 1]) if first else 0
        with pq.ParquetFile(self.path, metadata=self.metadata) as file:
            table = file.read_row_groups(list(range(first, last + 1)), use_threads=False)
        return table.slice(start - before, stop - start)


class CoverBatches(Dataset[CoverBatch]):
    """Entry i is the covers of the i-th of `spans` of rows (start, stop), decoded."""

    def __init__(self, file: CoverFile, spans: list[tuple[int, int]], to_pixels: ToPixels) -> None:
        self.file = file
        self.spans = spans
        self.to_pixels = to_pixels

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, place: int) -> CoverBatch:
        table = self.file.rows(*self.spans[place])
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
    """Every cover once, in the order of the file."""
    file = CoverFile(path)
    batches = CoverBatches(file, even_spans(0, len(file), batch_size), to_pixels)
    loader = DataLoader(
        batches, batch_size=None, num_workers=min(workers, len(batches)), collate_fn=unchanged
    )
    with tqdm(total=len(file), desc="covers", unit="cover", disable=None) as bar:
        for batch in loader:
            yield batch
            bar.update(len(batch))
