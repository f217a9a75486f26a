"""Titles to batches of tokens, and the models of open_clip and transformers that read them."""

import hashlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.utils.data import Dataset
from transformers import AutoModel, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from embed.batches import Batch, even_spans
from embed.encoders import Encoder, autocast, effective_precision, load_open_clip, weights_sha256
from pipeline.params import EmbedText, EmbedVlm
from pipeline.schema import InputError, versions

Tokens = dict[str, np.ndarray]
Tokenize = Callable[[list[str], int], list[tuple[np.ndarray, Tokens]]]
"""Titles and the batch size to batches: places of titles (B,), and the model's inputs for them."""

hide_progress: Callable[[], None] = disable_progress_bar
"""transformers' own function, which comes without types."""


@dataclass(frozen=True)
class TextEncoder:
    tokenize: Tokenize
    encoder: Encoder


class TitleShards(Dataset[list[Batch]]):
    """Entry i is the batches of the titles of shard `numbers[i]`."""

    def __init__(
        self,
        titles: list[str],
        runs: list[tuple[int, int]],
        numbers: list[int],
        tokenize: Tokenize,
        batch_size: int,
    ) -> None:
        self.titles = titles
        self.runs = runs
        self.numbers = numbers
        self.tokenize = tokenize
        self.batch_size = batch_size

    def __getitem__(self, place: int) -> list[Batch]:
        number = self.numbers[place]
        start, stop = self.runs[number]
        batches = self.tokenize(self.titles[start:stop], self.batch_size)
        return [Batch(number, (start + rows).astype(np.int32), tokens) for rows, tokens in batches]


def load_text_encoder(section: EmbedText, device: torch.device) -> TextEncoder:
    """Raises InputError if the model is unknown, unreachable or of a kind that gives no vectors."""
    if section.library == "open_clip":
        clip = load_open_clip("embed_text", section, device)
        return TextEncoder(FixedLength(clip.tokenizer()), clip.text_encoder(section))
    return _transformers(section, device)


@dataclass(frozen=True)
class FixedLength:
    """open_clip's tokenizers, which pad to the model's context length themselves."""

    tokenizer: Callable[[list[str]], Tensor]

    def __call__(self, titles: list[str], batch_size: int) -> list[tuple[np.ndarray, Tokens]]:
        return [
            (np.arange(start, stop), {"text": self.tokenizer(titles[start:stop]).numpy()})
            for start, stop in even_spans(0, len(titles), batch_size)
        ]


@dataclass(frozen=True)
class LikeLengths:
    """transformers' tokenizers: like lengths together, which saves padding.

    The longest come first, so that memory runs out at once if it does.
    """

    tokenizer: Any
    limit: int

    def __call__(self, titles: list[str], batch_size: int) -> list[tuple[np.ndarray, Tokens]]:
        token_ids = self.tokenizer(titles, truncation=True, max_length=self.limit)["input_ids"]
        order = np.argsort([-len(ids) for ids in token_ids], kind="stable")
        return [
            (order[start:stop], self._padded([token_ids[row] for row in order[start:stop]]))
            for start, stop in even_spans(0, len(titles), batch_size)
        ]

    def _padded(self, token_ids: list[list[int]]) -> Tokens:
        """Padded on the right with a masked token: (B, T) each, int64."""
        longest = max(len(ids) for ids in token_ids)
        ids = np.full((len(token_ids), longest), self.tokenizer.pad_token_id or 0, np.int64)
        mask = np.zeros_like(ids)
        for row, own in enumerate(token_ids):
            ids[row, : len(own)] = own
            mask[row, : len(own)] = 1
        return {"input_ids": ids, "attention_mask": mask}


def _transformers(section: EmbedText, device: torch.device) -> TextEncoder:
    tokenizer, model = _load_transformers(section, device)
    limit = _token_limit(section.max_tokens, tokenizer, model)

    @torch.inference_mode()
    def forward(inputs: dict[str, Tensor]) -> Tensor:
        with autocast(device, section.mixed_precision):
            hidden = model(**inputs).last_hidden_state  # (B, T, d)
        return pool(hidden.float(), inputs["attention_mask"], section.pooling)

    provenance = {
        "encoder": f"transformers {section.model}",
        "revision": getattr(model.config, "_commit_hash", None) or section.revision,
        "weights_sha256": weights_sha256(model),
        "config_sha256": config_sha256(model.config, tokenizer),
        "pooling": section.pooling,
        "max_tokens": limit,
        "mixed_precision": effective_precision(device, section.mixed_precision),
        "versions": versions("transformers", "tokenizers", "torch"),
    }
    encoder = Encoder("embed_text", section.model, forward, device, provenance)
    return TextEncoder(LikeLengths(tokenizer, limit), encoder)


@contextmanager
def loading(stage: str, section: EmbedText | EmbedVlm) -> Iterator[None]:
    """For loading `section.model` by transformers; without a terminal its own bars are hidden.

    Raises InputError, naming the stage's settings, for what transformers cannot load.
    """
    if not sys.stderr.isatty():
        hide_progress()
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        raise InputError(
            f"params.yaml: {stage}.model is {section.model!r}, {stage}.revision "
            f"{section.revision!r}: transformers cannot load it (code from the hub is not run, "
            f"weights must be safetensors): {error}"
        ) from error


def config_sha256(config: Any, tokenizer: Any) -> str:
    """A digest of a transformers model's configuration and of its tokenizer."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    tokens = backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab()))
    content = config.to_json_string() + tokens + str(tokenizer.pad_token_id)
    return hashlib.sha256(content.encode()).hexdigest()


def _load_transformers(section: EmbedText, device: torch.device) -> tuple[Any, Any]:
    """Tokenizer and float32 model, from the hub, its cache or a folder; ready on `device`."""
    source = {"revision": section.revision or "main", "trust_remote_code": False}
    with loading("embed_text", section):
        tokenizer = AutoTokenizer.from_pretrained(section.model, **source)
        model = AutoModel.from_pretrained(
            section.model, use_safetensors=True, dtype=torch.float32, **source
        )
    if model.config.is_encoder_decoder:
        raise InputError(
            f"params.yaml: embed_text.model is {section.model!r}, an encoder-decoder; "
            "name an encoder or a decoder-only model"
        )
    return tokenizer, model.to(device).eval()


def _token_limit(max_tokens: int, tokenizer: Any, model: Any) -> int:
    """`max_tokens`, or what the tokenizer and the model's positions allow where that is less."""
    positions = getattr(model.config, "max_position_embeddings", None)
    return int(min(max_tokens, tokenizer.model_max_length, positions or max_tokens))


def pool(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Hidden states (B, T, d), padded on the right, to (B, d).

    `mean` is that over real tokens (mask 1), `cls` the first token, `last` the last real one.
    """
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(1) - 1]
    weights = mask.unsqueeze(-1).to(hidden.dtype)  # (B, T, 1)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
