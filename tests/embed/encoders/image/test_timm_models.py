"""timm's encoders: vectors as timm's own pipeline gives them, and weights whole or refused."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.data.transforms_factory import create_transform
from timm.models import save_for_hf
from torch import Tensor

from embed import image
from embed.encoders.image.image_encoder import ImageEncoder
from embed.encoders.image.pictures import load_image_encoder
from embed.encoders.image.timm_models import by_place, classes_of, data_configuration
from pipeline.common.files import InputError, read_array, read_json
from pipeline.common.paths import IMAGE, IMAGE_PRESENT, array_info
from pipeline.settings.embed.image import EmbedImage
from pipeline.settings.params import Params
from tests.embed.conftest import CPU, Catalogue, picture

CONVOLUTIONS, PATCHES, WINDOWS = "test_efficientnet", "test_vit", "test_convnext"
"""timm's smallest models, made for tests."""


def section(params: Params, model: str, **changes: object) -> EmbedImage:
    settings = params.embed_image.model_dump() | {"library": "timm", "model": model} | changes
    return EmbedImage.model_validate(settings)


def saved(name: str, path: Path, **options: Any) -> Path:
    """A random model's weights in a file."""
    torch.manual_seed(0)
    model = timm.create_model(name, **options)
    for value in model.state_dict().values():
        if value.ndim > 1:
            torch.nn.init.normal_(value, std=0.3)
        elif value.is_floating_point():
            torch.nn.init.uniform_(value, 0.5, 1.5)
    path.parent.mkdir(parents=True, exist_ok=True)
    write(model.state_dict(), path)
    return path


def write(weights: dict[str, Tensor], path: Path) -> None:
    if path.suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save(weights, path)


def from_file(params: Params, name: str, path: Path, **changes: object) -> ImageEncoder:
    settings = {"pretrained": str(path), "local": str(path.parent)}
    return load_image_encoder(section(params, name, **settings | changes), CPU)


def encoded(loaded: ImageEncoder, *pictures: Image.Image) -> np.ndarray:
    pixels = np.stack([loaded.to_pixels(each) for each in pictures])
    assert pixels.dtype == np.uint8
    return loaded.encoder.forward({"pixels": torch.from_numpy(pixels)}).numpy()


@torch.no_grad()
def by_timm(name: str, path: Path, *pictures: Image.Image) -> np.ndarray:
    """The file's model and its whole preprocessing, one picture at a time."""
    model, transform = own(name, path)
    vectors = []
    for each in pictures:
        features = model.forward_features(transform(each)[None])
        vectors.append(model.forward_head(features, pre_logits=True)[0].numpy())
    return np.stack(vectors)


def own(name: str, path: Path) -> tuple[Any, Any]:
    """timm's model of a file, and its transform."""
    model = timm.create_model(name, checkpoint_path=str(path)).eval()
    return model, create_transform(**data_configuration(model), is_training=False)


@pytest.mark.parametrize("name", [CONVOLUTIONS, PATCHES, WINDOWS])
@pytest.mark.parametrize("file", ["weights.safetensors", "weights.pth"])
def test_vectors_are_timms_own(params: Params, tmp_path: Path, name: str, file: str) -> None:
    path = saved(name, tmp_path / file)
    pictures = picture(1), picture(2)
    found = encoded(from_file(params, name, path), *pictures)
    expected = by_timm(name, path, *pictures)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert np.abs(expected[0] - expected[1]).max() > 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_pooling_of_tokens(params: Params, tmp_path: Path, pooling: str) -> None:
    path = saved(PATCHES, tmp_path / "weights.pth")
    found = encoded(from_file(params, PATCHES, path, pooling=pooling), picture(1))
    model, transform = own(PATCHES, path)
    with torch.no_grad():
        tokens = model.forward_features(transform(picture(1))[None])[0]
    before = model.num_prefix_tokens
    expected = tokens[0] if pooling == "cls" else tokens[before:].mean(0)
    assert before >= 1
    np.testing.assert_allclose(found[0], expected.numpy(), rtol=1e-4, atol=1e-4)


def test_a_map_is_pooled_over_its_places_and_has_no_class_token(
    params: Params, tmp_path: Path
) -> None:
    path = saved(CONVOLUTIONS, tmp_path / "weights.pth")
    mean = encoded(from_file(params, CONVOLUTIONS, path, pooling="mean"), picture(1))
    own = encoded(from_file(params, CONVOLUTIONS, path), picture(1))
    np.testing.assert_allclose(mean, own, rtol=1e-4)  # which pools likewise
    with pytest.raises(InputError, match=r"pooling 'cls': .*no class token; name another"):
        from_file(params, CONVOLUTIONS, path, pooling="cls")


@pytest.mark.parametrize("classes", [0, 10])
def test_files_without_a_classifier_or_with_one_of_other_classes(
    params: Params, tmp_path: Path, classes: int
) -> None:
    whole = saved(PATCHES, tmp_path / "whole/weights.pth")
    path = saved(PATCHES, tmp_path / "other/weights.pth", num_classes=classes)
    weights = torch.load(path) | {
        name: value for name, value in torch.load(whole).items() if not name.startswith("head.")
    }
    torch.save(weights, path)
    found, expected = (encoded(from_file(params, PATCHES, p), picture(1)) for p in (path, whole))
    np.testing.assert_array_equal(found, expected)


