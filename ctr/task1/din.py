"""DIN: deep interest network (arXiv 1706.06978) as the organisers of Task 1 fix it.

Notable in it:
- an item is [id | mean of its tags | frozen multimodal vector], the vector as it is, without a map:
  its scale matters;
- each history item gets a weight from an MLP over [target, item, target - item, target * item],
  without softmax, and the interest is their weighted sum;
- that MLP's first layer is linear in its four parts, so the first three are projected once a target
  and once an item, and only target * item a pair. Of that the frozen vectors' columns need no
  gradient, and those that are zero of every item no product. All of it is exact;
- padding takes no part: pairs are those of real history items.

Rows are looked up by `F.embedding`, whose gradient takes a quarter of the time of indexing's.

Letters: B batch, L history, P pairs of a target and an item of its history, n items of the batch,
T tags an item, C width of the multimodal vector, E embedding width, D = 2E + C item width, H and G
widths of the attention's hidden layers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctr.models.base import Clicks, CTRModel, ItemTable, initialise
from ctr.models.kernels import mean_of_tags
from ctr.models.layers import Dropout, tower


@dataclass(frozen=True)
class DINConfig:
    """Sizes of the model; the defaults are the organisers'."""

    items: int
    """N, padding not counted."""
    tags: int
    """Distinct tags, padding counted."""
    levels: int = 11
    content_dim: int = 128
    embedding_dim: int = 64
    attention: tuple[int, int] = (512, 256)
    attention_dropout: float = 0.1
    tower: tuple[int, ...] = (1024, 512, 256)
    net_dropout: float = 0.1

    @property
    def item_dim(self) -> int:
        return 2 * self.embedding_dim + self.content_dim


class ItemEmbedding(nn.Module):
    """The item vector h = [id | mean of tags | content]."""

    def __init__(self, config: DINConfig) -> None:
        super().__init__()
        self.id = nn.Embedding(config.items + 1, config.embedding_dim, padding_idx=0)
        self.tag = nn.Embedding(config.tags, config.embedding_dim, padding_idx=0)

    def forward(self, id: Tensor, tags: Tensor, content: Tensor) -> Tensor:
        """Vectors (n, D) of n items: their id rows (n,), tags (n, T) and content (n, C)."""
        tag_mean = mean_of_tags(tags, self.tag.weight)  # (n, E)
        return torch.cat([self.id(id), tag_mean, content], dim=1)  # (n, D)


class Projected(NamedTuple):
    """Of a table (n, D)."""

    first_layer: Tensor
    """(n, H): what an item adds to it, whatever the target."""
    learned: Tensor
    """(n, 2E): the columns that take a gradient."""
    fixed: Tensor
    """(n, C): of the others those that are not zero of every item."""


