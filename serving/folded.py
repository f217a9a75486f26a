"""QIN for one history and any candidates: what does not depend on these is computed once.

All of it is exact but for rounding:
- an item's vector is composed when the model is loaded; W_q^T W_k is one matrix, as in training;
- so the history is read once: its keys are that matrix times its vectors, and a candidate's scores
  are one product with them;
- W_v and W_o, and of QNN's first layer the columns that read ASTA's output, come after a weighted
  sum of the history, so they are applied to its few vectors and not to each candidate's sum;
- those columns of the first layer that read the candidate's own vector and its levels are a row of
  a table, an item and a level each;
- batch norm in evaluation is a scale, which goes into the layer's weights, and a shift.

Letters: N items, L history, C candidates, E embedding width, D = 3E item width, X width of the QNN,
K neighbours, c width of the multimodal vector, F numbers of a row, M width of their map.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctr.models.base import ItemTable
from ctr.models.layers import BatchNorm
from ctr.models.numbers import Numbers
from ctr.models.qin import QIN, QuadraticLayer


class History(NamedTuple):
    """A history as it is read by every candidate."""

    held: Tensor
    """(N + 1,): 1 for its items, else 0; padding does not matter."""
    keys: Tensor
    """(D, L)"""
    values: Tensor
    """(L, D)"""
    gates: Tensor
    """(L, X): what QNN's first layer makes of the values."""


