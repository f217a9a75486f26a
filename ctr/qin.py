"""QIN: quadratic interest network for multimodal click-through-rate prediction (arXiv 2504.17699).

Notable in it:
- an item is [id | mean of its tags | frozen multimodal vector through a linear map];
- ASTA reads the history by ReLU scores without softmax, so an item that does not fit adds nothing;
- QNN multiplies its input by R linear maps of itself, which doubles the order layer by layer;
- nothing non-linear stands before ASTA's dot product, so W_k folds into the query and W_v comes
  after the sum. That is exact, and no tensor of size (B, L, A) is ever made.

Letters: B batch, L history, N items, T tags an item, C width of the multimodal vector,
K neighbours, E embedding width, D = 3E item width, A attention width, X width of the QNN,
R rows of a QNN layer.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class QINConfig:
    """Sizes of the model; the defaults are the published ones."""

    items: int
    """N, padding not counted."""
    tags: int
    """Distinct tags, padding counted."""
    levels: int = 11
    content_dim: int = 128
    embedding_dim: int = 128
    attention_dim: int = 768
    layers: int = 4
    rows: int = 4
    dropout: float = 0.1
    neighbors: bool = False
    """Whether the QNN also reads the target's neighbours in the history (not in the paper)."""

    @property
    def item_dim(self) -> int:
        return 3 * self.embedding_dim

    @property
    def qnn_dim(self) -> int:
        return (2 + self.neighbors) * self.embedding_dim + 2 * self.item_dim


class ItemTable(NamedTuple):
    """What is known of every item; row i is item i, row 0 padding and all zeros."""

    id: Tensor
    """int (N + 1,): the item's row of the id embedding; 0 hides the id."""
    tags: Tensor
    """int (N + 1, T), 0 where there is no tag."""
    content: Tensor
    """float (N + 1, C): the frozen multimodal vector."""
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


class ItemEmbedding(nn.Module):
    """The item vector h = [id | mean of tags | W_m content]."""

    def __init__(self, config: QINConfig) -> None:
        super().__init__()
        self.id = nn.Embedding(config.items + 1, config.embedding_dim, padding_idx=0)
        self.tag = nn.Embedding(config.tags, config.embedding_dim, padding_idx=0)
        self.content = nn.Linear(config.content_dim, config.embedding_dim, bias=False)

    def forward(self, id: Tensor, tags: Tensor, content: Tensor) -> Tensor:
        """Vectors (n, D) of n items: their id rows (n,), tags (n, T) and content (n, C)."""
        tag_count = (tags > 0).sum(1, keepdim=True).clamp(min=1)  # (n, 1)
        tag_mean = self.tag(tags).sum(1) / tag_count  # (n, E)
        return torch.cat([self.id(id), tag_mean, self.content(content)], dim=1)  # (n, D)


class ASTA(nn.Module):
    """Adaptive sparse target attention: out = W_o sum_i ReLU(m_i q.k_i / sqrt(A)) v_i + t."""

    def __init__(self, dim: int, attention_dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(dim, attention_dim, bias=False)
        self.key = nn.Linear(dim, attention_dim, bias=False)
        self.value = nn.Linear(dim, attention_dim, bias=False)
        self.out = nn.Linear(attention_dim, dim, bias=False)
        self.scale = attention_dim**-0.5

    def forward(self, target: Tensor, history: Tensor, mask: Tensor) -> Tensor:
        """(B, D) from target (B, D), history (B, L, D) and mask (B, L), True for a real item."""
        folded = self.query(target) @ self.key.weight * self.scale  # (B, D): W_k^T W_q t
        scores = torch.bmm(history, folded.unsqueeze(2)).squeeze(2)  # (B, L)
        scores = F.relu(scores) * mask  # (B, L)
        pooled = torch.bmm(scores.unsqueeze(1), history).squeeze(1)  # (B, D)
        return self.out(self.value(pooled)) + target  # (B, D)


class QuadraticLayer(nn.Module):
    """x + Dropout(PReLU(BatchNorm(y))) with y_d = sum_r x_d g_rd and g = Dropout(W x + b)."""

    def __init__(self, dim: int, rows: int, dropout: float) -> None:
        super().__init__()
        self.rows = rows
        self.linear = nn.Linear(dim, rows * dim)
        self.norm = nn.BatchNorm1d(dim)
        self.activation = nn.PReLU()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, X) from (B, X)."""
        gates = self.dropout(self.linear(x)).unflatten(1, (self.rows, -1))  # (B, R, X)
        y = x * gates.sum(1)  # (B, X): the Khatri-Rao product with x, summed over rows
        return x + self.dropout(self.activation(self.norm(y)))  # (B, X)


class QNN(nn.Module):
    """Quadratic neural network and its linear read-out."""

    def __init__(self, config: QINConfig) -> None:
        super().__init__()
        dim = config.qnn_dim
        self.layers = nn.Sequential(
            *(QuadraticLayer(dim, config.rows, config.dropout) for _ in range(config.layers))
        )
        self.out = nn.Linear(dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B,) from (B, X)."""
        return self.out(self.layers(x)).squeeze(1)  # (B,)


