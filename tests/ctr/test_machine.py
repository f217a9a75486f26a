import os
from types import SimpleNamespace

import pytest
import torch

from ctr.machine import available_cores, open_accelerator, use_all_cores
from pipeline.params import CtrPrecision
from pipeline.schema import InputError

pytestmark = pytest.mark.usefixtures("cpu")


@pytest.mark.parametrize("launcher", ["1", "", None])
def test_all_available_cores_despite_the_launcher(
    launcher: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctr.machine.available_cores", lambda: 7)
    if launcher is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", launcher)
    use_all_cores()
    assert torch.get_num_threads() == 7
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    use_all_cores()
    assert torch.get_num_threads() == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    use_all_cores()
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("own", ["3", "4,2"])
def test_the_users_own_number_of_threads_is_kept(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", own)
    torch.set_num_threads(5)
    use_all_cores()
    assert torch.get_num_threads() == 5


def test_available_cores_are_those_of_this_process_or_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 2, 5}, raising=False)
    assert available_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 9)
    assert available_cores() == 9


@pytest.mark.parametrize("precision", ["fp16", "tf32"])
def test_a_precision_that_the_machine_lacks(precision: CtrPrecision) -> None:
    with pytest.raises(
        InputError, match=rf"train\.mixed_precision is {precision}, which needs a GPU"
    ):
        open_accelerator("train", precision)


def test_tf32_is_asked_of_torch_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = SimpleNamespace(device=torch.device("cuda"))
    monkeypatch.setattr("ctr.machine.Accelerator", lambda **_settings: gpu)
    cases: list[tuple[CtrPrecision, str]] = [("tf32", "high"), ("bf16", "highest")]
    for precision, expected in cases:
        open_accelerator("train", precision)
        assert torch.get_float32_matmul_precision() == expected
