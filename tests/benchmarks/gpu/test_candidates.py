"""Ways to a faster step are told apart from ways to another one."""

from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from benchmarks.gpu import candidates, faster
from benchmarks.gpu.candidates import APART, WAYS, Found, Way, all_found, found, line
from benchmarks.gpu.few_clicks import settings_of
from benchmarks.support.training_world import write_world
from ctr.engine import learner

pytestmark = pytest.mark.usefixtures("cpu")
SMALL = {"embedding_dim": 4, "attention_dim": 8, "layers": 2, "numbers_dim": 4, "history": 8}
OPTIONS = Namespace(batch=64, steps=1)


@pytest.fixture(autouse=True)
def _world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_world(items=60, tags=9, train_rows=384, valid_rows=16, history=8, content_dim=6)
    monkeypatch.setattr(candidates, "settings_of", partial(settings_of, **SMALL))


def test_an_update_that_differs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    as_it_is, moves = found(WAYS["as it is"], OPTIONS, None)
    assert as_it_is.apart == 0
    same, own = found(WAYS["update"], OPTIONS, moves)
    assert same.apart is not None
    assert same.apart < APART / 10
    assert torch.isfinite(own).all()
    for name, value in (("BETAS", (0.5, 0.999)), ("BETAS", (0.9, 0.9)), ("EPSILON", 1e-6)):
        with monkeypatch.context() as patched:
            patched.setattr(faster, name, value)
            assert not found(WAYS["update"], OPTIONS, moves)[0].good, (name, value)
    monkeypatch.setattr(learner, "penalties", lambda *_: [])
    assert not found(WAYS["update"], OPTIONS, moves)[0].good


def test_an_update_is_one_graph_that_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    update = faster.CompiledUpdate.all_of_it
    counter = CompileCounter()
    compiled = torch.compile(update, backend=counter, dynamic=False, fullgraph=True)
    _, moves = found(WAYS["update"], OPTIONS, None)
    monkeypatch.setattr(faster.CompiledUpdate, "all_of_it", compiled)
    assert found(WAYS["update"], OPTIONS, moves)[0].good
    assert counter.frame_count == 1


def test_a_way_that_breaks_off_is_told_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> None:
        raise ImportError("no Triton here\nat all")

    monkeypatch.setattr(candidates, "by_kernel", broken)
    ways = {"as it is": Way(), "kernel": Way(kernel=True), "update": Way(update=True)}
    monkeypatch.setattr(candidates, "WAYS", ways)
    told = dict(all_found(OPTIONS))
    assert told["kernel"] == Found(None, None, "ImportError: no Triton here")
    assert "BROKE OFF ImportError: no Triton here" in line("kernel", told["kernel"], 1.0, 64)
    assert told["update"].good
    slower = line("graph", Found(2.0, 0.5), 1.0, 3600)
    assert slower.split()[1:] == [
        *("2.00", "ms", "a", "step", "0.50", "times", "2.0", "s", "an", "epoch"),
        *("moves", "5.0e-01", "apart", "DIFFERS"),
    ]


@pytest.mark.parametrize(("broken", "message"), [("as it is", "no room"), ("update", "CUDA error")])
def test_after_what_no_other_survives_none_is_tried(
    broken: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = candidates.found

    def found(way: Way, *rest: Any) -> Any:
        if way == WAYS[broken]:
            raise RuntimeError(message)
        return original(way, *rest)

    monkeypatch.setattr(candidates, "found", found)
    told = [each.told for _, each in all_found(OPTIONS)]
    place = [*WAYS].index(broken)
    assert told[:place] == [""] * place
    assert told[place] == f"RuntimeError: {message}"
    assert set(told[place + 1 :]) == {f"not tried, after {broken}"}
