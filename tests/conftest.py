from collections.abc import Iterator

import pytest
import torch

from tests.ctr.tiny_world import forget_accelerator


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long", action="store_true", help="many more kills and inputs: what `make trust` runs"
    )


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    """Whether the tests of `make trust` run in their long form."""
    return bool(request.config.getoption("--long"))


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """Accelerate on a CPU (where equal seeds give equal bytes), in one process, outside DVC."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # a user's choice, which the stages then respect
    for name in ("DVC_STAGE", "LOCAL_WORLD_SIZE", "ACCELERATE_MIXED_PRECISION"):
        monkeypatch.delenv(name, raising=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the fastest for tiny models
    forget_accelerator()
    yield torch.device("cpu")
    forget_accelerator()
    torch.set_num_threads(threads)
