"""One cover file to an upright RGB image; damaged and hostile files are refused with a reason."""

import logging
import re
import warnings
from contextlib import suppress
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""Pixel formats only: Pillow would hand an EPS file to an external interpreter."""

MAX_PIXELS = 40_000_000
"""Larger pictures are refused before they are decoded; Pillow only warns, from 89 million on."""

MAX_ASPECT = 100
"""Longer side over shorter: scaling the shorter side up must not make a huge picture."""

MAX_SCANS = 100
"""Passes over the picture in a progressive JPEG, which cost as much time as they have few bytes;
encoders write about ten."""

SCAN = re.compile(rb"\xff\xda\x00(\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")
"""A scan's header: marker, its length, and its 1 to 4 channels, which go together (T.81, B.2.3)."""

SHOWN = 20
"""Unreadable covers that are named in the metrics and the log."""

log = logging.getLogger(__name__)


class CoverError(Exception):
    """A cover that cannot be decoded; the message is the reason."""


def decode(data: bytes | None) -> Image.Image:
    """The first frame as RGB, turned as its EXIF says, transparency laid over white.

    None is a cover that `ingest` did not read. Raises CoverError for anything that is not a
    complete picture of a sane size.
    """
    if data is None:
        raise CoverError("no file, or too large a file for a cover")
    if not data:
        raise CoverError("empty file")
    try:
        with warnings.catch_warnings():
            # Odd metadata brings other warnings with it, and does not cost the picture.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(BytesIO(data), formats=FORMATS) as image:
                _check_size(*image.size)
                if image.format in ("JPEG", "MPO"):
                    _check_scans(data)
                image.load()
                return _to_rgb(_upright(image))
    except CoverError:
        raise
    except UnidentifiedImageError:  # its own message names an address in memory
        raise CoverError(f"not a picture in {', '.join(FORMATS)}") from None
    except Exception as error:  # Pillow's readers raise over a dozen types on damaged files
        raise CoverError(f"{type(error).__name__}: {error}") from None


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise CoverError(f"{width} x {height} is more than {MAX_PIXELS:,} pixels")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise CoverError(f"{width} x {height} is longer than {MAX_ASPECT} : 1")


def _check_scans(data: bytes) -> None:
    scans = len(SCAN.findall(data))
    if scans > MAX_SCANS:
        raise CoverError(f"{scans} scans are more than {MAX_SCANS}")


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF says; damaged EXIF turns nothing."""
    with suppress(Exception):
        return ImageOps.exif_transpose(image)
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _to_eight_bits(image)
    clear = image.info.get("transparency")
    if isinstance(clear, tuple) and max(clear) > 255:
        raise CoverError("a transparent colour of 16 bits, which Pillow reads as 8")
    if not image.has_transparency_data:
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Deep grey to 8 bits, where Pillow's own conversion would clip everything above 255.

    16-bit values are scaled by their nominal range; 32-bit ones, which have none, by their own.
    """
    values = np.asarray(image).astype(np.float64)
    low, high = (0.0, 65535.0) if image.mode.startswith("I;16") else (values.min(), values.max())
    if not np.isfinite([low, high]).all():
        raise CoverError("pixel values are not finite")
    scaled = (values - low) * (255 / max(high - low, 1e-12))
    scaled[values == image.info.get("transparency", np.nan)] = 255  # the clear colour, over white
    return Image.fromarray(scaled.round().astype(np.uint8))


def name_unreadable(unreadable: list[tuple[int, str]], item_ids: np.ndarray) -> dict[str, Any]:
    """What a stage's metrics and log tell of (dense item id, reason); items by the source's ids."""
    named = [(int(item_ids[item]), reason) for item, reason in unreadable]
    if named:
        shown = "; ".join(f"item {item_id}: {reason}" for item_id, reason in named[:SHOWN])
        log.warning("%d covers are unreadable and left out: %s", len(named), shown)
    return {
        "unreadable": len(named),
        "unreadable_items": [item_id for item_id, _ in named[:SHOWN]],
    }
