from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.common import paths
from pipeline.common.files import InputError, read_json, write_array
from pipeline.common.scratch import file_sha256
from pipeline.console.environment import DATA
from pipeline.settings.params import load_params
from pipeline.submit import check_submission, main, write_submission

ROOT = Path(__file__).resolve().parents[2]
IDS = np.array([0, 1, 2])


def table(probability: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"ID": IDS[: len(probability)], "probability": probability})


def test_content(tmp_path: Path) -> None:
    archive = tmp_path / "prediction.zip"
    write_submission(archive, table([0.25, 1.0, 1e-7]), "Task2")
    with ZipFile(archive) as file:
        assert file.namelist() == ["prediction.csv"]
        assert file.read("prediction.csv") == b"ID,Task2\n0,0.25\n1,1\n2,1e-07\n"
    check_submission(archive, IDS, "Task2")


@pytest.mark.parametrize("column", ["Task1", "Task2", "Task1&2"])
def test_the_same_rows_the_same_bytes(tmp_path: Path, column: str) -> None:
    for name in ("a", "b"):
        write_submission(tmp_path / name, table([0.1, 0.2, 0.3]), column)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    check_submission(tmp_path / "a", IDS, column)


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=20))
def test_order_and_value_survive(tmp_path_factory: pytest.TempPathFactory, p: list[float]) -> None:
    archive = tmp_path_factory.mktemp("zip") / "prediction.zip"
    ids = np.arange(len(p))
    write_submission(archive, pd.DataFrame({"ID": ids, "probability": p}), "Task2")
    check_submission(archive, ids, "Task2")
    with ZipFile(archive) as file, file.open("prediction.csv") as content:
        found = pd.read_csv(content)["Task2"]
    assert found.tolist() == pytest.approx(p, rel=1e-8)


@pytest.mark.parametrize(
    ("probability", "ids", "message"),
    [
        ([0.1, 1.5, 0.2], IDS, "row 1: 1.5; expected a probability"),
        ([0.1, 0.5, -0.1], IDS, "row 2: -0.1; expected a probability"),
        ([0.1, float("nan"), 0.2], IDS, "row 1: .*; expected a probability"),
        ([0.1, 0.2, float("inf")], IDS, "row 2: inf; expected a probability"),
        ([0.1, 0.2], IDS, "2 rows; test has 3"),
        ([0.1, 0.2, 0.3], np.array([0, 2, 1]), "row 1: ID 1; test has 2 there"),
    ],
)
def test_what_the_leaderboard_would_refuse(
    tmp_path: Path, probability: list[float], ids: np.ndarray, message: str
) -> None:
    archive = tmp_path / "prediction.zip"
    write_submission(archive, table(probability), "Task2")
    with pytest.raises(InputError, match=message):
        check_submission(archive, ids, "Task2")


def test_another_column_or_member_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "prediction.zip"
    write_submission(archive, table([0.1, 0.2, 0.3]), "Task1")
    with pytest.raises(InputError, match=r"columns \['ID', 'Task1'\]; expected \['ID', 'Task2'\]"):
        check_submission(archive, IDS, "Task2")
    with ZipFile(archive, "a") as file:
        file.writestr("notes.txt", "hello")
    with pytest.raises(InputError, match=r"notes\.txt"):
        check_submission(archive, IDS, "Task1")


def test_a_refused_submission_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    params = load_params(ROOT / "params.yaml")
    write_array(paths.TEST_ID, IDS)
    for path in DATA:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    predictions = paths.predictions_path("test")
    table([0.1, 0.2, 0.3]).to_parquet(predictions)
    main(params.submit)
    before = paths.SUBMISSION.read_bytes()
    made_from = read_json(paths.ENVIRONMENT)["sha256"]
    assert made_from[str(predictions)] == file_sha256(predictions)
    table([0.1, 0.2, 3.0]).to_parquet(predictions)
    with pytest.raises(InputError, match="row 2"):
        main(params.submit)
    assert paths.SUBMISSION.read_bytes() == before
