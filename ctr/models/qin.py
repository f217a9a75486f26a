"""QIN: quadratic interest network for multimodal click-through-rate prediction (arXiv 2504.17699).

Notable in it:
- an item is [id | mean of its tags | frozen multimodal vector through a linear map];
- ASTA reads the history by ReLU scores without softmax, so an item that does not fit adds nothing;
- QNN multiplies its input by R linear maps of itself, which doubles the order layer by layer;
- nothing non-linear stands before ASTA's dot product, so W_k folds into the query and W_v comes
  after the sum. That is exact, and no tensor of size (B, L, A) is ever made;
- without dropout the R maps of a QNN layer are one, their sum. That is exact too.

Letters: B batch, L history, N items, T tags an item, C width of the multimodal vector,
K neighbours, E embedding width, D = 3E item width, A attention width, X width of the QNN,
R rows of a QNN layer, F numbers of a row, W width of their map.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctr.models.base import Clicks, CTRModel, ItemTable, initialise
from ctr.models.item_vector import ItemEmbedding, neighbors_in_history
from ctr.models.kernels import gate_sum, relu_attention, residual_unit
from ctr.models.layers import BatchNorm, Dropout
from ctr.models.numbers import Numbers


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
    numbers: int = 0
    """F: what else is known of a row (not in the paper)."""
    numbers_dim: int = 64
    """Width of the map by which the QNN reads it."""
    collapsed: bool = False
    """One dropout mask for the sum of a QNN layer's rows, not one for each (not in the paper)."""

    @property
    def item_dim(self) -> int:
        return 3 * self.embedding_dim

    @property
    def qnn_dim(self) -> int:
        more = self.numbers_dim if self.numbers else 0
        return (2 + self.neighbors) * self.embedding_dim + 2 * self.item_dim + more


