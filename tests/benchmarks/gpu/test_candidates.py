"""Ways to a faster step are told apart from ways to another one."""

from argparse import Namespace
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import candidates
from benchmarks.gpu.agreement import APART
from benchmarks.gpu.candidates import WAYS, Found, Way, all_found, found, line
from benchmarks.gpu.few_clicks import settings_of
from benchmarks.support.training_world import write_world

pytestmark = pytest.mark.usefixtures("cpu")
SMALL = {"embedding_dim": 4, "attention_dim": 8, "layers": 2, "numbers_dim": 4, "history": 8}
OPTIONS = Namespace(batch=64, steps=1)


@pytest.fixture(autouse=True)
def _world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_world(items=60, tags=9, train_rows=384, valid_rows=16, history=8, content_dim=6)
    monkeypatch.setattr(candidates, "settings_of", partial(settings_of, **SMALL))


def test_an_update_that_differs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    as_it_is, losses = found(WAYS["as it is"], OPTIONS, None)
    assert as_it_is.apart == 0
    same, own = found(WAYS["update"], OPTIONS, losses)
    assert same.good
    assert same.apart is not None
    assert same.apart < APART / 10
    assert torch.isfinite(own).all()
    monkeypatch.setattr(candidates, "BETAS", (0.5, 0.999))
    other, _ = found(WAYS["update"], OPTIONS, losses)
    assert not other.good


def test_a_way_that_breaks_off_is_told_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> None:
        raise ImportError("no Triton here\nat all")

    monkeypatch.setattr(candidates, "by_kernel", broken)
    ways = {"as it is": Way(), "kernel": Way(kernel=True), "graph": Way(graph=True)}
    monkeypatch.setattr(candidates, "WAYS", ways)
    told = dict(all_found(OPTIONS))
    assert told["kernel"] == Found(None, None, "ImportError: no Triton here")
    assert "BROKE OFF ImportError: no Triton here" in line("kernel", told["kernel"], 1.0, 64)
    assert told["graph"].good
    slower = line("graph", Found(2.0, 0.5), 1.0, 3600)
    assert slower.split()[1:] == [
        *("2.00", "ms", "a", "step", "0.50", "times", "2.0", "s", "an", "epoch"),
        *("losses", "5.0e-01", "apart", "DIFFERS"),
    ]
