"""Kinds of transformers' models: what reads a title is used as its authors use it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AlignConfig,
    AlignModel,
    AutoTokenizer,
    CLIPConfig,
    CLIPModel,
    CLIPTextModelWithProjection,
    FNetConfig,
    FNetModel,
    RobertaConfig,
    RobertaModel,
    SiglipConfig,
    SiglipModel,
    ViTConfig,
    ViTModel,
    XLNetConfig,
    XLNetModel,
)

from embed.encoders.text.titles import load_text_encoder
from embed.encoders.text.transformers_text import LikeLengths, Tower
from pipeline.common.files import InputError
from pipeline.settings.params import Params
from tests.embed.conftest import CPU, encode_titles
from tests.support.worlds.tiny_text import POSITIONS, TITLES, WORDS, save, save_bert, section

SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
TEXT: dict[str, Any] = SIZES | {
    "vocab_size": len(WORDS),
    "max_position_embeddings": POSITIONS,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "projection_dim": 12,
}
VISION: dict[str, Any] = SIZES | {"image_size": 32, "patch_size": 16}
LONG = " ".join(["fox car"] * 20)


def clip() -> CLIPModel:
    return CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=12))


def siglip() -> SiglipModel:
    return SiglipModel(SiglipConfig(text_config=TEXT, vision_config=VISION))


def align() -> AlignModel:
    vision: dict[str, Any] = {"num_block_repeats": [1], "kernel_sizes": [3], "in_channels": [32]}
    vision |= {"out_channels": [16], "strides": [1], "expand_ratios": [1], "image_size": 16}
    vision |= {"width_coefficient": 1.0, "depth_coefficient": 1.0, "depthwise_padding": []}
    sizes = vision | {"hidden_dim": 16}
    return AlignModel(AlignConfig(text_config=TEXT, vision_config=sizes, projection_dim=16))


@torch.no_grad()
def shared_space(model: Any, folder: Path, padding: Any) -> np.ndarray:
    """The whole model on each title alone, beside a picture: its own embedding of the text."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    side = model.config.vision_config.image_size
    vectors = []
    for title in TITLES:
        inputs = tokenizer(
            title, truncation=True, max_length=POSITIONS, padding=padding, return_tensors="pt"
        )
        del inputs["token_type_ids"]
        found = model.eval()(**inputs, pixel_values=torch.zeros(1, 3, side, side))
        vectors.append(found.text_embeds[0])
    return torch.stack(vectors).numpy()


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("make", "padding"), [(clip, False), (siglip, "max_length"), (align, False)]
)
def test_a_dual_models_titles_lie_in_its_shared_space(
    params: Params, tmp_path: Path, make: Callable[[], Any], padding: Any
) -> None:
    torch.manual_seed(0)
    model = make()
    settings = section(params, save(tmp_path, model))
    expected = shared_space(model, tmp_path, padding)
    np.testing.assert_allclose(unit(encode_titles(settings, TITLES)), unit(expected), atol=1e-4)
    assert np.abs(unit(expected)[0] - unit(expected)[1]).max() > 0.05
    told = load_text_encoder(settings, CPU).encoder.provenance
    assert told["pooling"] == "model"


def test_a_text_tower_alone_keeps_its_projection(params: Params, tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = clip()
    save(tmp_path / "whole", whole)
    alone = CLIPTextModelWithProjection.from_pretrained(tmp_path / "whole")
    folder = save_as_it_is(tmp_path / "alone", alone, tmp_path / "whole")
    found = encode_titles(section(params, folder), TITLES)
    assert found.shape == (len(TITLES), 12)
    expected = encode_titles(section(params, tmp_path / "whole"), TITLES)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def save_as_it_is(folder: Path, model: Any, tokenizer: Path) -> Path:
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_a_tower_that_pools_by_itself_is_not_pooled_otherwise(
    params: Params, tmp_path: Path, pooling: str
) -> None:
    settings = section(params, save(tmp_path, clip()), pooling=pooling)
    message = rf"embed_text\.pooling is '{pooling}', but .* by a layer of its own, .* to 'model'"
    with pytest.raises(InputError, match=message):
        load_text_encoder(settings, CPU)


def test_positions_that_begin_behind_the_padding_token(params: Params, tmp_path: Path) -> None:
    """RoBERTa's 514 positions take 512 tokens; here 12 take 10."""
    sizes = TEXT | {"max_position_embeddings": 12, "pad_token_id": 1}
    folder = save(tmp_path, RobertaModel(RobertaConfig(**sizes)))
    settings = section(params, folder, max_tokens=64)
    assert load_text_encoder(settings, CPU).encoder.provenance["max_tokens"] == 10
    assert np.isfinite(encode_titles(settings, [LONG, "red"])).all()


def test_a_model_without_a_bound_on_positions(params: Params, tmp_path: Path) -> None:
    config = XLNetConfig(vocab_size=len(WORDS), d_model=16, n_layer=1, n_head=2, d_inner=32)
    settings = section(params, save(tmp_path, XLNetModel(config)), max_tokens=17)
    assert load_text_encoder(settings, CPU).encoder.provenance["max_tokens"] == 17
    together = encode_titles(settings, [LONG, "red"])
    np.testing.assert_allclose(together[1:], encode_titles(settings, ["red"]), atol=1e-4)


class Typed:
    """A tokenizer whose titles are of token type 2, a letter a token."""

    pad_token_id = 9

    def __call__(self, titles: str | list[str], **_: object) -> dict[str, Any]:
        if isinstance(titles, str):
            return {"input_ids": [1] * len(titles), "token_type_ids": [2] * len(titles)}
        alone = [self(title) for title in titles]
        return {name: [each[name] for each in alone] for name in ("input_ids", "token_type_ids")}


def test_token_types_reach_a_model_whose_titles_have_some() -> None:
    model = XLNetModel(XLNetConfig(vocab_size=11, d_model=16, n_layer=1, n_head=2, d_inner=32))
    takes = Tower(model, model.forward, "mean", nn.Sequential()).takes
    assert takes(Typed()) == ("input_ids", "attention_mask", "token_type_ids")
    assert takes(lambda _: {"token_type_ids": [0, 0]}) == ("input_ids", "attention_mask")
    ((rows, tokens),) = LikeLengths(Typed(), 8, takes(Typed()))(["a", "abc"], 2)
    assert rows.tolist() == [1, 0]
    assert tokens["input_ids"].tolist() == [[1, 1, 1], [1, 9, 9]]
    assert tokens["token_type_ids"].tolist() == [[2, 2, 2], [2, 0, 0]]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ViTModel(ViTConfig(**VISION)), "a ViTModel, which reads pixel_values and no text"),
        (
            FNetModel(FNetConfig(vocab_size=11, hidden_size=16, intermediate_size=32)),
            "a FNetModel, which takes no attention mask",
        ),
    ],
)
def test_models_that_are_no_text_encoder(
    params: Params, tmp_path: Path, model: Any, message: str
) -> None:
    with pytest.raises(InputError, match=rf"params.yaml: embed_text\.model is .*{message}"):
        load_text_encoder(section(params, save(tmp_path, model)), CPU)


def test_a_model_that_gives_no_vector(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = section(params, save_bert(tmp_path))

    def nothing(*_: object) -> Tensor:
        raise AttributeError("no last_hidden_state")

    monkeypatch.setattr("embed.encoders.text.transformers_text.pool", nothing)
    with pytest.raises(InputError, match=r"a BertModel, which gives no vector .*no last_hidden"):
        load_text_encoder(settings, CPU)
