import re

import lightgbm
import numpy as np
import pytest

from gallery.page.features import best_alone, by_one_feature, features, forests, gains
from gallery.page.tables import above_chance, number
from pipeline.common import paths
from pipeline.common.files import InputError, read_json, write_json
from pipeline.common.paths import baseline_metrics_path, model_files, valid_metrics_path
from tests.support.worlds.report_world import write_models

pytestmark = pytest.mark.usefixtures("run")

COLUMNS = ["rate", "length", "after_mean", "likes_level"]
"""Of the kinds target, profile and companions; and a level."""


def rows() -> list[tuple[str, str]]:
    return [(bar.name, bar.cells[0]) for bar in by_one_feature().rows]


def grow_trees(columns: list[str] = COLUMNS) -> None:
    """A model `wood`, whose click is by the first column for the most part."""
    write_models({"main": 0.7, "wood": 0.75}, "wood", kind="lightgbm")
    rng = np.random.default_rng(8)
    read = rng.normal(size=(400, len(columns)))
    label = read @ 2.0 ** -np.arange(len(columns)) + rng.normal(size=400) / 4 > 0
    settings = {"objective": "binary", "num_threads": 1, "verbosity": -1, "num_leaves": 4}
    data = lightgbm.Dataset(read, label.astype(float), feature_name=columns)
    lightgbm.train(settings, data, 12).save_model(model_files("wood").trees)


def gains_by_hand() -> dict[str, float]:
    """Of the model's text: the gains of all its splits, by feature."""
    text = model_files("wood").trees.read_text()
    split = zip(
        re.findall(r"^split_feature=(.*)$", text, re.MULTILINE),
        re.findall(r"^split_gain=(.*)$", text, re.MULTILINE),
        strict=True,
    )
    found = dict.fromkeys(COLUMNS, 0.0)
    for which, gain in split:
        for feature, value in zip(which.split(), gain.split(), strict=True):
            found[COLUMNS[int(feature)]] += float(value)
    return found


def test_the_best_feature_comes_first_and_an_unknown_one_last() -> None:
    for name, auc in (("user_mean", 0.99), ("item_mean", None)):
        write_json(baseline_metrics_path(name), {"auc": auc, "rows": 1})
    model, *others = rows()
    assert model == ("the whole model", number(read_json(valid_metrics_path("all"))["auc"]))
    assert others[0] == ("the user's mean label in train", "0.9900")
    assert others[-1] == ("the item's mean label in train", "-")
    values = [float(value) for _, value in others[:-1]]
    assert values == sorted(values, reverse=True)
    assert best_alone() == ("the user's mean label in train", 0.99, None)


def test_bars_begin_at_chance() -> None:
    write_json(baseline_metrics_path("user_mean"), {"auc": 0.75, "rows": 1})
    write_json(baseline_metrics_path("item_mean"), {"auc": 0.25, "rows": 1})
    share = {bar.name: bar.share for bar in by_one_feature().rows}
    assert share["the user's mean label in train"] == 0.5
    assert share["the item's mean label in train"] == 0
    assert [above_chance(auc) for auc in (None, 0.5, 1.0)] == [0, 0, 1]
    assert [bar.name for bar in by_one_feature().rows if bar.kind == "ours"] == ["the whole model"]


def test_each_kind_of_number_is_told_by_its_best() -> None:
    kinds = read_json(paths.ROW_FEATURES)["kinds"]
    assert list(kinds) == ["companions", "contrast", "profile", "similarity", "target"]
    told = dict(rows())
    for kind, names in kinds.items():
        best = read_json(baseline_metrics_path(kind))
        assert best["name"].removeprefix("-") in names
        assert told[f"{kind}: {best['name']}"] == number(best["auc"])
    write_json(baseline_metrics_path("target"), {"auc": 0.875, "rows": 1, "name": "-clicks"})
    assert ("target: -clicks", "0.8750") in rows()
    write_json(baseline_metrics_path("target"), {"auc": None, "rows": 1, "name": None})
    assert rows()[-1] == ("target: -", "-")
    assert "the one that ranks train best" in by_one_feature().note


def test_where_no_row_has_numbers_the_other_features_stand_alone() -> None:
    write_json(paths.ROW_FEATURES, {"names": [], "kinds": {}})
    found = by_one_feature()
    assert len(found.rows) == 1 + 6
    assert found.note == "What a model has to beat. Bars from chance, 0.5, to 1."


def test_the_lead_has_the_best_and_the_whole() -> None:
    write_json(baseline_metrics_path("user_mean"), {"auc": 0.99, "rows": 1})
    whole = number(read_json(valid_metrics_path("all"))["auc"])
    told = features().lead
    assert "the user's mean label in train, ranks valid with an AUC of 0.9900" in told
    assert told.endswith(f"reach {whole}.")


def test_gains_are_those_of_the_models_splits() -> None:
    grow_trees()
    assert forests() == ["wood"]
    [found] = features().trees
    by_hand = gains_by_hand()
    order = sorted(COLUMNS, key=lambda name: -by_hand[name])
    assert order[0] == "rate"
    assert [bar.name for bar in found.rows] == order
    shares = {name: by_hand[name] / sum(by_hand.values()) for name in order}
    assert [bar.cells for bar in found.rows] == [(f"{shares[name]:.1%}",) for name in order]
    assert [bar.share for bar in found.rows] == pytest.approx(
        [shares[name] / shares["rate"] for name in order]
    )
    assert found.title == "Gain by feature: wood"
    kinds = [f"target {shares['rate']:.0%}", f"profile {shares['length']:.0%}"]
    assert f"By kind: {', '.join(kinds)}, " in found.note
    assert f"levels {shares['likes_level']:.0%}" in found.note


def test_of_many_features_the_first_are_shown() -> None:
    grow_trees([*COLUMNS, *(f"more_{number}" for number in range(20))])
    found = gains("wood")
    assert len(found.rows) == 12
    assert found.note.startswith("The first 12 of 24 features")


def test_without_trees_there_is_no_gain() -> None:
    assert forests() == []
    assert features().trees == []


def test_trees_that_cannot_be_read_are_named() -> None:
    grow_trees()
    path = model_files("wood").trees
    path.write_text("no tree")
    with pytest.raises(InputError, match=f"^{path}: is no model"):
        features()


def test_a_missing_feature_is_named() -> None:
    path = baseline_metrics_path("item_mean")
    path.unlink()
    with pytest.raises(InputError, match=f"^{path}: not found; run `dvc repro`$"):
        features()