class ASTA(nn.Module):
    """Adaptive sparse target attention: out = W_o sum_i ReLU(m_i q.k_i / sqrt(A)) v_i + t."""

    def __init__(self, dim: int, attention_dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(dim, attention_dim, bias=False)
        self.key = nn.Linear(dim, attention_dim, bias=False)
        self.value = nn.Linear(dim, attention_dim, bias=False)
        self.out = nn.Linear(attention_dim, dim, bias=False)
        self.scale = attention_dim**-0.5

    def forward(self, target: Tensor, history: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """t and out, (B, D) both.

        `target` is (B,) and `history` (B, L), 0 for padding: rows of `table` (n, D).
        """
        fold = self.query.weight.T @ self.key.weight * self.scale  # (D, D): W_q^T W_k
        t, pooled = relu_attention(target, history, table, fold)  # (B, D) both: t, sum_i s_i h_i
        unfold = self.value.weight.T @ self.out.weight.T  # (D, D): W_v^T W_o^T
        return t, pooled @ unfold + t

    def weights(self, target: Tensor, history: Tensor, table: Tensor) -> Tensor:
        """The scores s_i = ReLU(m_i q.k_i / sqrt(A)), (B, L); arguments are those of `forward`."""
        query = self.query(F.embedding(target, table)) @ self.key.weight * self.scale  # (B, D)
        vectors = F.embedding(history, table)  # (B, L, D)
        scores = torch.bmm(vectors, query.unsqueeze(2)).squeeze(2)  # (B, L)
        return F.relu(scores) * (history > 0)  # (B, L)


class QuadraticLayer(nn.Module):
    """x + Dropout(PReLU(BatchNorm(y))) with y_d = sum_r x_d g_rd and g = Dropout(W x + b)."""

    def __init__(self, dim: int, rows: int, dropout: float, collapsed: bool = False) -> None:
        super().__init__()
        self.rows = rows
        self.collapsed = collapsed
        self.linear = nn.Linear(dim, rows * dim)
        self.norm = BatchNorm(dim)
        self.activation = nn.PReLU()
        self.dropout = Dropout(dropout)
        self.sum: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, X) from (B, X)."""
        gates = self.gates(x)  # (B, X); x * gates is the Khatri-Rao product, summed over rows
        return residual_unit(x, gates, self.norm, self.activation, self.dropout)  # (B, X)

    def gates(self, x: Tensor) -> Tensor:
        """sum_r g_r, (B, X)."""
        if self.training and self.dropout.p > 0 and not self.collapsed:
            return gate_sum(x, self.linear.weight, self.linear.bias, self.rows, self.dropout)
        weight, bias = self.sum or self.summed_rows()
        return self.dropout(F.linear(x, weight, bias))

    def summed_rows(self) -> tuple[Tensor, Tensor]:
        """sum_r W_r, (X, X), and sum_r b_r, (X,)."""
        weight = self.linear.weight.unflatten(0, (self.rows, -1))  # (R, X, X)
        bias = self.linear.bias.unflatten(0, (self.rows, -1))  # (R, X)
        return weight.sum(0), bias.sum(0)


class QNN(nn.Module):
    """Quadratic neural network and its linear read-out."""

    def __init__(self, config: QINConfig) -> None:
        super().__init__()
        dim = config.qnn_dim
        self.layers = nn.Sequential(
            *(
                QuadraticLayer(dim, config.rows, config.dropout, config.collapsed)
                for _ in range(config.layers)
            )
        )
        self.out = nn.Linear(dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B,) from (B, X)."""
        return self.out(self.layers(x)).squeeze(1)  # (B,)


class QIN(CTRModel):
    """Logits of a click on `target` after `history`."""

    def __init__(self, config: QINConfig) -> None:
        super().__init__()
        self.item = ItemEmbedding(
            config.items, config.tags, config.content_dim, config.embedding_dim
        )
        self.likes_level = nn.Embedding(config.levels, config.embedding_dim)
        self.views_level = nn.Embedding(config.levels, config.embedding_dim)
        self.neighbors = (
            nn.Linear(config.content_dim + 1, config.embedding_dim, bias=False)
            if config.neighbors
            else None
        )
        self.numbers = Numbers(config.numbers, config.numbers_dim) if config.numbers else None
        self.asta = ASTA(config.item_dim, config.attention_dim)
        self.qnn = QNN(config)
        self.apply(initialise)

    def forward(self, clicks: Clicks, items: ItemTable, table: Tensor | None = None) -> Tensor:
        history, target, table = self.composed(clicks, items, table)  # (B, L), (B,), (n, D)
        t, interest = self.asta(target, history, table)  # (B, D) both
        parts = [
            self.likes_level(clicks.likes_level),  # (B, E)
            self.views_level(clicks.views_level),  # (B, E)
            t,
            interest,
        ]
        if self.neighbors is not None:
            near = neighbors_in_history(clicks.history, clicks.target, items)  # (B, C + 1)
            parts.append(self.neighbors(near))  # (B, E)
        if self.numbers is not None:
            parts.append(self.numbers(clicks.numbers))  # (B, W)
        return self.qnn(torch.cat(parts, dim=1))  # (B,)

    def attention_weights(self, clicks: Clicks, items: ItemTable) -> Tensor:
        """ASTA's weight of every place of the history, (B, L); not normalised, often exactly 0."""
        history, target, table = self.composed(clicks, items, None)
        return self.asta.weights(target, history, table)

    def item_table(self, items: ItemTable) -> Tensor:
        return self.item(items.id, items.tags, items.content)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Evaluation mode, each layer's rows summed once; the weights must not change in it."""
        self.eval()
        layers = [module for module in self.modules() if isinstance(module, QuadraticLayer)]
        for layer in layers:
            layer.sum = layer.summed_rows()
        try:
            yield
        finally:
            for layer in layers:
                layer.sum = None

    def fixed_parts(self) -> list[nn.Module]:
        return [self.qnn]

    def embedding_parameters(self) -> list[nn.Parameter]:
        """Every embedding table, and the multimodal linear map."""
        return [*super().embedding_parameters(), self.item.content.get_parameter("weight")]
