"""Encoders as the stages use them: loading, preprocessing, precision, identity of weights."""

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import open_clip
import torch
from open_clip import CLIP
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL.Image import Image
from torch import Tensor, nn

from pipeline.schema import ENCODER, InputError

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


def best_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device, mixed_precision: str) -> torch.autocast:
    """Mixed precision on a GPU; a CPU computes in float32 whatever the setting."""
    dtype = PRECISIONS.get(mixed_precision)
    return torch.autocast(device.type, dtype, enabled=device.type == "cuda" and dtype is not None)


@dataclass(frozen=True)
class OpenClip:
    """An open_clip model, ready to encode on `device`."""

    model: CLIP
    tokenize: Callable[[list[str]], Tensor]
    """Titles to int64 (B, context length)."""
    preprocess: PreprocessCfg
    device: torch.device

    @torch.inference_mode()
    def encode_text(self, titles: list[str], mixed_precision: str) -> np.ndarray:
        """float32 (B, d), not normalised."""
        with autocast(self.device, mixed_precision):
            features = self.model.encode_text(self.tokenize(titles).to(self.device))
        return to_numpy(features)

    @torch.inference_mode()
    def encode_image(self, pixels: np.ndarray, mixed_precision: str) -> np.ndarray:
        """uint8 (B, 3, S, S) to float32 (B, d), not normalised."""
        images = normalize(torch.from_numpy(pixels).to(self.device), self.preprocess)
        with autocast(self.device, mixed_precision):
            features = self.model.encode_image(images)
        return to_numpy(features)


class ResizeToPixels:
    """open_clip's evaluation preprocessing up to its last step: uint8 (3, S, S), not normalised.

    Bytes are a quarter of the floats to send between processes; `normalize` does the rest.
    """

    def __init__(self, preprocess: PreprocessCfg) -> None:
        without_normalization = replace(preprocess, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        self.transform = image_transform_v2(without_normalization, is_train=False)

    def __call__(self, image: Image) -> np.ndarray:
        return np.asarray((self.transform(image) * 255).round().to(torch.uint8))


def to_numpy(features: Tensor) -> np.ndarray:
    return np.asarray(features.float().cpu())


def normalize(pixels: Tensor, preprocess: PreprocessCfg) -> Tensor:
    """uint8 (B, 3, S, S) to float32 of the same shape, by each channel's mean and deviation."""
    mean = torch.tensor(preprocess.mean, device=pixels.device)[:, None, None]
    std = torch.tensor(preprocess.std, device=pixels.device)[:, None, None]
    return (pixels.float() / 255 - mean) / std


def load_open_clip(section: str, model: str, pretrained: str) -> OpenClip:
    """Load `model` and its weights; `trained` is what the encoder stage wrote.

    `section` of params.yaml is named in errors. Raises InputError for an unknown model, unknown or
    unreachable weights, and for a model without any, which open_clip would leave random.
    """
    name = f"local-dir:{ENCODER}" if model == "trained" else model
    if ":" not in name and not pretrained:
        known = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none for this name"
        raise InputError(
            f"params.yaml: {section}.model is {model!r} and {section}.pretrained is empty, so it "
            f"has no weights; set {section}.pretrained to a tag (known: {known})"
        )
    device = best_device()
    try:
        with _quiet():
            network = open_clip.create_model(
                name, pretrained or None, device=device, require_pretrained=True
            )
            tokenize = open_clip.get_tokenizer(name)
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(
            f"params.yaml: {section}.model is {model!r}, {section}.pretrained {pretrained!r}: "
            f"open_clip cannot load it: {error}"
        ) from error
    preprocess = PreprocessCfg(**network.visual.preprocess_cfg)
    return OpenClip(network.eval(), tokenize, preprocess, device)


@contextmanager
def _quiet() -> Iterator[None]:
    """open_clip tells each step of loading at INFO on the root logger."""
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def weights_sha256(model: nn.Module) -> str:
    """A digest of all weights: what ran, whatever a tag or a branch points to by now."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def check_finite(vectors: np.ndarray, section: str, model: str) -> None:
    """Raises InputError if an encoder gave NaN or infinity, which fp16 overflow is known for."""
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise InputError(
            f"{section}.model {model!r} gave vectors that are not finite, {len(bad)} of a batch of "
            f"{len(vectors)}; set {section}.mixed_precision to bf16 or no, or use other weights"
        )
