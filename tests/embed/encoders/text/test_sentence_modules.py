"""Folders of sentence-transformers: what their JSON files say is done, or refused by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from embed.encoders.text.titles import load_text_encoder
from pipeline.common.files import InputError
from pipeline.settings.params import Params
from tests.embed.conftest import CPU, encode_titles
from tests.support.worlds.tiny_text import TITLES, put_json, save_bert, section

LIBRARY = "sentence_transformers.models"


def sentence_folder(
    folder: Path, *steps: str, transformer: str = "", pooling: dict[str, Any] | None = None
) -> Path:
    """A tiny BERT, then `steps`; by default the first token is what a title comes to."""
    save_bert(folder / transformer)
    paths = [transformer, *(f"{place}_{step}" for place, step in enumerate(steps, 1))]
    kinds = ["Transformer", *steps]
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"{LIBRARY}.{kind}"}
        for place, (path, kind) in enumerate(zip(paths, kinds, strict=True))
    ]
    put_json(folder / "modules.json", modules)
    put_json(folder / "1_Pooling/config.json", pooling or {"pooling_mode_cls_token": True})
    return folder


def put_dense(folder: Path, activation: str = "torch.nn.modules.activation.Tanh") -> nn.Linear:
    torch.manual_seed(1)
    layer = nn.Linear(16, 5)
    sizes = {"in_features": 16, "out_features": 5, "bias": True}
    put_json(folder / "config.json", sizes | {"activation_function": activation})
    weights = {f"linear.{name}": value for name, value in layer.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    return layer


@torch.no_grad()
def hidden(folder: Path, title: str, limit: int = 10) -> Tensor:
    """(T, d) of one title."""
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(title, truncation=True, max_length=limit)["input_ids"]
    return model.eval()(input_ids=torch.tensor([ids])).last_hidden_state[0]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("pooling_mode_cls_token", lambda x: x[0]),
        ("pooling_mode_mean_tokens", lambda x: x.mean(0)),
        ("pooling_mode_max_tokens", lambda x: x.amax(0)),
        ("pooling_mode_lasttoken", lambda x: x[-1]),
    ],
)
def test_titles_are_pooled_as_the_folder_says(
    params: Params, tmp_path: Path, mode: str, expected: Any
) -> None:
    off = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": False}
    folder = sentence_folder(tmp_path, "Pooling", pooling=off | {mode: True})
    found = encode_titles(section(params, folder), TITLES)
    for title, vector in zip(TITLES, found, strict=True):
        np.testing.assert_allclose(vector, expected(hidden(folder, title)), atol=1e-5)


def test_what_follows_the_pooling_is_computed(params: Params, tmp_path: Path) -> None:
    folder = sentence_folder(
        tmp_path, "Pooling", "Dense", "Normalize", pooling={"pooling_mode": "cls"}
    )
    layer = put_dense(tmp_path / "2_Dense")
    found = encode_titles(section(params, folder), TITLES)
    with torch.no_grad():
        first = torch.stack([hidden(folder, title)[0] for title in TITLES])
        expected = nn.functional.normalize(torch.tanh(layer(first)), dim=1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    told = load_text_encoder(section(params, folder), CPU).encoder.provenance
    steps = ["Linear(in_features=16, out_features=5, bias=True)", "Tanh()", "Normalize()"]
    assert told["then"] == steps
    layer.weight.data += 1
    weights = {f"linear.{name}": value for name, value in layer.state_dict().items()}
    save_file(weights, tmp_path / "2_Dense/model.safetensors")
    other = load_text_encoder(section(params, folder), CPU).encoder.provenance
    assert other["weights_sha256"] != told["weights_sha256"]


def test_lengths_case_prompt_and_place_of_the_transformer(params: Params, tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path, "Pooling", transformer="0_Transformer")
    read = {"max_seq_length": 6, "do_lower_case": True}
    put_json(folder / "0_Transformer/sentence_bert_config.json", read)
    said = {"prompts": {"item": "fox ", "query": "car "}, "default_prompt_name": "item"}
    put_json(folder / "config_sentence_transformers.json", said)
    file = folder / "0_Transformer/tokenizer.json"
    file.write_text(file.read_text().replace('"lowercase": true', '"lowercase": false'))
    found = encode_titles(section(params, folder), ["RED car red car red car"])
    expected = hidden(folder / "0_Transformer", "fox red car red car red car", limit=6)[0]
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_a_pooling_that_the_folder_contradicts(params: Params, tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path, "Pooling")
    for pooling in ("model", "cls"):
        load_text_encoder(section(params, folder, pooling=pooling), CPU)
    with pytest.raises(InputError, match=r"pooling is 'mean', but .* pools by 'cls', .* to 'model"):
        load_text_encoder(section(params, folder, pooling="mean"), CPU)


@pytest.mark.parametrize(
    "config",
    [
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
        {"pooling_mode_weightedmean_tokens": True},
        {"pooling_mode": "weightedmean"},
        {"pooling_mode_mean_tokens": True, "include_prompt": False},
        {"pooling_mode_mean_tokens": False},
    ],
)
def test_a_pooling_that_is_not_known(
    params: Params, tmp_path: Path, config: dict[str, object]
) -> None:
    folder = sentence_folder(tmp_path, "Pooling", pooling=config)
    with pytest.raises(InputError, match=r"pools in another way: 1_Pooling/config\.json has {"):
        load_text_encoder(section(params, folder), CPU)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (("Pooling", "LSTM"), rf"modules\.json has {LIBRARY}\.LSTM as step 2; known are"),
        (("Normalize", "Pooling"), rf"modules\.json has {LIBRARY}\.Pooling as step 2; known are"),
    ],
)
def test_modules_that_are_not_known(
    params: Params, tmp_path: Path, steps: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_text_encoder(section(params, sentence_folder(tmp_path, *steps)), CPU)


def test_folders_that_begin_otherwise(params: Params, tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path, "Pooling")
    for modules, found in (([{"type": f"{LIBRARY}.BoW", "path": ""}], "BoW"), ([], "nothing")):
        put_json(folder / "modules.json", modules)
        with pytest.raises(InputError, match=rf"modules\.json begins with .*{found}; known are"):
            load_text_encoder(section(params, folder), CPU)


def test_a_dense_layer_that_cannot_be_read(params: Params, tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path, "Pooling", "Dense")
    put_dense(tmp_path / "2_Dense", activation="torch.nn.modules.activation.RReLU")
    with pytest.raises(InputError, match=r"has another Dense: 2_Dense/config\.json has {"):
        load_text_encoder(section(params, folder), CPU)
    put_dense(tmp_path / "2_Dense")
    save_file({"linear.bias": torch.zeros(5)}, tmp_path / "2_Dense/model.safetensors")
    with pytest.raises(InputError, match=r"2_Dense/model\.safetensors lacks weight$"):
        load_text_encoder(section(params, folder), CPU)
    (tmp_path / "2_Dense/model.safetensors").unlink()
    with pytest.raises(InputError, match=r"whose layer 2_Dense has no model\.safetensors \(pickl"):
        load_text_encoder(section(params, folder), CPU)
