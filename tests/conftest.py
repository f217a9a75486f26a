from collections.abc import Iterator

import pytest
import torch

from tests.ctr.tiny_world import forget_accelerator


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
