"""Titles to vectors by the text encoders of transformers: BERT and its kin, decoders, and the text
towers of CLIP and its kin.

Whatever the checkpoint says of itself decides: how it pools, what it projects by, how much it
takes. `embed_text.pooling` may say the same, or leave it to the checkpoint (`model`).
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from embed.encoders.local_files import check_watched
from embed.encoders.pooling import pool
from embed.encoders.pretrained import (
    checkpoint_of,
    commit_of,
    config_sha256,
    load_tokenizer,
    load_whole,
    loading,
    named,
    origin,
)
from embed.encoders.text.sentence_modules import SentenceModules, sentence_modules
from embed.extraction.batches import even_spans
from embed.extraction.encoder import Encoder, autocast, effective_precision, weights_sha256
from pipeline.common.files import InputError, versions
from pipeline.settings.embed.text import EmbedText

Tokens = dict[str, np.ndarray]
Tokenize = Callable[[list[str], int], list[tuple[np.ndarray, Tokens]]]
"""Titles and the batch size to batches: places of titles (B,), and the model's inputs for them."""

POOLER = r"pooler\."
"""Weights that hidden states do not depend on."""
TOWERS = ("clip_text_model", "metaclip_2_text_model", "siglip_text_model", "siglip2_text_model")
"""Text towers on their own, which pool as they do beside their image tower."""


@dataclass(frozen=True)
class LikeLengths:
    """transformers' tokenizers: like lengths together, which saves padding.

    The longest come first, so that memory runs out at once if it does.
    """

    tokenizer: Any
    limit: int
    """Tokens of a title that are read."""
    takes: tuple[str, ...] = ("input_ids", "attention_mask")
    """The model's inputs, by their names."""
    padded_to: int = 0
    """Tokens of every title, which are masked if the tokenizer says so; 0 pads to the longest of a
    batch, masked."""
    prompt: str = ""
    lower: bool = False

    def __call__(self, titles: list[str], batch_size: int) -> list[tuple[np.ndarray, Tokens]]:
        read = [self.prompt + title for title in titles]
        if self.lower:
            read = [title.lower() for title in read]
        encoded = self.tokenizer(
            read,
            truncation=True,
            max_length=self.limit,
            return_attention_mask=None if self.padded_to else True,
        )
        order = np.argsort([-len(ids) for ids in encoded["input_ids"]], kind="stable")
        return [
            (order[start:stop], self._padded(encoded, order[start:stop]))
            for start, stop in even_spans(0, len(titles), batch_size)
        ]

    def _padded(self, encoded: Any, rows: np.ndarray) -> Tokens:
        """Padded on the right: (B, T) int64 each."""
        longest = max(len(encoded["input_ids"][row]) for row in rows)
        padding = {"input_ids": self.tokenizer.pad_token_id, "token_type_ids": 0}
        tokens = {}
        for name in self.takes:
            if name in encoded:
                shape = (len(rows), max(longest, self.padded_to))
                tokens[name] = np.full(shape, padding.get(name) or 0, np.int64)
                for place, row in enumerate(rows):
                    tokens[name][place, : len(encoded[name][row])] = encoded[name][row]
        return tokens


@dataclass(frozen=True)
class Tower:
    """A text encoder up to a title's vector."""

    model: Any
    read: Callable[..., Any]
    """The model, or what of it reads a text."""
    pooling: str
    """Of hidden states; `model` where the tower pools by itself."""
    after: nn.Sequential

    def __call__(self, inputs: dict[str, Tensor]) -> Tensor:
        """`input_ids`, `attention_mask`, ... (B, T) to float32 (B, d)."""
        found = self.read(**inputs)
        if self.pooling != "model":
            return pool(found.last_hidden_state.float(), inputs["attention_mask"], self.pooling)
        vectors = getattr(found, "text_embeds", None)
        return (found.pooler_output if vectors is None else vectors).float()

    def takes(self, tokenizer: Any) -> tuple[str, ...]:
        """The inputs of a title. Token types matter to XLNet's kin, whose titles have any but 0."""
        known = ["input_ids", "attention_mask"]
        if any(tokenizer("a title").get("token_type_ids", [])):
            known.append("token_type_ids")
        return tuple(name for name in known if name in inspect.signature(self.read).parameters)


def load_transformers(section: EmbedText, device: torch.device) -> tuple[Tokenize, Encoder]:
    """Raises InputError for a checkpoint that is incomplete, or is no text encoder known here."""
    check_watched("embed_text", "model", section.model, section.local)
    modules = sentence_modules(section)
    model = _load(section, modules.subfolder).to(device).eval()
    tokenizer = load_tokenizer("embed_text", section, modules.subfolder)
    tower = _tower(section, model, modules)
    tower.after.to(device)
    tokenize = _tokenize(section, tower, tokenizer, modules)

    @torch.inference_mode()
    def forward(inputs: dict[str, Tensor]) -> Tensor:
        with autocast(device, section.mixed_precision):
            vectors = tower(inputs)
        return tower.after(vectors)

    _try(section, model, tokenize, forward, device)
    provenance = {
        "encoder": f"transformers {section.model}",
        "revision": commit_of("embed_text", section, model),
        "weights_sha256": weights_sha256(nn.ModuleList([model, *tower.after])),
        "config_sha256": config_sha256(model.config, tokenizer),
        "pooling": tower.pooling,
        "then": [str(step) for step in tower.after],
        "prompt": tokenize.prompt,
        "lower": tokenize.lower,
        "max_tokens": tokenize.limit,
        "mixed_precision": effective_precision(device, section.mixed_precision),
        "versions": versions("transformers", "tokenizers", "torch"),
    }
    return tokenize, Encoder("embed_text", section.model, forward, device, provenance)


