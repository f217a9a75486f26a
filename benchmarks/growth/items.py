"""What a step's item vectors and their gradients cost, got in different ways.

Above, forward and backward of the item embedding and ASTA at the published sizes, with the vectors

- of every item, once a step (`table`);
- of the batch's items, once each, found by sorting (`unique`);
- of every place of every history, as the published path has them, but with ASTA's maps folded
  (`place`).

Below, the dense gradient of an embedding table (the penalty moves every row, so Adam needs all of
it) from that of the places that read it. The clicks are made up.

    python -m benchmarks.growth.items --json items.json
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.support.measuring import Stopwatch
from ctr.engine.machine import prepare_cpu
from ctr.models.base import Clicks, ItemTable, initialise, items_of_batch
from ctr.models.item_vector import ItemEmbedding
from ctr.models.qin import ASTA, QINConfig
from pipeline.common.files import write_json

HISTORY, TAGS_AN_ITEM = 64, 5
REPEATS = 3


class Reader(nn.Module):
    """The part of QIN that reads items."""

    def __init__(self, config: QINConfig) -> None:
        super().__init__()
        self.item = ItemEmbedding(
            config.items, config.tags, config.content_dim, config.embedding_dim
        )
        self.asta = ASTA(config.item_dim, config.attention_dim)
        self.apply(initialise)

    def table(self, clicks: Clicks, items: ItemTable) -> Tensor:
        vectors = self.item(items.id, items.tags, items.content)
        return self.asta(clicks.target, clicks.history, vectors)[1]

    def unique(self, clicks: Clicks, items: ItemTable) -> Tensor:
        history, target, found = items_of_batch(clicks.history, clicks.target, items)
        return self.asta(target, history, self.item(found.id, found.tags, found.content))[1]

    def place(self, clicks: Clicks, items: ItemTable) -> Tensor:
        ids = torch.cat([clicks.target.unsqueeze(1), clicks.history], dim=1)  # (B, L + 1)
        places = ItemTable(*(column[ids.flatten()] for column in items))
        vectors = self.item(places.id, places.tags, places.content).unflatten(0, ids.shape)
        target, history = vectors[:, 0], vectors[:, 1:]  # (B, D), (B, L, D)
        fold = self.asta.query.weight.T @ self.asta.key.weight * self.asta.scale
        scores = torch.bmm(history, (target @ fold).unsqueeze(2)).squeeze(2)
        scores = F.relu(scores) * (clicks.history > 0)
        pooled = torch.bmm(scores.unsqueeze(1), history).squeeze(1)
        return self.asta.out(self.asta.value(pooled)) + target


def dense(gradient: Tensor, ids: Tensor, rows: int) -> Tensor:
    """torch's own backward of an embedding."""
    return torch.ops.aten.embedding_dense_backward(gradient, ids, rows, -1, False)


def added(gradient: Tensor, ids: Tensor, rows: int) -> Tensor:
    return gradient.new_zeros(rows, gradient.shape[1]).index_add_(0, ids, gradient)


def coalesced(gradient: Tensor, ids: Tensor, rows: int) -> Tensor:
    """What `nn.Embedding(sparse=True)` leaves, made dense."""
    shape = (rows, gradient.shape[1])
    return torch.sparse_coo_tensor(ids.unsqueeze(0), gradient, shape).to_dense()


def segments(gradient: Tensor, ids: Tensor, rows: int) -> Tensor:
    """Sorted by item, and summed from each item's first place to its last."""
    order = ids.argsort()
    counts = torch.bincount(ids, minlength=rows)
    return torch.segment_reduce(gradient[order], "sum", lengths=counts, unsafe=True)


def make_clicks(items: int, batch: int, device: torch.device) -> tuple[Clicks, ItemTable]:
    """Ids by a power of their rank, as in `training_world`; a third of the places are padding."""

    def drawn(*shape: int) -> Tensor:
        return (torch.rand(shape) ** 5 * items).int() + 1

    history = drawn(batch, HISTORY)
    history[torch.arange(HISTORY) < torch.randint(0, 2 * HISTORY // 3, (batch, 1))] = 0
    levels = torch.zeros(batch, dtype=torch.int32)
    none = torch.zeros(items + 1, 0)
    table = ItemTable(
        id=torch.arange(items + 1, dtype=torch.int32),
        tags=torch.randint(0, 11_740, (items + 1, TAGS_AN_ITEM), dtype=torch.int32),
        content=torch.randn(items + 1, 128),
        neighbors=none.int(),
        cosine=none,
    )
    clicks = Clicks(history, drawn(batch), levels, levels, torch.empty(batch, 0))
    return Clicks(*(c.to(device) for c in clicks)), ItemTable(*(c.to(device) for c in table))


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """The best of some, after one that warms up."""
    work()
    watch, best = Stopwatch(device), float("inf")
    for _ in range(REPEATS):
        started = watch.now()
        work()
        best = min(best, watch.now() - started)
    return best


def compose(reader: Reader, way: str, clicks: Clicks, items: ItemTable) -> None:
    reader.zero_grad()
    getattr(reader, way)(clicks, items).sum().backward()


def main() -> None:
    parser = argparse.ArgumentParser(description="Ways to get item vectors and their gradients.")
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 91_717, 1_000_000])
    parser.add_argument("--batch-size", type=int, nargs="+", default=[512, 2048, 8192])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    prepare_cpu()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    result: dict[str, dict[str, float]] = {}
    print(f"{'items':>10}{'batch':>7}  seconds:" + "".join(f"{way:>9}" for way in WAYS))
    for items in options.items:
        reader = Reader(QINConfig(items=items, tags=11_740)).to(device)
        for batch in options.batch_size:
            clicks, table = make_clicks(items, batch, device)
            spent = {
                way: seconds(partial(compose, reader, way, clicks, table), device) for way in WAYS
            }
            result[f"{items} items, batch {batch}"] = spent
            cells = "".join(f"{value:9.3f}" for value in spent.values())
            print(f"{items:10,}{batch:7,}          {cells}", flush=True)
    print(f"{'items':>10}{'places':>8} seconds:" + "".join(f"{w.__name__:>10}" for w in GRADIENTS))
    for items in options.items:
        clicks, _ = make_clicks(items, 2048, device)
        ids = clicks.history.flatten().long()
        gradient = torch.randn(len(ids), 128, device=device)
        spent = {
            way.__name__: seconds(partial(way, gradient, ids, items + 1), device)
            for way in GRADIENTS
        }
        result[f"gradient of {items} items"] = spent
        cells = "".join(f"{value:10.3f}" for value in spent.values())
        print(f"{items:10,}{len(ids):8,}         {cells}", flush=True)
    if options.json is not None:
        write_json(options.json, result)


WAYS = ("table", "unique", "place")
GRADIENTS = (dense, added, coalesced, segments)


if __name__ == "__main__":
    main()
