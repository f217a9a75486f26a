"""Peak memory of whole stages on a world of size n, and on one of ten times that or more.

Each stage runs as `dvc repro` runs it, by its own command on a `params.yaml`, in a process of its
own and in a new folder with made-up data. What grows is rows for `ingest`, `companions` and
`train`, on as many items in both worlds, and items for the others. `judge` is tried at the
challenge's size, on its 10,000 rows of valid and on 300,000; `judge_unbounded` is the same with all
freed memory kept, as stages did before `ctr/engine/machine.py` had a bound (on two cores each takes
some ten minutes). The memory of a stage and of its workers is added up every 20 ms: `anonymous` is
what it must have, pages that forked processes share counted once; `resident` also counts pages of
files that it has mapped or loaded (libraries, arrays), which the system may take back, and shared
ones twice.

What the design allows to grow: arrays of one row an item (titles, vectors, and in `align` a feature
for each landmark), a few numbers a row of the click log (users, labels, the order of an epoch), in
`companions` 7 bytes for each pair of items taken together, and `neighbors`' candidates up to a
fixed number. Histories and covers are never held, here where `train` reads its rows from the file.
Linux only (/proc).

    python -m benchmarks.growth.memory --stages ingest train --json memory.json
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import chdir
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.support import training_world
from benchmarks.support.companions.world import World
from benchmarks.support.companions.world import write_world as write_clicks
from benchmarks.support.embedding import world
from benchmarks.support.raw_layout import HISTORY, ITEMS, write_raw
from benchmarks.support.stages import Peak, module, run_quietly, watched, write_params
from pipeline.common import paths
from pipeline.common.files import read_array, write_array, write_json
from pipeline.tables.item_info import write_item_info

FACTOR = 10
FEW_ITEMS = 2_000
"""Where rows grow."""
OUT_OF_MEMORY = {"epochs": 1, "residence": "file"}
"""As rows are read of which there are too many to be held."""
CLICKS_AN_ITEM = 20
"""Where items grow, and clicks with them."""


@dataclass(frozen=True)
class Case:
    """How a stage is tried."""

    command: tuple[str, ...]
    unit: str
    """What grows."""
    size: int
    """How many of them, before they are multiplied."""
    write: Callable[[int], None]
    """Make that many, in the working directory."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Other than in the repository's `params.yaml`, by section."""
    factor: int = FACTOR
    """Times that the second world is larger."""


def raw(rows: int) -> None:
    Path("raw").mkdir()
    write_raw(Path("raw"), rows, FEW_ITEMS)


def catalogue(items: int, covers: bool = False) -> None:
    """Titles, few covers or one an item, and an encoder that has seen some of them."""
    encoded = min(items, 256)
    titles = ["", *world.titles(items)]
    write_items(titles[: encoded + 1])
    world.write_covers(encoded)
    run_quietly([sys.executable, "-m", "embed.encoder"])
    write_items(titles)
    world.write_covers(items if covers else encoded)
    write_array(paths.GIVEN_TEXT, np.zeros((items + 1, 0), np.float32))
    write_array(paths.GIVEN_IMAGE, np.zeros((items + 1, 0), np.float32))


def covered(items: int) -> None:
    catalogue(items, covers=True)


def write_items(titles: list[str], tags: np.ndarray | None = None) -> None:
    """With `tags` (N + 1, T), or none."""
    rows = np.zeros((len(titles), 2)) if tags is None else tags
    lists = pa.array(list(rows.astype(np.int64)), pa.list_(pa.int64()))
    columns = {"item_id": pa.array(range(len(titles))), "title": pa.array(titles), "tags": lists}
    paths.ITEMS.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), paths.ITEMS)


def clicks(rows: int) -> None:
    training_world.write_world(items=FEW_ITEMS, train_rows=rows)
    training_world.write_numbers()


def histories(rows: int) -> None:
    write_clicks(World(FEW_ITEMS, rows))


def vectors(items: int) -> None:
    """Item vectors of 128 dimensions, as features of titles too, and clicks on them."""
    rng = np.random.default_rng(0)
    rows = training_world.content_table(rng, items, 128)
    training_world.write_world(items=items, train_rows=CLICKS_AN_ITEM * items, valid_rows=2)
    write_array(paths.TEXT, rows[:, :64])
    write_array(paths.ITEM, rows)
    write_array(paths.TEXT_PRESENT, np.arange(items + 1) > 0)
    world.write_no_pictures(items)


