"""Checks of a device beside float64 pass where the passes are right, and fail where one is not."""

from pathlib import Path

import pytest
import torch

from benchmarks.gpu import agreement
from benchmarks.gpu.agreement import APART, Check, checked
from benchmarks.gpu.few_clicks import VARIANTS, settings_of
from benchmarks.support.training_world import write_numbers, write_world
from ctr.engine.learner import Learner
from ctr.models import qin
from ctr.models.kernels import plain_attention
from pipeline.common.files import read_json, write_json
from pipeline.settings.ctr.train import Train

pytestmark = pytest.mark.usefixtures("cpu")
SMALL = {"embedding_dim": 4, "attention_dim": 8, "layers": 2, "numbers_dim": 4, "history": 8}


@pytest.fixture(autouse=True)
def _world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_world(
        items=60, tags=9, train_rows=160, valid_rows=16, history=8, content_dim=6, neighbors=5
    )
    write_numbers()


def settings(name: str) -> Train:
    return settings_of(16, **VARIANTS[name] | SMALL)


@pytest.mark.parametrize("name", VARIANTS)
def test_models_agree_with_float64(name: str) -> None:
    asked = settings(name)
    for check in agreement.both(name, asked, din=False, told=agreement.expected(asked, din=False)):
        assert check.passed, check
        assert check.error is not None
        assert 0 < check.error < check.bound


def test_a_wrong_pass_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = settings("QIN")
    told = agreement.expected(asked, din=False)

    def wrong(*tensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        vector, pooled = plain_attention(*tensors)
        return vector, pooled * 1.1

    monkeypatch.setattr(qin, "relu_attention", wrong)
    found = [*agreement.both("QIN", asked, din=False, told=told)]
    assert [check.passed for check in found] == [False, False]


def test_steps_agree_and_a_step_without_the_penalty_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    strong = settings("QIN with more").model_copy(update={"embedding_regularizer": 0.1})
    assert agreement.over_steps(strong) < APART
    monkeypatch.setattr(Learner, "add_penalty", lambda _: None)
    assert agreement.over_steps(strong) > APART


def test_clicks_are_the_same_from_memory_and_file_and_runs_repeat() -> None:
    assert agreement.other_clicks(settings("QIN with more")) == 0
    assert agreement.between_runs(settings("QIN with more")) == 0


def test_a_gradient_that_is_lacking_is_found_in_bf16_too() -> None:
    asked = settings("QIN").model_copy(update={"mixed_precision": "bf16"})
    told, _ = agreement.expected(asked, din=False)
    found = agreement.gradient(asked, din=False)
    assert agreement.furthest(found, told) < agreement.GRADIENT["bf16"]
    for name in ("asta.key.weight", "qnn.layers.0.linear.bias", "item.content.weight"):
        lacking = found | {name: torch.zeros_like(found[name])}
        assert agreement.furthest(lacking, told) > agreement.GRADIENT["bf16"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_reaches_the_file(tmp_path: Path, value: float) -> None:
    check = checked("QIN, fp16", 0.1, lambda: value)
    assert (check.error, check.passed, check.told) == (None, False, str(value))
    write_json(tmp_path / "a.json", agreement.figures([check, Check("DIN", 0.0, 0.1)]))
    assert read_json(tmp_path / "a.json")["failed"] == ["QIN, fp16"]


def test_a_check_that_breaks_off_is_told() -> None:
    def broken() -> float:
        raise RuntimeError("no kernel image\nis available")

    check = checked("QIN, bf16", 0.1, broken)
    assert check == Check("QIN, bf16", None, 0.1, "RuntimeError: no kernel image")
    assert not check.passed
    assert "DIFFERS RuntimeError: no kernel image" in agreement.line(check)
    assert not Check("NaN", float("nan"), 0.1).passed
