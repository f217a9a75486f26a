"""ASTA's reading of a history as Triton kernels, beside `ctr.models.kernels.plain_attention`.

The plain lines write the history's vectors, (B, L, D), and on their way back the gradients of them.
Here neither is made: a program reads a row's vectors where they lie, scores and sums them, and what
is padding is not read. The way back has two parts: by rows, the query's gradient and what each
place weighs; then by items, whose places lie together once they are sorted, the table's. Sums are
float32, in an order of their own but always the same, so that bytes repeat.

A candidate (`benchmarks/gpu/candidates.py`): it moves to `ctr/models/` if a GPU finds it faster.
Needs Triton, which comes with torch on Linux; without a GPU TRITON_INTERPRET=1 runs it slowly.

Letters: B batch, L history, n rows of the item table, D item width.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

PLACES = 16
"""Of a history, or of an item, that a program reads at a time."""


def kernel_attention(
    target: Tensor, history: Tensor, table: Tensor, fold: Tensor
) -> tuple[Tensor, Tensor]:
    """As `ctr.models.kernels.relu_attention`."""
    vector = F.embedding(target, table)  # (B, D)
    query = vector @ fold  # (B, D), in autocast's precision
    return vector, _Pooled.apply(query, history, table)


class _Pooled(Function):
    """sum_i ReLU(q.h_i) h_i, (B, D), of queries (B, D); the table is read in their precision."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, history: Tensor, table: Tensor) -> Tensor:
        query, history = query.contiguous(), history.contiguous()
        vectors = table.to(query.dtype).contiguous()  # (n, D)
        out = torch.empty_like(query)
        pool[(len(query),)](query, history, vectors, out, history.shape[1], **sizes(query))
        ctx.save_for_backward(query, history, vectors)
        ctx.precision = table.dtype
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, Tensor]:
        query, history, vectors = ctx.saved_tensors
        gradient = gradient.contiguous()
        query_gradient = torch.empty_like(query)
        score, toward = (
            torch.empty(history.shape, dtype=torch.float32, device=query.device) for _ in range(2)
        )
        by_row = (query, history, vectors, gradient, query_gradient, score, toward)
        read_back[(len(query),)](*by_row, history.shape[1], **sizes(query))
        item, place = history.flatten().sort(stable=True)
        ids = torch.arange(len(vectors) + 1, device=item.device, dtype=item.dtype)
        starts = torch.searchsorted(item, ids)
        table_gradient = torch.empty(vectors.shape, dtype=ctx.precision, device=query.device)
        by_item = (query, gradient, score, toward, place, starts, table_gradient)
        sum_of_item[(len(vectors),)](*by_item, history.shape[1], **sizes(query))
        return query_gradient, None, table_gradient


def sizes(query: Tensor) -> dict[str, int]:
    """Of the kernels: D, the power of two that holds it, and the places read at a time."""
    dim = query.shape[1]
    return {"dim": dim, "width": triton.next_power_of_2(dim), "step": PLACES}


@triton.jit
def items_at(place, history, length):
    """int64: of places of one history, 0 behind its end."""
    return tl.load(history + place, mask=place < length, other=0).to(tl.int64)


@triton.jit
def vectors_of(item, vectors, column, dim: tl.constexpr):
    """float32 (items, width), 0 of padding and behind `dim`."""
    real = (item > 0)[:, None] & (column < dim)[None, :]
    at = item[:, None] * dim + column[None, :]
    return tl.load(vectors + at, mask=real, other=0.0).to(tl.float32)


@triton.jit
def pool(
    query,
    history,
    vectors,
    out,
    length,
    dim: tl.constexpr,
    width: tl.constexpr,
    step: tl.constexpr,
):
    """Of one row of the batch."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, width)
    inside = column < dim
    q = tl.load(query + row * dim + column, mask=inside, other=0.0).to(tl.float32)
    pooled = tl.zeros((width,), tl.float32)
    for start in range(0, length, step):
        place = start + tl.arange(0, step)
        item = items_at(place, history + row * length, length)
        if tl.max(item, 0) > 0:
            h = vectors_of(item, vectors, column, dim)
            score = tl.sum(h * q[None, :], 1)
            score = tl.where(score <= 0, 0.0, score)  # NaN is kept, and so is seen
            pooled += tl.sum(score[:, None] * h, 0)
    tl.store(out + row * dim + column, pooled.to(out.dtype.element_ty), mask=inside)


@triton.jit
def read_back(
    query,
    history,
    vectors,
    gradient,
    query_gradient,
    scores,
    towards,
    length,
    dim: tl.constexpr,
    width: tl.constexpr,
    step: tl.constexpr,
):
    """Of one row: its query's gradient, and of each of its places that is no padding s_i, by which
    the gradient counts in the item's, and the gradient of s_i, by which the query does."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, width)
    inside = column < dim
    q = tl.load(query + row * dim + column, mask=inside, other=0.0).to(tl.float32)
    g = tl.load(gradient + row * dim + column, mask=inside, other=0.0).to(tl.float32)
    summed = tl.zeros((width,), tl.float32)
    for start in range(0, length, step):
        place = start + tl.arange(0, step)
        item = items_at(place, history + row * length, length)
        if tl.max(item, 0) > 0:
            h = vectors_of(item, vectors, column, dim)
            score = tl.sum(h * q[None, :], 1)
            toward = tl.where(score <= 0, 0.0, tl.sum(h * g[None, :], 1))
            summed += tl.sum(toward[:, None] * h, 0)
            score = tl.where(score <= 0, 0.0, score)
            tl.store(scores + row * length + place, score, mask=place < length)
            tl.store(towards + row * length + place, toward, mask=place < length)
    where = query_gradient + row * dim + column
    tl.store(where, summed.to(query_gradient.dtype.element_ty), mask=inside)


@triton.jit
def sum_of_item(
    query,
    gradient,
    scores,
    towards,
    places,
    starts,
    out,
    length,
    dim: tl.constexpr,
    width: tl.constexpr,
    step: tl.constexpr,
):
    """Of one item: the sum over its places of s_i times the row's gradient, and of s_i's gradient
    times the row's query. `places` are of a history without rows, (B L,), in the order of items."""
    item = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, width)
    inside = column < dim
    first = tl.load(starts + item)
    last = tl.load(starts + item + 1)
    last = tl.where(item == 0, first, last)  # padding has no gradient
    summed = tl.zeros((width,), tl.float32)
    for start in range(first, last, step):
        which = start + tl.arange(0, step)
        known = which < last
        place = tl.load(places + which, mask=known, other=0)
        score = tl.load(scores + place, mask=known, other=0.0)
        toward = tl.load(towards + place, mask=known, other=0.0)
        at = (place // length)[:, None] * dim + column[None, :]
        real = known[:, None] & inside[None, :]
        g = tl.load(gradient + at, mask=real, other=0.0).to(tl.float32)
        q = tl.load(query + at, mask=real, other=0.0).to(tl.float32)
        summed += tl.sum(score[:, None] * g + toward[:, None] * q, 0)
    tl.store(out + item * dim + column, summed.to(out.dtype.element_ty), mask=inside)
