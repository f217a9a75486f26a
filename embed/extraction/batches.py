"""What a forward pass reads, how a run of items is cut, and how batches are made ahead of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset


@dataclass(frozen=True)
class Batch:
    """The inputs of one forward pass, on the host.

    Arrays rather than tensors, which would travel between processes through /dev/shm.
    """

    shard: int
    items: np.ndarray
    """(B,) int32: where the vectors belong. Empty if none of its items can be read."""
    inputs: Mapping[str, np.ndarray | Tensor]
    """By the encoder's names; what has a row an item has them in the order of `items`."""
    unreadable: list[tuple[int, str]] = field(default_factory=list)
    """(dense item id, reason) of covers that were left out, and mostly their items with them."""

    def __len__(self) -> int:
        return len({*self.items.tolist(), *(item for item, _ in self.unreadable)})

    def pin_memory(self) -> "Batch":
        """The same in page-locked memory, from which a GPU copies while it computes."""
        pinned = {name: torch.as_tensor(value).pin_memory() for name, value in self.inputs.items()}
        return replace(self, inputs=pinned)


def spans(count: int, size: int) -> list[tuple[int, int]]:
    """`count` items in runs (start, stop) of exactly `size`, the last one shorter."""
    return [(start, min(start + size, count)) for start in range(0, count, size)]


def even_spans(start: int, stop: int, size: int) -> list[tuple[int, int]]:
    """Runs of at most `size` and nearly equal, so that none is left with an item or two."""
    count = -(-(stop - start) // size)
    return list(pairwise(np.linspace(start, stop, count + 1).astype(int).tolist()))


def read_ahead(
    dataset: Dataset[list[Batch]], count: int, workers: int, device: torch.device
) -> Iterator[Batch]:
    """The batches of the `count` entries of `dataset` in order, prepared by worker processes."""
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=range(count),
        num_workers=min(workers, count),
        collate_fn=unchanged,
        pin_memory=device.type == "cuda",
    )
    for batches in loader:
        yield from batches


def unchanged(batch: Any) -> Any:
    """In place of the default collation, which would turn arrays into tensors."""
    return batch
