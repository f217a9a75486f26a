"""Encoders as the stages use them: loading, preprocessing, precision, identity of weights."""

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import open_clip
import torch
from huggingface_hub import snapshot_download
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL.Image import Image
from torch import Tensor

from embed.encoders.local_files import check_watched, place_of
from embed.encoders.pixels import arranged, normalize
from embed.extraction.encoder import (
    Encoder,
    autocast,
    effective_precision,
    weights_sha256,
)
from pipeline.common.files import InputError, some_of, versions
from pipeline.common.paths import ENCODER
from pipeline.settings.embed.extraction import WithOpenClip

PACKAGES = (
    "open_clip_torch",
    "pillow",
    "timm",
    "tokenizers",
    "torch",
    "torchvision",
    "transformers",
)
"""What an open_clip model computes with."""

LINES = 4
"""Of torch's reasons, that a message repeats."""


@dataclass(frozen=True)
class OpenClip:
    """An open_clip model, ready to encode on `device`."""

    model: Any
    """CLIP, CustomTextCLIP (SigLIP, timm and transformers towers) or CoCa."""
    name: str
    """As open_clip reads it."""
    preprocess: PreprocessCfg
    device: torch.device

    def tokenizer(self) -> Callable[[list[str]], Tensor]:
        """Titles to int64 (B, context length)."""
        with _quiet():
            return open_clip.get_tokenizer(self.name)

    def encoder(self, stage: str, section: WithOpenClip, forward: Callable[..., Tensor]) -> Encoder:
        """`forward` under the section's precision, with the model's identity."""
        config = {"model": open_clip.get_model_config(self.name), **asdict(self.preprocess)}
        provenance = {
            "encoder": f"open_clip {section.model}",
            "pretrained": section.pretrained,
            "revision": section.revision,
            "weights_sha256": weights_sha256(self.model),
            "config_sha256": hashlib.sha256(json.dumps(config).encode()).hexdigest(),
            "mixed_precision": effective_precision(self.device, section.mixed_precision),
            "versions": versions(*PACKAGES),
        }

        @torch.inference_mode()
        def in_precision(inputs: dict[str, Tensor]) -> Tensor:
            with autocast(self.device, section.mixed_precision):
                return forward(inputs)

        return Encoder(stage, section.model, in_precision, self.device, provenance)

    def image_encoder(self, section: WithOpenClip) -> Encoder:
        """Of `pixels`, uint8 (B, 3, S, S)."""

        def forward(inputs: dict[str, Tensor]) -> Tensor:
            pixels = normalize(inputs["pixels"], self.preprocess.mean, self.preprocess.std)
            return self.model.encode_image(pixels)

        return self.encoder("embed_image", section, forward)

    def text_encoder(self, section: WithOpenClip) -> Encoder:
        """Of `text`, int64 (B, context length)."""
        return self.encoder(
            "embed_text", section, lambda inputs: self.model.encode_text(inputs["text"])
        )


class ResizeToPixels:
    """open_clip's evaluation preprocessing up to its last two steps: uint8 (3, S, S).

    These make floats of the picture and normalise them: the same, of a batch at a time, later.
    """

    def __init__(self, preprocess: PreprocessCfg) -> None:
        *self.steps, _to_tensor, _normalize = image_transform_v2(preprocess, False).transforms

    def __call__(self, image: Image) -> np.ndarray:
        for step in self.steps:
            image = step(image)
        return np.array(image).transpose(2, 0, 1)


def load_open_clip(stage: str, section: WithOpenClip, device: torch.device) -> OpenClip:
    """Load the section's model and weights; `trained` is what the encoder stage wrote.

    Raises InputError for an unknown model, unknown or unreachable weights, and for a model without
    any, which open_clip would leave random.
    """
    model, pretrained = section.model, section.pretrained
    if model != "trained" and ":" not in model and not pretrained:
        known = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none for this name"
        raise InputError(
            f"params.yaml: {stage}.model is {model!r} and {stage}.pretrained is empty, so it "
            f"has no weights; set {stage}.pretrained to a tag (known: {known})"
        )
    if section.revision and not model.startswith("hf-hub:"):
        raise InputError(
            f"params.yaml: {stage}.revision is {section.revision!r}, but {stage}.model {model!r} "
            "has no revisions; write hf-hub:<organisation>/<name>, or leave the revision empty"
        )
    try:
        with _quiet():
            name = open_clip_name(model, section.revision)
            check_files_watched(stage, section, name)
            weights = place_of(stage, "pretrained", pretrained)
            network = open_clip.create_model(
                name, weights or None, device=device, require_pretrained=True
            )
    except InputError:
        raise
    except Exception as error:  # torch and safetensors have types of their own for foreign files
        usual = isinstance(error, RuntimeError | ValueError | OSError)
        # torch's text on a pickle with code in it advises to run that code
        reason = (
            shorter(str(error)) if usual else f"its weights are refused ({type(error).__name__})"
        )
        raise InputError(
            f"params.yaml: {stage}.model is {model!r}, {stage}.pretrained {pretrained!r}, "
            f"{stage}.revision {section.revision!r}: open_clip cannot load it: {reason}"
        ) from error
    preprocess = PreprocessCfg(**network.visual.preprocess_cfg)
    arranged(network, device)
    return OpenClip(network.eval(), name, preprocess, device)


def check_files_watched(stage: str, section: WithOpenClip, name: str) -> None:
    """Raises InputError if open_clip would read files of this disk that DVC does not watch."""
    if section.model == "trained" or section.model.startswith("hf-hub:"):
        return
    if name.startswith("local-dir:"):
        check_watched(stage, "model", name.removeprefix("local-dir:"), section.local)
    elif section.pretrained not in open_clip.list_pretrained_tags_by_model(name):
        check_watched(stage, "pretrained", section.pretrained, section.local)
    text = (open_clip.get_model_config(name) or {}).get("text_cfg", {})
    for key in ("hf_model_name", "hf_tokenizer_name"):
        if text.get(key):
            check_watched(stage, f"model ({name}: {key})", text[key], section.local)


def shorter(reason: str) -> str:
    """torch's list of weights that do not fit, which may be of hundreds, cut to a few."""
    lines = []
    for line in reason.splitlines():
        head, found, rest = line.partition("key(s) in state_dict: ")
        names = re.findall(r'"([^"]+)"', rest)
        lines.append(f"{head}{found}{some_of(names)}" if found else line)
    return "; ".join(line.strip() for line in lines[:LINES])


def open_clip_name(model: str, revision: str) -> str:
    """`model` as open_clip reads it, which knows no revisions: a snapshot is a folder to it."""
    if model == "trained":
        return f"local-dir:{ENCODER}"
    if revision and model.startswith("hf-hub:"):
        patterns = ["*.json", "*.safetensors", "*.txt", "*.model"]
        folder = snapshot_download(
            model.removeprefix("hf-hub:"), revision=revision, allow_patterns=patterns
        )
        return f"local-dir:{folder}"
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """open_clip tells each step of loading at INFO on the root logger."""
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
