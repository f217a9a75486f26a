"""How many inputs are tried, and the count of them that ends the session's report."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

TALLY = pytest.StashKey[Counter[str]]()


@pytest.fixture(scope="session")
def tally(request: pytest.FixtureRequest) -> Counter[str]:
    """How often each kind of input was tried; the session's report ends with it."""
    return request.config.stash.setdefault(TALLY, Counter())


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    counts = config.stash.get(TALLY, Counter())
    if counts:
        tried = ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
        terminalreporter.write_line(f"fuzz: {tried}")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that the stages run in."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("os.fsync", lambda _: None)  # most of the time, and of no matter here
    return folder


@pytest.fixture(scope="session")
def examples(long: bool) -> settings:
    """The same examples every time in the short form, new ones in the long form."""
    return settings(
        max_examples=2_000 if long else 300,
        derandomize=not long,
        database=None,
        deadline=None,
        print_blob=long,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
