from pathlib import Path

import pytest

from gallery.page.tables import (
    by_one_feature,
    by_rows,
    headline,
    item_vectors,
    number,
    tables,
    training,
)
from pipeline.common import paths
from pipeline.common.files import InputError, read_json, write_json
from pipeline.common.paths import BLEND_METRICS, baseline_metrics_path, valid_metrics_path
from tests.support.worlds.report_world import METRICS

pytestmark = pytest.mark.usefixtures("run")


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.869279, "0.8693"), (1.0, "1.0000"), (44_723, "44,723"), (0, "0"), (None, "-")],
)
def test_numbers_have_four_digits(value: float | None, told: str) -> None:
    assert number(value) == told


def test_the_headline_is_that_of_valid() -> None:
    valid = read_json(valid_metrics_path("all"))
    told = {figure.name: figure.value for figure in headline()}
    assert told == {
        "AUC": f"{valid['auc']:.4f}",
        "gAUC": f"{valid['gauc']:.4f}",
        "logloss": f"{valid['logloss']:.4f}",
        "Task 1": "0.8125",
    }


def test_the_oracle_stands_there_where_it_is_known() -> None:
    path = valid_metrics_path("all")
    write_json(path, read_json(path) | {"oracle_auc": 0.9066, "oracle_share": 0.9082})
    oracle = next(figure for figure in headline() if figure.name == "Oracle share")
    assert (oracle.value, oracle.note) == ("0.9082", "the best possible AUC is 0.9066")


def test_every_group_has_its_row() -> None:
    rows = by_rows().rows
    files = ("all", "warm_items", "cold_items", "long_history", "short_history")
    for row, name in zip(rows, files, strict=True):
        found = read_json(valid_metrics_path(name))
        assert row[1] == number(found["auc"])
        assert row[5] == f"{found['rows']:,}"


def test_the_best_feature_comes_first_and_an_unknown_one_last() -> None:
    for name, auc in (("user_mean", 0.99), ("item_mean", None)):
        write_json(baseline_metrics_path(name), {"auc": auc, "rows": 1})
    model, *rows = by_one_feature().rows
    assert model == ("the whole model", number(read_json(valid_metrics_path("all"))["auc"]))
    assert rows[0] == ("the user's mean label in train", "0.9900")
    assert rows[-1] == ("the item's mean label in train", "-")
    values = [float(value) for _, value in rows[:-1]]
    assert values == sorted(values, reverse=True)


def test_each_kind_of_number_is_told_by_its_best() -> None:
    kinds = read_json(paths.ROW_FEATURES)["kinds"]
    assert list(kinds) == ["companions", "contrast", "profile", "similarity", "target"]
    told = {row[0]: row[1] for row in by_one_feature().rows}
    for kind, names in kinds.items():
        best = read_json(baseline_metrics_path(kind))
        assert best["name"].removeprefix("-") in names
        assert told[f"{kind}: {best['name']}"] == number(best["auc"])
    write_json(baseline_metrics_path("target"), {"auc": 0.875, "rows": 1, "name": "-clicks"})
    assert ("target: -clicks", "0.8750") in by_one_feature().rows
    write_json(baseline_metrics_path("target"), {"auc": None, "rows": 1, "name": None})
    assert by_one_feature().rows[-1] == ("target: -", "-")
    assert "the one that ranks train best" in by_one_feature().note


def test_where_no_row_has_numbers_the_other_features_stand_alone() -> None:
    write_json(paths.ROW_FEATURES, {"names": [], "kinds": {}})
    found = by_one_feature()
    assert len(found.rows) == 1 + 6
    assert found.note == "What a model has to beat."


def test_item_vectors_are_those_of_the_judge_and_of_diagnose() -> None:
    found = {row[0]: row[1] for row in item_vectors().rows}
    assert found["AUC of the organisers' DIN on them"] == number(METRICS["task1"]["auc"])
    assert found["the same on cold items"] == "-"
    assert found["recall@50 of the next click"] == "0.2500"
    assert found["recall@50: chance"] == "0.1250"
    assert found["items without a vector"] == "0"
    assert not any("rows" in name for name in found)


def test_training() -> None:
    epochs = read_json(paths.MAIN.metrics)["epochs"]
    assert ("epochs", str(epochs)) in training().rows


@pytest.mark.parametrize("path", [paths.TASK1_METRICS, valid_metrics_path("cold_items")])
def test_a_missing_or_damaged_file_is_named(path: Path) -> None:
    path.unlink()
    with pytest.raises(InputError, match=f"^{path}: not found; run `dvc repro`$"):
        tables()
    path.write_text("{")
    with pytest.raises(InputError, match=f"^{path}: not JSON: "):
        tables()


def test_a_blend_is_told_where_there_is_one() -> None:
    assert "Blend" not in [table.title for table in tables()]
    found = read_json(BLEND_METRICS)
    models = {"model_auc": {"main": 0.7, "b": 0.75}, "chosen": "b + main"}
    write_json(BLEND_METRICS, found | models | {"auc": 0.8, "held_out_gain": None})
    (blend,) = [table for table in tables() if table.title == "Blend"]
    assert list(blend.rows) == [
        ("b", "0.7500"),
        ("main", "0.7000"),
        ("the blend: b + main", "0.8000"),
    ]
    assert "adds - to" in blend.note
