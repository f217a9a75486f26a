"""An image encoder of any library, and one cover that it is tried with."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from embed.covers.batches import ToPixels
from embed.extraction.encoder import Encoder
from pipeline.common.files import InputError


@dataclass(frozen=True)
class ImageEncoder:
    to_pixels: ToPixels
    encoder: Encoder
    """Of `pixels`, what `to_pixels` makes of B covers."""


def try_cover(
    named: str,
    to_pixels: ToPixels,
    forward: Callable[[dict[str, Tensor]], Tensor],
    device: torch.device,
) -> None:
    """Two covers, before any work; `named` is how messages about the model begin.

    Raises InputError if the model gives no vector for one, not the same one twice, or the same one
    for both.
    """

    def encoded(image: Image.Image) -> Tensor:
        pixels = torch.from_numpy(to_pixels(image))[None].to(device)
        return forward({"pixels": pixels})

    grey, gradient = Image.new("RGB", (40, 32), "grey"), Image.radial_gradient("L").convert("RGB")
    try:
        first, again, other = encoded(grey), encoded(grey), encoded(gradient)
        told = f"an array of {tuple(first.shape)}"
    except Exception as error:  # a model that is no image encoder fails in a way of its own
        raise InputError(
            f"{named}: it gives no vector for a cover: {type(error).__name__}: {error}; "
            "name another model or pooling"
        ) from error
    if first.ndim != 2 or len(first) != 1:
        raise InputError(
            f"{named}: it gives no vector for a cover, but {told}; name another model or pooling"
        )
    if not torch.allclose(first, again, rtol=1e-2, atol=1e-3, equal_nan=True):
        raise InputError(
            f"{named}: it gives another vector for the same cover each time; name another model"
        )
    if torch.equal(first, other):
        raise InputError(
            f"{named}: it gives the same vector for every cover; fetch its weights again, or name "
            "another model"
        )
