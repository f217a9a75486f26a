"""A scoring graph that torch alone runs."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from scipy.special import logit
from torch import Tensor

from pipeline.common.files import InputError
from serving import export
from serving.scorer import Scorer
from tests.serving.conftest import World
from tests.serving.packaged import FOLDER, IDS
from tests.support.code.imports import ROOT
from tests.support.worlds.tiny_world import ITEMS, on_cpu

COUNTS = (1, 2, 50)
"""Of candidates, some of them twice."""
SIZES = tuple[list[tuple[Tensor, ...]], list[np.ndarray]]
ELSEWHERE = """
import sys
for name in ("ctr", "embed", "pipeline", "serving"):
    sys.modules[name] = None  # or an installed one would be found
import torch
program = torch.export.load("scoring.pt2").module()
with torch.no_grad():
    found = [program(*inputs) for inputs in torch.load("inputs.pt")]
torch.save(found, "logits.pt")
"""


def requests(scorer: Scorer) -> SIZES:
    """Inputs of the graph, and the scorer's own logits."""
    inputs, expected = [], []
    rng = np.random.default_rng(5)
    for count, length in zip(COUNTS, (0, scorer.length // 2, scorer.length), strict=True):
        history = rng.integers(1, ITEMS + 1, length)
        candidates = rng.integers(1, ITEMS + 1, count)
        levels = rng.integers(0, 11, (2, count))
        numbers = np.empty((count, 0), np.float32)
        if scorer.numbers:
            numbers = scorer.numbers(history, candidates)
        padded = np.zeros(max(1, scorer.length), np.int64)
        padded[len(padded) - length :] = history
        if not scorer.features.levels:
            levels[:] = 0
        columns = (padded, candidates, *levels, numbers)
        inputs.append(tuple(torch.from_numpy(column) for column in columns))
        expected.append(logit(scorer.score(IDS[history], IDS[candidates], *levels)))
    return inputs, expected


def exported(kind: str, packaged: World, to: Path, monkeypatch: pytest.MonkeyPatch) -> Scorer:
    folder = packaged(kind) / FOLDER
    monkeypatch.setattr("sys.argv", ["export", "--package", str(folder), "--to", str(to)])
    with on_cpu():
        export.main()
    return Scorer.load(folder)


def assert_near(found: list[Tensor], expected: list[np.ndarray]) -> None:
    for logits, others, count in zip(found, expected, COUNTS, strict=True):
        assert logits.shape == (count,)
        np.testing.assert_allclose(logits.numpy(), others, atol=1e-5)


def test_another_process_without_this_project_gives_the_same_logits(
    packaged: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "scoring.pt2"
    scorer = exported("qin", packaged, path, monkeypatch)
    assert capsys.readouterr().out == f"{path}: {path.stat().st_size / 1e6:.1f} MB\n"
    with ZipFile(path) as archive:  # nothing tells where it was made
        parts = [archive.read(name) for name in archive.namelist()]
    assert not any(place in part for part in parts for place in (bytes(ROOT), sys.prefix.encode()))
    inputs, expected = requests(scorer)
    torch.save(inputs, tmp_path / "inputs.pt")
    (tmp_path / "run.py").write_text(ELSEWHERE)
    subprocess.run([sys.executable, "-I", "run.py"], cwd=tmp_path, check=True, timeout=120)
    assert_near(torch.load(tmp_path / "logits.pt"), expected)
    assert np.std(expected[-1]) > 1e-3


@pytest.mark.parametrize("kind", ["qin without numbers", "qin without history and levels"])
def test_what_is_switched_off_is_not_needed(
    packaged: World, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "scoring.pt2"
    inputs, expected = requests(exported(kind, packaged, path, monkeypatch))
    program = torch.export.load(path).module()
    with torch.no_grad():
        assert_near([program(*each) for each in inputs], expected)


@pytest.mark.parametrize("kind", ["transformer_dcn", "lightgbm"])
def test_a_model_that_has_no_such_graph(packaged: World, kind: str) -> None:
    with pytest.raises(InputError, match=f"{FOLDER}: has a model of another kind; expected QIN"):
        export.exported(Scorer.load(packaged(kind) / FOLDER))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--to", "scoring.onnx"], r"error: --to scoring.onnx: .* ends in .pt2"),
        (["--to", "scoring.pt2", "--package", "nowhere"], "error: nowhere: no such folder"),
    ],
)
def test_what_cannot_be_written_is_one_line(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.setattr("sys.argv", ["export", *arguments])
    with pytest.raises(SystemExit, match=told):
        export.main()
    assert [*workspace.iterdir()] == []
