"""Which rows stay in memory."""

import pytest
import torch

from ctr.engine.data import Table, fits

TABLES = [Table(torch.zeros(2, 8, dtype=torch.int32)), Table(torch.zeros(2, 3).half())]
BYTES = 76


@pytest.mark.parametrize(("free", "expected"), [(4 * BYTES, True), (4 * BYTES - 1, False)])
def test_a_gpu_keeps_what_fits_a_quarter_of_its_memory(
    free: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda _device: (free, 10**9))
    assert fits(TABLES, torch.device("cuda"), world=3) is expected


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize(("more", "expected"), [(0, True), (-1, False)])
def test_processes_on_a_cpu_keep_what_fits_a_quarter_of_the_memory_that_is_free(
    world: int, more: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = world * 4 * BYTES + more
    monkeypatch.setattr("ctr.engine.data.available_memory", lambda: free)
    assert fits(TABLES, torch.device("cpu"), world) is expected
