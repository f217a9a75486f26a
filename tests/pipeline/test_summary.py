from pathlib import Path

import pytest

from pipeline.common import paths
from pipeline.common.files import read_json, write_json
from pipeline.summary import main

ROOT = Path(__file__).resolve().parents[2]
RATED = {"auc": 0.8, "gauc": 0.7, "logloss": 0.4, "rows": 5, "calibration_error": 0.1}
JUDGED = {"auc": 0.6, "gauc": None, "logloss": 0.5, "auc_cold_items": None, "runs": 1}


@pytest.mark.parametrize("oracle", [{}, {"oracle_auc": 0.9, "oracle_share": 0.75}])
def test_few_figures_of_both_tasks(
    oracle: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_json(paths.valid_metrics_path("all"), RATED | oracle)
    write_json(paths.valid_metrics_path("cold_items"), RATED | {"auc": None})
    write_json(paths.TASK1_METRICS, JUDGED)
    main()
    assert read_json(paths.SUMMARY) == {
        "auc": 0.8,
        "gauc": 0.7,
        "logloss": 0.4,
        "auc_cold_items": None,
        **({"oracle_share": 0.75} if oracle else {}),
        "task1_auc": 0.6,
    }
