"""Checkpoints that are not whole: what is not in the files would be random."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BertForMaskedLM

from embed.encoders.pretrained import of_further_layers
from embed.encoders.text.titles import load_text_encoder
from pipeline.common.files import InputError
from pipeline.settings.params import Params
from tests.embed.conftest import CPU
from tests.support.worlds.tiny_text import (
    WORDS,
    bert_config,
    save,
    save_bert,
    section,
    with_weights,
)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("bert"))


def provenance(params: Params, model: Path, **changes: object) -> dict[str, Any]:
    return load_text_encoder(section(params, model, **changes), CPU).encoder.provenance


def foreign(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"module.{name}": value for name, value in weights.items()}


def without_a_layer(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in weights.items() if ".layer.1." not in name}


def of_fewer_words(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return weights | {"embeddings.word_embeddings.weight": torch.zeros(5, 16)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            foreign,
            r"lack weights, embeddings\.LayerNorm\.bias, embeddings\.LayerNorm\.weight, .* and 33 "
            r"more: they would be random; the files hold module\.embeddings.* and 35 more, "
            r"which noth",
        ),
        (
            without_a_layer,
            r"lack weights, encoder\.layer\.1\..* and 12 more: they would be random; f",
        ),
        (of_fewer_words, r"word_embeddings\.weight: .* is \(5, 16\), expected \(11, 16\)"),
    ],
)
def test_weights_that_would_be_random_are_refused(
    params: Params, bert: Path, tmp_path: Path, change: Any, message: str
) -> None:
    broken = with_weights(bert, tmp_path / "broken", change)
    with pytest.raises(InputError, match=rf"params.yaml: embed_text\.model is .*{message}") as told:
        load_text_encoder(section(params, broken), CPU)
    assert "\n" not in str(told.value)


def test_layers_that_the_configuration_leaves_out_are_refused(
    params: Params, bert: Path, tmp_path: Path
) -> None:
    deep = save_bert(tmp_path / "deep", num_hidden_layers=3)
    (deep / "config.json").write_bytes((bert / "config.json").read_bytes())
    message = r"no place for, encoder\.layer\.2\..* and 12 more: they would be left out"
    with pytest.raises(InputError, match=message):
        load_text_encoder(section(params, deep), CPU)


def test_a_pooler_that_is_not_used_may_be_absent_and_is_the_same_each_time(
    params: Params, bert: Path, tmp_path: Path
) -> None:
    def without_pooler(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value for name, value in weights.items() if "pooler" not in name}

    model = with_weights(bert, tmp_path / "model", without_pooler)
    assert provenance(params, model) == provenance(params, model)


def test_a_head_that_is_not_used_is_told(
    params: Params, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "embed")
    model = save(tmp_path / "model", BertForMaskedLM(bert_config()))
    load_text_encoder(section(params, model), CPU)
    (told,) = [record.getMessage() for record in caplog.records if record.name.startswith("embed")]
    assert told.startswith(f"embed_text: of {model} nothing needs cls.predictions.bias, ")


def test_layers_are_known_by_their_numbers() -> None:
    model = torch.nn.Sequential(torch.nn.Sequential(torch.nn.Linear(2, 2)), torch.nn.Linear(2, 2))
    unread = {"0.3.weight", "net.0.4.bias", "7.weight", "head.weight", "0.0.scale"}
    assert sorted(of_further_layers(unread, model)) == ["0.3.weight", "7.weight", "net.0.4.bias"]


def test_a_checkpoint_without_a_tokenizer(params: Params, bert: Path, tmp_path: Path) -> None:
    """transformers makes one of special tokens alone, to which all titles are the same."""
    model = with_weights(bert, tmp_path / "model", lambda weights: weights)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (model / name).unlink()
    with pytest.raises(InputError, match=r"embed_text\.model is .*has no tokenizer: .*vocab\.txt"):
        load_text_encoder(section(params, model), CPU)


def test_a_tokenizer_of_another_model(params: Params, tmp_path: Path) -> None:
    model = save_bert(tmp_path / "model", vocab_size=len(WORDS) - 2)
    with pytest.raises(InputError, match=r"knows token 10, but its weights are of 9 tokens"):
        load_text_encoder(section(params, model), CPU)
