"""What every ranking model of the pipeline takes and offers.

Letters: B batch, L history, N items, T tags an item, C width of the multimodal vector,
K neighbours, D item width, F numbers of a row.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline.settings.ctr.training import Features


class ItemTable(NamedTuple):
    """What is known of every item; row i is item i, row 0 padding and all zeros."""

    id: Tensor
    """int (N + 1,): the item's row of the id embedding; 0 hides the id."""
    tags: Tensor
    """int (N + 1, T), 0 where there is no tag."""
    content: Tensor
    """float (N + 1, C): the frozen multimodal vector, or those of its columns that are in use."""
    neighbors: Tensor
    """int (N + 1, K): the nearest items, 0 where there is none."""
    cosine: Tensor
    """float (N + 1, K): how near they are."""


class Clicks(NamedTuple):
    """A batch of the click log, as dense ids."""

    history: Tensor
    """int (B, L), 0 is padding."""
    target: Tensor
    """int (B,)"""
    likes_level: Tensor
    """int (B,)"""
    views_level: Tensor
    """int (B,)"""
    numbers: Tensor
    """float (B, F): what else is known of the row, about standardised; F may be 0."""


class CTRModel(nn.Module):
    """Logits of a click on `target` after `history`."""

    def forward(self, clicks: Clicks, items: ItemTable, table: Tensor | None = None) -> Tensor:
        """Logits (B,); `table` is `item_table(items)` where that is at hand already."""
        raise NotImplementedError

    def item_table(self, items: ItemTable) -> Tensor:
        """Every item's vector, (N + 1, D)."""
        raise NotImplementedError

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Evaluation mode; the weights must not change in it."""
        self.eval()
        yield

    def fixed_parts(self) -> list[nn.Module]:
        """The parts whose sizes are the same for every whole batch, which can be compiled."""
        return []

    def embedding_parameters(self) -> list[nn.Parameter]:
        """What `embedding_regularizer` covers: every embedding table."""
        tables = [module for module in self.modules() if isinstance(module, nn.Embedding)]
        return [module.get_parameter("weight") for module in tables]

    def composed(
        self, clicks: Clicks, items: ItemTable, table: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """History (B, L) and target (B,) as rows of a table (n, D), and that table.

        Each vector is composed once, however often it occurs.
        """
        history, target = clicks.history, clicks.target
        if table is not None:
            return history, target, table
        if history.numel() + target.numel() < places_an_item(history.device) * len(items.id):
            history, target, items = items_of_batch(history, target, items)
        return history, target, self.item_table(items)


def places_an_item(device: torch.device) -> int:
    """How many of a batch's places an item must have for the whole table to be composed.

    Else the batch's items are found first, which a CPU does at little cost, and which makes a GPU
    wait for the host (`benchmarks/growth/items.py`).
    """
    return 8 if device.type == "cpu" else 1


def items_of_batch(
    history: Tensor, target: Tensor, items: ItemTable
) -> tuple[Tensor, Tensor, ItemTable]:
    """(B, L) and (B,) as rows of a table, and that: what a vector is composed of, of the batch's
    items alone, after padding. The neighbours are still those of all items."""
    ids, place = distinct(torch.cat([target, history.flatten()]), len(items.id))
    target, history = place[: len(target)], place[len(target) :].view_as(history)
    found = items._replace(
        id=items.id.index_select(0, ids),
        tags=items.tags.index_select(0, ids),
        content=items.content.index_select(0, ids),
    )
    return history, target, found


def distinct(named: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """The rows of a table of `rows` that `named` (n,) names, ascending after 0, which is the first;
    and the place of each of `named` among them, int32 (n,)."""
    if rows > 2 * len(named):
        ids, place = torch.unique(torch.cat([named.new_zeros(1), named]), return_inverse=True)
        return ids, place[1:].int()
    seen = torch.zeros(rows, dtype=torch.int32, device=named.device)  # a pass over all is quicker
    seen[:1] = 1
    seen.index_fill_(0, named.long(), 1)
    place = seen.cumsum(0, dtype=torch.int32) - 1  # of each row that is seen
    return seen.nonzero().squeeze(1), place.index_select(0, named)


def items_read(
    features: Features, content: Tensor, tags: Tensor, neighbors: Tensor, cosine: Tensor
) -> ItemTable:
    """What a model reads of the items: what is switched off is all padding.

    Of the vectors (N + 1, C) it is the columns in use; the other columns are those of `ItemTable`.
    """
    content = columns_in_use(content)
    id = torch.arange(len(content), dtype=torch.int32)
    near = features.neighbors and features.content  # neighbours are near by content
    return ItemTable(
        id=id if features.id else torch.zeros_like(id),
        tags=tags if features.tags else torch.zeros_like(tags),
        content=content if features.content else torch.zeros_like(content),
        neighbors=neighbors if near else neighbors[:, :0],
        cosine=cosine if near else cosine[:, :0],
    )


def columns_in_use(content: Tensor) -> Tensor:
    """(N + 1, c) of the (N + 1, C) vectors: the columns that are not zero of every item.

    There is one at least. `align` fills some twenty of the 128 that Task 1 may have.
    """
    used = content.any(0)
    used[0] |= ~used.any()
    return content[:, used]


def initialise(module: nn.Module) -> None:
    """Embeddings N(0, 1e-4) with a zero padding row; linear maps Xavier-normal without bias."""
    if isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=1e-4)
        if module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx])
    elif isinstance(module, nn.Linear):
        nn.init.xavier_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