class QIN(nn.Module):
    """Logits of a click on `target` after `history`."""

    def __init__(self, config: QINConfig) -> None:
        super().__init__()
        self.item = ItemEmbedding(config)
        self.likes_level = nn.Embedding(config.levels, config.embedding_dim)
        self.views_level = nn.Embedding(config.levels, config.embedding_dim)
        self.neighbors = (
            nn.Linear(config.content_dim + 1, config.embedding_dim, bias=False)
            if config.neighbors
            else None
        )
        self.asta = ASTA(config.item_dim, config.attention_dim)
        self.qnn = QNN(config)
        self.apply(initialise)

    def forward(self, clicks: Clicks, items: ItemTable) -> Tensor:
        """Logits (B,)."""
        history, target = self.item_vectors(clicks.history, clicks.target, items)
        interest = self.asta(target, history, clicks.history > 0)  # (B, D)
        parts = [
            self.likes_level(clicks.likes_level),  # (B, E)
            self.views_level(clicks.views_level),  # (B, E)
            target,  # (B, D)
            interest,  # (B, D)
        ]
        if self.neighbors is not None:
            near = neighbors_in_history(clicks.history, clicks.target, items)  # (B, C + 1)
            parts.append(self.neighbors(near))  # (B, E)
        return self.qnn(torch.cat(parts, dim=1))  # (B,)

    def item_vectors(
        self, history: Tensor, target: Tensor, items: ItemTable
    ) -> tuple[Tensor, Tensor]:
        """Vectors (B, L, D) and (B, D). Each item's is composed once, however often it occurs."""
        positions = history.numel() + target.numel()
        if positions < len(items.id):
            ids, place = torch.unique(torch.cat([history.flatten(), target]), return_inverse=True)
            history, target = place[: history.numel()].view_as(history), place[history.numel() :]
            items = ItemTable(*(column[ids] for column in items))
        table = self.item(items.id, items.tags, items.content)  # (n, D)
        return F.embedding(history, table), F.embedding(target, table)

    def regularised(self) -> list[nn.Parameter]:
        """What the L2 penalty covers: every embedding table and the multimodal linear map."""
        tables = [module for module in self.modules() if isinstance(module, nn.Embedding)]
        return [module.get_parameter("weight") for module in (*tables, self.item.content)]


def neighbors_in_history(history: Tensor, target: Tensor, items: ItemTable) -> Tensor:
    """(B, C + 1): mean content and mean cosine of the target's neighbours that `history` holds.

    Zeros where it holds none.
    """
    near = items.neighbors[target]  # (B, K)
    found = (near.unsqueeze(2) == history.unsqueeze(1)).any(2) & (near > 0)  # (B, K)
    weight = found.to(items.content.dtype)  # (B, K)
    weight = weight / weight.sum(1, keepdim=True).clamp(min=1)  # (B, K)
    content = torch.bmm(weight.unsqueeze(1), items.content[near]).squeeze(1)  # (B, C)
    cosine = (weight * items.cosine[target]).sum(1, keepdim=True)  # (B, 1)
    return torch.cat([content, cosine], dim=1)


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
