"""How a training step's time and memory grow with the batch, the history, items and processes.

Made-up clicks (`training_world`) and the published settings, but for what a sweep changes; in the
sweep over items vectors are 16 wide instead of 128, so that ten million fit. Every point is a run
of its own (`training`). Linux only (/proc).

    python -m benchmarks.growth.scale --json scale.json
"""

import argparse
import os
import subprocess
import sys
import tempfile
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.support.raw_layout import ITEMS
from benchmarks.support.training_world import write_world
from pipeline.common.files import read_json, write_json

ROOT = Path(__file__).parents[2]
NARROW = 16


@dataclass(frozen=True)
class Point:
    batch: int = 8192
    history: int = 64
    items: int = ITEMS
    width: int = 128
    processes: int = 1


SWEEPS = {
    "batch": [Point(batch=size) for size in (512, 2048, 8192, 32768)],
    "history": [Point(history=length) for length in (16, 64, 256)],
    "items": [Point(items=10**power, width=NARROW) for power in (4, 5, 6, 7)],
    "processes": [Point(processes=count) for count in (1, 2)],
}


def main() -> None:
    parser = argparse.ArgumentParser(description="How a training step grows.")
    parser.add_argument("--sweep", choices=tuple(SWEEPS), nargs="+", default=list(SWEEPS))
    parser.add_argument("--precision", choices=("no", "bf16"), default="no")
    parser.add_argument(
        "--scale-down", type=int, default=1, help="divide batches and items by this"
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    result = {}
    for sweep in options.sweep:
        print(f"{sweep:>12}{'samples/s':>12}{'s a step':>10}{'host GB':>9}{'device GB':>11}")
        figures = {}
        for point in SWEEPS[sweep]:
            if torch.cuda.is_available() and point.processes > torch.cuda.device_count():
                continue
            value = getattr(point, sweep)
            figures[str(value)] = measured = measure(point, options.precision, options.scale_down)
            seconds, peak = sum(measured["seconds"].values()), measured["peak_bytes"]
            print(
                f"{value:12,}{measured['samples_per_s']:12,.0f}{seconds:10.3f}"
                f"{peak['host'] / 1e9:9.2f}{peak['device'] / 1e9:11.2f}",
                flush=True,
            )
        result[sweep] = figures
    if options.json is not None:
        write_json(options.json, result)


def measure(point: Point, precision: str, scale_down: int = 1) -> dict[str, Any]:
    """One run's figures; the peak of host memory is that of one of its processes."""
    batch, items = point.batch // scale_down, point.items // scale_down
    flags = [f"--batch-size={batch}", f"--history={point.history}", f"--precision={precision}"]
    flags += [f"--embedding-dim={point.width}", "--steps=2", "--scored=1", "--json=figures.json"]
    launcher = ["-m", "torch.distributed.run", "--standalone"]
    launcher += [f"--nproc_per_node={point.processes}"]
    environment = {"OMP_NUM_THREADS": "1"} | os.environ | {"PYTHONPATH": str(ROOT)}
    if not torch.cuda.is_available():
        environment["ACCELERATE_USE_CPU"] = "true"  # or the processes would not find each other
    with tempfile.TemporaryDirectory() as folder:
        with chdir(folder):
            write_world(
                items=items,
                train_rows=2 * batch,
                valid_rows=1,
                history=point.history,
                content_dim=point.width,
            )
        subprocess.run(
            [sys.executable, *launcher, "-m", "benchmarks.support.training", *flags],
            cwd=folder,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return read_json(Path(folder) / "figures.json")


if __name__ == "__main__":
    main()
