"""Ways to a faster step on a GPU, each alone and all together, beside the step as it is.

    kernel      the history by Triton kernels (`history_kernel.py`)
    graph       the whole step as one CUDA graph
    update      penalty, clipping and Adam in the passes that torch.compile makes of them
    compiled    the QNN by torch.compile, as `train.compile` does it
    all         all of these

Each trains QIN at the published sizes, in bf16, on made-up clicks: milliseconds a step and what an
epoch of the challenge would take; and the losses of its first steps in float32 without dropout
beside those as it is, since what is faster and something else is no way. One that breaks off is
told and the others go on. What pays moves to `ctr/`, and what does not is deleted.

    python -m benchmarks.gpu.candidates --json candidates.json

In the working directory, which must be empty. Without a GPU nothing is compiled and no graph made.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.gpu.agreement import APART, relative
from benchmarks.gpu.few_clicks import SEED, Batches, load, network, settings_of
from benchmarks.support.accelerator import opened
from benchmarks.support.measuring import Stopwatch
from benchmarks.support.raw_layout import ITEMS, ROWS
from benchmarks.support.training_world import write_world
from ctr.engine.learner import Learner
from ctr.engine.machine import prepare_cpu, seed_dropout
from ctr.models import qin
from ctr.models.base import Clicks
from pipeline.common.files import write_json
from pipeline.settings.ctr.train import Train

STEPS = 3
"""Of which the losses are compared."""
WARM = 3
BETAS, EPSILON = (0.9, 0.999), 1e-8
"""Adam's, torch's own."""

Step = Callable[[Clicks, Tensor], Tensor]
"""Trains on a batch; its loss, a scalar."""


@dataclass(frozen=True)
class Way:
    compiled: bool = False
    kernel: bool = False
    update: bool = False
    graph: bool = False


WAYS = {
    "as it is": Way(),
    "kernel": Way(kernel=True),
    "graph": Way(graph=True),
    "update": Way(update=True),
    "compiled": Way(compiled=True),
    "all": Way(compiled=True, kernel=True, update=True, graph=True),
}


@dataclass(frozen=True)
class Found:
    milliseconds: float | None
    """A step; None, if it broke off."""
    apart: float | None
    """Relative difference of the first losses from those as it is."""
    told: str = ""

    @property
    def good(self) -> bool:
        return self.apart is not None and self.apart <= APART


class CompiledUpdate:
    """What `Learner.update` does, with state of its own."""

    def __init__(self, learner: Learner) -> None:
        self.parameters = [*learner.network.parameters()]
        strengths = {id(parameter): strength for parameter, strength in learner.penalties}
        self.strengths = [strengths.get(id(parameter), 0.0) for parameter in self.parameters]
        self.rate = learner.settings.learning_rate
        self.most = learner.settings.max_grad_norm
        self.means, self.squares = (
            [torch.zeros_like(parameter) for parameter in self.parameters] for _ in range(2)
        )
        self.steps = torch.zeros((), device=self.parameters[0].device)
        cuda = self.steps.device.type == "cuda"
        self.passes = torch.compile(self.all_of_it, dynamic=False) if cuda else self.all_of_it

    def __call__(self) -> None:
        with torch.no_grad():
            self.passes([x.grad if x.grad is not None else x * 0 for x in self.parameters])
        for parameter in self.parameters:
            parameter.grad = None

    def all_of_it(self, gradients: list[Tensor]) -> None:
        pairs = zip(self.parameters, gradients, self.strengths, strict=True)
        whole = [g + strength * x if strength else g for x, g, strength in pairs]
        norm = torch.stack([g.square().sum() for g in whole]).sum().sqrt()
        scale = (self.most / (norm + 1e-6)).clamp(max=1.0)
        self.steps.add_(1)
        first, second = (1 - beta**self.steps for beta in BETAS)
        for x, g, mean, square in zip(
            self.parameters, whole, self.means, self.squares, strict=True
        ):
            clipped = g * scale
            mean.lerp_(clipped, 1 - BETAS[0])
            square.lerp_(clipped.square(), 1 - BETAS[1])
            x.sub_(self.rate * (mean / first) / ((square / second).sqrt() + EPSILON))

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


def made(way: Way, settings: Train) -> tuple[Step, Batches]:
    """A step of a new model, and the batches it may have."""
    accelerator = opened("train", settings.mixed_precision)
    cuda = accelerator.device.type == "cuda"
    asked = settings.model_copy(update={"compile": way.compiled and cuda})
    batches = load(asked, accelerator.device)
    learner = Learner(network(asked, batches), asked, accelerator)
    torch.manual_seed(SEED)
    seed_dropout(SEED, accelerator)
    learner.model.train()
    update = CompiledUpdate(learner) if way.update else None

    def step(clicks: Clicks, label: Tensor) -> Tensor:
        if update is None:
            return learner.step(clicks, label, batches.items, 1.0)
        loss = learner.loss(clicks, label, batches.items)
        learner.backward(loss)
        update()
        return loss.detach()

    if not (way.graph and cuda):
        return step, batches
    state = [*learner.network.parameters(), *learner.network.buffers()]
    state += update.state() if update else adams_state(learner)
    clicks, label = next(iter(batches))
    return Graph(step, clicks, label, state), batches


def adams_state(learner: Learner) -> list[Tensor]:
    """Made before its first step, all zero, and on the device, as a graph asks."""
    optimizer = learner.optimizer.optimizer
    for group in optimizer.param_groups:
        group["capturable"] = True
        for x in group["params"]:
            optimizer.state[x] = {
                "step": torch.zeros((), device=x.device),
                "exp_avg": torch.zeros_like(x),
                "exp_avg_sq": torch.zeros_like(x),
            }
    return [tensor for each in optimizer.state.values() for tensor in each.values()]


def found(way: Way, options: argparse.Namespace, losses: Tensor | None) -> tuple[Found, Tensor]:
    """`losses` are the first ones as it is, without dropout; else this way's own are."""
    torch.compiler.reset()
    with by_kernel() if way.kernel else nullcontext():
        step, batches = made(way, settings_of(options.batch, mixed_precision="no"))
        own = torch.stack([step(*batch) for batch in islice(batches, STEPS)])
        milliseconds = timed(way, options)
    return Found(milliseconds, relative(own, own if losses is None else losses)), own


