"""Dropout and batch norm that do the same however the rows of a batch are shared out; a tower.

Process `rank` of `world` holds rows rank, rank + world, ... of every batch; `share_batches` tells a
model so. A mask on a GPU is the exception: it is drawn where it is used, and each process has its
own.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd import Function
from torch.nn import functional as F

LANES = 4
"""Elements that one random number of 64 bits decides."""
STEPS = 2**16
"""Dropout probabilities on a CPU are whole multiples of 1 / STEPS."""


def share_batches(model: nn.Module, rank: int, world: int) -> None:
    for module in model.modules():
        if isinstance(module, Dropout):
            module.rank, module.world = rank, world
        elif isinstance(module, BatchNorm):
            module.world = world


class Dropout(nn.Module):
    """`nn.Dropout`, with random numbers that cost little on a CPU.

    There torch draws 64 bits an element, which is more than a tenth of QIN's step. Here one draw
    gives four elements 16 bits each. `p` becomes a multiple of 2**-16, and what is kept is scaled
    for exactly that probability.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.rank = 0
        self.world = 1

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) from (B, ...)."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return F.dropout(x, self.p)
        masks = self.masks()
        dropped = masks.dropped(len(x), x.shape[1:].numel())
        return _ScaledMask.apply(x, dropped.view(x.shape), masks.scale)

    def masks(self) -> "Masks":
        """New masks, on the CPU; their seed is the next number of torch's default generator."""
        return Masks(self.p, seed=int(torch.randint(2**32, ())), rank=self.rank, world=self.world)


class Masks:
    """The dropout masks of one tensor, a piece at a time.

    They are drawn for all rows of the batch, of which every process keeps its own; the processes
    share one seed, and so have the masks that a single process draws.
    """

    def __init__(self, p: float, seed: int, rank: int = 0, world: int = 1) -> None:
        self.p = p
        self.seed = seed
        threshold = round(p * STEPS)
        self.threshold = threshold - STEPS // 2
        self.scale = STEPS / (STEPS - threshold)
        self.rank = rank
        self.world = world
        self.generator = torch.Generator().manual_seed(seed)

    def restarted(self) -> "Masks":
        """The same masks from their first row on."""
        return Masks(self.p, self.seed, self.rank, self.world)

    def dropped(self, rows: int, columns: int) -> Tensor:
        """bool (rows, columns), True where an element is dropped: the mask of the next rows.

        Pieces are those of the whole mask where each but the last has a multiple of LANES elements.
        """
        count = rows * self.world * columns
        numbers = torch.empty(-(-count // LANES), dtype=torch.int64)
        numbers.random_(-(2**63), None, generator=self.generator)
        lanes = numbers.view(torch.int16)[:count].view(rows, self.world, columns)
        below = lanes[:, self.rank].lt_(self.threshold)  # as int16, which torch vectorises
        return below.to(torch.int8).view(torch.bool)


def zero_(x: Tensor, dropped: Tensor) -> Tensor:
    """`x.masked_fill_(dropped, 0)` on a CPU, in a fifth of the time, in bf16 a ninth.

    torch goes through numbers beside booleans one by one; the gradient of a threshold computes the
    same from numbers alone, and is vectorised.
    """
    bits = x.view(torch.int16) if x.element_size() == 2 else x
    level = dropped.view(torch.int8).to(bits.dtype).neg_()  # 0, or -1 where dropped
    torch.ops.aten.threshold_backward.grad_input(bits, level, -1, grad_input=bits)
    return x


class _ScaledMask(Function):
    """x with zeros where `dropped`, times `scale`. Keeps the mask as bytes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dropped: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(dropped)
        ctx.scale = scale
        return zero_(x * scale, dropped)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (dropped,) = ctx.saved_tensors
        return zero_(gradient * ctx.scale, dropped), None, None


class BatchNorm(nn.BatchNorm1d):
    """`nn.BatchNorm1d` whose statistics are those of the rows of all processes, on any device.

    `nn.SyncBatchNorm` refuses a CPU.
    """

    world = 1

    def forward(self, x: Tensor) -> Tensor:
        """(B, X) from (B, X)."""
        if not self.training or self.world == 1:
            return super().forward(x)
        rows = x.to(torch.promote_types(x.dtype, torch.float32))  # bf16 knows no count of 257
        count = _sum_over_processes(rows.new_full((), len(rows)))
        mean = _sum_over_processes(rows.sum(0)) / count  # (X,)
        centred = rows - mean  # (B, X)
        variance = _sum_over_processes(centred.square().sum(0)) / count  # (X,)
        self._follow(mean.detach(), variance.detach() * count / (count - 1))
        normed = centred * torch.rsqrt(variance + self.eps) * self.weight + self.bias
        return normed.to(x.dtype)  # as torch's own gives it

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """The running statistics a step further; `variance` is the unbiased one."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), self.momentum)
        self.get_buffer("num_batches_tracked").add_(1)


def tower(dim: int, widths: Sequence[int], dropout: float) -> nn.Sequential:
    """Layers of linear, batch norm, ReLU and dropout: (B, widths[-1]) of (B, dim)."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(dim, width), BatchNorm(width), nn.ReLU(), Dropout(dropout)]
        dim = width
    return nn.Sequential(*layers)


def _sum_over_processes(x: Tensor) -> Tensor:
    return _Sum.apply(x)


class _Sum(Function):
    """A sum over processes; so is its gradient, since every process's loss depends on every x."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        distributed.all_reduce(total)
        return total
