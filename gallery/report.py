"""Stage `report`: one page that shows a finished run, with scores, curves, covers and attention.

`report/index.html` needs nothing beside itself, and has the same bytes every time.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy.special import expit

from gallery.page.attention import CPU, Attention, attention
from gallery.page.catalogue import Catalogue
from gallery.page.charts import charts
from gallery.page.page import Map, Page, render
from gallery.page.tables import headline, tables
from gallery.pictures import embedding_map
from gallery.pictures.neighbor_sheet import Entry, contact_sheet
from gallery.pictures.thumbnails import Pictures, data_uri, thumbnails
from pipeline.common import paths
from pipeline.common.files import InputError, Outputs, read_array
from pipeline.common.launch import tell_device
from pipeline.common.stage import made, run
from pipeline.settings.report import Report
from pipeline.tables.split import Split


def main(settings: Report) -> None:
    tell_device("report", CPU, "no")
    vectors = np.asarray(read_array(paths.ITEM))
    mapped = embedding_map.mapped_items(vectors, settings.map_items, settings.seed)
    sheet = neighbor_sheet(settings)
    read = attention_sheet(settings)
    shown = set(shown_items(sheet, read))
    sizes = dict.fromkeys(mapped.tolist(), settings.tile) | dict.fromkeys(shown, settings.thumbnail)
    pictures = thumbnails(paths.COVERS, sizes)
    page = Page(
        headline=headline(),
        tables=tables(),
        charts=charts(),
        map=item_map(vectors, mapped, pictures, settings) if len(mapped) else None,
        sheet=sheet,
        attention=read,
        cards=Catalogue.load().cards({item: pictures[item] for item in shown}),
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


def attention_sheet(settings: Report) -> Attention | None:
    valid = Split.load("valid")
    path = paths.logits_path(paths.MAIN_MODEL, "valid")  # of the model that is shown
    probability = expit(pd.read_parquet(path)["logit"].to_numpy(np.float64))
    if len(probability) != len(valid):
        raise InputError(
            f"{path}: has {len(probability)} rows, valid has {len(valid)}; run `dvc repro`"
        )
    return attention(valid, probability, settings.users, settings.attention_rows, settings.seed)


def shown_items(sheet: list[Entry], read: Attention | None) -> Iterable[int]:
    """The items whose covers the sheets show."""
    for entry in sheet:
        yield entry.item
        yield from (near.item for near in entry.neighbors)
    for reader in read.readers if read else ():
        yield reader.target
        yield from (item for item, _ in (*reader.places, *reader.companions))


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
