"""Whether a device computes what the CPU computes in float64: models, precisions, data path.

Made-up clicks at the published sizes, few of them; no dropout, whose masks differ by device. Each
check is the relative error |found - reference| / |reference| of what the stages themselves run, of
gradients the largest over the parameters, beside the rounding that its precision may bring. A check
that fails is told and the others go on; figures are written as they come.

    python -m benchmarks.gpu.agreement --compile --json agreement.json

In the working directory, which must be empty, on the device that Accelerate finds.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.gpu.few_clicks import SEED, VARIANTS, Batches, load, network, settings_of
from benchmarks.support.accelerator import opened
from benchmarks.support.training_world import write_numbers, write_world
from ctr.engine.learner import Learner, penalties
from ctr.engine.machine import deterministic_algorithms, prepare_cpu, seed_dropout
from ctr.engine.scoring import score
from ctr.models.base import CTRModel
from pipeline.common.files import write_json
from pipeline.settings.ctr.train import Train

GRADIENT = {"no": 2e-4, "tf32": 1e-1, "fp16": 1e-1, "bf16": 5e-1}
SCORES = {"no": 1e-4, "tf32": 3e-3, "fp16": 3e-3, "bf16": 2e-2}
"""Relative errors by precision. Half a unit of its significand is 6e-8, 5e-4, 5e-4 and 4e-3; that
of a gradient through batch norm over batch norm, as QIN's, is some tens of these."""
SMALL, ZERO = 1e-4, 1e-9
"""Of the whole gradient's norm: what is below is compared with that much, and what is exactly zero
but for rounding, as that of a bias before batch norm, with nothing."""
HALVINGS = 12
"""Of the scale of fp16's loss, until its gradient is finite, as training halves it step by step."""
SAME = 0.0
CPU = torch.device("cpu")
BATCHES = 10
STEPS, APART = 3, 1e-3
"""Of Adam, before its division by noise makes float32 and float64 two trainings: in three steps it
is 1e-4, in ten 1e-2."""


Gradient = dict[str, Tensor]
"""By the parameter's name."""


@dataclass(frozen=True)
class Check:
    name: str
    error: float | None
    """None, if it broke off or is not finite."""
    bound: float
    told: str = ""

    @property
    def passed(self) -> bool:
        return self.error is not None and self.error <= self.bound


def checks(options: argparse.Namespace) -> Iterator[Check]:
    on_gpu = torch.cuda.is_available()
    precisions = ["no", "bf16", *(["tf32", "fp16"] if on_gpu else [])]
    variants = [(name, settings_of(options.batch, **each)) for name, each in VARIANTS.items()]
    models = [*((name, settings, False) for name, settings in variants)]
    models.append(("DIN", variants[0][1], True))
    for name, settings, din in models:
        told = expected(settings, din)
        for precision in precisions:
            asked = settings.model_copy(update={"mixed_precision": precision})
            yield from both(f"{name}, {precision}", asked, din, told)
        if options.compile and not din:
            asked = settings.model_copy(update={"mixed_precision": "bf16", "compile": True})
            yield from both(f"{name}, bf16, compiled", asked, din, told)
    plain = variants[1][1]
    yield checked("clicks from the file", SAME, lambda: other_clicks(plain))
    yield checked(f"losses of {STEPS} steps", APART, lambda: over_steps(plain))
    yield checked("the same bytes twice", SAME, lambda: between_runs(plain))
    if on_gpu:
        yield checked("steps that wait for the host", SAME, lambda: waits(plain))


def checked(name: str, bound: float, error: Callable[[], float]) -> Check:
    try:
        found = error()
    except Exception as broken:  # whatever a machine that nobody knows has in store
        return Check(name, None, bound, in_a_line(broken))
    return Check(name, found, bound) if isfinite(found) else Check(name, None, bound, str(found))


def in_a_line(broken: Exception) -> str:
    return f"{type(broken).__name__}: {broken}".splitlines()[0]


def both(name: str, settings: Train, din: bool, told: tuple[Gradient, Tensor]) -> Iterator[Check]:
    precision = settings.mixed_precision
    torch.compiler.reset()  # or one model's graphs count against the next one's
    yield checked(
        f"{name}: gradient", GRADIENT[precision], lambda: furthest(gradient(settings, din), told[0])
    )
    yield checked(
        f"{name}: scores", SCORES[precision], lambda: relative(scores(settings, din), told[1])
    )


def relative(found: Tensor, reference: Tensor, least: float = 0.0) -> float:
    found, reference = found.detach().double().cpu(), reference.detach().double().cpu()
    return float((found - reference).norm() / reference.norm().clamp(min=least))


def furthest(found: Gradient, reference: Gradient) -> float:
    """The largest relative error over the parameters."""
    whole = float(torch.stack([each.norm() for each in reference.values()]).norm())
    return max(
        relative(found[name], each, SMALL * whole)
        for name, each in reference.items()
        if each.norm() > ZERO * whole
    )


def gradients(model: CTRModel) -> Gradient:
    return {name: x.grad for name, x in model.named_parameters() if x.grad is not None}


