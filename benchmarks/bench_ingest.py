"""Stage `ingest` at the competition's size, beside plain pandas on the same click logs.

Rows are made up in the raw layout: ids of Zipf popularity, histories of mixed length, padded on the
left. Each reader runs in a process of its own, the files still in the page cache. `ingest` checks
every value and also converts the item tables; plain pandas does neither. Linux only (/proc).

    python -m benchmarks.bench_ingest --rows 3600000 --alternative-rows 3600000
"""

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import chdir
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.clicks import CLICKS
from pipeline.ingest import ingest
from pipeline.params import Data
from pipeline.schema import LEVELS, SPLITS, Outputs

HISTORY = 100
ROWS = {"train": 3_600_000, "valid": 10_000, "test": 379_142}
ITEMS = 91_717
USERS = 1_000_000
TAGS = 5
TAG_VOCABULARY = 11_740

CHUNK_ROWS = 50_000
"""Clicks made at a time: 40 MB of histories."""
CHUNK_ITEMS = 5_000
"""Items made at a time: 38 MB of embeddings."""


@dataclass(frozen=True)
class Measurement:
    rows: int
    """Of all splits together."""
    seconds: float
    """Without the interpreter's start and the imports."""
    peak: int
    """Bytes resident at most, the memory-mapped pages of the output included."""
    anonymous: int
    """Likewise without mapped files, sampled every 20 ms."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of the ingest stage.")
    parser.add_argument("--rows", type=int, default=ROWS["train"], help="train rows for ingest")
    parser.add_argument("--alternative-rows", type=int, help="train rows for pandas (as --rows)")
    parser.add_argument("--items", type=int, default=ITEMS)
    args = parser.parse_args()
    ours = measure(run_ingest, args.rows, args.items)
    plain = measure(run_pandas, args.alternative_rows or args.rows, args.items)
    print(table({"ingest": ours, "pandas": plain}))


def table(measured: dict[str, Measurement]) -> str:
    """One line a reader; the ratio is of rows a second, to the last reader."""
    lines = [
        f"{'':8}{'rows':>11}{'seconds':>9}{'rows/s':>11}{'peak GB':>9}{'anon. GB':>10}{'ratio':>7}"
    ]
    rates = {name: each.rows / each.seconds for name, each in measured.items()}
    *_, reference = rates.values()
    for name, each in measured.items():
        lines.append(
            f"{name:8}{each.rows:11,}{each.seconds:9.1f}{rates[name]:11,.0f}"
            f"{each.peak / 1e9:9.2f}{each.anonymous / 1e9:10.2f}{rates[name] / reference:7.1f}"
        )
    return "\n".join(lines)


def measure(read: Callable[[Path], None], train_rows: int, items: int) -> Measurement:
    """Write the raw layout into a temporary folder, and run `read` on it in a new process."""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as temporary:
        rows = write_raw(Path(temporary), train_rows, items)
        receiving, sending = spawn.Pipe(duplex=False)
        process = spawn.Process(target=timed, args=(read, Path(temporary), sending))
        process.start()
        sending.close()
        anonymous = 0
        while not receiving.poll(0.02):
            anonymous = max(anonymous, memory("RssAnon", process.pid or "self"))
        seconds, peak = receiving.recv()
        process.join()
    return Measurement(rows, seconds, peak, anonymous)


def timed(read: Callable[[Path], None], folder: Path, result: Connection) -> None:
    """Send the seconds that `read(folder)` takes in an empty folder, and the peak memory."""
    with tempfile.TemporaryDirectory(dir=folder) as workspace, chdir(workspace):
        start = time.perf_counter()
        read(folder)
        result.send((time.perf_counter() - start, memory("VmHWM", "self")))


def memory(field: str, process: int | str) -> int:
    """Bytes, as /proc gives them; 0 for a process that has just ended."""
    for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0


def run_ingest(folder: Path) -> None:
    with Outputs() as outputs:
        ingest(folder, Data(source=str(folder), history=HISTORY, tags=TAGS, seed=0), outputs)


def run_pandas(folder: Path) -> None:
    """The splits' arrays the plain way, nothing checked; users keep their raw ids."""
    items = pd.read_parquet(folder / "item_feature.parquet", columns=["item_id"])["item_id"]
    dense = pd.Series(np.arange(len(items) + 1), [0, *sorted(items)], dtype=np.int32)
    for split in SPLITS:
        clicks = pd.read_parquet(folder / CLICKS / f"{split}.parquet")
        history = np.stack(clicks["item_seq"].to_list())
        history = dense.reindex(history.ravel()).to_numpy().reshape(history.shape)
        label = clicks["label"] if "label" in clicks else np.full(len(clicks), -1)
        tail = [clicks["item_id"].map(dense), clicks["likes_level"], clicks["views_level"], label]
        rows = np.column_stack([history, *tail, clicks["user_id"]]).astype(np.int32)
        np.save(f"{split}.npy", rows)


def write_raw(folder: Path, train_rows: int, items: int) -> int:
    """Write the raw layout without covers, valid and test in proportion; returns all their rows."""
    rng = np.random.default_rng(0)
    (folder / "item_images").mkdir()
    (folder / CLICKS).mkdir()
    write_parquet(folder / "item_feature.parquet", item_feature(rng, items), items)
    write_parquet(folder / CLICKS / "item_info.parquet", item_info(rng, items + 1), items + 1)
    by_popularity = 1 + rng.permutation(items)
    written = 0
    for split in SPLITS:
        rows = -(-ROWS[split] * train_rows // ROWS["train"])
        chunks = clicks(rng, by_popularity, rows, labelled=split != "test")
        write_parquet(folder / CLICKS / f"{split}.parquet", chunks, rows)
        written += rows
    return written


def write_parquet(path: Path, chunks: Iterator[dict[str, pa.Array]], rows: int) -> None:
    """Columns as pandas would write them: snappy, row groups of up to 1 Mi rows."""
    first = pa.RecordBatch.from_pydict(next(chunks))
    with pq.ParquetWriter(path, first.schema, compression="snappy") as writer:
        writer.write_batch(first, min(rows, 1 << 20))
        for chunk in chunks:
            writer.write_batch(pa.RecordBatch.from_pydict(chunk), min(rows, 1 << 20))


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
        last = {"label": rng.integers(0, 2, n)} if labelled else {"ID": np.arange(start, start + n)}
        yield {name: pa.array(values) for name, values in (columns | last).items()}


def zipf(
    rng: np.random.Generator, by_popularity: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
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


if __name__ == "__main__":
    main()
