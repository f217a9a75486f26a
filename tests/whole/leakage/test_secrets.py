"""Secrets in a user's environment are in no output, no log and no message of any stage."""

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from ctr import blend, evaluate, judge, predict, train
from embed import diagnose
from pipeline import submit
from tests.whole.leakage.worlds import STAGES, Run, raw_world

CANARY = "canary-5f2b8c"
NAMES = ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "DATABASE_URL", "MY_API_KEY", "DVC_STUDIO_TOKEN")


class Closing(list[str]):
    """In the place of the line that a stage closes with: all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def __setitem__(self, _place: Any, told: Any) -> None:
        self.lines += told


def test_no_stage_writes_or_says_what_the_environment_holds(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, f"{CANARY}-{name}")
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr("pipeline.common.stage._told", closing := Closing())
    run = Run(raw_world(tmp_path / "raw", 3), tmp_path / "work", 3)
    run.work.mkdir()
    later = (diagnose, train, judge, predict, blend, evaluate, submit)
    run.stages(*STAGES, *later, judge={"rows": 0, "batch_size": 100, "epochs": 1})
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert run.work / "submissions/task2/prediction.zip" in files
    assert run.work / "metrics/task1.json" in files
    assert [str(path) for path in files if CANARY.encode() in path.read_bytes()] == []
    printed = capfd.readouterr()
    for text in (caplog.text, printed.out, printed.err, *closing.lines):
        assert CANARY not in text
    assert "epoch" in caplog.text, "the stages do log"
    assert len(closing.lines) == len(STAGES) + len(later)
    assert CANARY in os.environ["HF_TOKEN"]
