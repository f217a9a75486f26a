from pathlib import Path

import pytest

from tests.support.worlds.tiny_world import write_world


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a tiny world in it."""
    monkeypatch.chdir(tmp_path)
    write_world()
    return tmp_path
