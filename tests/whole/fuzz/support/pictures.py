"""A picture for a decoder, and how one is made by Pillow or byte by byte."""

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 48, 32


@dataclass(frozen=True)
class Picture:
    name: str
    data: bytes
    pixels: np.ndarray | None
    """What it must decode to, uint8 (H, W, 3); None: it must be refused."""
    tolerance: float = 0.0
    """Mean difference of lossy formats."""
    may_be_refused: bool = False
    """Damaged so late in the file that all pixels may have come before."""


def scene() -> np.ndarray:
    """uint8 (32, 48, 3): a slope, so that no turn looks like another, with noise to fill files."""
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    slope = np.stack([x * 5, y * 7, (x + 2 * y) * 2], axis=2)
    noise = np.random.default_rng(1).integers(0, 8, slope.shape)
    return (slope + noise).astype(np.uint8)


def saved(image: Image.Image, file_format: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int, height: int, rows: bytes, bits: int = 8, colour: int = 2, extra: bytes = b""
) -> bytes:
    """A PNG that claims a size, whatever rows follow; `colour` 0 is grey, 2 RGB, 3 palette."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = [
        chunk(b"IHDR", header),
        extra,
        chunk(b"IDAT", zlib.compress(rows)),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def whole_files() -> dict[str, tuple[bytes, np.ndarray, float]]:
    """One ordinary picture in each format: bytes, pixels, tolerance."""
    image = Image.fromarray(scene())
    palette = image.quantize(64)
    return {
        "JPEG": (saved(image, "JPEG", quality=95), scene(), 3.0),
        "progressive JPEG": (saved(image, "JPEG", quality=95, progressive=True), scene(), 3.0),
        "PNG": (saved(image, "PNG"), scene(), 0.0),
        "WebP": (saved(image, "WEBP", lossless=True), scene(), 0.0),
        "GIF": (saved(palette, "GIF"), np.asarray(palette.convert("RGB")), 0.0),
    }
