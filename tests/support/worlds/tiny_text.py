"""Text encoders of transformers, tiny and random, laid out on disk as published ones are."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import BertConfig, BertModel, BertTokenizer, PreTrainedModel

from pipeline.settings.embed.text import EmbedText
from pipeline.settings.params import Params

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
    """`model` and a WordPiece tokenizer of WORDS."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(folder)
    tokenizer = BertTokenizer(vocab={word: place for place, word in enumerate(WORDS)})
    tokenizer.save_pretrained(folder)
    return folder


def bert_config(**changes: Any) -> BertConfig:
    sizes = {
        "vocab_size": len(WORDS),
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": POSITIONS,
    }
    return BertConfig(**sizes | changes)


def save_bert(folder: Path, **changes: Any) -> Path:
    torch.manual_seed(0)
    return save(folder, BertModel(bert_config(**changes)))


def with_weights(
    source: Path, folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]
) -> Path:
    """A copy of a checkpoint with other weights in its file."""
    shutil.copytree(source, folder)
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, {"format": "pt"})
    return folder


def put_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def section(params: Params, model: Path | str, **changes: object) -> EmbedText:
    settings = {"library": "transformers", "model": str(model), "local": str(model)}
    return params.embed_text.model_copy(update={**settings, "batch_size": 4, **changes})
