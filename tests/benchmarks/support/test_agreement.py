"""Checks of a device beside float64 pass where the passes are right, and fail where one is not."""

from pathlib import Path

import pytest
import torch

from benchmarks.support import agreement
from benchmarks.support.agreement import APART, ROUNDING, Check, checked
from benchmarks.support.few_clicks import VARIANTS, settings_of
from benchmarks.support.training_world import write_numbers, write_world
from ctr.engine.learner import Learner
from ctr.models import qin
from ctr.models.kernels import plain_attention
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
        assert 0 < check.error < ROUNDING["no"]


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


def test_a_check_that_breaks_off_is_told() -> None:
    def broken() -> float:
        raise RuntimeError("no kernel image\nis available")

    check = checked("QIN, bf16", 0.1, broken)
    assert check == Check("QIN, bf16", None, 0.1, "RuntimeError: no kernel image")
    assert not check.passed
    assert "DIFFERS RuntimeError: no kernel image" in agreement.line(check)
    assert not Check("NaN", float("nan"), 0.1).passed
