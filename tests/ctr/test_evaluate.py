import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ctr.evaluate import by_group, main, oracle
from pipeline.common import paths
from pipeline.common.files import InputError, read_json, write_array, write_json
from pipeline.settings.ctr.evaluate import Evaluate
from pipeline.settings.params import load_params
from pipeline.tables.split import Split

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = Evaluate(calibration_bins=2, short_history=2)

# history x 2, target, likes, views, label, user
TRAIN = np.array([[0, 0, 1, 0, 0, 1, 1], [0, 1, 2, 0, 0, 0, 1]], np.int32)
VALID = np.array(
    [
        [1, 2, 1, 0, 0, 1, 1],
        [0, 2, 2, 0, 0, 0, 1],
        [0, 1, 3, 0, 0, 1, 2],
        [2, 1, 3, 0, 0, 0, 2],
    ],
    np.int32,
)
KINDS = {"one": ["a", "b"], "two": ["c"]}
NUMBERS = {"train": [[0, 1, 1], [1, 0, 1]], "valid": [[0, 4, 3], [1, 2, 0], [0, 1, 0], [0, 3, 0]]}
"""Of the numbers a, b, c."""
PROBABILITY = np.array([0.9, 0.2, 0.3, 0.6])


def test_groups_by_hand() -> None:
    groups = by_group(Split(TRAIN), Split(VALID), PROBABILITY, SETTINGS)
    assert {name: (group["auc"], group["rows"]) for name, group in groups.items()} == {
        "warm_items": (1.0, 2),
        "cold_items": (0.0, 2),
        "short_history": (1.0, 2),
        "long_history": (1.0, 2),
    }
    assert groups["warm_items"]["logloss"] == pytest.approx(-np.log([0.9, 0.8]).mean())
    assert groups["warm_items"]["gauc"] == 1.0


def test_a_group_of_one_class_has_no_auc() -> None:
    groups = by_group(Split(TRAIN), Split(VALID[:1]), PROBABILITY[:1], SETTINGS)
    assert groups["warm_items"]["auc"] is None
    assert groups["warm_items"]["rows"] == 1
    assert groups["cold_items"] == {
        "rows": 0,
        "users": 0,
        "auc": None,
        "auc_se": None,
        "gauc": None,
        "gauc_se": None,
        "logloss": None,
        "logloss_se": None,
        "calibration_error": None,
    }


def test_share_of_the_oracle() -> None:
    assert oracle(0.7, {"oracle_auc": 0.75}) == {
        "oracle_auc": 0.75,
        "oracle_share": pytest.approx(0.8),
    }
    assert oracle(0.7, {}) == {}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_array(paths.split_path("train"), TRAIN)
    write_array(paths.split_path("valid"), VALID)
    write_json(paths.STATS, {"oracle_auc": 0.9})
    write_json(paths.ROW_FEATURES, {"names": ["a", "b", "c"], "kinds": KINDS})
    for split, rows in NUMBERS.items():
        write_array(paths.companions_path(split), np.array(rows, np.float16))
    path = paths.predictions_path("valid")
    path.parent.mkdir()
    pd.DataFrame({"ID": range(4), "probability": PROBABILITY}).to_parquet(path)
    return tmp_path


@pytest.mark.usefixtures("workspace")
def test_files() -> None:
    params = load_params(ROOT / "params.yaml")
    main(params.evaluate)
    metrics = read_json(paths.valid_metrics_path("all"))
    assert (metrics["auc"], metrics["auc_se"]) == (0.75, 0.5)
    assert metrics["gauc"] == 0.5
    assert (metrics["rows"], metrics["users"]) == (4, 2)
    assert metrics["oracle_share"] == pytest.approx(0.625)
    assert metrics["logloss"] == pytest.approx(-np.log([0.9, 0.8, 0.3, 0.4]).mean())
    assert read_json(paths.valid_metrics_path("cold_items"))["auc"] == 0.0
    user_mean = read_json(paths.baseline_metrics_path("user_mean"))
    assert user_mean == {"auc": 0.5, "rows": 4, "gain_se": 0.5}
    one, two = (read_json(paths.baseline_metrics_path(kind)) for kind in KINDS)
    assert one == {"name": "-a", "auc": 0.75, "rows": 4, "gain_se": 0.25}
    assert two == {"name": "c", "auc": 0.75, "rows": 4, "gain_se": 0.25}
    assert pd.read_csv(paths.CALIBRATION)["rows"].sum() == 4
    assert pd.read_csv(paths.ROC).columns.tolist() == [
        "false_positive_rate",
        "true_positive_rate",
    ]
    by_history = pd.read_csv(paths.AUC_BY_HISTORY)
    assert by_history.to_dict("list") == {"items": ["1-4"], "auc": [0.75], "rows": [4]}
    by_popularity = pd.read_csv(paths.AUC_BY_POPULARITY, dtype={"rows_in_train": str})
    assert by_popularity.to_dict("list") == {
        "rows_in_train": ["0", "1-9"],
        "auc": [0.0, 1.0],
        "rows": [2, 2],
    }
    assert pd.read_csv(paths.SCORES)["share"].sum() == pytest.approx(2)


@pytest.mark.usefixtures("workspace")
def test_predictions_of_another_split_are_refused() -> None:
    write_array(paths.split_path("valid"), VALID[:3])
    with pytest.raises(InputError, match=r"valid\.parquet: has 4 rows, valid has 3"):
        main(load_params(ROOT / "params.yaml").evaluate)


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize(("split", "rows"), [("train", 2), ("valid", 4)])
def test_numbers_of_another_split_are_refused(split: str, rows: int) -> None:
    path = paths.companions_path(split)
    write_array(path, np.zeros((rows + 1, 3), np.float16))
    told = f"{path}: has {rows + 1} rows, {split} has {rows}; run `dvc repro`"
    with pytest.raises(InputError, match=f"^{re.escape(told)}$"):
        main(load_params(ROOT / "params.yaml").evaluate)
    assert not paths.valid_metrics_path("all").exists()


@pytest.mark.usefixtures("workspace")
def test_rows_without_numbers_are_evaluated_without_them() -> None:
    write_json(paths.ROW_FEATURES, {"names": [], "kinds": {}})
    for split, rows in NUMBERS.items():
        write_array(paths.companions_path(split), np.zeros((len(rows), 0), np.float16))
    main(load_params(ROOT / "params.yaml").evaluate)
    assert len(list(paths.baseline_metrics_path("item_mean").parent.iterdir())) == 6
