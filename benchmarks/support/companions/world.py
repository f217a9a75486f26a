"""Clicks and items of any number, made up: all that stage `companions` reads.

Items are drawn by a power of their rank, each on its own, so that nearly every pair is another one:
no real clicks would be harder to count. Making 3.6 million rows holds some 200 MB at a time.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

from benchmarks.support.raw_layout import HISTORY, ITEMS, ROWS, TAG_VOCABULARY, spans
from benchmarks.support.training_world import content_table, tag_table, zipf
from pipeline.common import paths
from pipeline.common.files import Outputs, read_array
from pipeline.ingest import write_rows
from pipeline.tables.split import LEVEL_COLUMNS, LEVELS, Split

EXPONENT = 0.7
"""The item of rank k is drawn in proportion to k ** -EXPONENT, nearly."""
CLICKED = 1 / 3
"""Share of the rows."""
MEDIAN, SPREAD = 15, 0.8
"""Of the histories' lengths, which are log-normal; the deviation of the logarithm."""
WIDTH = 128
"""Of the items' vectors."""
CHUNK_ROWS = 1 << 16

Histories = Literal["full", "sample"]
"""Whether all of them are as long as they can be, or of mixed length."""


class World(NamedTuple):
    """Its sizes; the challenge's, if nothing else is said."""

    items: int = ITEMS
    train_rows: int = ROWS["train"]
    histories: Histories = "full"
    rows_per_user: float = 48.0
    """Of train."""

    @property
    def users(self) -> int:
        return max(1, round(self.train_rows / self.rows_per_user))

    @property
    def rows(self) -> dict[str, int]:
        """Of each split; valid and test in proportion."""
        return {
            split: max(2, rows * self.train_rows // ROWS["train"]) for split, rows in ROWS.items()
        }


def write_world(world: World, seed: int = 2025) -> None:
    """Into the working directory, as `ingest` and `fuse` leave it."""
    rng = np.random.default_rng(seed)
    by_popularity = 1 + rng.permutation(world.items)
    with Outputs() as outputs:
        outputs.array(paths.TAGS, tag_table(rng, world.items, TAG_VOCABULARY))
        outputs.array(paths.ITEM, content_table(rng, world.items, WIDTH))
        for split, rows in world.rows.items():
            path = outputs.path(paths.split_path(split))
            pieces = clicks(rng, world, by_popularity, rows, labelled=split != "test")
            write_rows(path, pieces, (rows, HISTORY + len(Split.TAIL)), split)
            outputs.array_info(paths.split_path(split), read_array(path), seed=seed)
        outputs.json(paths.STATS, {"items": world.items, "tags": TAG_VOCABULARY})


def clicks(
    rng: np.random.Generator, world: World, by_popularity: np.ndarray, rows: int, *, labelled: bool
) -> Iterator[np.ndarray]:
    """Consecutive rows int32 (n, history + 5), laid out as `Split`."""

    def drawn(*shape: int) -> np.ndarray:
        return by_popularity[zipf(rng, world.items, shape, EXPONENT) - 1]

    for _, n in spans(rows, CHUNK_ROWS):
        split = Split(np.empty((n, HISTORY + len(Split.TAIL)), np.int32))
        split.history[:] = drawn(n, HISTORY)
        if world.histories == "sample":
            length = rng.lognormal(np.log(MEDIAN), SPREAD, (n, 1)).clip(1, HISTORY).astype(int)
            split.history[np.arange(HISTORY) < HISTORY - length] = 0
        split.target[:] = drawn(n)
        for level in LEVEL_COLUMNS:
            split.column(level)[:] = rng.integers(0, LEVELS, n)
        split.label[:] = rng.random(n) < CLICKED if labelled else -1
        split.user[:] = rng.integers(1, world.users + 1, n)
        yield split.rows
