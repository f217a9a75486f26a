"""QIN as its authors published it, plainly: the model of `published`.

Everything is computed position by position, and keys and values are tensors of size (B, L, A).

Letters: B batch, L history, P = B (L + 1) positions, T tags an item, C width of the multimodal
vector, E embedding width, D = 3E item width, A attention width, X width of the QNN, R rows of a
QNN layer.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctr.models.qin import QINConfig


class Batch(NamedTuple):
    """Clicks with the features of every position: a sample's history, then its target."""

    item_id: Tensor
    """int64 (P,)"""
    item_tags: Tensor
    """int64 (P, T), 0 where there is no tag."""
    item_emb_d128: Tensor
    """float32 (P, C)"""
    likes_level: Tensor
    """int64 (B,)"""
    views_level: Tensor
    """int64 (B,)"""
    label: Tensor
    """float32 (B,)"""
    mask: Tensor
    """bool (B, L), True for a real item."""

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(column.to(device) for column in self))


class ItemEmbedding(nn.Module):
    """The item vector h = [id | mean of tags | W_m content], position by position."""

    def __init__(self, config: QINConfig) -> None:
        super().__init__()
        self.id = nn.Embedding(config.items + 1, config.embedding_dim, padding_idx=0)
        self.tag = nn.Embedding(config.tags, config.embedding_dim, padding_idx=0)
        self.content = nn.Linear(config.content_dim, config.embedding_dim, bias=False)

    def forward(self, id: Tensor, tags: Tensor, content: Tensor) -> Tensor:
        """(P, D) from ids (P,), tags (P, T) and content (P, C)."""
        count = (tags > 0).sum(1, keepdim=True).clamp(min=1)  # (P, 1)
        tag_mean = self.tag(tags).sum(1) / count  # (P, E), through (P, T, E)
        return torch.cat([self.id(id), tag_mean, self.content(content)], dim=1)  # (P, D)


class TargetAttention(nn.Module):
    """ASTA: out = W_o sum_i s_i v_i + t with s_i = m_i ReLU(q.k_i / sqrt(A))."""

    def __init__(self, dim: int, attention_dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(dim, attention_dim, bias=False)
        self.key = nn.Linear(dim, attention_dim, bias=False)
        self.value = nn.Linear(dim, attention_dim, bias=False)
        self.out = nn.Linear(attention_dim, dim, bias=False)
        self.scale = attention_dim**-0.5

    def forward(self, target: Tensor, history: Tensor, mask: Tensor) -> Tensor:
        """(B, D) from target (B, D), history (B, L, D) and mask (B, L)."""
        query = self.query(target).unsqueeze(2)  # (B, A, 1)
        key, value = self.key(history), self.value(history)  # (B, L, A)
        scores = F.relu(torch.bmm(key, query).squeeze(2) * self.scale) * mask  # (B, L)
        pooled = torch.bmm(scores.unsqueeze(1), value).squeeze(1)  # (B, A)
        return self.out(pooled) + target  # (B, D)


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
        y = (x.unsqueeze(1) * gates).sum(1)  # (B, X)
        return x + self.dropout(self.activation(self.norm(y)))  # (B, X)


class QNN(nn.Module):
    """Quadratic layers and a linear read-out."""

    def __init__(self, dim: int, config: QINConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(QuadraticLayer(dim, config.rows, config.dropout) for _ in range(config.layers))
        )
        self.out = nn.Linear(dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B,) from (B, X)."""
        return self.out(self.layers(x)).squeeze(1)  # (B,)


class PublishedQIN(nn.Module):
    """Logits of a click; its parameters are named as those of `ctr.models.qin.QIN`."""

    def __init__(self, config: QINConfig) -> None:
        super().__init__()
        item_dim = 3 * config.embedding_dim
        self.item = ItemEmbedding(config)
        self.likes_level = nn.Embedding(config.levels, config.embedding_dim)
        self.views_level = nn.Embedding(config.levels, config.embedding_dim)
        self.asta = TargetAttention(item_dim, config.attention_dim)
        self.qnn = QNN(2 * config.embedding_dim + 2 * item_dim, config)
        self.apply(initialise)

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B,)."""
        items = self.item(batch.item_id, batch.item_tags, batch.item_emb_d128)  # (P, D)
        items = items.unflatten(0, (len(batch.label), -1))  # (B, L + 1, D)
        target, history = items[:, -1], items[:, :-1]  # (B, D), (B, L, D)
        interest = self.asta(target, history, batch.mask)  # (B, D)
        likes = self.likes_level(batch.likes_level)  # (B, E)
        views = self.views_level(batch.views_level)  # (B, E)
        return self.qnn(torch.cat([likes, views, target, interest], dim=1))  # (B,)

    def regularised(self) -> list[nn.Parameter]:
        """Every embedding table and the multimodal linear map."""
        tables = (self.item.id, self.item.tag, self.likes_level, self.views_level)
        return [module.get_parameter("weight") for module in (*tables, self.item.content)]


def initialise(module: nn.Module) -> None:
    """Embeddings N(0, 1e-4) with a zero padding row; linear maps Xavier-normal, biases zero."""
    if isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=1e-4)
        if module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx])
    elif isinstance(module, nn.Linear):
        nn.init.xavier_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