def _load(section: EmbedText, subfolder: str) -> Any:
    """The float32 model, from the hub, its cache or a folder."""
    with loading("embed_text", section):
        folder = checkpoint_of("embed_text", section)
        config = AutoConfig.from_pretrained(folder, subfolder=subfolder, **origin(section))
    if config.is_encoder_decoder:
        raise InputError(
            f"{named('embed_text', section)}, an encoder-decoder; "
            "name an encoder or a decoder-only model"
        )
    kind = (config.architectures or [""])[0]
    projects = kind.endswith("TextModelWithProjection") and hasattr(transformers, kind)
    load = getattr(transformers, kind) if projects else AutoModel
    options = {"subfolder": subfolder, "dtype": torch.float32}
    model = load_whole("embed_text", section, load.from_pretrained, POOLER, **options)
    if model.main_input_name != "input_ids":
        raise InputError(
            f"{named('embed_text', section)}, a {type(model).__name__}, which reads "
            f"{model.main_input_name} and no text; name a text encoder"
        )
    return model


def _tower(section: EmbedText, model: Any, modules: SentenceModules) -> Tower:
    """A tower's own pooling and projection where it has them, as every dual model's text tower."""
    read = getattr(model, "get_text_features", model.forward)
    alone = model.config.model_type in TOWERS
    own = (read != model.forward or alone) and modules.pooling is None
    pooling = _pooling(section, "model" if own else modules.pooling)
    return Tower(model, read if own else model.forward, pooling, modules.after)


def _pooling(section: EmbedText, said: str | None) -> str:
    """`said` by the checkpoint, the section's where it says nothing; mean if both leave it open."""
    if said is None:
        return "mean" if section.pooling == "model" else section.pooling
    if section.pooling not in ("model", said):
        how = "by a layer of its own" if said == "model" else f"by {said!r}"
        raise InputError(
            f"params.yaml: embed_text.pooling is {section.pooling!r}, but {section.model!r} pools "
            f"{how}, as its files say; set embed_text.pooling to 'model'"
        )
    return said


def _tokenize(
    section: EmbedText, tower: Tower, tokenizer: Any, modules: SentenceModules
) -> LikeLengths:
    takes = tower.takes(tokenizer)
    if "attention_mask" not in takes:
        raise InputError(
            f"{named('embed_text', section)}, a {type(tower.model).__name__}, which takes no "
            "attention mask: a title's vector would depend on those beside; name another model"
        )
    vocabulary = getattr(tower.model.config.get_text_config(), "vocab_size", None)
    highest = max(tokenizer.get_vocab().values())
    if vocabulary and highest >= vocabulary:
        raise InputError(
            f"{named('embed_text', section)}, whose tokenizer knows token {highest}, but its "
            f"weights are of {vocabulary} tokens; put the tokenizer of these weights beside them"
        )
    positions = _positions(tower.model)
    lengths = (section.max_tokens, tokenizer.model_max_length, modules.max_tokens, positions)
    limit = min(int(length) for length in lengths if length)
    # SigLIP reads a title off the last place, and was trained on titles padded to all of them.
    padded_to = positions if "siglip" in tower.model.config.model_type else None
    prompt = section.prompt or modules.prompt
    return LikeLengths(tokenizer, limit, takes, padded_to or 0, prompt, modules.lower)


def _positions(model: Any) -> int | None:
    """Tokens that have a place in the model; None where it tells no bound.

    RoBERTa's kin count theirs from the padding token's number on.
    """
    told = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if told is None or told < 1:
        return None
    tables = [
        module.padding_idx + 1
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding)
        and "position" in name.rpartition(".")[2]
        and module.num_embeddings == told
        and module.padding_idx is not None
    ]
    return int(told) - max(tables, default=0)


def _try(
    section: EmbedText,
    model: Any,
    tokenize: Tokenize,
    forward: Callable[[dict[str, Tensor]], Tensor],
    device: torch.device,
) -> None:
    """One title, before any work. Raises InputError if the model gives no vector for it."""
    ((_, tokens),) = tokenize(["a title"], 1)
    try:
        vectors = forward({name: torch.from_numpy(ids).to(device) for name, ids in tokens.items()})
        found = f"an array of {tuple(vectors.shape)}"
    except Exception as error:  # a model that is no text encoder fails in a way of its own
        vectors, found = None, f"{type(error).__name__}: {error}"
    if vectors is None or vectors.ndim != 2 or len(vectors) != 1:
        raise InputError(
            f"{named('embed_text', section)}, a {type(model).__name__}, which gives no vector for "
            f"a title: found {found}; name a text encoder"
        )
