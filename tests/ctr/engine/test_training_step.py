"""Some steps of `fit` against the same steps written out from their formulas, in float64."""

from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from ctr import train
from ctr.engine import loop
from ctr.engine.data import shuffled_batches
from ctr.engine.loop import TrainingData
from ctr.models.architecture import qin_config
from ctr.models.qin import QIN
from pipeline.settings.ctr.train import Train
from tests.support.references.fit_float64 import in_double
from tests.support.references.qin import reference_qin
from tests.support.worlds.tiny_world import first_rows, one_batch, tiny_params

pytestmark = pytest.mark.usefixtures("cpu", "world")

REGULARISED = (
    "item.id.weight",
    "item.tag.weight",
    "item.content.weight",
    "likes_level.weight",
    "views_level.weight",
)
PADDED = ("item.id.weight", "item.tag.weight")


class Steps(NamedTuple):
    weights: dict[str, Tensor]
    """Of every learned parameter, after the last step."""
    losses: list[float]
    """Mean binary cross-entropy of each step's batch, before the step."""
    norms: list[float]
    """Of each step's gradient, before it was clipped."""


def load_float64(settings: Train) -> tuple[QIN, TrainingData]:
    """A model with weights of order one, and 50 rows of train: batches of 20, 20 and 10."""
    data = train.load_data(settings, Accelerator())
    items = in_double(data.items)
    log = first_rows(data.train, 50)
    torch.manual_seed(4)
    model = QIN(qin_config(settings, items, len(log.columns)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=0.3)
            if name in PADDED:
                parameter[0] = 0
    return model.double(), replace(data, train=log, items=items)


def reference_steps(model: QIN, data: TrainingData, settings: Train) -> Steps:
    """Cross-entropy and penalty, the clipped gradient, and Adam (Kingma & Ba, algorithm 1)."""
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    first = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    second = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    steps = Steps(weights, [], [])
    batches = shuffled_batches(data.train, settings.batch_size, settings.seed, epoch=1)
    for step, (rows, _) in enumerate(batches, start=1):
        loss, gradient = reference_gradient(weights, rows, data, settings)
        norm = torch.cat([g.flatten() for g in gradient.values()]).norm()
        steps.losses.append(loss)
        steps.norms.append(float(norm))
        for name, weight in weights.items():
            g = gradient[name] * min(1.0, settings.max_grad_norm / float(norm))
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = 0.999 * second[name] + 0.001 * g**2
            mean, variance = first[name] / (1 - 0.9**step), second[name] / (1 - 0.999**step)
            weight -= settings.learning_rate * mean / (variance.sqrt() + 1e-8)
    return steps


def reference_gradient(
    weights: dict[str, Tensor], rows: Tensor, data: TrainingData, settings: Train
) -> tuple[float, dict[str, Tensor]]:
    leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    clicks, label = one_batch(data.train, rows)
    logits = reference_qin(leaves, clicks, data.items, settings.layers, settings.rows, True)
    p = 1 / (1 + torch.exp(-logits))
    loss = -(label * p.log() + (1 - label) * (1 - p).log()).mean()
    penalty = sum((leaves[name] ** 2).sum() for name in REGULARISED)
    total = loss + settings.embedding_regularizer / 2 * penalty
    gradient = dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))
    for name in PADDED:
        gradient[name][0] = 0  # padding does not learn
    return float(loss.detach()), gradient


@pytest.mark.parametrize("max_grad_norm", [0.05, 1000.0])
def test_steps_agree_with_the_formulas(max_grad_norm: float) -> None:
    settings = tiny_params(
        epochs=1,
        batch_size=20,
        dropout=0.0,
        embedding_regularizer=0.1,
        max_grad_norm=max_grad_norm,
        new_targets=0.0,
    ).train
    model, data = load_float64(settings)
    expected = reference_steps(model, data, settings)
    assert len(expected.losses) == 3
    assert max(expected.norms) > 1.4 * min(expected.norms)  # Adam does not see a common factor
    assert all((norm > max_grad_norm) == (max_grad_norm < 1) for norm in expected.norms)

    found = loop.fit(model, data, settings, Accelerator())
    for name, weight in expected.weights.items():
        torch.testing.assert_close(found.weights[name], weight, rtol=0, atol=1e-6, msg=name)
    rows = (20, 20, 10)
    mean = sum(loss * n for loss, n in zip(expected.losses, rows, strict=True)) / sum(rows)
    assert found.curve[0]["train_loss"] == pytest.approx(mean, rel=1e-6)


def test_the_id_of_a_target_that_is_shown_as_new_does_not_learn() -> None:
    """Every row's, here; and no history has ids that would."""
    features = tiny_params().train.features.model_copy(update={"history": False})
    settings = tiny_params(
        epochs=1, embedding_regularizer=0.0, new_targets=0.999999, features=features.model_dump()
    ).train
    accelerator = Accelerator()
    data = train.load_data(settings, accelerator)
    model = QIN(qin_config(settings, data.items, len(data.train.columns)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    after = loop.fit(model, data, settings, accelerator).weights
    assert torch.equal(after["item.id.weight"], before["item.id.weight"])
    assert not torch.equal(after["item.tag.weight"], before["item.tag.weight"])
