"""How many inputs are tried, and the count of them that ends the session's report."""

import secrets
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import HealthCheck, seed, settings

Test = Callable[..., None]
Tries = Callable[[str, int, int], Callable[[Test], Test]]
"""A test's name, and its examples in the short and the long form; gives its decorator."""

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
def workspace(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("os.fsync", lambda _: None)  # most of the time, and of no matter here
    return workspace


@pytest.fixture(scope="session")
def tries(long: bool) -> Tries:
    """The same examples every time in the short form, new ones in the long form."""

    def decorator(name: str, short: int, many: int) -> Callable[[Test], Test]:
        chosen = settings(
            max_examples=many if long else short,
            database=None,
            deadline=None,
            print_blob=long,
            suppress_health_check=list(HealthCheck),
        )
        number = secrets.randbits(32) if long else crc32(name.encode())
        return lambda test: seed(number)(chosen(test))

    return decorator
