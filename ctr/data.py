"""The data path: what `ingest` and `embed/` wrote, as the tensors that QIN reads."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ctr.qin import Clicks, ItemTable
from pipeline import schema
from pipeline.params import Features
from pipeline.schema import InputError, Split


@dataclass(frozen=True)
class ClickLog:
    """Rows of a split, as int32 on the host: a batch of them is one gather and one transfer."""

    rows: Tensor
    """int32 (n, L + 5): the last L items of the history, then `Split.TAIL`."""
    features: Features

    @staticmethod
    def load(split: str, history: int, features: Features) -> "ClickLog":
        columns = history + len(Split.TAIL)
        rows = np.array(Split.load(split).rows[:, -columns:])
        return ClickLog(torch.from_numpy(rows), features)

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> Tensor:
        """int32 (n,): one of `Split.TAIL`."""
        return self.rows[:, Split.TAIL.index(name) - len(Split.TAIL)]

    def batch(self, rows: Tensor, device: torch.device) -> tuple[Clicks, Tensor]:
        """The clicks of the numbered rows and their labels, float (B,), on `device`."""
        batch = self.rows[rows].to(device, non_blocking=True)
        split = batch.split([batch.shape[1] - len(Split.TAIL), *[1] * len(Split.TAIL)], dim=1)
        history, (target, likes, views, label, _user) = split[0], [c.squeeze(1) for c in split[1:]]
        if not self.features.history:
            history = torch.zeros_like(history)
        if not self.features.levels:
            likes, views = torch.zeros_like(likes), torch.zeros_like(views)
        return Clicks(history, target, likes, views), label.float()


def load_items(features: Features, device: torch.device) -> ItemTable:
    """Every item's features on `device`; what is switched off is all padding."""
    content = torch.from_numpy(np.array(schema.read_array(schema.ITEM)))
    tags = torch.from_numpy(np.array(schema.read_array(schema.TAGS)))
    with np.load(schema.NEIGHBORS, allow_pickle=False) as file:
        neighbors, cosine = torch.from_numpy(file["ids"]), torch.from_numpy(file["cosine"])
    _refuse_other_lengths({schema.ITEM: content, schema.TAGS: tags, schema.NEIGHBORS: neighbors})
    id = torch.arange(len(content), dtype=torch.int32)
    near = features.neighbors and features.content  # neighbours are near by content
    table = ItemTable(
        id=id if features.id else torch.zeros_like(id),
        tags=tags if features.tags else torch.zeros_like(tags),
        content=content if features.content else torch.zeros_like(content),
        neighbors=neighbors if near else neighbors[:, :0],
        cosine=cosine if near else cosine[:, :0],
    )
    return ItemTable(*(column.to(device) for column in table))


def _refuse_other_lengths(tables: dict[object, Tensor]) -> None:
    rows = {path: len(table) for path, table in tables.items()}
    if len(set(rows.values())) > 1:
        found = ", ".join(f"{path} has {count}" for path, count in rows.items())
        raise InputError(f"the item tables differ in rows: {found}; run `dvc repro`")


def shuffled_batches(
    rows: int, batch_size: int, seed: int, epoch: int, rank: int = 0, world: int = 1
) -> Iterator[tuple[Tensor, float]]:
    """One epoch's batches, as (row numbers of this rank's part, its weight).

    The order depends on seed and epoch alone, and the parts of all ranks together are the batch
    that a single process sees. A part's weight makes the mean over ranks the mean over the batch.
    The last batch may be smaller; if it has fewer than two rows a rank (batch norm needs two) it
    joins the one before it.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(rows, generator=generator)
    for batch in split_batches(order, batch_size, smallest=2 * world):
        part = batch.tensor_split(world)[rank]
        yield part, len(part) * world / len(batch)


def split_batches(order: Tensor, batch_size: int, smallest: int) -> list[Tensor]:
    """`order` (n,) in pieces of `batch_size`; a last one below `smallest` joins its neighbour."""
    batches = list(order.split(batch_size))
    if len(batches) > 1 and len(batches[-1]) < smallest:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches
