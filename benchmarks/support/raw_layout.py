"""The competition's raw layout at any size, made up: what the benchmarks of whole stages read.

Ids are of Zipf popularity, histories of mixed length and padded on the left; there are no covers.
Making 3.6 million rows holds some 3 GB at a time.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.common.paths import CLICKS, SPLITS
from pipeline.tables.split import LEVELS

HISTORY = 100
ROWS = {"train": 3_600_000, "valid": 10_000, "test": 379_142}
ITEMS = 91_717
USERS = 1_000_000
TAGS = 5
TAG_VOCABULARY = 11_740

CHUNK_ROWS = 1 << 16
"""Clicks made at a time: 52 MB of histories."""
GROUP_CHUNKS = 16
"""Chunks a row group: 1 Mi clicks, as pandas writes them, 0.8 GB of histories."""
CHUNK_ITEMS = 5_000
"""Items made at a time: 38 MB of embeddings."""


def write_raw(folder: Path, train_rows: int, items: int) -> int:
    """Write the raw layout without covers, valid and test in proportion; returns all their rows."""
    rng = np.random.default_rng(0)
    (folder / "item_images").mkdir()
    (folder / CLICKS).mkdir()
    write_parquet(folder / "item_feature.parquet", item_feature(rng, items))
    write_parquet(folder / CLICKS / "item_info.parquet", item_info(rng, items + 1))
    by_popularity = 1 + rng.permutation(items)
    written = 0
    for split in SPLITS:
        rows = max(2, ROWS[split] * train_rows // ROWS["train"])
        chunks = clicks(rng, by_popularity, rows, labelled=split != "test")
        write_parquet(folder / CLICKS / f"{split}.parquet", chunks)
        written += rows
    return written


def write_parquet(path: Path, chunks: Iterator[dict[str, pa.Array]]) -> None:
    """Columns as pandas writes them: snappy, row groups of 1 Mi rows."""
    batches = (pa.RecordBatch.from_pydict(chunk) for chunk in chunks)
    first = pa.Table.from_batches(islice(batches, GROUP_CHUNKS))
    with pq.ParquetWriter(path, first.schema, compression="snappy") as writer:
        writer.write_table(first)
        while group := list(islice(batches, GROUP_CHUNKS)):
            writer.write_table(pa.Table.from_batches(group))


def spans(rows: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, length) of consecutive chunks."""
    for start in range(0, rows, size):
        yield start, min(size, rows - start)


def clicks(
    rng: np.random.Generator, by_popularity: np.ndarray, rows: int, labelled: bool
) -> Iterator[dict[str, pa.Array]]:
    """The columns of a split; `by_popularity` holds the item ids, the most popular first."""
    for start, n in spans(rows, CHUNK_ROWS):
        length = np.exp(rng.normal(np.log(30), 1, n)).clip(0, HISTORY).astype(int)
        history = zipf(rng, by_popularity, (n, HISTORY))
        history[np.arange(HISTORY) < HISTORY - length[:, None]] = 0
        columns = {
            "user_id": rng.integers(1, USERS + 1, n),
            "item_seq": lists(history),
            "item_id": zipf(rng, by_popularity, (n,)),
            "likes_level": rng.integers(0, LEVELS, n),
            "views_level": rng.integers(0, LEVELS, n),
        }
        last = {"label": np.arange(n) % 2} if labelled else {"ID": np.arange(start, start + n)}
        yield {name: pa.array(values) for name, values in (columns | last).items()}


def zipf(rng: np.random.Generator, by_popularity: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Item ids, that of rank k drawn in proportion to log(1 + 1 / k), which is nearly 1 / k."""
    ranks = np.exp(np.log(len(by_popularity) + 1) * rng.random(shape, np.float32)).astype(np.int64)
    return by_popularity[np.minimum(ranks, len(by_popularity)) - 1]


def lists(matrix: np.ndarray) -> pa.Array:
    """The rows of `matrix` as list values."""
    rows, width = matrix.shape
    offsets = np.arange(0, rows * width + 1, width, dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(matrix.ravel()))


def item_feature(rng: np.random.Generator, items: int) -> Iterator[dict[str, pa.Array]]:
    for start, n in spans(items, CHUNK_ITEMS):
        ids = np.arange(start + 1, start + n + 1)
        yield {
            "item_id": pa.array(ids),
            "item_title": pa.array([f"A short video about things, part {item}" for item in ids]),
            "item_tags": lists(rng.integers(1, TAG_VOCABULARY, (n, TAGS))),
            "likes_level": pa.array(rng.integers(0, LEVELS, n)),
            "views_level": pa.array(rng.integers(0, LEVELS, n)),
            "txt_emb_BERT": lists(rng.standard_normal((n, 768), np.float32)),
            "img_emb_CLIPRN50": lists(rng.standard_normal((n, 1024), np.float32)),
        }


def item_info(rng: np.random.Generator, rows: int) -> Iterator[dict[str, pa.Array]]:
    """Row i is item i, row 0 padding."""
    for start, n in spans(rows, CHUNK_ITEMS):
        yield {
            "item_id": pa.array(np.arange(start, start + n)),
            "item_tags": lists(rng.integers(1, TAG_VOCABULARY, (n, TAGS))),
            "item_emb_d128": lists(rng.standard_normal((n, 128), np.float32)),
        }
