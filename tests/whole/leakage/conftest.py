"""Undisturbed runs of the stages, which the tests compare with; each world is run once."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.shared import made_once
from tests.whole.leakage.worlds import STAGES, Change, Run, change_splits, raw_world

Again = Callable[[Run, Change, Sequence[ModuleType]], Run]


@pytest.fixture(scope="session")
def reference_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Run]:
    """The world of a seed after all stages before `train`."""
    runs: dict[int, Run] = {}

    def reference(seed: int) -> Run:
        if seed not in runs:
            folder = made_once(
                tmp_path_factory, f"world{seed}", lambda folder: make_world(folder, seed)
            )
            runs[seed] = Run(folder / "raw", folder / "work", seed)
        return runs[seed]

    return reference


def make_world(folder: Path, seed: int) -> None:
    run = Run(raw_world(folder / "raw", seed), folder / "work", seed)
    run.work.mkdir()
    run.stages(*STAGES)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`world` is the seed of each world to try."""
    if "world" in metafunc.fixturenames:
        metafunc.parametrize("world", range(3, 13 if metafunc.config.getoption("--long") else 4))


@pytest.fixture(scope="session")
def reference(reference_of: Callable[[int], Run]) -> Run:
    return reference_of(3)


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Run], Run]:
    """A copy of a run, to change."""

    def copy(run: Run) -> Run:
        raw = shutil.copytree(run.raw, tmp_path / "raw", dirs_exist_ok=True)
        work = shutil.copytree(run.work, tmp_path / "work", dirs_exist_ok=True)
        return Run(raw, work, run.seed)

    return copy


@pytest.fixture
def again(copied: Callable[[Run], Run]) -> Again:
    """Some stages, run again on a world whose valid and test are changed.

    All of them, then from nothing.
    """

    def run_again(run: Run, change: Change, stages: Sequence[ModuleType]) -> Run:
        changed = copied(run)
        change_splits(changed.raw, change)
        if set(stages) == set(STAGES):
            shutil.rmtree(changed.work)
            changed.work.mkdir()
        changed.stages(*stages)
        return changed

    return run_again
