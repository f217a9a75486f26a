"""Logits for all rows of a split, over however many processes there are."""

from collections.abc import Callable, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from ctr.engine.data import ClickLog
from ctr.engine.machine import FREED_MEMORY
from ctr.models.base import CTRModel, ItemTable


@torch.inference_mode()
def score(
    model: CTRModel,
    logs: Sequence[ClickLog],
    items: ItemTable,
    batch_size: int,
    accelerator: Accelerator,
) -> list[Tensor]:
    """Each log's logits, float32 (n,) on the host, in row order and the same in every process.

    Each process scores its own rows; no row is scored twice or lost. Every item's vector is
    composed once, unless there are more items than the rows have places for them. Leaves `model` in
    evaluation mode.
    """
    hidden = None if accelerator.is_main_process else True
    rows = sum(map(len, logs))
    with (
        model.frozen(),
        accelerator.autocast(),
        tqdm(
            total=rows, desc="scoring", unit="row", unit_scale=True, leave=False, disable=hidden
        ) as bar,
    ):
        worth_it = sum(log.places for log in logs) >= len(items.id)
        table = model.item_table(items) if worth_it else None
        return [
            score_log(model, log, items, table, batch_size, accelerator, bar.update) for log in logs
        ]


def score_log(
    model: CTRModel,
    log: ClickLog,
    items: ItemTable,
    table: Tensor | None,
    batch_size: int,
    accelerator: Accelerator,
    done: Callable[[int], object],
) -> Tensor:
    places = list(torch.arange(len(log), device=log.clicks.rows.device).split(batch_size))
    logits = torch.empty(len(log), device=log.device)  # at once: a piece would cut a freed tensor
    parts = logits.split(batch_size)
    for part, (clicks, _) in zip(parts, log.batches(places), strict=True):
        part.copy_(model(clicks, items, table))
        FREED_MEMORY.bound()
        done(len(part))
    return in_row_order(logits, log, accelerator)


def in_row_order(own: Tensor, log: ClickLog, accelerator: Accelerator) -> Tensor:
    """What every process has of its rows rank, rank + world, ... as one tensor (n,) on the host."""
    longest = -(-log.total // log.world)
    padded = own.new_zeros(longest)
    padded[: len(own)] = own
    by_process = accelerator.gather(padded).view(log.world, longest)
    return by_process.T.flatten()[: log.total].cpu()
