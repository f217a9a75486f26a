"""Bars of stages as they run by themselves and under DVC, on a terminal and piped."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from pipeline.common.files import write_array
from pipeline.common.paths import ITEM, PARAMS
from tests.support.code.graph import ROOT, graph
from tests.support.terminal import lines, on_terminal

ENVIRONMENT = {"PYTHONPATH": str(ROOT)}
ITEMS = 59
ALONE = [sys.executable, "-m", "embed.neighbors"]
UNDER_DVC = [sys.executable, "-m", "dvc", "repro"]
BAR = re.compile(r"\rnearest items: 100%\|█+\| 59/59 \[00:\d\d<00:00, +[\d.]+item/s\]")
"""The last step, with the time left and the rate."""
TOLD = r"^neighbors: exact, k 20, mean cosine 0\.\d{4}, recall 1\.0000 \(\d+\.\d s\)$"
LOGGING = """
import logging
from tqdm import tqdm
from pipeline.common.stage import run

def main(_section):
    for part in tqdm(range(3), "parts", disable=None):
        logging.info("part %d is done", part)

run("neighbors", main)
"""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pipeline of the stage `neighbors` alone, by its command in dvc.yaml, and what it reads."""
    monkeypatch.chdir(tmp_path)
    PARAMS.write_bytes((ROOT / PARAMS).read_bytes())
    write_array(ITEM, np.random.default_rng(0).normal(size=(ITEMS + 1, 8)).astype(np.float32))
    stage = {"cmd": graph()["neighbors"]["cmd"], "deps": [str(ITEM)]}
    YAML().dump({"stages": {"neighbors": stage}}, Path("dvc.yaml"))
    Repo.init(no_scm=True)
    return tmp_path


@pytest.mark.parametrize("command", [ALONE, UNDER_DVC], ids=["alone", "under DVC"])
def test_a_terminal_sees_the_bar(command: list[str], workspace: Path) -> None:
    written = on_terminal(command, workspace, ENVIRONMENT)
    assert BAR.search(written)
    seen = lines(written)
    assert [line for line in seen if re.search(TOLD, line)]
    assert not [line for line in seen if "nearest items" in line]  # it goes when it is done


@pytest.mark.parametrize("command", [ALONE, UNDER_DVC], ids=["alone", "under DVC"])
def test_a_pipe_has_none(command: list[str], workspace: Path) -> None:
    piped = subprocess.run(command, capture_output=True, text=True, check=True, cwd=workspace)
    assert re.search(TOLD, piped.stdout, re.MULTILINE)
    assert "nearest items" not in piped.stdout + piped.stderr
    assert "\r" not in piped.stdout + piped.stderr


def test_a_line_stands_above_the_bar(workspace: Path) -> None:
    seen = lines(on_terminal([sys.executable, "-c", LOGGING], workspace, ENVIRONMENT))
    assert seen[:3] == [f"part {part} is done" for part in range(3)]
    assert seen[3].startswith("parts: 100%|")
    assert seen[4].startswith("neighbors: done")
