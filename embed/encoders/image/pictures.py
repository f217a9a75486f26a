"""Covers to pixels, and the models of open_clip, timm and transformers that read them."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from embed.encoders.image.image_encoder import ImageEncoder
from embed.encoders.image.timm_models import load_timm
from embed.encoders.image.transformers_image import load_transformers_image
from embed.encoders.open_clip_models import ResizeToPixels, load_open_clip
from pipeline.settings.embed.image import EmbedImage

AT_A_TIME = 16 * 224**2
"""Pixels on a CPU: the activations of more do not stay in its caches, and EfficientNet-Lite0 takes
1.5 times as long a cover in a batch of 256."""

Forward = Callable[[dict[str, Tensor]], Tensor]


def load_image_encoder(section: EmbedImage, device: torch.device) -> ImageEncoder:
    """Raises InputError if the model is unknown, unreachable or of a kind that gives no vectors."""
    found = _load(section, device)
    if device.type != "cpu":
        return found
    return replace(found, encoder=replace(found.encoder, forward=in_parts(found.encoder.forward)))


def _load(section: EmbedImage, device: torch.device) -> ImageEncoder:
    if section.library == "timm":
        return ImageEncoder(*load_timm(section, device))
    if section.library == "transformers":
        return ImageEncoder(*load_transformers_image(section, device))
    clip = load_open_clip("embed_image", section, device)
    return ImageEncoder(ResizeToPixels(clip.preprocess), clip.image_encoder(section))


def in_parts(forward: Forward) -> Forward:
    """`forward` for at most AT_A_TIME pixels at a time of `pixels` (B, 3, S, S), or one cover."""

    def of_batch(inputs: dict[str, Tensor]) -> Tensor:
        pixels = inputs["pixels"]
        parts = pixels.split(max(1, AT_A_TIME // (pixels.shape[2] * pixels.shape[3])))
        return torch.cat([forward({"pixels": part}) for part in parts])

    return of_batch
