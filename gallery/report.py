"""Stage `report`: one page that shows a finished run: how good it is, compared with what, and why.

`report/index.html` needs nothing beside itself, and has the same bytes every time.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.special import expit

from gallery.page.attention import CPU, Attention, attention
from gallery.page.catalogue import Catalogue
from gallery.page.charts import charts
from gallery.page.features import features
from gallery.page.page import Map, Page, Part, render
from gallery.page.tables import blend, by_rows, item_vectors, training
from gallery.page.verdict import verdict
from gallery.pictures import embedding_map
from gallery.pictures.encoder_neighbors import Strip, encoder_strips
from gallery.pictures.neighbor_sheet import Entry, contact_sheet
from gallery.pictures.thumbnails import Pictures, data_uri, shrunk, thumbnails
from pipeline.common import paths
from pipeline.common.files import InputError, Outputs, read_array
from pipeline.common.launch import tell_device
from pipeline.common.paths import VectorFiles
from pipeline.common.stage import made, run
from pipeline.settings.report import Report
from pipeline.tables.split import Split


def main(settings: Report, encoders: Sequence[VectorFiles]) -> None:
    tell_device("report", CPU, "no")
    valid = Split.load("valid")
    vectors = np.asarray(read_array(paths.ITEM))
    mapped = embedding_map.mapped_items(vectors, settings.map_items, settings.seed)
    sheet = neighbor_sheet(settings)
    strips = encoder_strips(encoders, [entry.item for entry in sheet], read_array(paths.TAGS))
    read = attention_sheet(valid, settings)
    shown, small = set(shown_items(sheet, read)), set(small_items(strips))
    full, half = settings.thumbnail, settings.thumbnail // 2
    uses = ((mapped.tolist(), settings.tile), (small, half), (shown, full))
    pictures, catalogue = thumbnails(paths.COVERS, largest(uses)), Catalogue.load()
    page = Page(
        verdict=verdict(),
        features=features(),
        sheet=sheet,
        strips=strips,
        map=item_map(vectors, mapped, pictures, settings) if len(mapped) else None,
        rows=Part([by_rows()], charts("rows")),
        training=Part([training(), *blend()], charts("training")),
        vectors=Part([item_vectors()], charts("vectors")),
        attention=read,
        cards=catalogue.cards({item: shrunk(pictures[item], full) for item in shown}),
        small=catalogue.cards({item: shrunk(pictures[item], half) for item in small}),
    )
    with Outputs() as outputs:
        outputs.path(paths.REPORT).write_text(render(page), encoding="utf-8")
    made(f"{paths.REPORT}, {len(mapped):,} items on the map")


def neighbor_sheet(settings: Report) -> list[Entry]:
    with np.load(paths.NEIGHBORS, allow_pickle=False) as file:
        ids, cosine = (file[name][:, : settings.sheet_neighbors] for name in ("ids", "cosine"))
    tags = read_array(paths.TAGS)
    if len(tags) != len(ids):
        raise InputError(
            f"{paths.NEIGHBORS}: has {len(ids)} rows, {paths.TAGS} has {len(tags)}; run `dvc repro`"
        )
    return contact_sheet(ids, cosine, tags, settings.sheet_items, settings.seed)


def attention_sheet(valid: Split, settings: Report) -> Attention | None:
    path = paths.logits_path(paths.MAIN_MODEL, "valid")  # of the model that is shown
    probability = expit(pd.read_parquet(path)["logit"].to_numpy(np.float64))
    if len(probability) != len(valid):
        rows = f"{len(probability)} rows, valid has {len(valid)}"
        raise InputError(f"{path}: has {rows}; run `dvc repro`")
    return attention(valid, probability, settings.users, settings.attention_rows, settings.seed)


def shown_items(sheet: list[Entry], read: Attention | None) -> Iterable[int]:
    """The items whose covers the sheets show."""
    for entry in sheet:
        yield entry.item
        yield from (near.item for near in entry.neighbors)
    for reader in read.readers if read else ():
        yield reader.target
        yield from (item for item, _ in (*reader.places, *reader.companions))


def small_items(strips: Mapping[int, Sequence[Strip]]) -> Iterable[int]:
    """The items whose covers are shown small, as those that one encoder finds."""
    for each in strips.values():
        for strip in each:
            yield from (near.item for near in strip.neighbors)


def largest(uses: Iterable[tuple[Iterable[int], int]]) -> dict[int, int]:
    """Item to the pixels of its cover where it is used at the largest size."""
    sizes: dict[int, int] = {}
    for items, size in uses:
        sizes |= {item: max(size, sizes.get(item, 0)) for item in items}
    return sizes


def item_map(vectors: np.ndarray, mapped: np.ndarray, pictures: Pictures, settings: Report) -> Map:
    shape = embedding_map.grid_shape(len(mapped))
    points = embedding_map.positions(vectors[mapped], settings.perplexity, settings.seed)
    cells = embedding_map.snapped(points, *shape)
    image = embedding_map.painted(cells, mapped, pictures, shape, settings.tile)
    return Map(
        picture=data_uri(image),
        items=len(mapped),
        catalogue=len(vectors) - 1,
        without_vector=int((~vectors[1:].any(axis=1)).sum()),
        without_cover=sum(pictures[item] is None for item in mapped.tolist()),
    )


if __name__ == "__main__":
    run("report", main)