class Attention(nn.Module):
    """sum_i w(t, h_i) h_i over the real items of a history, w an MLP without softmax."""

    def __init__(
        self,
        dim: int,
        hidden: tuple[int, int],
        dropout: float,
        learned: int | None = None,
        fixed: Tensor | None = None,
    ) -> None:
        """The first `learned` of a table's columns take a gradient, of the others none.

        Of these `fixed` (C,) may name those that are not zero of every item.
        """
        super().__init__()
        self.learned = dim if learned is None else learned
        others = torch.arange(self.learned, dim) if fixed is None else fixed
        self.register_buffer("fixed", others, persistent=False)
        self.fixed: Tensor
        self.pair = nn.Linear(4 * dim, hidden[0])
        self.hidden = nn.Linear(*hidden)
        self.out = nn.Linear(hidden[1], 1)
        self.dropout = Dropout(dropout)
        self.frozen = False
        self.projected: tuple[Tensor, Projected] | None = None
        """While the weights are frozen the last table and what `project` made of it."""

    def project(self, table: Tensor) -> Projected:
        """What `forward` reads of a table (n, D), the same in every pair."""
        if self.projected is not None and self.projected[0] is table:
            return self.projected[1]
        _target, of_item, of_difference, _product = self.pair.weight.chunk(4, dim=1)
        weight = of_item - of_difference  # (H, D)
        learned = table[:, : self.learned].contiguous()  # (n, 2E)
        fixed = table.detach()[:, self.fixed]  # (n, C)
        hidden = F.linear(learned, weight[:, : self.learned])  # (n, H)
        hidden = hidden + F.linear(fixed, weight[:, self.fixed])  # (n, H)
        made = Projected(hidden, learned, fixed)
        self.projected = (table, made) if self.frozen else None
        return made

    def forward(self, target: Tensor, history: Tensor, table: Tensor) -> Tensor:
        """The interest, (B, D).

        `target` is (B,) and `history` (B, L), 0 for padding: rows of `table` (n, D).
        """
        of_target, _item, of_difference, of_product = self.pair.weight.chunk(4, dim=1)
        row, place = history.nonzero(as_tuple=True)  # (P,) both
        item = history[row, place]  # (P,)
        t = F.embedding(target, table)  # (B, D)
        by_target = F.linear(t, of_target + of_difference, self.pair.bias)  # (B, H)
        by_item, learned, fixed = self.project(table)  # (n, H), (n, 2E), (n, C)
        x = F.embedding(row, by_target) + F.embedding(item, by_item)  # (P, H)
        pair = F.embedding(row, t[:, : self.learned]) * F.embedding(item, learned)  # (P, 2E)
        x = x + F.linear(pair, of_product[:, : self.learned])  # (P, H)
        if len(self.fixed):
            pair = F.embedding(row, t.detach()[:, self.fixed]) * F.embedding(item, fixed)  # (P, C)
            x = x + F.linear(pair, of_product[:, self.fixed])  # (P, H)
        x = self.dropout(F.relu(x))  # (P, H)
        x = self.dropout(F.relu(self.hidden(x)))  # (P, G)
        weight = self.out(x).squeeze(1).to(table.dtype)  # (P,)
        first = torch.searchsorted(row, torch.arange(len(target), device=row.device))  # (B,)
        return F.embedding_bag(item, table, first, mode="sum", per_sample_weights=weight)  # (B, D)


class DIN(CTRModel):
    """Logits of a click on `target` after `history`."""

    def __init__(self, config: DINConfig, content: Tensor | None = None) -> None:
        """`content` (N + 1, C) may say which columns all items lack, which saves their products."""
        super().__init__()
        learned = 2 * config.embedding_dim
        used = None if content is None else learned + content.any(0).nonzero().flatten()
        self.item = ItemEmbedding(config)
        self.likes_level = nn.Embedding(config.levels, config.embedding_dim)
        self.views_level = nn.Embedding(config.levels, config.embedding_dim)
        self.attention = Attention(
            config.item_dim, config.attention, config.attention_dropout, learned, used
        )
        dim = 2 * config.embedding_dim + 2 * config.item_dim
        self.tower = tower(dim, config.tower, config.net_dropout)
        self.tower.append(nn.Linear(config.tower[-1], 1))
        self.apply(initialise)

    def forward(self, clicks: Clicks, items: ItemTable, table: Tensor | None = None) -> Tensor:
        history, target, table = self.composed(clicks, items, table)  # (B, L), (B,), (n, D)
        parts = [
            self.likes_level(clicks.likes_level),  # (B, E)
            self.views_level(clicks.views_level),  # (B, E)
            F.embedding(target, table),  # (B, D)
            self.attention(target, history, table),  # (B, D)
        ]
        return self.tower(torch.cat(parts, dim=1)).squeeze(1)  # (B,)

    def item_table(self, items: ItemTable) -> Tensor:
        return self.item(items.id, items.tags, items.content)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Evaluation mode, a table's items projected once; the weights must not change in it."""
        self.eval()
        self.attention.frozen = True
        try:
            yield
        finally:
            self.attention.frozen, self.attention.projected = False, None
