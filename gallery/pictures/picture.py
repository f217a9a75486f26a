"""One picture of a finished run, for a front page.

`python -m gallery.pictures.picture docs/overview.webp` draws it.

On the left the map of items, on the right some items, each beside its nearest with the cosine.
"""

import argparse
import logging
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gallery.pictures import embedding_map
from gallery.pictures.neighbor_sheet import Entry, contact_sheet
from gallery.pictures.thumbnails import Pictures, thumbnails, webp
from pipeline.common import paths
from pipeline.common.files import InputError, read_array, replacing
from pipeline.settings.params import load_params
from pipeline.settings.report import Report

log = logging.getLogger(__name__)

SIZE = (1280, 520)
MAP_TILE = 20
MAP_SHAPE = (40, 26)
"""Cells of the map."""
ROWS, NEAR = 5, 4
"""Items beside the map, and neighbours of each."""
TILE, QUERY = 72, 80
"""Pixels of a neighbour's cover, and of the item's."""
LEFT = MAP_SHAPE[0] * MAP_TILE + 40
INK = (117, 125, 135)
"""Read on white and on black."""
QUALITY = 55


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, help="a .webp file to write")
    path = parser.parse_args().path
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        write(path, load_params().report)
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")


def write(path: Path, settings: Report) -> None:
    """Raises InputError for another kind of file than .webp."""
    if path.suffix != ".webp":
        raise InputError(f"{path}: expected a name that ends in .webp")
    picture = webp(overview(settings), QUALITY)
    with replacing(path) as partial:
        partial.write_bytes(picture)
    log.info("%s: %d x %d, %d KB", path, *SIZE, len(picture) // 1000)


def overview(settings: Report) -> Image.Image:
    """RGBA, transparent where nothing is drawn."""
    vectors = np.asarray(read_array(paths.ITEM))
    room = int(MAP_SHAPE[0] * MAP_SHAPE[1] / embedding_map.ROOM)
    mapped = embedding_map.mapped_items(vectors, room, settings.seed)
    entries = examples(settings)
    shown = [item for entry in entries for item in items_of(entry)]
    sizes = dict.fromkeys(mapped.tolist(), MAP_TILE) | dict.fromkeys(shown, QUERY)
    pictures = thumbnails(paths.COVERS, sizes)
    canvas = Image.new("RGBA", SIZE)
    if len(mapped):
        points = embedding_map.positions(vectors[mapped], settings.perplexity, settings.seed)
        cells = embedding_map.snapped(points, *MAP_SHAPE)
        canvas.paste(embedding_map.painted(cells, mapped, pictures, MAP_SHAPE, MAP_TILE))
    for number, entry in enumerate(entries):
        draw_row(canvas, number * SIZE[1] // ROWS, entry, pictures)
    return canvas


def examples(settings: Report) -> list[Entry]:
    with np.load(paths.NEIGHBORS, allow_pickle=False) as file:
        ids, cosine = (file[name][:, :NEAR] for name in ("ids", "cosine"))
    return contact_sheet(ids, cosine, read_array(paths.TAGS), ROWS, settings.seed)


def items_of(entry: Entry) -> list[int]:
    return [entry.item, *(near.item for near in entry.neighbors)]


def draw_row(canvas: Image.Image, top: int, entry: Entry, pictures: Pictures) -> None:
    """The item, and to the right its neighbours with their cosines."""
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    canvas.paste(embedding_map.map_tile(pictures[entry.item], QUERY), (LEFT, top + 4))
    for place, near in enumerate(entry.neighbors):
        left = LEFT + QUERY + 24 + place * (TILE + 8)
        canvas.paste(embedding_map.map_tile(pictures[near.item], TILE), (left, top + 4))
        draw.text((left + 2, top + TILE + 6), f"{near.cosine:.3f}", fill=INK, font=font)


if __name__ == "__main__":
    main()
