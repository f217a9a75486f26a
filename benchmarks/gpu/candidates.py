"""Ways to a faster step on a GPU, each alone and all together, beside the step as it is.

    update      clipping and Adam in the passes that torch.compile makes of them
    compiled    the QNN by torch.compile, as `train.compile` does it
    kernel      the history by Triton kernels (`history_kernel.py`)
    graph       the whole step as one CUDA graph
    all         all of these

Each trains QIN at the published sizes, in bf16, on made-up clicks: milliseconds a step and what an
epoch of the challenge would take; and how far its first steps in float32 without dropout move the
weights elsewhere than those as it is, since what is faster and something else is no way. One that
breaks off is told and the others go on, unless it is CUDA that has ended, which no later one
survives. What pays moves to `ctr/`, and what does not is deleted.

    python -m benchmarks.gpu.candidates --json candidates.json

In the working directory, which must be empty. Without a GPU nothing is compiled and no graph made.
"""

import argparse
import gc
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.gpu.agreement import in_a_line, relative, weights
from benchmarks.gpu.faster import WARM, CompiledUpdate, Graph, Step
from benchmarks.gpu.few_clicks import SEED, Batches, load, network, settings_of
from benchmarks.support.accelerator import opened
from benchmarks.support.measuring import Stopwatch
from benchmarks.support.raw_layout import ITEMS, ROWS
from benchmarks.support.training_world import write_world
from ctr.engine.learner import Learner
from ctr.engine.machine import prepare_cpu, seed_dropout
from ctr.models import qin
from ctr.models.base import Clicks, CTRModel
from pipeline.common.files import write_json
from pipeline.settings.ctr.train import Train

STEPS, APART = 3, 2e-2
"""After which the weights are compared, and how far they may be apart, of the way that they have
come: what Adam makes of rounding, where there is little but rounding, is about a hundredth."""
ROUNDING = ("linear.bias",)
"""Parameters of which the gradient is nothing else: they stand before batch norm."""


@dataclass(frozen=True)
class Way:
    compiled: bool = False
    kernel: bool = False
    update: bool = False
    graph: bool = False


WAYS = {
    "as it is": Way(),
    "update": Way(update=True),
    "compiled": Way(compiled=True),
    "kernel": Way(kernel=True),
    "graph": Way(graph=True),
    "all": Way(compiled=True, kernel=True, update=True, graph=True),
}


@dataclass(frozen=True)
class Found:
    milliseconds: float | None
    """A step; None, if it broke off."""
    apart: float | None
    """Of the weights after the first steps from those as it is, of the way that those have come."""
    told: str = ""

    @property
    def good(self) -> bool:
        return self.apart is not None and self.apart <= APART


class Trained(NamedTuple):
    step: Step
    batches: Batches
    network: CTRModel


def made(way: Way, settings: Train) -> Trained:
    """A new model and its step."""
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
        return Trained(step, batches, learner.network)
    state = [*learner.network.parameters(), *learner.network.buffers()]
    state += update.state() if update else adams_state(learner)
    clicks, label = next(iter(batches))
    return Trained(Graph(step, clicks, label, state), batches, learner.network)


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


def found(way: Way, options: argparse.Namespace, moves: Tensor | None) -> tuple[Found, Tensor]:
    """`moves` are those of the weights as it is; else this way's own are."""
    torch.compiler.reset()
    with by_kernel() if way.kernel else nullcontext():
        trained = made(way, settings_of(options.batch, mixed_precision="no"))
        before = weights(trained.network, ROUNDING)
        for batch in islice(trained.batches, STEPS):
            trained.step(*batch)
        own = weights(trained.network, ROUNDING) - before
        del trained
        milliseconds = timed(way, options)
    gc.collect()  # or models pile up: Accelerate's are in circles
    return Found(milliseconds, relative(own, own if moves is None else moves)), own


def by_kernel() -> AbstractContextManager[object]:
    """In it QIN reads histories by the kernel."""
    from benchmarks.gpu.history_kernel import kernel_attention  # Triton is not everywhere

    return patch.object(qin, "relu_attention", kernel_attention)


def timed(way: Way, options: argparse.Namespace) -> float:
    """Milliseconds of a step with the published dropout, after some that warm up."""
    asked = settings_of(options.batch, dropout=0.1, mixed_precision="bf16")
    step, batches, _ = made(way, asked)
    several = [*batches]
    for batch in islice(cycle(several), WARM):
        step(*batch)
    watch = Stopwatch(batches.items.id.device)
    for batch in islice(cycle(several), options.steps):
        step(*batch)
    watch.lap("steps")
    return 1000 * watch.seconds["steps"] / options.steps


def all_found(options: argparse.Namespace) -> Iterator[tuple[str, Found]]:
    moves, over = None, ""
    for name, way in WAYS.items():
        if over:
            yield name, Found(None, None, f"not tried, after {over}")
            continue
        try:
            each, own = found(way, options, moves)
        except Exception as broken:  # whatever a machine that nobody knows has in store
            told = in_a_line(broken)
            yield name, Found(None, None, told)
            over = name if moves is None or "CUDA" in told else ""
            continue
        moves = own if moves is None else moves
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
        f"{epoch:10.1f} s an epoch  moves {each.apart:.1e} apart{verdict}"
    )


if __name__ == "__main__":
    main()
