from pathlib import Path

import pytest

from benchmarks.quality.blend import MODELS, measured, print_blend, with_models
from tests.support.worlds.tiny_world import tiny_params, write_world


@pytest.mark.usefixtures("cpu")
def test_each_model_and_their_blend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_world()
    params = tiny_params(epochs=2, models={"seed_7": {"seed": 7}}, blend={"min_gain": 0.0})
    figures = measured(params)
    aucs = {name: model["auc"] for name, model in figures["models"].items()}
    assert list(aucs) == ["main", "trees", "seed_7"]
    assert aucs["main"] != aucs["seed_7"]
    assert figures["best_model_auc"] == max(aucs.values())
    assert figures["chosen"][0] == max(aucs, key=lambda name: aucs[name])
    assert figures["auc"] >= figures["best_model_auc"]
    header, *rows = [
        line
        for line in capsys.readouterr().out.splitlines()
        if not line.startswith(("epoch", "tree "))
    ]
    assert header.split() == ["model", "AUC", "epoch", "seconds"]
    assert [row.split()[:3] for row in rows] == [
        [name, "lightgbm" if name == "trees" else "qin", f"{found:.4f}"]
        for name, found in aucs.items()
    ]


def test_what_is_said_of_a_blend(capsys: pytest.CaptureFixture[str]) -> None:
    figures = {"chosen": ["main", "seed_7"], "auc": 0.81, "best_model_auc": 0.8}
    print_blend(figures | {"held_out_gain": 0.004, "held_out_gain_se": 0.003})
    assert capsys.readouterr().out.splitlines() == [
        "blend of main + seed_7: 0.8100, +0.0100 to the best",
        "on users that did not choose it: +0.0040, standard error 0.0030",
    ]
    print_blend(figures | {"held_out_gain": None, "held_out_gain_se": None})
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_further_models_are_those_of_the_settings_or_its_own() -> None:
    assert list(with_models(tiny_params()).ranking_models()) == ["main", *MODELS]
    named = tiny_params(models={"long": {"history": 7}})
    assert with_models(named) == named
