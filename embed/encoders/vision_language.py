"""Title and cover together to hidden states of a vision-language model, as Qwen3-VL or InternVL.

Only what transformers' processors have in common is used: a chat template places each cover, lists
of covers an item are given with the texts, and arrays come back that the model is called with.
"""

import hashlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

from embed.encoders.local_files import check_watched
from embed.encoders.pooling import pool
from embed.encoders.pretrained import (
    check_vocabulary,
    checkpoint_of,
    commit_of,
    config_sha256,
    load_whole,
    loading,
    named,
    origin,
)
from embed.extraction.encoder import PRECISIONS, Encoder, effective_precision, weights_sha256
from embed.extraction.extract import on_device
from pipeline.common.files import InputError, versions
from pipeline.settings.embed.vlm import EmbedVlm

load_processor: Callable[..., Any] = AutoProcessor.from_pretrained
load_model: Callable[..., Any] = AutoModelForImageTextToText.from_pretrained
"""transformers' own functions, which come without usable types."""
LANGUAGE_HEAD = r"lm_head\."
"""Weights that hidden states do not depend on."""


@dataclass(frozen=True)
class Prompts:
    """Titles and covers to the inputs of one forward pass."""

    processor: Any
    prompt: str
    max_pixels: int

    def __call__(
        self, titles: list[str], covers: list[Image.Image | None]
    ) -> dict[str, np.ndarray]:
        """`input_ids`, `attention_mask` (B, T), padded on the right, and what the covers become.

        That has as many rows as there are covers, their tiles or patches, or as there are items.
        """
        texts = [
            self._text(title, with_cover=cover is not None)
            for title, cover in zip(titles, covers, strict=True)
        ]
        pictures = [[] if cover is None else [bounded(cover, self.max_pixels)] for cover in covers]
        inputs = self.processor(
            text=texts,
            images=pictures if any(pictures) else None,
            padding=True,
            padding_side="right",
            return_tensors="pt",
            **({"add_special_tokens": False} if self._begun(texts[0]) else {}),
        )
        return {name: tensor.numpy() for name, tensor in inputs.items()}

    def _text(self, title: str, with_cover: bool) -> str:
        text = self.prompt.replace("{title}", self._plain(title))
        if self.processor.chat_template is None:
            return (self.processor.image_token if with_cover else "") + text
        content = [{"type": "image"}] * with_cover + [{"type": "text", "text": text}]
        message = {"role": "user", "content": content}
        return str(
            self.processor.apply_chat_template(
                [message], tokenize=False, add_generation_prompt=True
            )
        )

    def _begun(self, text: str) -> bool:
        """Whether the template begins as the tokenizer would: transformers does so only once."""
        begin = self.processor.tokenizer.bos_token
        return begin is not None and text.startswith(begin)

    def _plain(self, title: str) -> str:
        """Without what would be read as the end of a turn, or as a place of a cover."""
        control = [str(token) for token in self.processor.tokenizer.added_tokens_decoder.values()]
        for kind in ("image", "video", "audio"):  # which a processor may know and its tokenizer not
            control += filter(None, [getattr(self.processor, f"{kind}_token", None)])
        return re.sub("|".join(map(re.escape, control)), " ", title) if control else title


