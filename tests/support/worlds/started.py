"""As if a launcher had started this process."""

import pytest

from pipeline.common.launcher import Launcher


def start_by(monkeypatch: pytest.MonkeyPatch, command: str, **environment: str) -> None:
    found = Launcher(command.split(), environment)
    monkeypatch.setattr("pipeline.common.launch.launcher", lambda: found)
