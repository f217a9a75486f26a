"""Parts of a faster step, of which `candidates.py` says what they bring."""

import gc
from collections.abc import Callable
from math import log

import torch
from torch import Tensor

from ctr.engine.learner import Learner
from ctr.models.base import Clicks

BETAS, EPSILON = (0.9, 0.999), 1e-8
"""Adam's, torch's own."""
WARM = 3
"""Steps before one is recorded."""

Step = Callable[[Clicks, Tensor], Tensor]
"""Trains on a batch; its loss, a scalar."""


class CompiledUpdate:
    """What `Learner.update` does, with state of its own; every parameter has a gradient."""

    def __init__(self, learner: Learner) -> None:
        self.parameters: list[Tensor] = [*learner.network.parameters()]
        self.penalised = learner.penalties
        self.rate = learner.settings.learning_rate
        self.most = learner.settings.max_grad_norm
        self.means, self.squares = (
            [torch.zeros_like(parameter) for parameter in self.parameters] for _ in range(2)
        )
        self.steps = torch.zeros((), device=self.parameters[0].device)
        cuda = self.steps.device.type == "cuda"
        self.passes = torch.compile(self.all_of_it, dynamic=False) if cuda else self.all_of_it

    def __call__(self) -> None:
        gradients = {id(x): x.grad for x in self.parameters if x.grad is not None}
        assert len(gradients) == len(self.parameters)
        with torch.no_grad():
            for parameter, strength in self.penalised:
                gradients[id(parameter)].add_(parameter, alpha=strength)
            self.passes([*gradients.values()])
        for x in self.parameters:
            x.grad = None

    def all_of_it(self, gradients: list[Tensor]) -> None:
        """Clipping and Adam, of all parameters at once."""
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        clipped = torch._foreach_mul(gradients, (self.most / (norm + 1e-6)).clamp(max=1.0))
        self.steps.add_(1)
        first, second = (-torch.expm1(self.steps * log(beta)) for beta in BETAS)
        torch._foreach_lerp_(self.means, clipped, 1 - BETAS[0])
        torch._foreach_mul_(self.squares, BETAS[1])
        torch._foreach_addcmul_(self.squares, clipped, clipped, 1 - BETAS[1])
        below = torch._foreach_div(torch._foreach_sqrt(self.squares), second.sqrt())
        torch._foreach_add_(below, EPSILON)
        moves = torch._foreach_div(torch._foreach_mul(self.means, self.rate / first), below)
        torch._foreach_sub_(self.parameters, moves)

    def state(self) -> list[Tensor]:
        return [*self.means, *self.squares, self.steps]


class Graph:
    """A step recorded once, which a GPU then takes without the host."""

    def __init__(self, step: Step, clicks: Clicks, label: Tensor, state: list[Tensor]) -> None:
        """`state` are all tensors that a step changes, as they are before the first one."""
        self.clicks = Clicks(*(part.clone() for part in clicks))
        self.label = label.clone()
        before = [tensor.detach().clone() for tensor in state]
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM):
                step(self.clicks, self.label)
        torch.cuda.current_stream().wait_stream(beside)
        gc.collect()  # what a collection frees while a graph is recorded would break it off
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.loss = step(self.clicks, self.label)
        with torch.no_grad():
            for tensor, first in zip(state, before, strict=True):
                tensor.copy_(first)

    def __call__(self, clicks: Clicks, label: Tensor) -> Tensor:
        for own, part in zip((*self.clicks, self.label), (*clicks, label), strict=True):
            own.copy_(part)
        self.graph.replay()
        return self.loss.clone()
