"""A training set of the competition's size, made up: all that stage `train` reads.

An item's popularity is a power of its rank. A click depends weakly on the target's appeal and on
how much of the history shares its topic, so that a loss can fall. Making 3.6 million rows holds
some 100 MB at a time.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.lib.format import open_memmap

from benchmarks.support.raw_layout import ITEMS, ROWS, TAG_VOCABULARY, TAGS, USERS, spans
from ctr.covisitation.describe import KINDS
from pipeline.common import paths
from pipeline.common.files import Outputs, read_array
from pipeline.ingest import write_rows
from pipeline.tables.split import LEVEL_COLUMNS, LEVELS, Split

EXPONENT = 0.8
"""The item of rank k is drawn in proportion to k ** -EXPONENT, nearly."""
TOPICS = 8
"""Item i is of topic i % TOPICS."""
TAG_RATE = 0.7
"""Share of an item's places for tags that hold one."""
CHUNK_ROWS = 1 << 15
"""Clicks made at a time: 16 MB of drawn ids at a history of 64."""


class Items(NamedTuple):
    by_popularity: np.ndarray
    """int (N,): item ids, the most popular first."""
    appeal: np.ndarray
    """float32 (N + 1,): what the target adds to the log odds of a click."""


def write_world(
    items: int = ITEMS,
    tags: int = TAG_VOCABULARY,
    train_rows: int = ROWS["train"],
    valid_rows: int = ROWS["valid"],
    history: int = 64,
    content_dim: int = 128,
    seed: int = 2025,
    neighbors: int = 0,
) -> None:
    """Write the item tables and both splits into the working directory; `tags` counts padding.

    Of an item's `neighbors` some are lacking; which they are is drawn at random.
    """
    rng = np.random.default_rng(seed)
    known = Items(1 + rng.permutation(items), rng.normal(0, 0.5, items + 1).astype(np.float32))
    with Outputs() as outputs:
        write_items(rng, items, tags, content_dim, neighbors, outputs)
        for split, rows in (("train", train_rows), ("valid", valid_rows)):
            path = outputs.path(paths.split_path(split))
            shape = (rows, history + len(Split.TAIL))
            write_rows(path, clicks(rng, known, rows, history), shape, split)
            outputs.array_info(paths.split_path(split), read_array(path), seed=seed)
        outputs.json(paths.STATS, {"items": items, "tags": tags})


def write_items(
    rng: np.random.Generator,
    items: int,
    tags: int,
    content_dim: int,
    neighbors: int,
    outputs: Outputs,
) -> None:
    outputs.array(paths.TAGS, tag_table(rng, items, tags))
    outputs.array(paths.ITEM, content_table(rng, items, content_dim))
    with outputs.path(paths.NEIGHBORS).open("wb") as file:
        near = rng.integers(0, items, (items + 1, neighbors), np.int32, endpoint=True)
        near[0] = 0
        cosine = np.where(near > 0, rng.random(near.shape, np.float32), 0)
        np.savez(file, ids=near, cosine=cosine)


def write_numbers(seed: int = 2025) -> None:
    """What stage `companions` tells of the rows of both splits, drawn at random."""
    rng, kinds = np.random.default_rng(seed), {kind: [*names] for kind, names in KINDS.items()}
    names = [name for of_kind in kinds.values() for name in of_kind]
    with Outputs() as outputs:
        for split in ("train", "valid"):
            path, shape = paths.companions_path(split), (len(Split.load(split)), len(names))
            written = open_memmap(outputs.path(path), "w+", np.float16, shape)
            for start, n in spans(len(written), CHUNK_ROWS):
                written[start : start + n] = rng.standard_normal((n, len(names)), np.float32)
            outputs.array_info(path, written, seed=seed)
        outputs.json(paths.ROW_FEATURES, {"names": names, "kinds": kinds})


def tag_table(rng: np.random.Generator, items: int, tags: int) -> np.ndarray:
    """int32 (N + 1, TAGS): tags from 1 to `tags` - 1, padded with 0 on the right."""
    table = zipf(rng, tags - 1, (items + 1, TAGS))
    count = rng.binomial(TAGS, TAG_RATE, (items + 1, 1))
    count[0] = 0
    table[np.arange(TAGS) >= count] = 0
    return table


def content_table(rng: np.random.Generator, items: int, dim: int) -> np.ndarray:
    """float32 (N + 1, dim): the topic's centre and noise; a mean norm of 1, as `fuse` gives."""
    centres = rng.standard_normal((TOPICS, dim), np.float32)
    table = rng.standard_normal((items + 1, dim), np.float32)
    table += centres[np.arange(items + 1) % TOPICS]
    table[0] = 0
    return table / np.linalg.norm(table[1:], axis=1).mean()


def clicks(rng: np.random.Generator, items: Items, rows: int, history: int) -> Iterator[np.ndarray]:
    """Consecutive rows int32 (n, history + 5), laid out as `Split`."""
    for _, n in spans(rows, CHUNK_ROWS):
        split = Split(np.empty((n, history + len(Split.TAIL)), np.int32))
        split.history[:] = draw(rng, items, (n, history))
        length = rng.integers(0, 3 * history // 2, (n, 1), endpoint=True)
        split.history[np.arange(history) < history - length] = 0
        split.target[:] = draw(rng, items, (n,))
        for level in LEVEL_COLUMNS:
            split.column(level)[:] = rng.integers(0, LEVELS, n)
        split.label[:] = rng.random(n) < click_probability(split, items.appeal)
        split.user[:] = rng.integers(1, USERS + 1, n)
        yield split.rows


def click_probability(split: Split, appeal: np.ndarray) -> np.ndarray:
    """(n,): a quarter in the mean."""
    real = split.history > 0
    same = real & (split.history % TOPICS == split.target[:, None] % TOPICS)
    overlap = same.sum(axis=1) / real.sum(axis=1).clip(min=1)
    log_odds = appeal[split.target] + 4 * (overlap - 1 / TOPICS) - 1.2
    return 1 / (1 + np.exp(-log_odds))


def draw(rng: np.random.Generator, items: Items, shape: tuple[int, ...]) -> np.ndarray:
    """Item ids."""
    return items.by_popularity[zipf(rng, len(items.by_popularity), shape) - 1]


def zipf(
    rng: np.random.Generator, n: int, shape: tuple[int, ...], exponent: float = EXPONENT
) -> np.ndarray:
    """Ranks int32 from 1 to n: the density x ** -exponent on [1, n + 1), rounded down."""
    power = 1 - exponent
    uniform = rng.random(shape, np.float32)
    drawn = (1 + np.float32((n + 1) ** power - 1) * uniform) ** np.float32(1 / power)
    return np.minimum(drawn.astype(np.int32), n)