def test_a_folder_and_the_stage(catalogue: Catalogue, params: Params) -> None:
    torch.manual_seed(0)
    model = timm.create_model(CONVOLUTIONS)
    save_for_hf(model, "weights", model_config={"num_classes": model.num_classes})
    settings = section(params, "local-dir:weights", local="weights")
    image.main(settings)
    vectors, present = read_array(IMAGE), read_array(IMAGE_PRESENT)
    assert np.flatnonzero(present).tolist() == catalogue.embeddable
    torch.save(model.state_dict(), "weights.pth")
    expected = by_timm(CONVOLUTIONS, Path("weights.pth"), picture(1), picture(3))
    np.testing.assert_allclose(vectors[[1, 3]], expected, rtol=1e-3, atol=1e-5)
    told = read_json(array_info(IMAGE))
    assert told["encoder"] == "timm local-dir:weights"
    assert {"timm", "torch"} <= set(told["versions"])


def renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    kept = {name: value for name, value in weights.items() if "num_batches" not in name}
    return {f"layer_{place}": value for place, value in enumerate(kept.values())}


def test_weights_of_other_names_are_read_by_their_place_and_this_is_told(
    params: Params, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved(CONVOLUTIONS, tmp_path / "own/weights.pth")
    other = tmp_path / "other/weights.pth"
    other.parent.mkdir()
    torch.save(renamed(torch.load(path)), other)
    with caplog.at_level(logging.INFO):
        found = encoded(from_file(params, CONVOLUTIONS, other), picture(1))
    (told,) = caplog.messages
    assert told.startswith("embed_image: no weight in ")
    assert "are read by their place" in told
    np.testing.assert_array_equal(found, encoded(from_file(params, CONVOLUTIONS, path), picture(1)))


def test_places_need_the_same_shapes_and_no_name_in_common() -> None:
    own = {"a": torch.zeros(2, 3), "n.num_batches_tracked": torch.zeros(()), "b": torch.zeros(4)}
    theirs = {"x": torch.ones(2, 3), "y": torch.ones(4)}
    found = by_place(own, theirs)
    assert found is not None
    assert list(found) == ["a", "b"]
    assert by_place(own, {"x": torch.ones(2, 3), "b": torch.ones(4)}) is None
    assert by_place(own, {"x": torch.ones(3, 2), "y": torch.ones(4)}) is None
    assert by_place(own, {"x": torch.ones(2, 3)}) is None


def test_a_norms_weights_in_another_order_are_not_taken_by_their_place() -> None:
    """As in files that are sorted by name: all four have one shape."""
    order = ("weight", "bias", "running_mean", "running_var")
    own = {f"bn.{kind}": torch.zeros(4) for kind in order}
    theirs = {f"other.{kind}": torch.ones(4) for kind in order}
    assert by_place(own, theirs) is not None
    assert by_place(own, dict(sorted(theirs.items()))) is None


def test_classes_by_the_names_of_classifiers_then_the_last_matrix() -> None:
    weights = {"head.fc.weight": torch.zeros(7, 4), "z.weight": torch.zeros(9, 4)}
    assert classes_of(weights) == [7, 9, 0]
    assert classes_of({"conv.weight": torch.zeros(7, 4, 1, 1)}) == [0]


@pytest.mark.parametrize("name", [CONVOLUTIONS, "dla34"])
def test_a_missing_weight_is_refused_also_where_timm_lets_it_be_random(
    params: Params, tmp_path: Path, name: str
) -> None:
    path = saved(name, tmp_path / "weights.safetensors")
    weights = load_file(path)
    gone = next(name for name, value in weights.items() if value.ndim == 4)
    del weights[gone]
    save_file(weights, path)
    with pytest.raises(InputError, match=rf"{gone}"):
        from_file(params, name, path)


def test_weights_that_nothing_reads_are_told(
    params: Params, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In a family whose files timm does not read strictly."""
    path = saved("dla34", tmp_path / "weights.safetensors")
    save_file(load_file(path) | {"level6.weight": torch.zeros(2)}, path)
    with caplog.at_level(logging.INFO):
        from_file(params, "dla34", path)
    assert caplog.messages == ["embed_image: of dla34 nothing reads level6.weight"]


def test_weights_of_another_model_are_refused(params: Params, tmp_path: Path) -> None:
    path = saved(PATCHES, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"embed_image\.pretrained .*timm cannot load it"):
        from_file(params, CONVOLUTIONS, path)


def test_a_pickle_with_code_in_it_is_not_run(params: Params, tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    path = tmp_path / "weights/weights.pth"
    path.parent.mkdir()
    torch.save({"a": Code()}, path)
    with pytest.raises(InputError, match="timm cannot load it"):
        from_file(params, CONVOLUTIONS, path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "vit_smal_patch16_224"}, r"knows no such model; near it are vit_small_patch16"),
        ({"model": CONVOLUTIONS, "pretrained": "no.pth"}, r"there is no file no\.pth"),
        ({"model": CONVOLUTIONS, "pretrained": "here.npz"}, r"here\.npz is none of .*\.pth"),
        ({"model": "local-dir:nowhere"}, r"there is no folder nowhere"),
        ({"model": "local-dir:nowhere", "pretrained": "a.pth"}, r"brings its own weights"),
        ({"model": CONVOLUTIONS, "revision": "abc"}, r"has no revisions; write hf-hub:"),
        ({"model": "vit_base_patch16_plus_240"}, r"timm cannot load it: .*[Nn]o pretrained"),
    ],
)
def test_what_cannot_be_loaded_is_named(
    workspace: Path, params: Params, settings: dict[str, str], message: str
) -> None:
    (workspace / "here.npz").touch()
    with pytest.raises(InputError, match=rf"^params\.yaml: embed_image\.model is .*{message}"):
        load_image_encoder(section(params, **settings), CPU)


def test_a_file_that_dvc_does_not_watch_is_refused(params: Params, tmp_path: Path) -> None:
    path = saved(CONVOLUTIONS, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"set embed_image\.local to"):
        from_file(params, CONVOLUTIONS, path, local="models/encoder")
