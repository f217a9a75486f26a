"""Covers to vectors by the image encoders of transformers: ViT and its kin, DINO, ConvNeXt, and the
image towers of CLIP and its kin.

Whatever the checkpoint says of itself decides how covers are scaled, cropped and normalised.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from torch import Tensor
from transformers import AutoConfig, AutoImageProcessor, AutoModel

from embed.covers.decode import CoverError
from embed.encoders.image.image_encoder import try_cover
from embed.encoders.local_files import check_watched
from embed.encoders.pixels import arranged, normalize
from embed.encoders.pretrained import checkpoint_of, commit_of, load_whole, loading, named, origin
from embed.extraction.encoder import Encoder, autocast, effective_precision, weights_sha256
from pipeline.common.files import InputError, versions
from pipeline.settings.embed.image import EmbedImage

STAGE = "embed_image"
POOLER = r"pooler\."
"""Weights that hidden states do not depend on; many checkpoints have none."""
CLOSE = 1e-5
"""Between what the processor makes of a cover, and bytes normalised; a level of a byte is 0.004."""

load_processor: Callable[..., Any] = AutoImageProcessor.from_pretrained


@dataclass(frozen=True)
class ProcessedPixels:
    """A processor's own preprocessing: up to its last step, uint8 (3, S, S), or all of it.

    All of it, float32, where the processor scales values before it scales the picture, so that
    bytes would round what it does.
    """

    processor: Any
    as_bytes: bool
    shape: tuple[int, ...]

    def __call__(self, image: Image.Image) -> np.ndarray:
        """Raises CoverError for a picture that the processor does not take."""
        try:
            pixels = processed(self.processor, image, as_bytes=self.as_bytes)
        except Exception as error:  # each processor has limits and errors of its own
            raise CoverError(
                f"{image.width} x {image.height}, which the model's "
                f"{type(self.processor).__name__} does not take: {error}"
            ) from None
        if pixels.shape != self.shape:
            raise CoverError(
                f"{image.width} x {image.height}, of which the model's "
                f"{type(self.processor).__name__} makes {pixels.shape}, expected {self.shape}"
            )
        return pixels


def processed(processor: Any, image: Image.Image, *, as_bytes: bool) -> np.ndarray:
    """(3, S, S): uint8, not normalised, or float32 as the model reads it."""
    steps = {"do_rescale": False, "do_normalize": False} if as_bytes else {}
    (found,) = processor(images=[image], return_tensors="pt", **steps)["pixel_values"]
    return np.asarray(found if as_bytes else found.float())


@dataclass(frozen=True)
class ImageTower:
    """An image encoder up to a cover's vector."""

    model: Any
    pooling: str

    def __call__(self, pixels: Tensor) -> Tensor:
        """float32 (B, 3, S, S) to (B, d)."""
        if self.pooling == "model":
            return self.pooled(pixels)
        tower = getattr(self.model, "vision_model", self.model)
        hidden = tower(pixel_values=pixels).last_hidden_state  # (B, T, d) or (B, d, h, w)
        if hidden.ndim == 4:
            if self.pooling == "cls":
                raise ValueError("it has a map of the cover and no class token")
            return hidden.mean((2, 3))
        before = self.before_patches(hidden.shape[1], pixels)
        if self.pooling == "mean":
            return hidden[:, before:].mean(1)
        if not before:
            raise ValueError("it has no class token")
        return hidden[:, 0]

    def pooled(self, pixels: Tensor) -> Tensor:
        read = getattr(self.model, "get_image_features", self.model)
        found = read(pixel_values=pixels)
        for name in ("image_embeds", "pooler_output"):
            if (vectors := getattr(found, name, None)) is not None:
                if vectors.flatten(1).shape[1] != vectors.shape[1]:
                    raise ValueError(f"its pooled output has the shape {tuple(vectors.shape)}")
                return vectors.flatten(1)
        raise ValueError("it pools nothing by itself: set embed_image.pooling to cls or mean")

    def before_patches(self, tokens: int, pixels: Tensor) -> int:
        """Class and register tokens: those of `tokens` that are no patch of the cover."""
        config = getattr(self.model.config, "vision_config", self.model.config)
        patch = getattr(config, "patch_size", None)
        if not patch:
            raise ValueError(
                "its config.json has no patch_size, which would tell patches from other tokens"
            )
        height, width = patch if isinstance(patch, list | tuple) else (patch, patch)
        patches = (pixels.shape[2] // height) * (pixels.shape[3] // width)
        return max(0, tokens - patches)


def load_transformers_image(
    section: EmbedImage, device: torch.device
) -> tuple[ProcessedPixels, Encoder]:
    """Raises InputError for a checkpoint that is incomplete, or is no image encoder known here."""
    check_watched(STAGE, "model", section.model, section.local)
    model = _load(section).eval()
    arranged(model.to(device), device)
    tower = ImageTower(model, _pooling(section, model))
    with loading(STAGE, section):
        processor = load_processor(checkpoint_of(STAGE, section), **origin(section))
    pixels = _pixels(section, processor)

    @torch.inference_mode()
    def forward(inputs: dict[str, Tensor]) -> Tensor:
        found = inputs["pixels"]
        if pixels.as_bytes:
            found = normalize(found, processor.image_mean, processor.image_std)
        with autocast(device, section.mixed_precision):
            return tower(found)

    try_cover(f"{named(STAGE, section)}, a {type(model).__name__}", pixels, forward, device)
    config = model.config.to_json_string() + processor.to_json_string()
    provenance = {
        "encoder": f"transformers {section.model}",
        "revision": commit_of(STAGE, section, model),
        "weights_sha256": weights_sha256(model),
        "config_sha256": hashlib.sha256(config.encode()).hexdigest(),
        "pooling": tower.pooling,
        "mixed_precision": effective_precision(device, section.mixed_precision),
        "versions": versions("transformers", "torch", "torchvision", "pillow"),
    }
    return pixels, Encoder(STAGE, section.model, forward, device, provenance)


def _load(section: EmbedImage) -> Any:
    """The float32 model, from the hub, its cache or a folder."""
    with loading(STAGE, section):
        config = AutoConfig.from_pretrained(checkpoint_of(STAGE, section), **origin(section))
    kind = (config.architectures or [""])[0]
    projects = kind.endswith("VisionModelWithProjection") and hasattr(transformers, kind)
    load = getattr(transformers, kind) if projects else AutoModel
    model = load_whole(STAGE, section, load.from_pretrained, POOLER, dtype=torch.float32)
    reads = "pixel_values" if hasattr(model, "get_image_features") else model.main_input_name
    if reads != "pixel_values":
        raise InputError(
            f"{named(STAGE, section)}, a {type(model).__name__}, which reads {reads} and no "
            "covers; name an image encoder"
        )
    return model


def _pooling(section: EmbedImage, model: Any) -> str:
    """The section's; the class token for `model` if the checkpoint lacks the pooler's weights."""
    pooler = [value for name, value in model.state_dict().items() if name.startswith("pooler.")]
    lacking = bool(pooler) and not any(value.any() for value in pooler)
    return "cls" if section.pooling == "model" and lacking else section.pooling


def _pixels(section: EmbedImage, processor: Any) -> ProcessedPixels:
    """Raises InputError if the processor does not make squares of one size of every picture."""
    pictures = [noise(48, 32), noise(32, 48), Image.new("RGB", (1, 1), "grey")]
    try:
        whole = [processed(processor, picture, as_bytes=False) for picture in pictures]
    except Exception as error:  # each processor has limits and errors of its own
        raise InputError(
            f"{named(STAGE, section)}: its {type(processor).__name__} makes no pixels of a "
            f"picture: {type(error).__name__}: {error}; name another model"
        ) from error
    shapes = {found.shape for found in whole}
    if len(shapes) != 1 or whole[0].ndim != 3 or whole[0].shape[0] != 3:
        raise InputError(
            f"{named(STAGE, section)}: its {type(processor).__name__} makes "
            f"{' and '.join(map(str, sorted(shapes)))} of pictures of different shapes; expected "
            "(3, S, S) of each; name a model that reads pictures of one size"
        )
    as_bytes = all(map(like_bytes(processor), pictures, whole))
    return ProcessedPixels(processor, as_bytes, whole[0].shape)


def like_bytes(processor: Any) -> Callable[[Image.Image, np.ndarray], bool]:
    """Whether bytes, normalised, are what the processor makes of a picture."""

    def check(picture: Image.Image, whole: np.ndarray) -> bool:
        try:
            pixels = processed(processor, picture, as_bytes=True)
            mean, std = processor.image_mean, processor.image_std
            found = normalize(torch.from_numpy(pixels)[None], mean, std)[0].numpy()
        except Exception:  # a processor whose steps do not come apart
            return False
        return pixels.dtype == np.uint8 and bool(np.abs(found - whole).max() < CLOSE)

    return check


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)
