"""An encoder as the stages see it: device, precision, identity of weights."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.common.files import InputError
from pipeline.common.paths import MAIN_MODEL, Modality, encoder_section

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


@contextmanager
def named_by(modality: Modality, name: str) -> Iterator[None]:
    """Messages on an encoder begin with its place; those on `main` name the keys there.

    Raises InputError as the block does.
    """
    try:
        yield
    except InputError as error:
        if name == MAIN_MODEL:
            raise
        place, base = encoder_section(modality, name), encoder_section(modality, MAIN_MODEL)
        raise InputError(f"{place} (which is {base} but for what it says): {error}") from error


def best_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device, mixed_precision: str) -> torch.autocast:
    """Mixed precision on a GPU; a CPU computes in float32 whatever the setting."""
    dtype = PRECISIONS.get(mixed_precision)
    return torch.autocast(device.type, dtype, enabled=device.type == "cuda" and dtype is not None)


@dataclass(frozen=True)
class Encoder:
    """A model as the stages see it, whatever library it is of."""

    stage: str
    """Its section of params.yaml, named in errors; so is `model`."""
    model: str
    forward: Callable[[dict[str, Tensor]], Tensor]
    """A batch's inputs, on `device`, to (B, d) there, not normalised."""
    device: torch.device
    provenance: dict[str, Any]
    """What tells it from any other: name, revision, digests of weights and configuration."""


def weights_sha256(model: nn.Module) -> str:
    """A digest of all weights: what ran, whatever a tag or a branch points to by now."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def effective_precision(device: torch.device, mixed_precision: str) -> str:
    return mixed_precision if device.type == "cuda" else "no"


def check_finite(vectors: np.ndarray, section: str, model: str) -> None:
    """Raises InputError if an encoder gave NaN or infinity, which fp16 overflow is known for."""
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise InputError(
            f"{section}.model {model!r} gave vectors that are not finite, {len(bad)} of a batch of "
            f"{len(vectors)}; set {section}.mixed_precision to bf16 or no, or use other weights"
        )
