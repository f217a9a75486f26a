from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertModel,
    BertTokenizer,
    GPT2Config,
    GPT2Model,
    T5Config,
    T5Model,
)

from embed.encoders.text.titles import load_text_encoder
from pipeline.common.files import InputError
from pipeline.settings.params import Params
from tests.embed.conftest import CPU, encode_titles
from tests.support.worlds.tiny_text import POSITIONS, TITLES, WORDS, save, save_bert, section


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def gpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(WORDS), n_embd=16, n_layer=2, n_head=2, n_positions=32)
    return save(tmp_path_factory.mktemp("gpt"), GPT2Model(config))


@torch.no_grad()
def one_by_one(folder: Path, pooling: str, max_tokens: int) -> np.ndarray:
    """Each title alone, without padding, batches or sorting."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder)
    model.eval()
    vectors = []
    for title in TITLES:
        ids = tokenizer(title, truncation=True, max_length=max_tokens)["input_ids"]
        hidden = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        vectors.append(hidden[0] if pooling == "cls" else hidden.mean(dim=0))
    return torch.stack(vectors).numpy()


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("max_tokens", [4, 64])
@pytest.mark.parametrize("batch_size", [1, 4, 99])
def test_batches_equal_one_title_at_a_time(
    params: Params, bert: Path, pooling: str, max_tokens: int, batch_size: int
) -> None:
    settings = section(params, bert, pooling=pooling, max_tokens=max_tokens, batch_size=batch_size)
    vectors = encode_titles(settings, TITLES)
    expected = one_by_one(bert, pooling, min(max_tokens, POSITIONS))
    np.testing.assert_allclose(vectors, expected, atol=1e-4)
    assert np.abs(expected[0] - expected[1]).max() > 0.1


def test_decoder_only_model_needs_no_padding_of_its_own(params: Params, gpt: Path) -> None:
    vectors = encode_titles(section(params, gpt), TITLES)
    np.testing.assert_allclose(vectors, one_by_one(gpt, "mean", 32), atol=1e-4)


def test_provenance_identifies_the_weights(params: Params, bert: Path, gpt: Path) -> None:
    one, same, other = (
        load_text_encoder(section(params, m), CPU).encoder.provenance for m in (bert, bert, gpt)
    )
    assert one == same
    assert one["encoder"] == f"transformers {bert}"
    assert one["max_tokens"] == POSITIONS
    assert one["mixed_precision"] == "no"
    assert one["weights_sha256"] != other["weights_sha256"]


def test_missing_model_is_reported(params: Params, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"embed_text\.model is .*cannot load it"):
        load_text_encoder(section(params, tmp_path), CPU)


def test_pickled_weights_are_refused(params: Params, bert: Path, tmp_path: Path) -> None:
    for file in bert.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save(load_file(bert / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match="weights must be safetensors"):
        load_text_encoder(section(params, tmp_path), CPU)


def test_encoder_decoder_is_refused(params: Params, tmp_path: Path) -> None:
    config = T5Config(vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    with pytest.raises(InputError, match="an encoder-decoder"):
        load_text_encoder(section(params, save(tmp_path, T5Model(config))), CPU)


def test_weights_that_overflow_are_reported(params: Params, bert: Path, tmp_path: Path) -> None:
    model = BertModel.from_pretrained(bert)
    model.embeddings.word_embeddings.weight.data[WORDS.index("fox")] = torch.nan
    broken = tmp_path / "broken"
    model.save_pretrained(broken)
    BertTokenizer.from_pretrained(bert).save_pretrained(broken)
    with pytest.raises(InputError, match=r"embed_text\.model .* not finite, 2 of a batch of 4"):
        encode_titles(section(params, broken), TITLES[:4])
