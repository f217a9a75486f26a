"""transformers' image encoders: vectors as the model gives them of its own processor's pixels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoImageProcessor,
    CLIPVisionModelWithProjection,
    ConvNextModel,
    ViTModel,
)

from embed import image
from embed.covers.decode import CoverError
from embed.encoders.image.image_encoder import ImageEncoder
from embed.encoders.image.pictures import load_image_encoder
from embed.encoders.image.transformers_image import ProcessedPixels
from pipeline.common.files import InputError, read_array, read_json
from pipeline.common.paths import IMAGE, IMAGE_PRESENT, array_info
from pipeline.settings.embed.image import EmbedImage
from pipeline.settings.params import Params
from tests.embed.conftest import CPU, Catalogue, picture
from tests.support.worlds.tiny_image import (
    Make,
    clip,
    convnext,
    dino,
    dino_3,
    masked,
    of_any_size,
    of_patches,
    of_text,
    saved,
    siglip,
    vit,
)

load_processor: Callable[..., Any] = AutoImageProcessor.from_pretrained
"""transformers' own function, which comes without types."""


def section(params: Params, folder: Path, **changes: object) -> EmbedImage:
    settings = {"library": "transformers", "model": str(folder), "local": str(folder)}
    return EmbedImage.model_validate(params.embed_image.model_dump() | settings | changes)


def loaded(params: Params, folder: Path, **changes: object) -> ImageEncoder:
    return load_image_encoder(section(params, folder, **changes), CPU)


def encoded(encoder: ImageEncoder, *pictures: Image.Image) -> np.ndarray:
    pixels = torch.from_numpy(np.stack([encoder.to_pixels(each) for each in pictures]))
    return encoder.encoder.forward({"pixels": pixels}).numpy()


def pixels_of(folder: Path, each: Image.Image) -> Tensor:
    processor = load_processor(folder)
    found: Tensor = processor(images=each, return_tensors="pt")["pixel_values"]
    return found


@torch.no_grad()
def one_by_one(
    model: Any, folder: Path, read: Callable[[Any, Tensor], Tensor], *pictures: Image.Image
) -> np.ndarray:
    model.eval()
    return np.stack([read(model, pixels_of(folder, each))[0].numpy() for each in pictures])


def pooled(model: Any, pixels: Tensor) -> Tensor:
    found: Tensor = model(pixel_values=pixels).pooler_output.flatten(1)
    return found


def features(model: Any, pixels: Tensor) -> Tensor:
    """In the space that a dual model's titles and covers share."""
    ids = torch.tensor([[2, 5, 3]])
    found: Tensor = model(input_ids=ids, pixel_values=pixels).image_embeds
    return found


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("make", [vit, dino, dino_3, convnext])
def test_vectors_are_the_models_pooled_output(params: Params, tmp_path: Path, make: Make) -> None:
    folder = saved(tmp_path / "model", make())
    model = type(make()[0]).from_pretrained(folder)
    found = encoded(loaded(params, folder), picture(1), picture(2))
    expected = one_by_one(model, folder, pooled, picture(1), picture(2))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3


@pytest.mark.parametrize("make", [clip, siglip])
def test_a_dual_models_covers_lie_in_its_shared_space(
    params: Params, tmp_path: Path, make: Make
) -> None:
    folder = saved(tmp_path / "model", make())
    model = type(make()[0]).from_pretrained(folder)
    found = unit(encoded(loaded(params, folder), picture(1), picture(2)))
    expected = unit(one_by_one(model, folder, features, picture(1), picture(2)))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_an_image_tower_alone_keeps_its_projection(params: Params, tmp_path: Path) -> None:
    whole = saved(tmp_path / "whole", clip())
    alone = CLIPVisionModelWithProjection.from_pretrained(whole)
    alone.save_pretrained(tmp_path / "alone")
    load_processor(whole).save_pretrained(tmp_path / "alone")
    found = encoded(loaded(params, tmp_path / "alone"), picture(1))
    assert found.shape == (1, 12)
    np.testing.assert_allclose(found, encoded(loaded(params, whole), picture(1)), atol=1e-5)


@pytest.mark.parametrize(("make", "before"), [(vit, 1), (dino, 4), (dino_3, 3), (siglip, 0)])
def test_mean_and_class_token(params: Params, tmp_path: Path, make: Make, before: int) -> None:
    folder = saved(tmp_path / "model", make())
    model = type(make()[0]).from_pretrained(folder).eval()
    tower = getattr(model, "vision_model", model)
    with torch.no_grad():
        hidden = tower(pixel_values=pixels_of(folder, picture(1))).last_hidden_state[0]
    assert len(hidden) == before + 16  # patches of 8 x 8
    mean = encoded(loaded(params, folder, pooling="mean"), picture(1))
    np.testing.assert_allclose(mean[0], hidden[before:].mean(0), atol=1e-4)
    if before:
        cls = encoded(loaded(params, folder, pooling="cls"), picture(1))
        np.testing.assert_allclose(cls[0], hidden[0], atol=1e-4)
    else:
        with pytest.raises(InputError, match=r"ValueError: it has no class token"):
            loaded(params, folder, pooling="cls")