def bounded(image: Image.Image, max_pixels: int) -> Image.Image:
    """Scaled down to `max_pixels` where it has more, its shape kept."""
    scale = math.sqrt(max_pixels / (image.width * image.height))
    if scale >= 1:
        return image
    width, height = (max(1, int(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def load_vision_language(section: EmbedVlm, device: torch.device) -> tuple[Prompts, Encoder]:
    """Raises InputError if the model is unknown, unreachable, incomplete, has no such layer, or
    cannot read what its processor makes of a title and a cover."""
    processor, model = _load(section, device)
    return reading_with(processor, model, weights_sha256(model), section, device)


def reading_with(
    processor: Any, model: Any, digest: str, section: EmbedVlm, device: torch.device
) -> tuple[Prompts, Encoder]:
    """Likewise with a model without its language head, on `device`, that is loaded already, and the
    digest of its weights."""
    layers = model.config.get_text_config().num_hidden_layers + 1
    if not -layers <= section.layer < layers:
        raise InputError(
            f"params.yaml: embed_vlm.layer is {section.layer}, but {section.model!r} has "
            f"{layers} hidden states; expected {-layers} to {layers - 1}"
        )

    @torch.inference_mode()
    def forward(inputs: dict[str, Tensor]) -> Tensor:
        found = model(**inputs, output_hidden_states=True, use_cache=False, return_dict=True)
        hidden = found.hidden_states[section.layer]  # (B, T, d)
        return pool(hidden.float(), inputs["attention_mask"], section.pooling)

    provenance = {
        "encoder": f"transformers {section.model}",
        "revision": commit_of("embed_vlm", section, model),
        "weights_sha256": digest,
        "config_sha256": config_sha256(model.config, processor.tokenizer),
        "processor_sha256": processor_sha256(processor),
        **section.model_dump(include={"prompt", "layer", "pooling", "max_pixels"}),
        "mixed_precision": effective_precision(device, section.mixed_precision),
        "versions": versions("transformers", "tokenizers", "torch", "torchvision", "pillow"),
    }
    encoder = Encoder("embed_vlm", section.model, forward, device, provenance)
    prompts = Prompts(processor, section.prompt, section.max_pixels)
    check_reading(section, prompts, encoder)
    return prompts, encoder


def processor_sha256(processor: Any) -> str:
    content = processor.image_processor.to_json_string() + str(processor.chat_template)
    return hashlib.sha256(content.encode()).hexdigest()


def _load(section: EmbedVlm, device: torch.device) -> tuple[Any, Any]:
    """Processor and model without its language head, on `device`.

    On a GPU the weights themselves are in the section's precision: in float32 those of 7 billion
    parameters would not leave room for anything else.
    """
    check_watched("embed_vlm", "model", section.model, section.local)
    with loading("embed_vlm", section):
        processor = load_processor(checkpoint_of("embed_vlm", section), **origin(section))
    check_processor(section, processor)
    precision = effective_precision(device, section.mixed_precision)
    dtype = PRECISIONS.get(precision, torch.float32)
    model = load_whole("embed_vlm", section, load_model, LANGUAGE_HEAD, dtype=dtype)
    return processor, model.base_model.to(device).eval()


def check_processor(section: EmbedVlm, processor: Any) -> None:
    """Raises InputError if what the prompts need of it is not there."""
    needed = ("tokenizer", "image_processor")
    lacking = [name for name in needed if getattr(processor, name, None) is None]
    if not lacking:
        check_vocabulary("embed_vlm", section, processor.tokenizer)
        placing = (processor.chat_template, getattr(processor, "image_token", None))
        lacking = ["chat_template or image_token"] if placing == (None, None) else []
    if lacking:
        raise InputError(
            f"{named('embed_vlm', section)}, whose processor, a {type(processor).__name__}, has no "
            f"{' and no '.join(lacking)}; put the processor's files beside the weights, or name a "
            "vision-language model"
        )


def check_reading(section: EmbedVlm, prompts: Prompts, encoder: Encoder) -> None:
    """Reads one title with a cover and one without, before any work.

    Raises InputError if the processor or the model cannot: their files lack something, or are of
    two models, as where a cover takes another number of tokens than the model makes of it.
    """
    try:
        inputs = prompts(["a title", "another"], [Image.new("RGB", (64, 64), "white"), None])
        encoder.forward(on_device(inputs, encoder.device)).cpu()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # the files of a checkpoint can be wrong in any way
        raise InputError(
            f"{named('embed_vlm', section)}, which cannot read a title and a cover as its "
            f"processor, a {type(prompts.processor).__name__}, puts them "
            f"({type(error).__name__}: {error}); put all files of the processor and its tokenizer "
            "beside the weights, of the same model and as they are published, and leave the "
            "cover's place out of embed_vlm.prompt"
        ) from error