def expected(settings: Train, din: bool) -> tuple[Gradient, Tensor]:
    """The gradient of the first batch's loss, and the batch's logits in evaluation (B,)."""
    batches = load(settings, CPU)
    model, items = network(settings, batches, din).double(), batches.items_in_float64()
    clicks, label = next(batches.in_float64())
    F.binary_cross_entropy_with_logits(model(clicks, items), label).backward()
    found = gradients(model)
    with torch.no_grad(), model.frozen():
        return found, model(clicks, items)


def learner_of(settings: Train, din: bool = False) -> tuple[Learner, Batches]:
    accelerator = opened("train", settings.mixed_precision)
    batches = load(settings, accelerator.device)
    return Learner(network(settings, batches, din), settings, accelerator), batches


def gradient(settings: Train, din: bool) -> Gradient:
    learner, batches = learner_of(settings, din)
    clicks, label = next(iter(batches))
    learner.model.train()
    for _ in range(HALVINGS):
        learner.backward(learner.loss(clicks, label, batches.items))
        found = gradients(learner.network)
        scaler = learner.accelerator.scaler
        if scaler is None or all(bool(each.isfinite().all()) for each in found.values()):
            break
        scaler.update(scaler.get_scale() / 2)
        learner.network.zero_grad()
    return found


def scores(settings: Train, din: bool) -> Tensor:
    """Likewise of stage `predict`; the statistics of batch norm are those after one batch."""
    learner, batches = learner_of(settings, din)
    clicks, label = next(iter(batches))
    learner.model.train()
    learner.loss(clicks, label, batches.items)
    logs, accelerator = [batches.first()], learner.accelerator
    return score(learner.network, logs, batches.items, batches.size, accelerator)[0]


def other_clicks(settings: Train) -> float:
    """The share of batches that differ between memory and file."""
    device = opened("train", "no").device
    memory, file = (load(settings, device, residence) for residence in ("device", "file"))
    pairs = [*zip(memory, file, strict=True)]
    same = [
        torch.equal(label, other) and all(map(torch.equal, clicks, others))
        for (clicks, label), (others, other) in pairs
    ]
    return 1 - sum(same) / len(pairs)


def over_steps(settings: Train) -> float:
    """Of the losses, beside the same steps of Adam written plainly, in float64."""
    learner, batches = learner_of(settings)
    learner.model.train()
    found = [
        learner.step(clicks, label, batches.items, 1.0) for clicks, label in islice(batches, STEPS)
    ]
    exact = load(settings, CPU)
    model, items = network(settings, exact).double(), exact.items_in_float64()
    adam = torch.optim.Adam(model.parameters(), settings.learning_rate, foreach=False)
    losses = []
    for clicks, label in islice(exact.in_float64(), STEPS):
        losses.append(F.binary_cross_entropy_with_logits(model(clicks, items), label))
        penalty = [0.5 * strength * x.square().sum() for x, strength in penalties(model, settings)]
        adam.zero_grad()
        torch.stack([losses[-1], *penalty]).sum().backward()
        own = [*gradients(model).values()]
        norm = float(torch.stack([each.norm() for each in own]).norm())
        for each in own:
            each *= min(1.0, settings.max_grad_norm / norm)
        adam.step()
    return relative(torch.stack(found), torch.stack(losses))


def weights(model: CTRModel, but: tuple[str, ...] = ()) -> Tensor:
    """Float64 on the CPU, (P,); without those whose names end with one of `but`."""
    kept = [x for name, x in model.named_parameters() if not name.endswith(but)]
    return torch.cat([x.detach().double().cpu().flatten() for x in kept])


def between_runs(settings: Train) -> float:
    """Of the weights of two trainings with dropout that are to be the same."""
    random = settings.model_copy(update={"dropout": 0.1})

    def run() -> Tensor:
        learner, batches = learner_of(random)
        torch.manual_seed(SEED)
        seed_dropout(SEED, learner.accelerator)
        learner.model.train()
        for clicks, label in batches:
            learner.step(clicks, label, batches.items, 1.0)
        return weights(learner.network)

    with deterministic_algorithms(wanted=True):
        return relative(run(), run())


def waits(settings: Train) -> float:
    """0, or CUDA's error at the first of the steps that waits."""
    learner, batches = learner_of(settings)
    learner.model.train()
    all_of_them = iter(batches)
    for _ in range(2):  # warm up
        clicks, label = next(all_of_them)
        learner.step(clicks, label, batches.items, 1.0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for clicks, label in all_of_them:
            learner.step(clicks, label, batches.items, 1.0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description="Whether a device computes what the CPU does.")
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--compile", action="store_true", help="compiled models too")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before CUDA starts
    prepare_cpu()
    write_world(
        items=options.items, train_rows=BATCHES * options.batch, valid_rows=16, neighbors=20
    )
    write_numbers()
    found = []
    for check in checks(options):
        found.append(check)
        print(line(check), flush=True)
        if options.json is not None:
            write_json(options.json, figures(found))
    print(f"{sum(check.passed for check in found)} of {len(found)} agree")


def figures(found: list[Check]) -> dict[str, Any]:
    rows = {check.name: vars(check) | {"passed": check.passed} for check in found}
    return {"checks": rows, "failed": [check.name for check in found if not check.passed]}


def line(check: Check) -> str:
    error = "-" if check.error is None else f"{check.error:.1e}"
    verdict = "" if check.passed else "  DIFFERS " + check.told
    return f"{check.name:40}{error:>10}{check.bound:10.0e}{verdict}"


if __name__ == "__main__":
    main()
