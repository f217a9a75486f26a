import logging
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from embed.covers.decode import decode
from embed.encoders.open_clip_models import ResizeToPixels, load_open_clip
from embed.encoders.pixels import normalize
from embed.extraction.encoder import autocast, check_finite, weights_sha256
from pipeline.common.files import InputError
from pipeline.common.paths import ENCODER
from pipeline.settings.params import Params
from tests.embed.conftest import CPU, Catalogue


@pytest.mark.parametrize("resize_mode", ["squash", "shortest", "longest"])
@pytest.mark.parametrize("size", [(80, 30), (16, 16), (5, 90)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_preprocessing_in_two_steps_is_open_clips_own(
    resize_mode: str, size: tuple[int, int], mode: str
) -> None:
    preprocess = PreprocessCfg(16, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    preprocess.resize_mode = resize_mode
    values = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    image = Image.fromarray(values).convert(mode)
    pixels = torch.from_numpy(np.stack([ResizeToPixels(preprocess)(image)]))
    assert pixels.dtype == torch.uint8
    ours = normalize(pixels, preprocess.mean, preprocess.std)[0]
    whole = image_transform_v2(preprocess, is_train=False)(image)
    torch.testing.assert_close(ours, whole, rtol=0, atol=1e-5)


def test_vectors_are_the_models_own(trained: Catalogue, params: Params) -> None:
    clip = load_open_clip("embed_text", params.embed_text, CPU)
    assert not clip.model.training
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{ENCODER}")
    tokenize = open_clip.get_tokenizer(f"local-dir:{ENCODER}")
    model.eval()
    title, image = trained.titles[1], decode(trained.covers[1])
    with torch.no_grad():
        text = model.encode_text(tokenize([title]))
        visual = model.encode_image(preprocess(image)[None])
    tokens = {"text": clip.tokenizer()([title])}
    pixels = {"pixels": torch.from_numpy(ResizeToPixels(clip.preprocess)(image))[None]}
    found = clip.text_encoder(params.embed_text).forward(tokens)
    torch.testing.assert_close(found, text, rtol=0, atol=1e-5)
    found = clip.image_encoder(params.embed_image).forward(pixels)
    torch.testing.assert_close(found, visual, rtol=0, atol=1e-5)


def test_autocast_is_off_on_a_cpu() -> None:
    with autocast(torch.device("cpu"), "bf16"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_loading_leaves_logging_on(
    trained: Catalogue, params: Params, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    load_open_clip("embed_text", params.embed_text, CPU).tokenizer()
    assert not caplog.records
    logging.getLogger("embed").info("titles of %d items", len(trained.titles))
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("model", "pretrained", "message"),
    [
        ("ViT-B-32", "", r"embed_text\.pretrained is empty.*laion2b_s34b_b79k"),
        ("ViT-B-32", "no_such_tag", r"'no_such_tag'.*open_clip cannot load it"),
        ("NoSuchModel", "openai", r"'NoSuchModel'.*open_clip cannot load it"),
        ("NoSuchModel", "", r"embed_text\.pretrained is empty.*none for this name"),
        ("local-dir:nowhere", "", r"'local-dir:nowhere'.*open_clip cannot load it"),
        ("trained", "", r"'trained'.*open_clip cannot load it"),
    ],
)
@pytest.mark.usefixtures("catalogue")
def test_unusable_model_is_reported(
    model: str, pretrained: str, message: str, params: Params
) -> None:
    section = params.embed_text.model_copy(update={"model": model, "pretrained": pretrained})
    with pytest.raises(InputError, match=message):
        load_open_clip("embed_text", section, CPU)


@pytest.mark.usefixtures("trained")
def test_model_folder_without_weights_is_refused(params: Params) -> None:
    (ENCODER / "open_clip_model.safetensors").unlink()
    with pytest.raises(InputError, match="could not be loaded"):
        load_open_clip("embed_text", params.embed_text, CPU)


def change_weights(path: Path, lacking: str, prefix: str = "") -> None:
    weights = load_file(path)
    kept = {prefix + name: value for name, value in weights.items() if lacking not in name}
    assert len(kept) < len(weights)
    save_file(kept, path)


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ("", r"Missing key\(s\) in state_dict: transformer\.resblocks\.0\..* and 20 more$"),
        (
            "other.",
            r"Missing .* and 3\d more; "
            r"Unexpected .*: other\..*, other\..*, other\..*, other\..* and \d\d more$",
        ),
    ],
)
@pytest.mark.usefixtures("trained")
def test_open_clip_weights_that_would_be_random_are_refused(
    params: Params, prefix: str, message: str
) -> None:
    change_weights(ENCODER / "open_clip_model.safetensors", "transformer.resblocks.0", prefix)
    with pytest.raises(InputError, match=rf"embed_text\.model is 'trained', .*{message}") as told:
        load_open_clip("embed_text", params.embed_text, CPU)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 700


@pytest.mark.usefixtures("catalogue")
def test_a_weight_file_of_another_model_is_refused(params: Params) -> None:
    save_file({"weight": torch.zeros(2)}, "weights.safetensors")
    changes = {"model": "RN50", "pretrained": "weights.safetensors", "local": "."}
    section = params.embed_image.model_copy(update=changes)
    message = r"'weights\.safetensors'.* Missing key.* and \d\d\d more;"
    with pytest.raises(InputError, match=message):
        load_open_clip("embed_image", section, CPU)


@pytest.mark.parametrize(
    ("model", "pretrained", "told"),
    [
        ("local-dir:clip", "", r"embed_image\.model names the local folder clip, which"),
        (
            "RN50",
            "clip/own.pt",
            r"embed_image\.pretrained names the local file clip/own\.pt, which",
        ),
        (
            "roberta-ViT-B-32",
            "laion2b_s12b_b32k",
            r"hf_model_name\) names the local folder roberta-",
        ),
    ],
)
@pytest.mark.usefixtures("catalogue")
def test_files_that_dvc_does_not_watch_are_not_read(
    params: Params, model: str, pretrained: str, told: str
) -> None:
    for path in ("clip/own.pt", "clip/open_clip_config.json", "roberta-base/config.json"):
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text("{}")
    changes = {"model": model, "pretrained": pretrained}
    section = params.embed_image.model_copy(update=changes)
    with pytest.raises(InputError, match=rf"params\.yaml: .*{told}"):
        load_open_clip("embed_image", section, CPU)


def test_digest_sees_values_names_and_types() -> None:
    def linear() -> nn.Linear:
        layer = nn.Linear(3, 2)
        nn.init.ones_(layer.weight)
        nn.init.zeros_(layer.bias)
        return layer

    same, other = weights_sha256(linear()), linear()
    assert weights_sha256(other) == same
    other.weight.data[1, 2] += 1e-6
    digests = {same, weights_sha256(other), weights_sha256(linear().bfloat16())}
    digests.add(weights_sha256(nn.Sequential(linear())))
    assert len(digests) == 4


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vectors_that_are_not_finite_name_the_model(bad: float) -> None:
    vectors = np.ones((4, 3), np.float32)
    check_finite(vectors, "embed_text", "ViT")
    vectors[2, 1] = bad
    with pytest.raises(InputError, match=r"embed_text\.model 'ViT' .* 1 of a batch of 4"):
        check_finite(vectors, "embed_text", "ViT")
