"""The first screen has the metrics' own numbers, whatever of them is missing."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gallery.page.tables import Bar, number
from gallery.page.verdict import Verdict, entropy, verdict
from pipeline.common import paths
from pipeline.common.files import InputError, read_json, write_json
from pipeline.common.paths import BLEND_METRICS, baseline_metrics_path, valid_metrics_path
from pipeline.tables.split import Split
from tests.support.worlds.report_world import METRICS, write_models

pytestmark = pytest.mark.usefixtures("run")


def change(group: str, **values: Any) -> None:
    path = valid_metrics_path(group)
    write_json(path, read_json(path) | values)


def ladder(found: Verdict) -> dict[str, Bar]:
    return {bar.name: bar for bar in found.ladder.rows}


def best_feature(auc: float | None, name: str = "user_mean", gain_se: float | None = None) -> None:
    """Of all features this one is the best, or none is known."""
    for path in paths.baseline_metrics_path("x").parent.iterdir():
        write_json(path, read_json(path) | {"auc": None if auc is None else 0.5})
    write_json(baseline_metrics_path(name), {"auc": auc, "gain_se": gain_se, "rows": 1})


def test_the_figures_are_those_of_valid() -> None:
    change("all", auc_se=0.0125, gauc_se=0.5, logloss_se=0.25)
    valid = read_json(valid_metrics_path("all"))
    told = [(figure.name, figure.value, figure.error) for figure in verdict().figures]
    assert told == [
        ("AUC", f"{valid['auc']:.4f}", "± 0.0125"),
        ("gAUC", f"{valid['gauc']:.4f}", "± 0.5000"),
        ("logloss", f"{valid['logloss']:.4f}", "± 0.2500"),
    ]


def test_what_is_null_is_told_as_unknown() -> None:
    best_feature(None)
    change("all", auc=None, gauc=None, logloss=None, calibration_error=None)
    change("all", auc_se=None, gauc_se=None, logloss_se=None)
    found = verdict()
    assert found.title == "No AUC: all labels of valid are the same"
    assert [figure.value for figure in found.figures] == ["-"] * 3
    assert [figure.error for figure in found.figures] == [""] * 3
    assert found.calibration.answer == "Not known"
    assert ladder(found)["main (QIN)"].cells == ("-", "-")
    assert ladder(found)["main (QIN)"].share == 0
    change("all", auc=0.75)
    assert verdict().title == "AUC 0.7500 on valid"


def test_the_title_compares_with_the_best_possible_where_it_is_known() -> None:
    change("all", oracle_auc=0.9066, oracle_share=0.93647)
    found = verdict()
    assert found.title == "93.6% of the way from chance to the best possible AUC"
    best = ladder(found)["the best possible"]
    assert (best.cells, best.kind) == (("0.9066", "-"), "bound")
    assert best.share == pytest.approx(0.8132)


@pytest.mark.parametrize(("auc", "told"), [(0.875, "0.1250 above"), (0.5625, "0.1875 below")])
def test_else_with_the_best_feature(auc: float, told: str) -> None:
    best_feature(0.75)
    change("all", auc=auc)
    found = verdict()
    assert found.title == f"AUC {told} the best feature alone, the user's mean label in train"
    assert "the best possible" not in ladder(found)


def test_how_far_above_it_has_the_error_of_the_difference() -> None:
    best_feature(0.75, gain_se=0.0125)
    change("all", auc=0.875, auc_se=0.5)
    assert verdict().title.startswith("AUC 0.1250 ± 0.0125 above the best feature alone, ")


def test_the_subject_is_the_run_on_valid() -> None:
    valid = Split.load("valid")
    assert verdict().subject == (
        f"Predictions of main for valid: {len(valid)} rows of 12 users, "
        f"{valid.label.mean():.1%} clicked."
    )
    write_models({"main": 0.7, "b": 0.75}, "b + main")
    assert verdict().subject.startswith("Predictions of the blend b + main for valid")


def test_warm_and_cold_items_are_told() -> None:
    change("warm_items", rows=150, auc=0.875)
    change("cold_items", rows=50, auc=0.75)
    told = "AUC 0.8750 on items that train has, 0.7500 on the others (25% of rows)."
    assert verdict().groups == told
    change("cold_items", auc=None)
    assert verdict().groups == told.replace("0.7500", "-")


def test_where_no_item_is_cold_none_is_told() -> None:
    assert read_json(valid_metrics_path("cold_items"))["rows"] == 0
    assert verdict().groups == "Train has every item of valid."


def test_a_model_alone_is_compared_with_what_needs_none() -> None:
    best_feature(0.75)
    valid, found = read_json(valid_metrics_path("all")), ladder(verdict())
    ours = found["main (QIN)"]
    assert ours.cells == (number(valid["auc"]), number(valid["logloss"]))
    assert ours.kind == "ours"
    assert ours.share == pytest.approx(2 * valid["auc"] - 1)
    assert found["Task 1's vectors, by DIN"].cells == ("0.8125", "0.5625")
    assert found["best feature alone, the user's mean label in train"].cells == ("0.7500", "-")
    assert found["popularity, the item's count in train"].cells == ("0.5000", "-")
    rate = Split.load("valid").label.mean()
    constant = number(-(rate * np.log(rate) + (1 - rate) * np.log(1 - rate)))
    assert found["the click rate for every row"].cells == ("0.5000", constant)
    assert len(found) == 5
    assert verdict().ladder.note.endswith("Valid chose the epoch, which flatters somewhat.")


def test_each_model_stands_beside_their_blend() -> None:
    write_models({"main": 0.6, "b": 0.75}, "b + main", kind="lightgbm")
    valid, found = read_json(valid_metrics_path("all")), ladder(verdict())
    ours = found["blend: b + main"]
    assert (ours.cells, ours.kind) == ((number(valid["auc"]), number(valid["logloss"])), "ours")
    main = read_json(paths.MAIN.metrics)
    assert found["main (QIN)"].cells == ("0.6000", number(main["logloss"]))
    assert found["b (LightGBM)"].cells == ("0.7500", "0.2500")
    assert [bar.kind for bar in found.values()].count("ours") == 1
    assert "on users that did not choose, the blend adds 0.0125 ± 0.2500" in verdict().ladder.note
    told = read_json(BLEND_METRICS) | {"held_out_gain": None, "held_out_gain_se": None}
    write_json(BLEND_METRICS, told)
    assert "the blend adds - ± - to the best model" in verdict().ladder.note


def test_a_model_that_was_chosen_alone_is_the_run() -> None:
    write_models({"main": 0.6, "b": 0.75}, "b")
    valid, found = read_json(valid_metrics_path("all")), ladder(verdict())
    assert found["b (QIN)"].cells == (number(valid["auc"]), number(valid["logloss"]))
    assert [name for name, bar in found.items() if bar.kind == "ours"] == ["b (QIN)"]
    assert found["main (QIN)"].cells[0] == "0.6000"
    assert not any(name.startswith("blend") for name in found)


def test_of_many_models_the_best_are_shown() -> None:
    aucs = {"main": 0.51} | {f"m{number}": 0.6 + number / 100 for number in range(6)}
    write_models(aucs, "m5 + m4 + main")
    shown = [name for name in ladder(verdict()) if re.fullmatch(r"(main|m\d) \(QIN\)", name)]
    assert shown == ["m5 (QIN)", "m4 (QIN)", "m3 (QIN)"]


def test_the_best_stands_first_and_the_unknown_last() -> None:
    best_feature(0.99)
    write_json(baseline_metrics_path("item_count"), {"auc": None, "rows": 1})
    change("all", oracle_auc=0.95, oracle_share=0.9)
    aucs = [bar.cells[0] for bar in verdict().ladder.rows]
    assert aucs[0] == "0.9900"
    assert aucs[-1] == "-"
    assert aucs[:-1] == sorted(aucs[:-1], reverse=True)


def test_popularity_is_not_told_twice() -> None:
    best_feature(0.9, "item_count")
    found = ladder(verdict())
    assert found["best feature alone, the item's count in train"].cells[0] == "0.9000"
    assert not any(name.startswith("popularity") for name in found)


def test_no_constant_is_better_than_the_rate() -> None:
    rate, others = 0.3, np.linspace(0.01, 0.99, 99)
    losses = -(rate * np.log(others) + (1 - rate) * np.log(1 - others))
    assert entropy(rate) == pytest.approx(losses.min())
    assert entropy(0.5) == pytest.approx(math.log(2))
    assert entropy(0.0) == entropy(1.0) == 0


def test_bins_without_rows_leave_out_the_rate() -> None:
    pd.DataFrame({"rows": [], "predicted": [], "observed": []}).to_csv(
        paths.CALIBRATION, index=False
    )
    found = verdict()
    assert "the click rate for every row" not in ladder(found)
    assert "clicked" not in found.subject


@pytest.mark.parametrize(
    "path",
    [
        valid_metrics_path("all"),
        valid_metrics_path("cold_items"),
        paths.TASK1_METRICS,
        paths.MAIN.metrics,
        paths.MAIN.config,
        BLEND_METRICS,
        paths.CALIBRATION,
    ],
    ids=str,
)
def test_a_missing_file_is_named(path: Path) -> None:
    path.unlink()
    with pytest.raises(InputError, match=f"^{path}: not found; run `dvc repro`$"):
        verdict()


def test_task_1_is_that_of_its_judge() -> None:
    assert METRICS["task1"]["auc"] == 0.8125
    write_json(paths.TASK1_METRICS, {"auc": None})
    assert ladder(verdict())["Task 1's vectors, by DIN"].cells == ("-", "-")
