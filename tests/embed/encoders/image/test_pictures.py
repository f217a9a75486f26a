from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from embed.encoders.image import pictures
from embed.encoders.image.pictures import AT_A_TIME, in_parts
from embed.encoders.pixels import arranged
from pipeline.settings.params import Params
from tests.embed.encoders.image.test_timm_models import CONVOLUTIONS, from_file, saved


def test_an_encoder_on_a_cpu_takes_a_batch_in_parts(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = from_file(params, CONVOLUTIONS, saved(CONVOLUTIONS, tmp_path / "w.pt")).encoder
    pixels = torch.randint(256, (7, 3, 32, 32), dtype=torch.uint8)
    at_once, sizes = encoder.forward({"pixels": pixels}), []
    monkeypatch.setattr(pictures, "AT_A_TIME", 3 * 32**2)
    with nn.modules.module.register_module_forward_pre_hook(
        lambda module, inputs: (
            sizes.append(len(inputs[0])) if isinstance(module, nn.Conv2d) else None
        )
    ):
        in_turn = encoder.forward({"pixels": pixels})
    assert {*sizes} == {3, 1}
    assert (in_turn - at_once).norm() < 1e-3 * at_once.norm()


def test_a_batch_is_encoded_by_parts_of_as_many_pixels_as_the_caches_hold() -> None:
    seen = []

    def forward(inputs: dict[str, Tensor]) -> Tensor:
        seen.append(len(inputs["pixels"]))
        return inputs["pixels"].float().mean((2, 3))

    for size, parts in ((224, [16, 16, 8]), (1024, [1] * 40), (56, [40])):
        pixels = torch.arange(40, dtype=torch.uint8)[:, None, None, None].expand(40, 3, size, size)
        assert size**2 * max(parts) <= max(AT_A_TIME, size**2)
        vectors = in_parts(forward)({"pixels": pixels})
        assert vectors.tolist() == [[number] * 3 for number in range(40)]
        assert seen == parts
        seen.clear()


def test_weights_of_pictures_are_arranged_and_others_left() -> None:
    model = nn.ModuleList([nn.Conv2d(3, 4, 2), nn.Conv3d(3, 4, 2), nn.Linear(5, 4)])
    before = [weight.detach().clone() for weight in model.parameters()]
    arranged(model, torch.device("cpu"))
    picture = model[0].weight
    assert isinstance(picture, Tensor)
    assert picture.is_contiguous(memory_format=torch.channels_last)
    for weight, old in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(weight.detach(), old, rtol=0, atol=0)
