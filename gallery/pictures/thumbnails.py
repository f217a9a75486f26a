"""Covers as small square pictures; damaged and hostile files are refused, as by `embed`."""

import base64
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageOps
from tqdm import tqdm

from embed.covers.decode import CoverError, decode

QUALITY = 80
"""Of WebP, 0 to 100: artefacts cannot be seen at these sizes."""


Pictures = Mapping[int, Image.Image | None]
"""By dense item id; None where the cover is missing or cannot be read."""


def thumbnails(path: Path, sizes: Mapping[int, int]) -> Pictures:
    """The covers of the items in `sizes`, RGB, as many pixels high and wide as it says.

    Cut to the middle square.
    """
    found: dict[int, Image.Image | None] = dict.fromkeys(sizes)
    for item, data in tqdm(
        stored_covers(path, np.array(sorted(sizes))), "thumbnails", len(sizes), disable=None
    ):
        found[item] = thumbnail(data, sizes[item])
    return found


def stored_covers(path: Path, items: np.ndarray) -> Iterator[tuple[int, bytes | None]]:
    """Item and bytes of the covers in `items`, ascending; one row group is held at a time."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            present = file.read_row_group(group, columns=["item"])["item"].to_numpy()
            rows = np.flatnonzero(np.isin(present, items))
            if not len(rows):
                continue
            images = file.read_row_group(group, columns=["image"], use_threads=False)["image"]
            for row in rows.tolist():
                yield int(present[row]), images[row].as_py()


def thumbnail(data: bytes | None, size: int) -> Image.Image | None:
    try:
        return ImageOps.fit(decode(data), (size, size), Image.Resampling.LANCZOS)
    except CoverError:
        return None


def shrunk(picture: Image.Image | None, size: int) -> Image.Image | None:
    """A thumbnail no larger than `size`."""
    if picture is None or picture.width <= size:
        return picture
    return picture.resize((size, size), Image.Resampling.LANCZOS)


def data_uri(image: Image.Image) -> str:
    return f"data:image/webp;base64,{base64.b64encode(webp(image)).decode()}"


def webp(image: Image.Image, quality: int = QUALITY) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()
