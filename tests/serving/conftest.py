from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import pytest

from serving.scorer import Scorer
from tests.serving.packaged import FOLDER, KINDS, write_packaged
from tests.support.worlds.tiny_world import on_cpu

World = Callable[[str], Path]


@pytest.fixture(scope="session")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The folder of a kind's world, which tests only read; made when it is first asked for."""
    made: dict[str, Path] = {}

    def world(kind: str) -> Path:
        if kind not in made:
            folder = tmp_path_factory.mktemp("packaged")
            with chdir(folder), on_cpu():
                write_packaged(kind)
            made[kind] = folder
        return made[kind]

    return world


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest, packaged: World) -> Path:
    """Of each kind in turn."""
    return packaged(request.param)


@pytest.fixture
def scorer(world: Path) -> Scorer:
    return Scorer.load(world / FOLDER)


@pytest.fixture
def qin(packaged: World) -> Path:
    return packaged("qin")
