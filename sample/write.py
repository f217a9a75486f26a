"""The world as files: the raw layout of the competition, which `ingest` reads."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.common.files import InputError
from sample.covers import render
from sample.items import Items
from sample.world import Impressions, World

CLICK_LOG = "MicroLens_1M_x1"
"""The folder of the three splits."""


def write_raw(world: World, folder: Path) -> None:
    """Write the catalogue, the covers, the users' sequences and the three splits into `folder`.

    The folder appears whole or not at all. Test rows carry an ID from 0 on and no label. A sequence
    holds what its user had read when train ended.

    Raises InputError where `folder` holds anything already.
    """
    with _new_folder(folder) as partial:
        pq.write_table(_catalogue(world.items), partial / "item_feature.parquet")
        pq.write_table(_sequences(world), partial / "item_seq.parquet")
        _write_covers(world, partial / "item_images")
        (partial / CLICK_LOG).mkdir()
        for split, rows in world.splits.items():
            table = _click_log(rows, world.items, labelled=split != "test")
            pq.write_table(table, partial / CLICK_LOG / f"{split}.parquet")


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`, moved there when the block ends well."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"{folder}: the sample needs an empty or a new folder; name another or remove this one"
        )
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


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


def _click_log(rows: Impressions, items: Items, *, labelled: bool) -> pa.Table:
    columns = {
        "user_id": pa.array(rows.user_id),
        "item_seq": _lists(rows.history),
        "item_id": pa.array(rows.target),
        "likes_level": pa.array(items.likes_level[rows.target]),
        "views_level": pa.array(items.views_level[rows.target]),
    }
    if labelled:
        return pa.table({**columns, "label": pa.array(rows.label)})
    return pa.table({"ID": pa.array(np.arange(len(rows))), **columns})


def _lists(matrix: np.ndarray) -> pa.Array:
    """The rows of an int64 `matrix` as list<int64> values."""
    rows, length = matrix.shape
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * length)
    return pa.ListArray.from_arrays(offsets, pa.array(matrix.ravel()))


def _write_covers(world: World, folder: Path) -> None:
    """Each cover has a generator of its own, so that no item's picture depends on another's."""
    folder.mkdir()
    for item, facets in enumerate(world.items.cover):
        if facets is not None:
            rng = np.random.default_rng([world.seed, item])
            (folder / f"{item}.jpg").write_bytes(render(facets, rng))
