from pathlib import Path

import pytest

from tests.support.clone import HERE, Clone
from tests.support.references.run import ReferenceRun


@pytest.fixture(scope="session")
def run(
    long: bool, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> ReferenceRun:
    """Of the sample in the long form, else of the small source."""
    if not long:
        small: ReferenceRun = request.getfixturevalue("small_run")
        return small
    folder: Path = tmp_path_factory.mktemp("sample")
    return ReferenceRun(Clone(folder / "clone", HERE), folder / "logs")