def by_kernel() -> AbstractContextManager[object]:
    """In it QIN reads histories by the kernel."""
    from benchmarks.gpu.history_kernel import kernel_attention  # Triton is not everywhere

    return patch.object(qin, "relu_attention", kernel_attention)


def timed(way: Way, options: argparse.Namespace) -> float:
    """Milliseconds of a step with the published dropout, after some that warm up."""
    step, batches = made(way, settings_of(options.batch, dropout=0.1, mixed_precision="bf16"))
    several = [*batches]
    for batch in islice(cycle(several), WARM):
        step(*batch)
    watch = Stopwatch(batches.items.id.device)
    for batch in islice(cycle(several), options.steps):
        step(*batch)
    watch.lap("steps")
    return 1000 * watch.seconds["steps"] / options.steps


def all_found(options: argparse.Namespace) -> Iterator[tuple[str, Found]]:
    losses = None
    for name, way in WAYS.items():
        try:
            each, own = found(way, options, losses)
        except Exception as broken:  # whatever a machine that nobody knows has in store
            told = f"{type(broken).__name__}: {broken}".splitlines()[0]
            yield name, Found(None, None, told)
            continue
        losses = own if losses is None else losses
        yield name, each


def main() -> None:
    parser = argparse.ArgumentParser(description="Ways to a faster step.")
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--batch", type=int, default=8192)
    parser.add_argument("--steps", type=int, default=40, help="timed")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        os.environ.setdefault("TRITON_INTERPRET", "1")  # before Triton is imported
    prepare_cpu()
    write_world(items=options.items, train_rows=2 * STEPS * options.batch, valid_rows=16)
    figures: dict[str, Any] = {}
    first: float | None = None
    for name, each in all_found(options):
        first = first or each.milliseconds
        print(line(name, each, first, options.batch), flush=True)
        figures[name] = vars(each) | {"good": each.good}
        if options.json is not None:
            failed = [name for name in figures if not figures[name]["good"]]
            write_json(options.json, {"ways": figures, "failed": failed})


def line(name: str, each: Found, first: float | None, batch: int) -> str:
    if each.milliseconds is None or each.apart is None or first is None:
        return f"{name:12}  BROKE OFF {each.told}"
    epoch = ROWS["train"] / batch * each.milliseconds / 1000
    verdict = "" if each.good else "  DIFFERS"
    return (
        f"{name:12}{each.milliseconds:10.2f} ms a step{first / each.milliseconds:8.2f} times"
        f"{epoch:10.1f} s an epoch  losses {each.apart:.1e} apart{verdict}"
    )


if __name__ == "__main__":
    main()
