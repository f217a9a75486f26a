from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stage_processes import StageProcesses
from tests.support.worlds.tiny_world import write_world


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a tiny world in it."""
    monkeypatch.chdir(tmp_path)
    write_world()
    return tmp_path


@pytest.fixture(scope="session")
def processes() -> Iterator[StageProcesses]:
    """Of the stages of training."""
    imported = ("boosting.training", "engine.machine", "models.architecture")
    packages = ("lightgbm", "pandas", "torch._dynamo")  # the last by torch's optimizers
    with StageProcesses(*(f"ctr.{name}" for name in imported), *packages) as processes:
        yield processes
