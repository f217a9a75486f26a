from collections.abc import Iterator
from dataclasses import replace
from functools import partialmethod
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from ctr import train
from ctr.engine import loop
from ctr.engine.learner import Learner, penalties
from ctr.models.architecture import build_model, qin_config
from ctr.models.qin import QIN
from tests.support.references.fit_float64 import in_double
from tests.support.worlds.tiny_world import one_batch, tiny_params

pytestmark = pytest.mark.usefixtures("cpu", "world")


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch.compile up to the code that it would generate, which needs a C++ compiler."""
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="eager"))
    torch.compiler.reset()
    yield
    torch.compiler.set_stance("default")
    torch.compiler.reset()


def losses(monkeypatch: pytest.MonkeyPatch, *, compiled: bool) -> list[float]:
    """Of three epochs of six batches and a smaller one, in float64, so that rounding does not grow.

    No code may be compiled after the first epoch.
    """
    settings = tiny_params(
        epochs=3, batch_size=90, dropout=0.0, new_targets=0.0, compile=compiled
    ).train
    accelerator = Accelerator()
    data = train.load_data(settings, accelerator)
    assert data.train.total % 90
    torch.manual_seed(2)
    config = qin_config(settings, data.items, len(data.train.columns))
    model = build_model(config, settings).double()
    data = replace(data, items=in_double(data.items))
    evaluate = loop.evaluate

    def then_no_more(*arguments: Any) -> dict[str, float]:
        metrics = evaluate(*arguments)
        torch.compiler.set_stance("fail_on_recompile")
        return metrics

    if compiled:
        monkeypatch.setattr(loop, "evaluate", then_no_more)
    return [entry["train_loss"] for entry in loop.fit(model, data, settings, accelerator).curve]


@pytest.mark.usefixtures("compiler")
def test_compiled_steps_learn_the_same_and_compile_once(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = losses(monkeypatch, compiled=False)
    assert losses(monkeypatch, compiled=True) == pytest.approx(expected, rel=1e-9)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0


def test_the_penalty_moves_every_row_of_the_tables() -> None:
    settings = tiny_params(embedding_regularizer=0.5, net_regularizer=0.25).train
    accelerator = Accelerator()
    data = train.load_data(settings, accelerator)
    model = QIN(qin_config(settings, data.items, len(data.train.columns)))
    learner = Learner(model, settings, accelerator)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    learner.add_penalty()
    tables = {id(parameter) for parameter in model.embedding_parameters()}
    for name, parameter in model.named_parameters():
        strength = 0.5 if id(parameter) in tables else 0.25
        torch.testing.assert_close(parameter.grad, 1 + strength * parameter, msg=name)


def test_without_a_regularizer_nothing_is_penalised() -> None:
    settings = tiny_params(embedding_regularizer=0.0, net_regularizer=0.0).train
    data = train.load_data(settings, Accelerator())
    assert not penalties(QIN(qin_config(settings, data.items, len(data.train.columns))), settings)


def test_gradients_are_unscaled_then_penalised_then_clipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = tiny_params().train
    accelerator = Accelerator()
    data = train.load_data(settings, accelerator)
    model = QIN(qin_config(settings, data.items, len(data.train.columns)))
    learner = Learner(model, settings, accelerator)
    done: list[str] = []
    monkeypatch.setattr(accelerator, "unscale_gradients", lambda: done.append("unscale"))
    monkeypatch.setattr(learner, "add_penalty", lambda: done.append("penalise"))
    monkeypatch.setattr(
        "ctr.engine.learner.nn.utils.clip_grad_norm_", lambda *_: done.append("clip")
    )
    monkeypatch.setattr(learner.optimizer, "step", lambda: done.append("step"))
    clicks, label = one_batch(data.train, torch.arange(8))
    learner.step(clicks, label, data.items, weight=1.0)
    assert done == ["unscale", "penalise", "clip", "step"]
