from types import SimpleNamespace

import pytest
import torch

from ctr.machine import open_accelerator
from pipeline.params import CtrPrecision
from pipeline.schema import InputError

pytestmark = pytest.mark.usefixtures("cpu")


@pytest.mark.parametrize("precision", ["fp16", "tf32"])
def test_a_precision_that_the_machine_lacks(precision: CtrPrecision) -> None:
    with pytest.raises(
        InputError, match=rf"train\.mixed_precision is {precision}, which needs a GPU"
    ):
        open_accelerator("train", precision)


def test_tf32_is_asked_of_torch_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = SimpleNamespace(device=torch.device("cuda"), num_processes=1)
    monkeypatch.setattr("ctr.machine.tell_device", lambda *_told: None)
    monkeypatch.setattr("ctr.machine.Accelerator", lambda **_settings: gpu)
    cases: list[tuple[CtrPrecision, str]] = [("tf32", "high"), ("bf16", "highest")]
    for precision, expected in cases:
        open_accelerator("train", precision)
        assert torch.get_float32_matmul_precision() == expected
