"""Rows of train whose target is shown as a new item: without id, and with no click counted of it.

Train has every item that it trains on, so a model learns what an id or a count says, and content
and levels only so far as these leave something to say. Then come items that train does not have. A
share of the rows, another one in each epoch, shows them.

Letters: B batch, N items, F numbers of a row.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ctr.engine.data import ClickLog, mixed, numbers_read
from ctr.models.base import Clicks, ItemTable
from pipeline.common import paths
from pipeline.common.files import read_json
from pipeline.settings.ctr.training import Features

BITS = 0xFFFFFFFF
MIXERS = ((16, 0x85EBCA6B), (13, 0xC2B2AE35))
"""Of MurmurHash3's last step: every bit of the key changes half of those that come out."""


@dataclass(frozen=True)
class NewTargets:
    share: float
    """Of the rows."""
    seed: int
    items: ItemTable
    """Row N + 1 + i is item i as a new one: with all that is known of it but its id."""
    told: Tensor
    """bool (F,): the numbers that are `value` for a new target; the others stay."""
    value: Tensor
    """float (F,)"""
    rank: int
    world: int

    @staticmethod
    def of(train: ClickLog, items: ItemTable, share: float, seed: int) -> "NewTargets":
        told, value = (x.to(train.device) for x in numbers_of_new(train.features))
        both = ItemTable(*(torch.cat([column, column]) for column in items))
        both.id[len(items.id) :] = 0
        return NewTargets(share, seed, both, told, value, train.rank, train.world)

    def shown(self, clicks: Clicks, rows: Tensor, epoch: int) -> Clicks:
        """`clicks` (B,), of own rows numbered `rows` (B,), some of them with new targets."""
        new = drawn(self.rank + self.world * rows, self.share, self.seed, epoch)
        new = new.to(clicks.target.device, non_blocking=True)  # (B,)
        target = clicks.target + new * (len(self.items.id) // 2)
        numbers = torch.where(new[:, None] & self.told, self.value, clicks.numbers)  # (B, F)
        return clicks._replace(target=target, numbers=numbers)


def numbers_of_new(features: Features) -> tuple[Tensor, Tensor]:
    """Of the F numbers that are read, whether it is the same for every new target, and what."""
    names = numbers_read(features)
    new = read_json(paths.ROW_FEATURES)["new"] if names else {}
    value = torch.tensor([new.get(name, 0.0) for name in names], dtype=torch.float16)
    return torch.tensor([name in new for name in names], dtype=torch.bool), value.float()


def drawn(rows: Tensor, share: float, *key: int) -> Tensor:
    """bool (n,): whether each row is drawn, by its number, int64 (n,), and the key alone.

    So it is the same on every device, and however rows are batched or shared by processes.
    """
    mix = (rows * 0x9E3779B1 + mixed(*key)) & BITS
    for shift, odd in MIXERS:
        mix = ((mix ^ (mix >> shift)) * odd) & BITS
    return (mix ^ (mix >> 16)) < share * (BITS + 1)