def test_a_map_is_averaged_over_its_places(params: Params, tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", convnext())
    model: Any = ConvNextModel.from_pretrained(folder)
    model.eval()
    with torch.no_grad():
        found = model(pixels_of(folder, picture(1))).last_hidden_state[0]
    mean = encoded(loaded(params, folder, pooling="mean"), picture(1))
    np.testing.assert_allclose(mean[0], found.mean((1, 2)), atol=1e-4)


def test_bytes_travel_where_they_lose_nothing(params: Params, tmp_path: Path) -> None:
    """DINOv3's processor scales pictures of floats, which bytes would round."""
    kinds = {
        make: loaded(params, saved(tmp_path / make.__name__, make())).to_pixels(picture(1)).dtype
        for make in (clip, vit, dino, dino_3)
    }
    assert kinds == {clip: np.uint8, vit: np.uint8, dino: np.uint8, dino_3: np.float32}


def changed(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Path:
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, {"format": "pt"})
    return folder


def test_without_a_pooler_of_its_own_it_is_the_class_token(params: Params, tmp_path: Path) -> None:
    """Many checkpoints of ViT hold none, and transformers would make a random one."""
    folder = saved(tmp_path / "model", vit())
    changed(folder, lambda old: {n: v for n, v in old.items() if not n.startswith("pooler.")})
    own = loaded(params, folder)
    expected = encoded(loaded(params, folder, pooling="cls"), picture(1))
    np.testing.assert_array_equal(encoded(own, picture(1)), expected)
    assert own.encoder.provenance["pooling"] == "cls"


def test_a_model_that_tells_no_covers_apart_is_refused(params: Params, tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", vit())
    changed(folder, lambda old: {name: torch.zeros_like(value) for name, value in old.items()})
    with pytest.raises(InputError, match=r"the same vector for every cover; fetch its weights"):
        loaded(params, folder, pooling="cls")


def test_missing_weights_are_refused(params: Params, tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", vit())
    changed(folder, lambda old: {n: v for n, v in old.items() if "layernorm.weight" not in n})
    with pytest.raises(InputError, match=r"files lack weights, .*layernorm\.weight"):
        loaded(params, folder)


def test_the_stage_writes_every_cover(catalogue: Catalogue, params: Params) -> None:
    folder = saved(Path("weights"), vit())
    image.main(section(params, folder))
    vectors, present = read_array(IMAGE), read_array(IMAGE_PRESENT)
    assert np.flatnonzero(present).tolist() == catalogue.embeddable
    model = ViTModel.from_pretrained(folder)
    expected = one_by_one(model, folder, pooled, picture(1), picture(3))
    np.testing.assert_allclose(vectors[[1, 3]], expected, atol=1e-4)
    assert read_json(array_info(IMAGE))["encoder"] == "transformers weights"


def test_a_picture_of_one_pixel_has_a_vector(params: Params, tmp_path: Path) -> None:
    encoder = loaded(params, saved(tmp_path / "model", clip()))
    found = encoded(encoder, Image.new("RGB", (1, 1), "red"), Image.new("RGB", (9, 9), "red"))
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)


def test_a_picture_that_the_processor_does_not_take_is_one_cover_less() -> None:
    def fails(**_: object) -> None:
        raise ValueError("too narrow")

    with pytest.raises(CoverError, match=r"7 x 5, which the model's function does not take: too"):
        ProcessedPixels(fails, True, (3, 8, 8))(Image.new("RGB", (7, 5)))

    def another(**_: object) -> dict[str, np.ndarray]:
        return {"pixel_values": np.zeros((1, 3, 4, 8), np.uint8)}

    with pytest.raises(CoverError, match=r"makes \(3, 4, 8\), expected \(3, 8, 8\)"):
        ProcessedPixels(another, True, (3, 8, 8))(Image.new("RGB", (7, 5)))


@pytest.mark.parametrize(
    ("make", "pooling", "message"),
    [
        (of_any_size, "model", r"of pictures of different shapes; expected \(3, S, S\) of each"),
        (of_patches, "model", r"of pictures of different shapes; expected \(3, S, S\) of each"),
        (masked, "mean", r"another vector for the same cover each time"),
        (of_text, "model", r"a BertModel, which reads input_ids and no covers"),
    ],
)
def test_models_of_another_kind_are_refused(
    params: Params, tmp_path: Path, make: Make, pooling: str, message: str
) -> None:
    folder = saved(tmp_path / "model", make())
    with pytest.raises(InputError, match=rf"^params\.yaml: embed_image\.model is .*{message}"):
        loaded(params, folder, pooling=pooling)


def test_a_folder_without_a_model_and_one_without_a_processor(
    params: Params, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"embed_image\.model is .*transformers cannot load it"):
        loaded(params, tmp_path / "empty")
    folder = saved(tmp_path / "model", vit())
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"cannot load it .*preprocessor_config\.json"):
        loaded(params, folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"library": "transformers", "pretrained": "laion"}, "expected '', found 'laion'"),
        ({"library": "open_clip", "pooling": "cls"}, "expected 'model', found 'cls'"),
    ],
)
def test_settings_that_a_library_does_not_read(
    params: Params, settings: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        EmbedImage.model_validate(params.embed_image.model_dump() | settings)