def judged(valid_rows: int, items: int = ITEMS, train_rows: int = 24_000) -> None:
    """The challenge's items, histories and tags, and Task 1's file of them."""
    sizes = {"train_rows": train_rows, "valid_rows": valid_rows, "history": HISTORY}
    training_world.write_world(items=items, **sizes)
    write_items([""] * (items + 1), np.asarray(read_array(paths.TAGS)))
    paths.ITEM_INFO.parent.mkdir(parents=True)
    write_item_info(paths.ITEM_INFO, np.asarray(read_array(paths.ITEM)))


UNBOUNDED = (
    "import math, runpy; from ctr.engine.machine import FreedMemory; "
    "FreedMemory.GROWTH = math.inf; runpy.run_module('ctr.judge', run_name='__main__')"
)
CASES = {
    "ingest": Case(module("pipeline.ingest"), "rows", 60_000, raw, {"data": {"source": "raw"}}),
    "embed_text": Case(module("embed.text"), "items", 5_000, catalogue),
    "embed_image": Case(module("embed.image"), "items", 1_000, covered),
    "align": Case(module("embed.align"), "items", 2_000, vectors, {"align": {"landmarks": 512}}),
    "neighbors": Case(module("embed.neighbors"), "items", 3_000, vectors),
    "companions": Case(
        module("ctr.companions"), "rows", 30_000, histories, {"companions": {"enabled": True}}
    ),
    "train": Case(module("ctr.train"), "rows", 30_000, clicks, {"train": OUT_OF_MEMORY}),
    "judge": Case(module("ctr.judge"), "of valid", 10_000, judged, factor=30),
    "judge_unbounded": Case(
        (sys.executable, "-c", UNBOUNDED), "of valid", 10_000, judged, factor=30
    ),
}
SMALL_ENCODER = {"encoder": {"epochs": 1}}


def main() -> None:
    parser = argparse.ArgumentParser(description="How the memory of stages grows.")
    parser.add_argument("--stages", choices=tuple(CASES), nargs="+", default=list(CASES))
    parser.add_argument("--scale-down", type=int, default=1, help="divide the sizes by this")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    result: dict[str, Any] = {}
    print(header(), flush=True)
    for stage in options.stages:
        case = CASES[stage]
        size = case.size // options.scale_down
        peaks = {times * size: measure(case, times * size) for times in (1, case.factor)}
        print(line(stage, case.unit, peaks), flush=True)
        result[stage] = {str(count): asdict(peak) for count, peak in peaks.items()}
    if options.json is not None:
        write_json(options.json, result)


def header() -> str:
    titles = ("n", "more", "MB at n", "at more", "ratio", "bytes a unit", "resident", "at more")
    widths = (17, 9, 9, 9, 7, 14, 10, 9)
    times = f"{'s at n':>8}{'at more':>9}"
    return f"{'':16}" + "".join(f"{t:>{w}}" for t, w in zip(titles, widths, strict=True)) + times


def line(stage: str, unit: str, peaks: Mapping[int, Peak]) -> str:
    """Anonymous memory at n and at more, their ratio, what each further unit takes; resident."""
    (n, small), (more, large) = peaks.items()
    each = (large.anonymous - small.anonymous) / (more - n)
    return (
        f"{stage:16}{f'{n:,} {unit}':>17}{more:9,}{small.anonymous / 1e6:9.0f}"
        f"{large.anonymous / 1e6:9.0f}{large.anonymous / small.anonymous:7.2f}{each:14,.0f}"
        f"{small.resident / 1e6:10.0f}{large.resident / 1e6:9.0f}"
        f"{small.seconds:8.0f}{large.seconds:9.0f}"
    )


def measure(case: Case, size: int) -> Peak:
    """The peak of the case's stage on `size` units, in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        write_params({**SMALL_ENCODER, **case.settings})
        case.write(size)
        return watched(list(case.command))


if __name__ == "__main__":
    main()
