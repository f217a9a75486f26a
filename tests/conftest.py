import gc
import pickle
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.common.guard import FORK_SERVER, environment
from pipeline.console.fork_server import fork_server
from tests.support.clone import HERE, Clone, write_small_params, write_small_source
from tests.support.fresh.runs import FreshRuns
from tests.support.references.run import ReferenceRun
from tests.support.shared import made_once, shared

if TYPE_CHECKING:
    import torch  # which takes seconds, and not every session needs it


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long", action="store_true", help="many more kills and inputs: what `make trust` runs"
    )
    parser.addoption(
        "--within", metavar="SECONDS", type=float, help="after which no test begins: `make check`"
    )
    parser.addoption(
        "--films", metavar="FOLDER", help="films with posters in the raw layout, for real encoders"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with tests of minutes come first, before all that of the fresh environment: one worker
    waits for them while the others do the rest. Of the others those of the whole, which take
    longest, so that at the end no worker waits long for another."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    fresh = {item.path for item in items if "fresh_runs" in getattr(item, "fixturenames", ())}
    whole = Path(__file__).parent / "whole"
    items.sort(
        key=lambda item: (
            item.path not in fresh,
            item.path not in slow,
            not item.path.is_relative_to(whole),
        )
    )


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """No garbage is looked for while all modules are imported, which saves a sixth of that."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@lru_cache(maxsize=1)
def keep_what_is_there(_begins: Path) -> None:
    """Once a file of tests: the collections that Accelerate asks for need not look at it, nor copy
    it in what forks."""
    gc.collect()
    gc.freeze()


@cache
def first_test_began() -> float:
    return time.monotonic()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("long") and not item.config.getoption("--long"):
        pytest.skip("a part of `make trust`")
    within, began = item.config.getoption("--within"), first_test_began()
    if within is not None and time.monotonic() - began >= within:
        pytest.skip(f"not begun within {within:g} seconds; `make unit` runs every test")
    keep_what_is_there(item.path)


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    """Whether the tests of `make trust` run in their long form."""
    return bool(request.config.getoption("--long"))


@pytest.fixture(scope="session")
def small_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = made_once(
        tmp_path_factory, "source", lambda folder: write_small_source(folder / "raw")
    )
    return folder / "raw"


@pytest.fixture(scope="session")
def small_params(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("params") / "small.yaml"
    write_small_params(path)
    return path


@pytest.fixture(scope="session")
def fresh_runs(
    small_source: Path, small_params: Path, long: bool, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FreshRuns]:
    folder = tmp_path_factory.mktemp("fresh") / "clone"
    runs = FreshRuns(folder, small_source, small_params, from_nothing=long)
    yield runs
    runs.stop()


@pytest.fixture(scope="session")
def forking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which stages start as they do by `make submission`.

    Of the first worker, without whom those of the others start by themselves.
    """
    with ExitStack() as entered:
        with shared(tmp_path_factory, "forking") as folder:
            path = folder / "socket"
            if not path.exists():
                theirs = environment()
                theirs.pop("PYTHONPATH", None)  # each runs the code of its clone
                entered.enter_context(fork_server(path, theirs))
        yield {FORK_SERVER: str(path)}


@pytest.fixture(scope="session")
def small_run(
    small_source: Path,
    small_params: Path,
    forking: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> ReferenceRun:
    """The pipeline on the small source, in the virtual environment of the tests.

    It runs once, of which each worker has a copy.
    """
    with shared(tmp_path_factory, "small") as folder:
        made = folder / "run.pickle"
        if not made.exists():
            clone = Clone(folder / "clone", HERE)
            clone.environment |= forking
            (clone.folder / "params.yaml").write_bytes(small_params.read_bytes())
            clone.change("data", source=str(small_source))
            made.write_bytes(pickle.dumps(ReferenceRun(clone, folder / "logs")))
    run: ReferenceRun = pickle.loads(made.read_bytes())
    return run.copied(tmp_path_factory.mktemp("small"))


@pytest.fixture
def cpu() -> Iterator["torch.device"]:
    import torch

    from tests.support.worlds.tiny_world import on_cpu

    with on_cpu():
        yield torch.device("cpu")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that the stages run in."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder
