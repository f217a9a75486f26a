"""The computations in which QIN spends its time and memory, each exact, with little kept.

All are a few plain lines of torch, which is what a GPU runs. On a CPU those lines wait for memory,
to which they write (B, L, D) and (B, R X) tensors and read them again several times over. So there
each has a forward and a backward pass of its own, which never make them.

Letters: B batch, L history, n rows of the item table, T tags an item, V tags there are, E embedding
width, D item width, X width of the QNN, R rows of a QNN layer.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ctr.models.layers import BatchNorm, Dropout, Masks, zero_
from ctr.models.sparse import sampled_product, sparse, starts_of, transposed_product

CHUNK = 512
"""Batch rows that the CPU holds of a (B, R X) tensor; a multiple of `layers.LANES`."""

COLUMNS = 256
"""Columns of a (B, X) tensor that the CPU normalises at a time."""


def has_own_pass(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def mean_of_tags(tags: Tensor, weight: Tensor) -> Tensor:
    """Mean over each item's tags, (n, E); zeros where it has none.

    `tags` is int (n, T) with 0 for none: rows of `weight` (V, E), of which the first is zero.
    """
    if has_own_pass(weight):
        return _TagMean.apply(tags, weight)
    return F.embedding_bag(tags, weight, mode="mean", padding_idx=0)


class _TagMean(Function):
    """torch's own looks for padding place by place, and sums the gradient likewise."""

    @staticmethod
    def forward(ctx: Any, tags: Tensor, weight: Tensor) -> Tensor:
        share = 1 / (tags > 0).sum(1, keepdim=True).clamp(min=1).to(weight.dtype)  # (n, 1)
        ctx.save_for_backward(tags, share)
        ctx.rows = len(weight)
        return F.embedding_bag(tags, weight, mode="sum").mul_(share)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        tags, share = ctx.saved_tensors
        starts = torch.arange(0, tags.numel() + 1, tags.shape[1], dtype=torch.int32)
        ones = gradient.new_ones(tags.numel())
        shared = gradient * share  # (n, E)
        weight_gradient = transposed_product(starts, tags.flatten(), ones, ctx.rows, shared)
        weight_gradient[0] = 0
        return None, weight_gradient


def relu_attention(
    target: Tensor, history: Tensor, table: Tensor, fold: Tensor
) -> tuple[Tensor, Tensor]:
    """t and sum_i ReLU(q.h_i) h_i over the real items of a history, with q = t fold; both (B, D).

    `target` is int (B,) and `history` int (B, L) with 0 for padding: rows of `table` (n, D). `fold`
    is (D, D).
    """
    fits_pattern = history.numel() <= len(target) * len(table)  # no more entries than cells
    if has_own_pass(table) and fits_pattern:
        return _SparseAttention.apply(target, history, table, fold.to(table.dtype))
    return plain_attention(target, history, table, fold)


def plain_attention(
    target: Tensor, history: Tensor, table: Tensor, fold: Tensor
) -> tuple[Tensor, Tensor]:
    vector = F.embedding(target, table)  # (B, D)
    query = vector @ fold  # (B, D)
    vectors = F.embedding(history, table.to(query.dtype))  # (B, L, D)
    scores = torch.bmm(vectors, query.unsqueeze(2)).squeeze(2)  # (B, L)
    scores = F.relu(scores) * (history > 0)  # (B, L)
    return vector, torch.bmm(scores.unsqueeze(1), vectors).squeeze(1)


class _SparseAttention(Function):
    """The scores as a sparse matrix S (B, n), without padding and zeros: pooled = S H.

    P being pooled's gradient and G = P H^T at the places of S, the query's gradient is G H and the
    table's S^T P + G^T Q, to which the target's is added in its rows.
    """

    @staticmethod
    def forward(
        ctx: Any, target: Tensor, history: Tensor, table: Tensor, fold: Tensor
    ) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", enabled=False):
            vector = table.index_select(0, target)
            query = vector @ fold
            row, place = (history > 0).nonzero(as_tuple=True)
            row, item = row.int(), history[row, place].int()
            scores = sampled_product(starts_of(row, len(query)), item, query, table)
            kept = ~(scores <= 0)  # NaN is kept, and so is seen
            starts, item, scores = starts_of(row[kept], len(query)), item[kept], scores[kept]
            ctx.save_for_backward(target, starts, item, scores, vector, query, table, fold)
            return vector, sparse(starts, item, scores, len(table)) @ table

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, vector_gradient: Tensor, gradient: Tensor
    ) -> tuple[None, None, Tensor, Tensor]:
        target, starts, item, scores, vector, query, table, fold = ctx.saved_tensors
        score_gradient = sampled_product(starts, item, gradient, table)
        query_gradient = sparse(starts, item, score_gradient, len(table)) @ table
        table_gradient = transposed_product(starts, item, scores, len(table), gradient)
        table_gradient += transposed_product(starts, item, score_gradient, len(table), query)
        vector_gradient = torch.addmm(vector_gradient, query_gradient, fold.T)
        table_gradient.index_add_(0, target, vector_gradient)
        return None, None, table_gradient, vector.T @ query_gradient


def gate_sum(x: Tensor, weight: Tensor, bias: Tensor, rows: int, dropout: Dropout) -> Tensor:
    """sum_r Dropout(W_r x + b_r), (B, X), each row with a mask of its own.

    `x` is (B, X), `weight` (R X, X) the rows W_r below one another, `bias` (R X,).
    """
    if has_own_pass(x):
        return _GateSum.apply(x, weight, bias, rows, dropout)
    return plain_gate_sum(x, weight, bias, rows, dropout)


