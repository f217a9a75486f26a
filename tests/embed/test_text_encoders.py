from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    BertTokenizer,
    GPT2Config,
    GPT2Model,
    PreTrainedModel,
    T5Config,
    T5Model,
)

from embed.text_encoders import load_text_encoder, pool
from pipeline.params import EmbedText, Params
from pipeline.schema import InputError
from tests.embed.conftest import CPU, Catalogue, encode_titles

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "blue", "fox", "car", "runs", "##ner"]
TITLES = [
    "red fox",
    "blue",
    "red car runs",
    "fox fox fox fox fox fox fox fox fox",
    "cat",
    "car red",
]
POSITIONS = 10


def save(folder: Path, model: PreTrainedModel) -> Path:
    """`model` and a WordPiece tokenizer of WORDS, as a published model is laid out."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(folder)
    tokenizer = BertTokenizer(vocab={word: place for place, word in enumerate(WORDS)})
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=POSITIONS,
    )
    return save(tmp_path_factory.mktemp("bert"), BertModel(config))


@pytest.fixture(scope="module")
def gpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(WORDS), n_embd=16, n_layer=2, n_head=2, n_positions=32)
    return save(tmp_path_factory.mktemp("gpt"), GPT2Model(config))


def section(params: Params, model: Path | str, **changes: object) -> EmbedText:
    settings = {"library": "transformers", "model": str(model), "batch_size": 4, **changes}
    return params.embed_text.model_copy(update=settings)


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


def test_pool_on_paper() -> None:
    hidden = torch.tensor([[[1.0, 2], [3, 6], [100, 100]], [[5, 5], [9, 9], [9, 9]]])
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    assert pool(hidden, mask, "mean").tolist() == [[2, 4], [5, 5]]
    assert pool(hidden, mask, "cls").tolist() == [[1, 2], [5, 5]]
    assert pool(hidden, mask, "last").tolist() == [[3, 6], [5, 5]]


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


def test_open_clip_batches_equal_one_title_at_a_time(trained: Catalogue, params: Params) -> None:
    titles = trained.titles[1:5] * 3
    alone = np.concatenate([encode_titles(params.embed_text, [title]) for title in titles])
    np.testing.assert_allclose(encode_titles(params.embed_text, titles), alone, atol=1e-4)
