"""Covers to pixels, and the models of open_clip, timm and transformers that read them."""

import torch

from embed.encoders.image.image_encoder import ImageEncoder
from embed.encoders.image.timm_models import load_timm
from embed.encoders.image.transformers_image import load_transformers_image
from embed.encoders.open_clip_models import ResizeToPixels, load_open_clip
from pipeline.settings.embed.image import EmbedImage


def load_image_encoder(section: EmbedImage, device: torch.device) -> ImageEncoder:
    """Raises InputError if the model is unknown, unreachable or of a kind that gives no vectors."""
    if section.library == "timm":
        return ImageEncoder(*load_timm(section, device))
    if section.library == "transformers":
        return ImageEncoder(*load_transformers_image(section, device))
    clip = load_open_clip("embed_image", section, device)
    return ImageEncoder(ResizeToPixels(clip.preprocess), clip.image_encoder(section))
