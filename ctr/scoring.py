"""Logits for all rows of a split, over however many processes there are."""

import torch
from accelerate import Accelerator
from torch import Tensor

from ctr.data import ClickLog
from ctr.qin import QIN, ItemTable


@torch.inference_mode()
def score(
    model: QIN, log: ClickLog, items: ItemTable, batch_size: int, accelerator: Accelerator
) -> Tensor:
    """Logits, float32 (n,) on the host, in row order and the same in every process.

    Each process scores its own rows; no row is scored twice or lost. Every item's vector is
    composed once, unless there are more items than the rows have places for them. Leaves `model` in
    evaluation mode.
    """
    model.eval()
    with accelerator.autocast():
        table = model.item_table(items) if log.places >= len(items.id) else None
        places = list(torch.arange(len(log)).split(batch_size))
        logits = [model(clicks, items, table).float() for clicks, _ in log.batches(places)]
    return in_row_order(torch.cat(logits), log, accelerator)


def in_row_order(own: Tensor, log: ClickLog, accelerator: Accelerator) -> Tensor:
    """What every process has of its rows rank, rank + world, ... as one tensor (n,) on the host."""
    longest = -(-log.total // log.world)
    padded = own.new_zeros(longest)
    padded[: len(own)] = own
    by_process = accelerator.gather(padded).view(log.world, longest)
    return by_process.T.flatten()[: log.total].cpu()