def plain_gate_sum(
    x: Tensor, weight: Tensor, bias: Tensor, rows: int, dropout: nn.Module
) -> Tensor:
    return dropout(F.linear(x, weight, bias)).unflatten(1, (rows, -1)).sum(1)


class _GateSum(Function):
    """Products in autocast's precision, sums in that of the weights; the masks are drawn twice."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, rows: int, dropout: Dropout
    ) -> Tensor:
        autocast = torch.is_autocast_enabled("cpu")
        precision = torch.get_autocast_dtype("cpu") if autocast else weight.dtype
        masks = dropout.masks()
        out = torch.empty_like(x, dtype=weight.dtype)
        with torch.autocast("cpu", enabled=False):
            factor, addend = weight.to(precision).T, bias.to(precision)
            for part, dropped in _chunks(masks, x, rows):
                gates = zero_(torch.addmm(addend, x[part].to(precision), factor), dropped)
                torch.sum(gates.unflatten(1, (rows, -1)), 1, dtype=out.dtype, out=out[part])
        ctx.save_for_backward(x, weight)
        ctx.masks, ctx.rows, ctx.precision = masks, rows, precision
        return out.mul_(masks.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        factor = weight.to(ctx.precision)
        x_gradient, weight_gradient = torch.empty_like(x), torch.zeros_like(weight)
        bias_gradient = torch.zeros_like(weight[:, 0])
        for part, dropped in _chunks(ctx.masks.restarted(), x, ctx.rows):
            scaled = (gradient[part] * ctx.masks.scale).to(ctx.precision)
            gates = zero_(scaled.repeat(1, ctx.rows), dropped)
            x_gradient[part] = gates @ factor
            if ctx.precision == weight.dtype:
                weight_gradient.addmm_(gates.T, x[part])
            else:
                weight_gradient += gates.T @ x[part].to(ctx.precision)
            bias_gradient += gates.sum(0, dtype=weight.dtype)
        return x_gradient, weight_gradient, bias_gradient, None, None


def residual_unit(
    x: Tensor, gates: Tensor, norm: BatchNorm, activation: nn.PReLU, dropout: Dropout
) -> Tensor:
    """x + Dropout(PReLU(BatchNorm(x * gates))), (B, X)."""
    if has_own_pass(x) and norm.training and norm.world == 1:
        norm.get_buffer("num_batches_tracked").add_(1)
        return _ResidualUnit.apply(
            x, gates, norm.weight, norm.bias, activation.weight, norm, dropout
        )
    return x + dropout(activation(norm(x * gates)))


class _ResidualUnit(Function):
    """Keeps x, the gates and the batch's statistics; the rest is computed again, by columns."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gates: Tensor,
        weight: Tensor,
        bias: Tensor,
        slope: Tensor,
        norm: BatchNorm,
        dropout: Dropout,
    ) -> Tensor:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.momentum is not None
        ctx.masks = dropout.masks()
        dropped = ctx.masks.dropped(*x.shape)
        out, statistics = torch.empty_like(x), []
        with torch.autocast("cpu", enabled=False):
            for part in _columns(x):
                normed, mean, scale = torch.native_batch_norm(
                    x[:, part] * gates[:, part],
                    weight[part],
                    bias[part],
                    norm.running_mean[part],
                    norm.running_var[part],
                    True,
                    norm.momentum,
                    norm.eps,
                )
                unit = zero_(F.prelu(normed, slope), dropped[:, part])
                torch.add(x[:, part], unit, alpha=ctx.masks.scale, out=out[:, part])
                statistics.append((mean, scale))
        mean, scale = map(torch.cat, zip(*statistics, strict=True))
        ctx.save_for_backward(x, gates, mean, scale, weight, bias, slope)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, gates, mean, scale, weight, bias, slope = ctx.saved_tensors
        dropped = ctx.masks.restarted().dropped(*x.shape)
        x_gradient, gates_gradient = torch.empty_like(x), torch.empty_like(gates)
        weight_gradient, bias_gradient = torch.empty_like(weight), torch.empty_like(bias)
        slope_gradient = torch.zeros_like(slope)
        for part in _columns(x):
            centred = (x[:, part] * gates[:, part]).sub_(mean[part]).mul_(scale[part])
            normed = torch.addcmul(bias[part], centred, weight[part])
            unit = zero_(gradient[:, part] * ctx.masks.scale, dropped[:, part])
            sloped = normed <= 0
            slope_gradient += normed.mul_(unit).masked_fill_(~sloped, 0).sum()
            unit = torch.where(sloped, unit * slope, unit)
            bias_gradient[part], weight_gradient[part] = unit.sum(0), (unit * centred).sum(0)
            unit -= bias_gradient[part] / len(x)
            unit -= centred.mul_(weight_gradient[part] / len(x))
            unit *= weight[part] * scale[part]
            torch.addcmul(gradient[:, part], unit, gates[:, part], out=x_gradient[:, part])
            torch.mul(unit, x[:, part], out=gates_gradient[:, part])
        return (
            x_gradient,
            gates_gradient,
            weight_gradient,
            bias_gradient,
            slope_gradient,
            None,
            None,
        )


def _columns(x: Tensor) -> list[slice]:
    return [slice(start, start + COLUMNS) for start in range(0, x.shape[1], COLUMNS)]


def _chunks(masks: Masks, x: Tensor, rows: int) -> Iterator[tuple[slice, Tensor]]:
    """Places of CHUNK rows of x (B, X), and the masks of their gates, bool (<= CHUNK, R X)."""
    for start in range(0, len(x), CHUNK):
        part = slice(start, start + CHUNK)
        yield part, masks.dropped(len(x[part]), rows * x.shape[1])
