"""Stage `ingest`: the raw competition layout to arrays that the other stages map into memory."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.lib.format import dtype_to_descr, write_array_header_1_0
from tqdm import tqdm

from pipeline.common import paths
from pipeline.common.files import InputError, Outputs, read_array
from pipeline.common.stage import made, run
from pipeline.download.files import challenge
from pipeline.raw.clicks import (
    distinct_users,
    open_clicks,
    read_ids,
    read_rows,
    refuse_one_class,
)
from pipeline.raw.cover_files import files_below, find_covers, locate
from pipeline.raw.covers import write_covers
from pipeline.raw.ids import DenseIds
from pipeline.raw.items import Items, items_table, read_items
from pipeline.raw.seen import refuse_ignored, refuse_linked_folder
from pipeline.settings.data import Data
from pipeline.tables.split import Split
from pipeline.tables.table import RawTable
from sample.world import WorldConfig, build
from sample.write import write_raw


def main(data: Data) -> None:
    with raw_folder(data) as (folder, known), Outputs() as outputs:
        made_with = data.model_dump()
        stats = {"settings": made_with, **ingest(folder, data, outputs), **known}
        outputs.json(paths.STATS, stats)
    made(closing_line(stats))


def closing_line(stats: Mapping[str, Any]) -> str:
    """What was read, and what of the covers was not."""
    line = (
        "{items:,} items ({covers_missing:,} without a cover), {users:,} users, "
        "{rows_train:,} rows of train"
    ).format_map(stats)
    unused = stats["cover_files_unused"]
    return f"{line}, {unused:,} files among the covers that are no item's" if unused else line


@contextmanager
def raw_folder(data: Data) -> Iterator[tuple[Path, dict[str, float]]]:
    """The folder in the raw layout that `data.source` stands for, and what only its maker knows."""
    if data.source == "sample":
        world = build(WorldConfig(), data.seed)
        with tempfile.TemporaryDirectory() as temporary:
            write_raw(world, Path(temporary))
            yield Path(temporary), {"oracle_auc": world.oracle_auc("valid")}
    elif data.source == "microlens_1m":
        yield challenge(), {}
    else:
        folder = Path(data.source)
        if not folder.is_dir():
            raise InputError(
                f"params.yaml: data.source: {data.source} is not a folder; "
                "expected sample, microlens_1m, or a folder in the raw layout"
            )
        refuse_ignored(folder, files_read(folder))
        yield folder, {}


def files_read(folder: Path) -> list[Path]:
    """What `ingest` reads in a folder in the raw layout, as far as it is there."""
    place = locate(folder)
    for part in (folder / paths.CLICKS, place):
        refuse_linked_folder(part)
    covers = list(files_below(place)) if place.is_dir() else [place]
    tables = [folder / "item_feature.parquet", *sorted((folder / paths.CLICKS).glob("*.parquet"))]
    return [path for path in tables if path.is_file()] + covers


def ingest(folder: Path, data: Data, outputs: Outputs) -> dict[str, Any]:
    """Check and convert everything in `folder`; returns the statistics."""
    tables = {split: open_clicks(folder, split) for split in paths.SPLITS}
    items = read_items(folder, folder / paths.CLICKS / "item_info.parquet", data.tags)
    tags = tag_ids(items)
    covers = find_covers(folder, items.ids)
    clicks = write_clicks(tables, items.ids, data.history, outputs)
    write_items(items, tags, outputs)
    write_covers(outputs.path(paths.COVERS), covers.files)
    return {
        "items": len(items.ids),
        "tags": len(tags) + 1,
        "titles_empty": items.titles[1:].count(""),
        "covers_missing": len(items.ids) - len(covers.files),
        "cover_files_unused": covers.unused,
        **clicks,
    }


def write_items(items: Items, tags: DenseIds, outputs: Outputs) -> None:
    pq.write_table(items_table(items), outputs.path(paths.ITEMS))
    outputs.array(paths.TAGS, tags.dense(items.tags))
    outputs.array(paths.GIVEN_TEXT, items.given_text, encoder="txt_emb_BERT of the source")
    outputs.array(paths.GIVEN_IMAGE, items.given_image, encoder="img_emb_CLIPRN50 of the source")
    outputs.array(paths.GIVEN_ITEM, items.given_item, encoder="item_emb_d128 of the source")
    outputs.array(
        paths.GIVEN_ITEM_EMB, items.given_item_emb, encoder="item_emb.parquet of the source"
    )


def tag_ids(items: Items) -> DenseIds:
    """Tags numbered 1..; 0 is no tag."""
    present = np.unique(items.tags)
    return DenseIds.of(present[present > 0])


def write_clicks(
    tables: dict[str, RawTable], items: DenseIds, history: int, outputs: Outputs
) -> dict[str, Any]:
    """Write every split's matrix; users are numbered over all of them."""
    for split in ("train", "valid"):
        refuse_one_class(tables[split])
    users = distinct_users(tables.values())
    columns = [f"history x {history}", *Split.TAIL]
    for split, table in tables.items():
        pieces = read_rows(table, items, users, history, labelled=split != "test")
        path = outputs.path(paths.split_path(split))
        write_rows(path, pieces, (len(table), history + len(Split.TAIL)), split)
        outputs.array_info(paths.split_path(split), read_array(path), columns=columns)
    outputs.array(paths.TEST_ID, read_ids(tables["test"]))
    return {"users": len(users), "history": history} | {
        f"rows_{split}": len(table) for split, table in tables.items()
    }


def write_rows(path: Path, pieces: Iterator[np.ndarray], shape: tuple[int, int], name: str) -> None:
    """The int32 rows of `pieces` as one .npy of `shape`, without ever holding all of them."""
    header = {"descr": dtype_to_descr(np.dtype(np.int32)), "fortran_order": False, "shape": shape}
    with (
        path.open("wb") as file,
        tqdm(total=shape[0], desc=name, unit="row", unit_scale=True, disable=None) as bar,
    ):
        write_array_header_1_0(file, header)
        for piece in pieces:
            file.write(piece.data)
            bar.update(len(piece))


if __name__ == "__main__":
    run("ingest", main)
