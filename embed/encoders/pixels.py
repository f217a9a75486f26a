"""Pixels of covers as a model reads them.

They travel between processes as bytes, a quarter of the floats; `normalize` does the rest.
"""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def normalize(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 (B, 3, S, S) to float32 of the same shape, by each channel's mean and deviation."""
    means, deviations = (_moved(tuple(channels), pixels.device) for channels in (mean, std))
    return (pixels.float() / 255 - means) / deviations


@functools.cache
def _moved(channels: tuple[float, ...], device: torch.device) -> Tensor:
    """float32 (3, 1, 1) on `device`, once and not with every batch."""
    return torch.tensor(channels, device=device)[:, None, None]


def arranged(model: nn.Module, device: torch.device) -> None:
    """On a CPU the weights of convolutions of pictures go to channels last, which is faster."""
    if device.type == "cpu":
        for weight in model.parameters():
            if weight.ndim == 4:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
