import sys
from types import SimpleNamespace

import pytest
import torch

from ctr.engine.machine import (
    FreedMemory,
    give_back_freed_memory,
    held_memory,
    keep_freed_memory,
    open_accelerator,
)
from pipeline.common.files import InputError
from pipeline.common.section import CtrPrecision

pytestmark = pytest.mark.usefixtures("cpu")


@pytest.mark.parametrize("precision", ["fp16", "tf32"])
def test_a_precision_that_the_machine_lacks(precision: CtrPrecision) -> None:
    with pytest.raises(
        InputError, match=rf"train\.mixed_precision is {precision}, which needs a GPU"
    ):
        open_accelerator("train", precision)


def test_tf32_is_asked_of_torch_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = SimpleNamespace(device=torch.device("cuda"), num_processes=1)
    monkeypatch.setattr("ctr.engine.machine.tell_device", lambda *_told: None)
    monkeypatch.setattr("ctr.engine.machine.Accelerator", lambda **_settings: gpu)
    cases: list[tuple[CtrPrecision, str]] = [("tf32", "high"), ("bf16", "highest")]
    for precision, expected in cases:
        open_accelerator("train", precision)
        assert torch.get_float32_matmul_precision() == expected


MB = 10**6


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc's malloc and /proc")
def test_freed_memory_is_kept_until_it_is_given_back() -> None:
    keep_freed_memory()
    give_back_freed_memory()
    before = held_memory()
    tensors = [torch.ones(10 * MB) for _ in range(5)]
    small = [torch.ones(200) for _ in range(5)]  # above them, so that the heap's end is in use
    assert 190 * MB < held_memory() - before < 230 * MB
    del tensors
    assert held_memory() - before > 190 * MB
    give_back_freed_memory()
    assert held_memory() - before < 30 * MB
    assert len(small) == 5


def test_what_exceeds_a_batchs_need_by_half_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least need counts, and after giving back the next batch says anew what that is."""
    held = [100, 120, 90, 134, 136, 300, 449, 451]
    left = iter(held)
    given_back: list[None] = []
    freed = FreedMemory()
    monkeypatch.setattr("ctr.engine.machine.held_memory", lambda: next(left))
    monkeypatch.setattr(
        "ctr.engine.machine.give_back_freed_memory", lambda: given_back.append(None)
    )
    counts = []
    for _ in held:
        freed.bound()
        counts.append(len(given_back))
    assert counts == [0, 0, 0, 0, 1, 1, 1, 2]
