import os
import shutil
import time
from pathlib import Path

import pytest

from pipeline.common import paths
from pipeline.common.files import InputError, write_json
from pipeline.console import submission
from pipeline.settings.params import load_params

ROOT = Path(__file__).resolve().parents[3]
RANKED = {"auc": 0.9, "gauc": 0.8, "logloss": 0.4, "oracle_auc": 0.95}
JUDGED = {"auc": 0.7, "gauc": None, "logloss": 0.5, "auc_cold_items": 0.6}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "raw").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("workspace")
def test_a_second_run_beside_the_first_is_refused() -> None:
    with submission.alone(), pytest.raises(InputError, match="another"), submission.alone():
        pass


def test_a_fault_in_params_is_told_before_dvc_starts(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[str] = []
    monkeypatch.setattr(submission, "dvc", started.append)
    monkeypatch.setattr("sys.argv", ["submission"])
    params = workspace / "params.yaml"
    params.write_text(params.read_text().replace("learning_rate: 0.002", "learning_rate: -1"))
    with pytest.raises(SystemExit) as exit:
        submission.main()
    assert "train.learning_rate" in str(exit.value.code)
    assert started == []
    capsys.readouterr()


def test_settings_are_taken_before_dvc_starts(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And stay when the run fails: what is typed then is typed to mend it."""
    found: list[str] = []

    def dvc(*_: str) -> int:
        found.append(load_params().data.source)
        return 1

    monkeypatch.setattr(submission, "dvc", dvc)
    monkeypatch.setattr("sys.argv", ["submission", "--source", "raw"])
    with pytest.raises(SystemExit):
        submission.main()
    assert found == [load_params().data.source] == [str(workspace / "raw")]


@pytest.mark.parametrize("status", [0, 3])
def test_exit_code_and_report(
    status: int,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_json(paths.valid_metrics_path("all"), RANKED)
    write_json(paths.valid_metrics_path("cold_items"), {"auc": None})
    write_json(paths.TASK1_METRICS, JUDGED)
    for stage in ("train", "submit", "ingest"):
        path = workspace / "scratch" / stage / "seconds"
        path.parent.mkdir(parents=True)
        path.write_text("12.5\n")
        os.utime(path, (time.time() - 100,) * 2)
    calls: list[tuple[str, ...]] = []

    def dvc(*arguments: str) -> int:
        calls.append(arguments)
        for second, stage in enumerate(("ingest", "submit"), start=1):
            os.utime(workspace / "scratch" / stage / "seconds", (time.time() + second,) * 2)
        return status

    monkeypatch.setattr(submission, "dvc", dvc)
    monkeypatch.setattr("sys.argv", ["submission"])
    with pytest.raises(SystemExit) as exit:
        submission.main()
    assert exit.value.code == (1 if status else 0)
    assert calls == [("repro",)]
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    if status:
        assert lines == []
        return
    assert ["Task", "2", "0.9000", "0.8000", "0.4000", "none"] in lines
    assert ["Task", "1,", "by", "DIN", "0.7000", "none", "0.5000", "0.6000"] in lines
    assert ["the", "best", "possible", "0.9500"] in lines
    assert [line for line in lines if line[-1:] == ["12.5"]] == [
        ["ingest", "12.5"],
        ["submit", "12.5"],
    ]
    assert lines[-1] == ["Task", "2:", "submissions/task2/prediction.zip"]


def test_a_run_in_which_nothing_was_to_do() -> None:
    assert submission.seconds(time.time()).columns[0]._cells == ["all up to date"]
