"""The world as files: the raw layout of the competition, which `ingest` reads."""

import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.common.files import InputError
from pipeline.common.outlook import available_cores
from sample.covers import Facets, render
from sample.items import Items
from sample.world import Impressions, World

CLICK_LOG = "MicroLens_1M_x1"
"""The folder of the three splits."""
ROW_GROUP = 2**20
COVERS_AT_A_TIME = 4096
"""So many or fewer are drawn without further processes."""


def write_raw(world: World, folder: Path) -> None:
    """Write the catalogue, the covers, the users' sequences and the three splits into `folder`.

    The folder appears whole or not at all. Test rows carry an ID from 0 on and no label. A sequence
    holds what its user had read when train ended.

    Raises InputError where `folder` holds anything already.
    """
    with _new_folder(folder) as made:
        pq.write_table(_catalogue(world.items), made / "item_feature.parquet")
        pq.write_table(_sequences(world), made / "item_seq.parquet")
        (made / CLICK_LOG).mkdir()
        with _covers_written(world, made / "item_images"):
            for split, rows in world.splits.items():
                path = made / CLICK_LOG / f"{split}.parquet"
                _write_click_log(path, rows, world.items, labelled=split != "test")


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`, moved there when the block ends well."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"{folder}: the sample needs an empty or a new folder; name another or remove this one"
        )
    incomplete = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(incomplete, ignore_errors=True)
    incomplete.mkdir(parents=True)
    try:
        yield incomplete
        incomplete.replace(folder)
    finally:
        shutil.rmtree(incomplete, ignore_errors=True)


def _catalogue(items: Items) -> pa.Table:
    return pa.table(
        {
            "item_id": pa.array(range(1, len(items) + 1), pa.int64()),
            "item_title": pa.array(items.title[1:], pa.string()),
            "item_tags": pa.array(items.tags[1:], pa.list_(pa.int64())),
            "likes_level": pa.array(items.likes_level[1:]),
            "views_level": pa.array(items.views_level[1:]),
        }
    )


def _sequences(world: World) -> pa.Table:
    sequences = [row[row > 0] for row in world.train_history]
    return pa.table(
        {
            "user_id": pa.array(range(1, len(sequences) + 1), pa.int64()),
            "item_seq": pa.array(sequences, pa.list_(pa.int64())),
        }
    )


def _write_click_log(path: Path, rows: Impressions, items: Items, *, labelled: bool) -> None:
    """A row group at a time, since the histories are the larger part of a world."""
    starts = range(0, len(rows), ROW_GROUP)
    groups = (_click_log(rows, items, slice(s, s + ROW_GROUP), labelled=labelled) for s in starts)
    first = next(groups)
    with pq.ParquetWriter(path, first.schema) as writer:
        for group in chain([first], groups):
            writer.write_table(group)


def _click_log(rows: Impressions, items: Items, part: slice, *, labelled: bool) -> pa.Table:
    target = rows.target[part]
    columns = {
        "user_id": pa.array(rows.user_id[part]),
        "item_seq": _lists(rows.history[part]),
        "item_id": pa.array(target),
        "likes_level": pa.array(items.likes_level[target]),
        "views_level": pa.array(items.views_level[target]),
    }
    if labelled:
        return pa.table({**columns, "label": pa.array(rows.label[part])})
    return pa.table({"ID": pa.array(np.arange(len(rows))[part]), **columns})


def _lists(matrix: np.ndarray) -> pa.Array:
    """The rows of `matrix` as list<int64> values."""
    rows, length = matrix.shape
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * length)
    return pa.ListArray.from_arrays(offsets, pa.array(matrix.ravel().astype(np.int64)))


@contextmanager
def _covers_written(world: World, folder: Path) -> Iterator[None]:
    """Each cover has a generator of its own, so that no item's picture depends on another's.

    Many are drawn by further processes, while the block is at work.
    """
    folder.mkdir()
    covers = [(item, facets) for item, facets in enumerate(world.items.cover) if facets is not None]
    write = partial(_write_few_covers, world.seed, folder)
    if len(covers) <= COVERS_AT_A_TIME:
        write(covers)
        yield
        return
    parts = [covers[s : s + COVERS_AT_A_TIME] for s in range(0, len(covers), COVERS_AT_A_TIME)]
    with ProcessPoolExecutor(available_cores(), get_context("spawn")) as pool:
        written = pool.map(write, parts)
        try:
            yield
            deque(written, maxlen=0)  # or what fails in one of them would be silent
        finally:
            pool.shutdown(cancel_futures=True)


def _write_few_covers(seed: int, folder: Path, covers: list[tuple[int, Facets]]) -> None:
    for item, facets in covers:
        picture = render(facets, np.random.default_rng([seed, item]))
        (folder / f"{item}.jpg").write_bytes(picture)
