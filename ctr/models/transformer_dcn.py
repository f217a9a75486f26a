"""A transformer over pairs of history item and target, and DCNv2 (arXiv 2008.13535) on top.

The idea of the challenge's first place. Notable in it:
- every position of the history is the pair [h_i | t], so that the items meet each other and the
  target in each layer of the encoder; it has no position embedding;
- order is seen at the end alone: the outputs at the last positions are read one by one, beside the
  maximum over all of them;
- cross layers x0 * (W x + b) + x multiply all that is known, and a tower runs beside them;
- the map of the pairs is linear, so items and targets are projected once each and then added. That
  is exact, and the pairs (B, L, 2D) are never made;
- padding neither is attended to nor read: its outputs are zeros. A history of padding alone is the
  exception inside the encoder, where its last place attends to itself, for softmax needs one.

Letters: B batch, L history, n items of the batch, C width of the multimodal vector, E embedding
width, D = 3E item width, W width of the encoder, P last positions, X width of the cross layers,
F numbers of a row, M width of their map.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctr.models.base import Clicks, CTRModel, ItemTable, initialise
from ctr.models.item_vector import ItemEmbedding, neighbors_in_history
from ctr.models.layers import Dropout, tower
from ctr.models.numbers import Numbers


@dataclass(frozen=True)
class TransformerDCNConfig:
    """Sizes of the model."""

    items: int
    """N, padding not counted."""
    tags: int
    """Distinct tags, padding counted."""
    levels: int = 11
    content_dim: int = 128
    embedding_dim: int = 128
    layers: int = 2
    heads: int = 4
    width: int = 256
    feedforward: int = 512
    last: int = 16
    """P: positions that are read one by one."""
    cross_layers: int = 3
    tower: Sequence[int] = (1024, 512, 256)
    encoder_dropout: float = 0.2
    dropout: float = 0.1
    """Of the tower."""
    neighbors: bool = False
    """Whether the target's neighbours in the history are read as well."""
    numbers: int = 0
    """F: what else is known of a row."""
    numbers_dim: int = 64
    """M: width of the map by which the cross layers and the tower read it."""

    @property
    def item_dim(self) -> int:
        return 3 * self.embedding_dim

    @property
    def cross_dim(self) -> int:
        interest = (self.last + 1) * self.width
        more = self.numbers_dim if self.numbers else 0
        return (2 + self.neighbors) * self.embedding_dim + self.item_dim + interest + more


class PairEncoder(nn.Module):
    """The transformer over the pairs [h_i | t]: its last outputs, and their maximum."""

    def __init__(self, config: TransformerDCNConfig) -> None:
        super().__init__()
        self.last = config.last
        self.of_item = nn.Linear(config.item_dim, config.width)
        self.of_target = nn.Linear(config.item_dim, config.width, bias=False)
        layer = nn.TransformerEncoderLayer(
            config.width, config.heads, config.feedforward, dropout=0.0, batch_first=True
        )
        for place in ("dropout", "dropout1", "dropout2"):  # not on the attention's weights
            layer.register_module(place, Dropout(config.encoder_dropout))
        # Nested tensors would do without padding, but not in training, and are a prototype.
        self.encoder = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)

    def forward(self, target: Tensor, history: Tensor, table: Tensor) -> Tensor:
        """(B, (P + 1) W), zeros where there is padding.

        `target` is (B,) and `history` (B, L), 0 for padding: rows of `table` (n, D).
        """
        real = history > 0  # (B, L)
        by_item = F.embedding(history, self.of_item(table))  # (B, L, W)
        by_target = self.of_target(F.embedding(target, table))  # (B, W)
        hidden = real.logical_not()  # (B, L)
        hidden[:, -1] &= real.any(1)
        x = self.encoder(by_item + by_target.unsqueeze(1), src_key_padding_mask=hidden)  # (B, L, W)
        padding = real.logical_not().unsqueeze(2)  # (B, L, 1)
        greatest = x.masked_fill(padding, -torch.inf).amax(1)  # (B, W)
        greatest = greatest.masked_fill(padding.all(1), 0)  # (B, W)
        last = x.masked_fill(padding, 0)[:, -self.last :]  # (B, min(L, P), W)
        last = F.pad(last, (0, 0, self.last - last.shape[1], 0))  # (B, P, W)
        return torch.cat([last.flatten(1), greatest], dim=1)


class Cross(nn.Module):
    """DCNv2's layers: x is x0 * (W x + b) + x, from x = x0 on."""

    def __init__(self, dim: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(dim, dim) for _ in range(layers)])

    def forward(self, x0: Tensor) -> Tensor:
        """(B, X) from (B, X)."""
        x = x0
        for layer in self.layers:
            x = torch.addcmul(x, x0, layer(x).to(x0.dtype))  # (B, X)
        return x


class DCN(nn.Module):
    """Cross layers beside a tower, and a linear read-out of both."""

    def __init__(self, config: TransformerDCNConfig) -> None:
        super().__init__()
        self.cross = Cross(config.cross_dim, config.cross_layers)
        self.tower = tower(config.cross_dim, config.tower, config.dropout)
        self.out = nn.Linear(config.cross_dim + config.tower[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B,) from (B, X)."""
        return self.out(torch.cat([self.cross(x), self.tower(x)], dim=1)).squeeze(1)  # (B,)


class TransformerDCN(CTRModel):
    """Logits of a click on `target` after `history`."""

    def __init__(self, config: TransformerDCNConfig) -> None:
        super().__init__()
        embedding_dim = config.embedding_dim
        self.item = ItemEmbedding(config.items, config.tags, config.content_dim, embedding_dim)
        self.likes_level = nn.Embedding(config.levels, embedding_dim)
        self.views_level = nn.Embedding(config.levels, embedding_dim)
        self.neighbors = (
            nn.Linear(config.content_dim + 1, embedding_dim, bias=False)
            if config.neighbors
            else None
        )
        self.numbers = Numbers(config.numbers, config.numbers_dim) if config.numbers else None
        self.pairs = PairEncoder(config)
        self.dcn = DCN(config)
        self.apply(initialise)

    def forward(self, clicks: Clicks, items: ItemTable, table: Tensor | None = None) -> Tensor:
        history, target, table = self.composed(clicks, items, table)  # (B, L), (B,), (n, D)
        parts = [
            self.likes_level(clicks.likes_level),  # (B, E)
            self.views_level(clicks.views_level),  # (B, E)
            F.embedding(target, table),  # (B, D)
            self.pairs(target, history, table),  # (B, (P + 1) W)
        ]
        if self.neighbors is not None:
            near = neighbors_in_history(clicks.history, clicks.target, items)  # (B, C + 1)
            parts.append(self.neighbors(near))  # (B, E)
        if self.numbers is not None:
            parts.append(self.numbers(clicks.numbers))  # (B, M)
        return self.dcn(torch.cat(parts, dim=1))  # (B,)

    def item_table(self, items: ItemTable) -> Tensor:
        return self.item(items.id, items.tags, items.content)

    def fixed_parts(self) -> list[nn.Module]:
        return [self.dcn]

    def embedding_parameters(self) -> list[nn.Parameter]:
        """Every embedding table, and the multimodal linear map."""
        return [*super().embedding_parameters(), self.item.content.get_parameter("weight")]
