import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality import features
from benchmarks.quality.features import blends, print_row, shortened, variants
from ctr import blend
from pipeline.common import paths
from pipeline.common.files import read_array, read_json
from pipeline.settings.ctr.training import NUMBERS
from pipeline.tables.split import Split
from tests.support.worlds.tiny_world import tiny_params, write_params, write_world


@pytest.fixture(autouse=True)
def _world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(blend, "HALVINGS", 3)
    write_world()
    write_params(tiny_params(epochs=2))


def run(monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    monkeypatch.setattr(sys, "argv", ["features", *options])
    features.main()


def lines(output: str) -> list[list[str]]:
    return [row.split() for row in output.splitlines() if not row.startswith(("epoch", "tree "))]


def test_kinds_are_switched_one_by_one() -> None:
    found = variants(["target", "profile"])
    assert [*found] == [
        "all", "without target", "without profile", "target alone", "profile alone", "none",
    ]  # fmt: skip
    assert found["all"] == {*NUMBERS}
    assert {*NUMBERS} - found["without target"] == {"target"}
    assert (found["profile alone"], found["none"]) == ({"profile"}, set())


@pytest.mark.usefixtures("cpu")
def test_each_variant_of_each_model_and_their_blend(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--models", "main", "trees", "--kinds", "target", "--runs=2", "--epochs=2"]
    run(monkeypatch, *options, "--json=figures.json")
    figures = read_json(Path("figures.json"))
    assert [*figures["models"]] == ["main", "trees"]
    aucs = {}
    for name, found in figures["models"].items():
        assert {*found} == {"all", "without target", "target alone", "none"}
        aucs[name] = {variant: each["auc"] for variant, each in found.items()}
        assert len({tuple(each) for each in aucs[name].values()}) == 4
        assert [len(each) for each in aucs[name].values()] == [2] * 4
    first, second = aucs["main"]["all"]
    assert first != second
    assert np.mean(aucs["trees"]["all"]) > np.mean(aucs["trees"]["none"]) + 0.05
    found = figures["blend"]
    assert {*found} == {"all", "without main", "without trees"}
    assert found["without main"]["auc"] == pytest.approx(aucs["trees"]["all"])
    assert found["without main"]["chosen"] == [["trees"], ["trees"]]
    told = lines(capsys.readouterr().out)
    assert told[0] == ["main,", "qin", "AUC", "sd", "to", "all", "seconds"]
    assert told[1][:2] == ["all", f"{(first + second) / 2:.4f}"]
    difference = np.mean(aucs["main"]["none"]) - (first + second) / 2
    assert told[4][:1] + told[4][3:5] == ["none", f"{difference:+.4f}", "±"]


@pytest.mark.usefixtures("cpu")
def test_a_single_run_on_the_last_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[int] = []

    def trained(_settings: object) -> tuple[np.ndarray, dict[str, float]]:
        path = paths.split_path("train"), paths.companions_path("train")
        seen.extend(len(read_array(each)) for each in path)
        return np.arange(150.0), {"seconds": 1.0}

    monkeypatch.setattr(features, "trained", trained)
    run(monkeypatch, "--models", "main", "--kinds", "profile", "--runs=1", "--rows=90")
    assert seen == [90] * 8
    assert len(Split.load("train")) == 600
    assert [len(row) for row in lines(capsys.readouterr().out)[1:]] == [3, 4, 4, 3]


def test_differences_are_of_the_same_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    found = {
        "all": {"auc": [0.7, 0.8], "seconds": 3.2},
        "none": {"auc": [0.6, 0.74], "seconds": 2.0},
    }
    print_row("all", found)
    print_row("none", found)
    assert lines(capsys.readouterr().out) == [
        ["all", "0.7500", "0.0707", "3"],
        ["none", "0.6700", "0.0990", "-0.0800", "±", "0.0200", "2"],
    ]


def test_blends_without_each_model() -> None:
    label = Split.load("valid").label.astype(float)
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(3, 1, 150))
    scores = np.array([label, label, 0 * label])[:, None] * 1.5 + noise
    found = blends(["one", "other", "chance"], scores, Split.load("valid"), 1e-4)
    assert {"one", "other"} <= {*found["all"]["chosen"][0]}
    assert found["without one"]["auc"] < found["all"]["auc"]
    assert "one" not in found["without one"]["chosen"][0]
    assert found["all"]["held_out_gain"][0] > 0


def test_of_trees_an_epoch_is_ten() -> None:
    models = tiny_params().ranking_models()
    assert shortened(models["main"], 3).epochs == 3
    assert shortened(models["trees"], 3).lightgbm.trees == 30
    assert shortened(models["trees"], None) == models["trees"]