class FoldedLayer(nn.Module):
    """x + PReLU(x * (W x + b) + s), with batch norm's scale in W and b, and its shift s."""

    weight: Tensor
    bias: Tensor
    shift: Tensor
    slope: Tensor

    def __init__(self, layer: QuadraticLayer) -> None:
        super().__init__()
        weight, bias = layer.summed_rows()  # (X, X), (X,)
        scale, shift = scale_and_shift(layer.norm)
        self.register_buffer("weight", scale[:, None] * weight)
        self.register_buffer("bias", scale * bias)
        self.register_buffer("shift", shift)
        self.register_buffer("slope", layer.activation.weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        """(C, X) from (C, X)."""
        return self.gated(x, F.linear(x, self.weight, self.bias))

    def gated(self, x: Tensor, gates: Tensor) -> Tensor:
        """Likewise of `gates`, W x + b."""
        return F.prelu(torch.addcmul(self.shift, x, gates), self.slope).add_(x)


class FoldedQIN(nn.Module):
    """Logits of a click on each candidate after one history, of a trained QIN."""

    table: Tensor
    """(N + 1, D): every item's vector."""
    likes: Tensor
    """(levels, E): their embeddings; and those of the views."""
    views: Tensor
    fold: Tensor
    """(D, D): W_q^T W_k, scaled: what makes keys of vectors."""
    unfold: Tensor
    """(D, D): W_v^T W_o^T."""
    near: Tensor
    """int (N + 1, K), and how near they are; with the vectors (N + 1, c)."""
    cosine: Tensor
    content: Tensor
    likes_gates: Tensor
    """(levels, X): what QNN's first layer makes of a level; and of a vector, of the values and of
    what else it reads."""
    views_gates: Tensor
    item_gates: Tensor
    unfold_gates: Tensor
    rest_gates: Tensor
    out: Tensor
    """(X,), and the bias (1,)."""
    out_bias: Tensor
    neighbors: nn.Linear | None
    numbers: Numbers | None

    def __init__(self, model: QIN, items: ItemTable) -> None:
        super().__init__()
        with torch.no_grad():
            self._fold(model.eval(), items)

    def _fold(self, model: QIN, items: ItemTable) -> None:
        asta = model.asta
        table = model.item_table(items)  # (N + 1, D)
        level, dim = model.likes_level.embedding_dim, table.shape[1]
        self.register_buffer("table", table)
        self.register_buffer("likes", model.likes_level.weight.detach())
        self.register_buffer("views", model.views_level.weight.detach())
        self.register_buffer("fold", asta.query.weight.T @ asta.key.weight * asta.scale)
        unfold = asta.value.weight.T @ asta.out.weight.T  # (D, D)
        self.register_buffer("unfold", unfold)
        self.neighbors = model.neighbors
        self.numbers = model.numbers
        self.register_buffer("near", items.neighbors)
        self.register_buffer("cosine", items.cosine)
        self.register_buffer("content", items.content)
        layers = [layer for layer in model.qnn.layers if isinstance(layer, QuadraticLayer)]
        self.first, *others = map(FoldedLayer, layers)
        self.others = nn.ModuleList(others)
        weight = self.first.weight
        read = [level, level, dim, dim]
        likes, views, own, interest, rest = weight.split(
            [*read, weight.shape[1] - sum(read)], dim=1
        )
        self.register_buffer("likes_gates", self.likes @ likes.T)  # (levels, X)
        self.register_buffer("views_gates", self.views @ views.T)
        self.register_buffer(
            "item_gates", table @ (own + interest).T + self.first.bias
        )  # (N + 1, X)
        self.register_buffer("unfold_gates", unfold @ interest.T)  # (D, X)
        self.register_buffer("rest_gates", rest.T.contiguous())  # of neighbours and numbers
        self.register_buffer("out", model.qnn.out.weight.detach()[0].clone())
        self.register_buffer("out_bias", model.qnn.out.bias.detach().clone())

    def read(self, items: Tensor) -> History:
        """Of a history, int (L,), the youngest last."""
        vectors = self.table[items]  # (L, D)
        keys = self.fold @ vectors.T  # (D, L): a candidate's vector times it are its scores
        held = torch.zeros_like(self.table[:, 0]).index_fill(0, items, 1)
        return History(held, keys, vectors @ self.unfold, vectors @ self.unfold_gates)

    def forward(
        self, history: Tensor, candidates: Tensor, likes: Tensor, views: Tensor, numbers: Tensor
    ) -> Tensor:
        """(C,): `history` is int (L,), the next three int (C,), `numbers` float (C, F)."""
        return self.score(self.read(history), candidates, likes, views, numbers)

    def score(
        self, history: History, candidates: Tensor, likes: Tensor, views: Tensor, numbers: Tensor
    ) -> Tensor:
        """Likewise of a history that was read."""
        own = self.table[candidates]  # (C, D)
        weight = F.relu(own @ history.keys)  # (C, L)
        rest = self.rest(history, candidates, numbers)  # (C, X - 2E - 2D)
        interest = torch.addmm(own, weight, history.values)  # (C, D)
        x = torch.cat([self.likes[likes], self.views[views], own, interest, *rest], dim=1)  # (C, X)
        gates = self.item_gates[candidates].addmm_(weight, history.gates)  # (C, X)
        gates.add_(self.likes_gates[likes]).add_(self.views_gates[views])
        if rest:
            gates.addmm_(torch.cat(rest, dim=1), self.rest_gates)
        x = self.first.gated(x, gates)
        for layer in self.others:
            x = layer(x)
        return x @ self.out + self.out_bias

    def rest(self, history: History, candidates: Tensor, numbers: Tensor) -> list[Tensor]:
        """What QNN reads besides: the candidate's neighbours in the history, and its numbers."""
        parts = []
        if self.neighbors is not None:
            parts.append(self.neighbors(self.neighbors_in(history.held, candidates)))  # (C, E)
        if self.numbers is not None:
            parts.append(self.numbers(numbers))  # (C, M)
        return parts

    def neighbors_in(self, held: Tensor, candidates: Tensor) -> Tensor:
        """(C, c + 1), as `ctr/models/item_vector.py` has it."""
        near = self.near[candidates]  # (C, K)
        found = held[near] * (near > 0)  # (C, K)
        weight = found / found.sum(1, keepdim=True).clamp(min=1)  # (C, K)
        content = F.embedding_bag(near, self.content, per_sample_weights=weight, mode="sum")
        cosine = (weight * self.cosine[candidates]).sum(1, keepdim=True)  # (C, 1)
        return torch.cat([content, cosine], dim=1)


def scale_and_shift(norm: BatchNorm) -> tuple[Tensor, Tensor]:
    """Of batch norm in evaluation, (X,) both."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale
