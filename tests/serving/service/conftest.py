from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from serving.folder import read_package
from serving.scorer import Scorer
from serving.service.app import application
from tests.support.worlds.packaged import write_package


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_package(tmp_path_factory.mktemp("packages") / "tiny")


@pytest.fixture(scope="session")
def scorer(package: Path) -> Scorer:
    return Scorer.load(package)


@pytest.fixture(scope="module")
def client(package: Path) -> Iterator[TestClient]:
    """What an unforeseen error is answered by is seen as others see it."""
    app = application(read_package(package))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client
