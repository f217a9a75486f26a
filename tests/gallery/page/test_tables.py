from collections.abc import Callable
from pathlib import Path

import pytest

from gallery.page.tables import Table, blend, by_rows, item_vectors, number, training
from pipeline.common import paths
from pipeline.common.files import InputError, read_json, write_json
from pipeline.common.paths import BLEND_METRICS, valid_metrics_path
from tests.support.worlds.report_world import METRICS

pytestmark = pytest.mark.usefixtures("run")


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.869279, "0.8693"), (1.0, "1.0000"), (44_723, "44,723"), (0, "0"), (None, "-")],
)
def test_numbers_have_four_digits(value: float | None, told: str) -> None:
    assert number(value) == told


def test_every_group_has_its_row() -> None:
    rows = by_rows().rows
    files = ("all", "warm_items", "cold_items", "long_history", "short_history")
    for row, name in zip(rows, files, strict=True):
        found = read_json(valid_metrics_path(name))
        assert row[1] == number(found["auc"])
        assert row[5] == f"{found['rows']:,}"


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


@pytest.mark.parametrize(
    ("table", "path"),
    [(item_vectors, paths.TASK1_METRICS), (by_rows, valid_metrics_path("cold_items"))],
)
def test_a_missing_or_damaged_file_is_named(table: Callable[[], Table], path: Path) -> None:
    path.unlink()
    with pytest.raises(InputError, match=f"^{path}: not found; run `dvc repro`$"):
        table()
    path.write_text("{")
    with pytest.raises(InputError, match=f"^{path}: not JSON: "):
        table()


def test_a_blend_is_told_where_there_is_one() -> None:
    assert blend() == []
    found = read_json(BLEND_METRICS)
    models = {"model_auc": {"main": 0.7, "b": 0.75}, "chosen": "b + main"}
    write_json(BLEND_METRICS, found | models | {"auc": 0.8, "held_out_gain": None})
    [told] = blend()
    assert list(told.rows) == [
        ("b", "0.7500"),
        ("main", "0.7000"),
        ("the blend: b + main", "0.8000"),
    ]
    assert "adds - to" in told.note
