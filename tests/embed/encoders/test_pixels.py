from typing import Any

import pytest
import torch
from torch import Tensor

from embed.encoders.pixels import normalize


def test_mean_and_deviation_go_to_the_device_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    tensor = torch.tensor

    def count(values: object, **options: Any) -> Tensor:
        made.append(values)
        return tensor(values, **options)

    monkeypatch.setattr(torch, "tensor", count)
    mean, std = (0.111, 0.222, 0.333), (0.444, 0.555, 0.666)  # of no other test
    for _ in range(3):
        found = normalize(torch.full((2, 3, 1, 1), 51, dtype=torch.uint8), mean, std)
    assert made == [mean, std]
    expected = [(0.2 - m) / s for m, s in zip(mean, std, strict=True)]
    assert found[1, :, 0, 0].tolist() == pytest.approx(expected, abs=1e-6)
