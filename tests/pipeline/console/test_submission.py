import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dvc.repo import Repo
from sklearn.metrics import roc_auc_score

from pipeline.common import paths
from pipeline.common.files import InputError, write_array, write_json
from pipeline.common.guard import FORK_SERVER
from pipeline.common.paths import CLICKS
from pipeline.console import fork_server, results, submission
from pipeline.settings.params import load_params
from pipeline.tables.auc import auc_gain_error

ROOT = Path(__file__).resolve().parents[3]
RANKED = {"auc": 0.9, "gauc": 0.8, "logloss": 0.4, "oracle_auc": 0.95, "rows": 1200}
ERRORS = {"auc_se": 0.0125, "gauc_se": None, "logloss_se": 0.25}
COLD = {"auc": None, "auc_se": None, "rows": 0}
JUDGED = {"auc": 0.7, "gauc": None, "logloss": 0.5, "auc_cold_items": 0.6}
GRAPH = """
stages:
  ingest:
    cmd: mkdir -p scratch/ingest && echo 12.5 > scratch/ingest/seconds && echo > raw.txt
    params: [data.source]
    outs: [raw.txt]
  train:
    foreach: [main, trees]
    do:
      cmd: >-
        mkdir -p scratch/train@${item} && echo 12.5 > scratch/train@${item}/seconds
        && echo > ${item}
      deps: [raw.txt]
      outs: ["${item}"]
  submit:
    cmd: >-
      mkdir -p scratch/submit && echo 12.5 > scratch/submit/seconds
      && echo ${submit.column} > zip
    deps: [main]
    outs: [zip]
"""
"""Its commands leave the seconds that a stage leaves."""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "raw" / CLICKS).mkdir(parents=True)
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
    monkeypatch.setattr(submission, "repro", lambda: started.append("dvc"))
    monkeypatch.setattr("sys.argv", ["submission"])
    params = workspace / "params.yaml"
    params.write_text(params.read_text().replace("learning_rate: 0.003", "learning_rate: -1"))
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

    def repro() -> int:
        found.append(load_params().data.source)
        return 1

    monkeypatch.setattr(submission, "repro", repro)
    monkeypatch.setattr("sys.argv", ["submission", "--source", "raw"])
    with pytest.raises(SystemExit):
        submission.main()
    assert found == [load_params().data.source] == [str(workspace / "raw")]


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("users", [None, "", "another socket"])
def test_stages_are_forked_unless_the_user_says_how(
    users: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    def dvc(*_: str, **variables: str) -> int:
        server = Path(variables.get(FORK_SERVER, "none"))
        asked.append(str(server) if server.is_socket() else os.environ.get(FORK_SERVER))
        return 3

    monkeypatch.setattr(submission, "dvc", dvc)
    monkeypatch.setattr(fork_server, "DEVICES", Path("nowhere"))
    if not fork_server.can_fork():
        pytest.skip("nothing is forked on this system")
    monkeypatch.delenv(FORK_SERVER, raising=False)
    if users is not None:
        monkeypatch.setenv(FORK_SERVER, users)
    assert submission.repro() == 3
    (found,) = asked
    if users is None:
        assert found is not None
        assert not Path(found).exists()
    else:
        assert found == users


@pytest.fixture
def pipeline(workspace: Path) -> Path:
    """A small graph, and the metrics of a run."""
    Repo.init(no_scm=True)
    (workspace / "dvc.yaml").write_text(GRAPH)
    write_json(paths.valid_metrics_path("all"), RANKED | ERRORS)
    write_json(paths.valid_metrics_path("cold_items"), COLD)
    write_json(paths.TASK1_METRICS, JUDGED)
    write_valid()
    return workspace


def write_valid(rows: int = 8, seed: int = 0) -> None:
    """Rows of four users, and predictions for them."""
    label = np.arange(rows) % 2
    write_array(
        paths.split_path("valid"),
        np.stack([*np.ones((4, rows), int), label, np.arange(rows) % 4], axis=1).astype(np.int32),
    )
    path = paths.predictions_path("valid")
    path.parent.mkdir(exist_ok=True)
    probability = np.random.default_rng(seed).random(rows)
    pd.DataFrame({"ID": range(rows), "probability": probability}).to_parquet(path)


def make_submission(monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code."""
    monkeypatch.setattr("sys.argv", ["submission"])
    with pytest.raises(SystemExit) as exit:
        submission.main()
    assert isinstance(exit.value.code, int)
    return exit.value.code


@pytest.mark.usefixtures("pipeline")
def test_the_report(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert make_submission(monkeypatch) == 0
    told = capsys.readouterr().out.splitlines()
    lines = [line.split() for line in told]
    place = lines.index(["Task", "2", "0.9000", "0.8000", "0.4000", "none"])
    assert lines[place + 1] == ["±", "over", "users", "0.0125", "none", "0.2500", "none"]
    assert "before" not in " ".join(told)
    assert "Cold items" not in " ".join(told)
    assert ["Task", "1,", "by", "DIN", "0.7000", "none", "0.5000", "0.6000"] in lines
    assert ["the", "best", "possible", "0.9500"] in lines
    assert told[-8:] == [
        "Report: report/index.html",
        "Task 1: submissions/task1/item_info.parquet",
        "Task 2: submissions/task2/prediction.zip",
        "",
        "Next:",
        *(f"- {step}" for step in results.next_steps("sample")),
    ]


def probabilities() -> np.ndarray:
    return pd.read_parquet(paths.predictions_path("valid"))["probability"].to_numpy()


@pytest.mark.usefixtures("pipeline")
@pytest.mark.parametrize("lay_there", ["a run", "other rows", "damaged", "two runs", "one file"])
def test_what_an_earlier_run_reached_stands_beside(
    lay_there: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If it was one run, and measured on the same rows."""
    write_valid(7 if lay_there == "other rows" else 8)
    rows, earlier = np.arange(8), np.zeros(8)
    if lay_there in ("a run", "two runs"):
        earlier = probabilities()
    auc = roc_auc_score(rows % 2, earlier) + (0.01 if lay_there == "two runs" else 0)
    write_json(paths.valid_metrics_path("all"), RANKED | ERRORS | {"auc": auc})
    if lay_there == "damaged":
        paths.predictions_path("valid").write_bytes(b"PAR1")
    if lay_there == "one file":
        paths.valid_metrics_path("cold_items").unlink()

    def repro() -> int:
        write_json(paths.valid_metrics_path("all"), RANKED | ERRORS | {"auc": 0.8})
        write_json(paths.valid_metrics_path("cold_items"), COLD | {"auc": 0.75, "rows": 34})
        write_valid(seed=1)
        return 0

    monkeypatch.setattr(submission, "repro", repro)
    assert make_submission(monkeypatch) == 0
    told, now = capsys.readouterr().out, probabilities()
    lines = [line.split() for line in told.splitlines()]
    assert ["Task", "2", "0.8000", "0.8000", "0.4000", "0.7500"] in lines
    assert "Cold items, which train does not have, are in 34 of 1,200 rows." in told
    assert ("before" in told) == (lay_there == "a run")
    if lay_there == "a run":
        assert ["before", "this", "run", f"{auc:.4f}", "0.8000", "0.4000", "none"] in lines
        gain = roc_auc_score(rows % 2, now) - auc
        error = auc_gain_error(rows % 2, now, earlier, rows % 4)
        assert f"AUC against the run before: {gain:+.4f} ± {error:.4f}, over" in told


@pytest.mark.usefixtures("pipeline")
def test_the_same_predictions_are_no_other_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(submission, "repro", lambda: 0)
    assert make_submission(monkeypatch) == 0
    assert "before" not in capsys.readouterr().out


@pytest.mark.parametrize("shell", ["sleep 60", "trap '' INT; sleep 2; touch saved; exit 3"])
def test_a_run_that_is_interrupted_waits_and_says_how_to_go_on(pipeline: Path, shell: str) -> None:
    """Ctrl-C comes to all processes of the terminal, and a stage may take time to save."""
    stage = f"touch begun; {shell}"
    (pipeline / "dvc.yaml").write_text(f'stages: {{ingest: {{cmd: "{stage}"}}}}')
    command = [sys.executable, "-m", "pipeline.console.submission"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    end = time.monotonic() + 60
    while not (pipeline / "begun").exists() and time.monotonic() < end:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told.endswith("stopped: `make submission` goes on from what is finished\n")
    assert "submission.py" not in told
    assert (pipeline / "saved").exists() == ("saved" in shell)


@pytest.mark.usefixtures("pipeline")
def test_damaged_metrics_of_an_earlier_run_are_no_hindrance(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def repro() -> int:
        write_json(paths.valid_metrics_path("all"), RANKED | ERRORS)
        return 0

    monkeypatch.setattr(submission, "repro", repro)
    paths.valid_metrics_path("all").write_text("{")
    assert make_submission(monkeypatch) == 0
    assert "before" not in capsys.readouterr().out


def test_a_stage_that_fails_ends_it_without_a_report(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (pipeline / "dvc.yaml").write_text("stages: {ingest: {cmd: exit 3}}")
    assert make_submission(monkeypatch) == 1
    assert capsys.readouterr().out == ""


def test_what_ran_has_its_seconds_and_what_did_not_was_cached(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also what DVC brings back of an earlier run, which has seconds of its own."""
    params, names = pipeline / "params.yaml", ["ingest", "train@main", "train@trees", "submit"]
    first = params.read_text()
    for column, cells in (
        ("Task2", ["12.5"] * 4),
        ("Task1", ["cached"] * 3 + ["12.5"]),
        ("Task2", ["cached"] * 4),
    ):
        params.write_text(first.replace("column: Task2", f"column: {column}"))
        assert make_submission(monkeypatch) == 0
        assert (pipeline / "zip").read_text() == f"{column}\n"
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        header = lines.index(["stage", "seconds"])
        table = lines[header + 2 : lines.index([], header)]
        assert table == [list(row) for row in zip(names, cells, strict=True)]
