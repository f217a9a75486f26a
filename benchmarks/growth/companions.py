"""Time and memory of stage `companions` at the challenge's size, beside sparse matrices.

The clicks are made up (`support/companions/world.py`): 3.6 M rows of train, 10,000 of valid and
379,142 of test, with histories of 100 (`--histories full`, the worst case) or of log-normal length
(`sample`). The stage runs by its own command, in a process of its own and those that it forks; what
it is at is told by the files that it has. Seconds count the interpreter's start, and CPU seconds
are those of all processes: where other work shares the cores they tell more. The plain way
(`support/companions/plain.py`) describes the first `--plain-rows` of train alone, in one process;
what all rows would take is those seconds times their number, which favours it: with more pairs a
matrix is slower to look up. Linux only (/proc).

    python -m benchmarks.growth.companions [--histories sample] [--rows-per-user 3.6] [--json PATH]
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import chdir
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from benchmarks.support.companions.plain import COUNTED
from benchmarks.support.companions.world import Histories, World, write_world
from benchmarks.support.raw_layout import ITEMS, ROWS
from benchmarks.support.stages import module, watched_by_phase, write_params
from pipeline.common.files import read_json, write_json
from pipeline.common.paths import ROW_FEATURES, metrics_path
from pipeline.common.scratch import SCRATCH

STAGE, PLAIN = "companions", "matrices"
TENTH = 10


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of stage companions.")
    parser.add_argument("--rows", type=int, default=ROWS["train"], help="of train")
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--histories", choices=get_args(Histories), default="full")
    parser.add_argument("--rows-per-user", type=float, default=48.0, help="the challenge's: 3.6")
    parser.add_argument("--plain-rows", type=int, default=20_000, help="for the plain way; 0: none")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows and the items")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    parts = TENTH if options.quick else 1
    sizes = options.items // parts, options.rows // parts
    world = World(*sizes, options.histories, options.rows_per_user)
    file = options.json.absolute() if options.json else None
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        write_params({"companions": {"enabled": True}})
        write_world(world)
        figures = measured(world, min(options.plain_rows, world.train_rows))
    print(table(figures))
    if file is not None:
        write_json(file, figures)


def measured(world: World, plain_rows: int) -> dict[str, Any]:
    """Of the world in the working directory; the load of the machine before and after."""
    load = [os.getloadavg()[0]]
    found = {STAGE: way([*module("ctr.companions")], at, sum(world.rows.values()))}
    told = read_json(metrics_path("companions"))
    if plain_rows:
        command = [*module("benchmarks.support.companions.plain"), str(plain_rows)]
        found[PLAIN] = way(command, plain_at, plain_rows)
    load.append(os.getloadavg()[0])
    pairs = told["pairs_of_clicks"] + told["pairs_within_histories"]
    return {"world": world._asdict(), "pairs": pairs, "ways": found, "load": load}


def way(command: list[str], phase: Callable[[], str], rows: int) -> dict[str, Any]:
    phases = watched_by_phase(command, phase)
    return {"rows": rows, "phases": {name: asdict(peak) for name, peak in phases.items()}}


def at() -> str:
    """What the stage is at, by the files that it has in the working directory."""
    if any(ROW_FEATURES.parent.glob(".*")):
        return "writing"
    return "describing" if any((SCRATCH / "companions").glob("tmp*")) else "counting"


def plain_at() -> str:
    return "describing" if COUNTED.exists() else "counting"


def table(figures: Mapping[str, Any]) -> str:
    """A line for each phase; a row's cost is that of all phases."""
    titles = ("rows", "seconds", "CPU s", "MB", "resident MB", "rows/s")
    lines = [f"{'':24}" + "".join(f"{title:>13}" for title in titles)]
    for name, found in figures["ways"].items():
        phases = found["phases"]
        lines += [line(f"{name}, {phase}", found["rows"], phases[phase]) for phase in phases]
        lines.append(line(f"{name}, together", found["rows"], together(phases)))
    first, last = (f"{load:.1f}" for load in figures["load"])
    lines.append(f"{figures['pairs']:,} pairs; load of the machine {first} before, {last} after")
    if PLAIN in figures["ways"]:
        lines.append(compared(*figures["ways"].values()))
    return "\n".join(lines)


def line(name: str, rows: int, peak: Mapping[str, float]) -> str:
    megabytes = peak["anonymous"] / 1e6, peak["resident"] / 1e6
    cells = rows, peak["seconds"], peak["cpu"], *megabytes, rows / max(peak["seconds"], 1e-9)
    return f"{name:24}" + "".join(f"{cell:13,.0f}" for cell in cells)


def together(phases: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Sums of seconds, and the largest of the peaks."""
    peaks = phases.values()
    return {name: sum(peak[name] for peak in peaks) for name in ("seconds", "cpu")} | {
        name: max(peak[name] for peak in peaks) for name in ("anonymous", "resident")
    }


def compared(stage: Mapping[str, Any], plain: Mapping[str, Any]) -> str:
    """What all rows would take the plain way."""
    cost = {
        name: together(plain["phases"])[name] * stage["rows"] / plain["rows"]
        for name in ("seconds", "cpu")
    }
    ours = together(stage["phases"])
    return (
        f"{PLAIN}, all rows at this pace: {cost['seconds']:,.0f} s, "
        f"{cost['seconds'] / ours['seconds']:.1f} times as long, "
        f"and {cost['cpu'] / ours['cpu']:.1f} times the CPU seconds"
    )


if __name__ == "__main__":
    main()
