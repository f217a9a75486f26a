"""Titles to vectors, with open_clip or transformers."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm
from transformers import AutoModel, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from embed.encoders import (
    autocast,
    best_device,
    check_finite,
    load_open_clip,
    to_numpy,
    weights_sha256,
)
from pipeline.params import EmbedText
from pipeline.schema import InputError, versions

hide_progress: Callable[[], None] = disable_progress_bar
"""transformers' own function, which comes without types."""


@dataclass(frozen=True)
class TextEncoder:
    encode: Callable[[list[str]], np.ndarray]
    """n >= 1 titles to finite float32 (n, d), in their order."""
    provenance: dict[str, Any]


def load_text_encoder(section: EmbedText) -> TextEncoder:
    """Raises InputError if the model is unknown, unreachable or of a kind that gives no vectors."""
    if section.library == "open_clip":
        return _open_clip(section)
    return _transformers(section)


def _open_clip(section: EmbedText) -> TextEncoder:
    clip = load_open_clip("embed_text", section.model, section.pretrained)

    def encode(titles: list[str]) -> np.ndarray:
        return _in_batches(
            np.arange(len(titles)),
            section,
            lambda rows: clip.encode_text([titles[row] for row in rows], section.mixed_precision),
        )

    provenance = {
        "encoder": f"open_clip {section.model}",
        "pretrained": section.pretrained,
        "weights_sha256": weights_sha256(clip.model),
        "mixed_precision": section.mixed_precision if clip.device.type == "cuda" else "no",
        "versions": versions("open_clip_torch", "torch"),
    }
    return TextEncoder(encode, provenance)


def _transformers(section: EmbedText) -> TextEncoder:
    tokenizer, model = _load_transformers(section)
    limit = _token_limit(section.max_tokens, tokenizer, model)

    def encode(titles: list[str]) -> np.ndarray:
        token_ids = tokenizer(titles, truncation=True, max_length=limit)["input_ids"]
        # Like lengths together save padding; the longest first, so that memory runs out at once.
        order = np.argsort([-len(ids) for ids in token_ids], kind="stable")
        padding = tokenizer.pad_token_id or 0
        return _in_batches(
            order,
            section,
            lambda rows: _encode_tokens(model, [token_ids[row] for row in rows], padding, section),
        )

    provenance = {
        "encoder": f"transformers {section.model}",
        "revision": getattr(model.config, "_commit_hash", None) or section.revision,
        "weights_sha256": weights_sha256(model),
        "pooling": section.pooling,
        "max_tokens": limit,
        "mixed_precision": section.mixed_precision if model.device.type == "cuda" else "no",
        "versions": versions("transformers", "tokenizers", "torch"),
    }
    return TextEncoder(encode, provenance)


@torch.inference_mode()
def _encode_tokens(
    model: Any, token_ids: list[list[int]], padding: int, section: EmbedText
) -> np.ndarray:
    """Titles of different lengths, padded on the right with a masked token, to float32 (B, d)."""
    ids = [torch.tensor(row) for row in token_ids]
    mask = pad_sequence([torch.ones_like(row) for row in ids], batch_first=True).to(model.device)
    padded = pad_sequence(ids, batch_first=True, padding_value=padding).to(model.device)
    with autocast(model.device, section.mixed_precision):
        hidden = model(input_ids=padded, attention_mask=mask).last_hidden_state  # (B, T, d)
    return to_numpy(pool(hidden.float(), mask, section.pooling))


def _load_transformers(section: EmbedText) -> tuple[Any, Any]:
    """Tokenizer and float32 model, from the hub, its cache or a folder; ready on its device."""
    if not sys.stderr.isatty():
        hide_progress()
    source = {"revision": section.revision or "main", "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(section.model, **source)
        model = AutoModel.from_pretrained(
            section.model, use_safetensors=True, dtype=torch.float32, **source
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise InputError(
            f"params.yaml: embed_text.model is {section.model!r}, embed_text.revision "
            f"{section.revision!r}: transformers cannot load it (code from the hub is not run, "
            f"weights must be safetensors): {error}"
        ) from error
    if model.config.is_encoder_decoder:
        raise InputError(
            f"params.yaml: embed_text.model is {section.model!r}, an encoder-decoder; "
            "name an encoder or a decoder-only model"
        )
    return tokenizer, model.to(best_device()).eval()


def _token_limit(max_tokens: int, tokenizer: Any, model: Any) -> int:
    """`max_tokens`, or what the tokenizer and the model's positions allow where that is less."""
    positions = getattr(model.config, "max_position_embeddings", None)
    return int(min(max_tokens, tokenizer.model_max_length, positions or max_tokens))


def pool(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Hidden states (B, T, d) to (B, d): the mean over real tokens (mask 1), or the first token."""
    if pooling == "cls":
        return hidden[:, 0]
    weights = mask.unsqueeze(-1).to(hidden.dtype)  # (B, T, 1)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


def _in_batches(
    order: np.ndarray, section: EmbedText, encode: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """`encode` of the rows in `order`, a batch at a time; the result is back in row order."""
    encoded: np.ndarray | None = None
    for rows in _slices(order, section.batch_size):
        vectors = encode(rows)
        check_finite(vectors, "embed_text", section.model)
        if encoded is None:
            encoded = np.empty((len(order), vectors.shape[1]), np.float32)
        encoded[rows] = vectors
    assert encoded is not None
    return encoded


def _slices(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    with tqdm(total=len(order), desc="titles", unit="title", disable=None) as bar:
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            yield rows
            bar.update(len(rows))
