"""Stage `ingest` at the competition's size, beside plain pandas on the same click logs.

The rows are made up (`raw_layout`). Each reader runs in a process of its own, the files still in
the page cache. `ingest` checks every value and also converts the item tables; plain pandas does
neither. Linux only (/proc).

    python -m benchmarks.growth.ingest --rows 3600000 --alternative-rows 3600000
"""

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.support.memory import memory
from benchmarks.support.raw_layout import HISTORY, ITEMS, ROWS, TAGS, write_raw
from pipeline.common.files import Outputs
from pipeline.common.paths import CLICKS, SPLITS
from pipeline.ingest import ingest
from pipeline.settings.data import Data


@dataclass(frozen=True)
class Measurement:
    rows: int
    """Of all splits together."""
    seconds: float
    """Without the interpreter's start and the imports."""
    peak: int
    """Bytes resident at most, pages of mapped files included."""
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
        result.send((time.perf_counter() - start, memory("VmHWM")))


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


if __name__ == "__main__":
    main()
