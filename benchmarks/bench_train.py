"""QIN's training beside the published path, at the competition's size.

The clicks are made up (`training_world`). Every run is a process of its own, one after the other,
on the same device. Ratios are to the samples a second of the published path, which trains in fp32.
Without --quick also: the published path under bf16 autocast, and our collapsed form. Linux only
(/proc).

    python -m benchmarks.bench_train --quick --json bench_train.json
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

import torch

from benchmarks.support.raw_layout import ITEMS, ROWS
from benchmarks.support.training_world import write_world
from pipeline.common.files import read_json, write_json

ROOT = Path(__file__).parents[1]
RUNS = {
    "published": ("published", "--precision=no"),
    "ours": ("training", "--precision=no"),
    "ours bf16": ("training", "--precision=bf16"),
}
LONGER = {
    "published bf16": ("published", "--precision=bf16"),
    "ours collapsed": ("training", "--precision=no", "--collapsed"),
    "ours bf16 collapsed": ("training", "--precision=bf16", "--collapsed"),
}
STEPS = {"cpu": {"training": 3, "published": 1}, "cuda": {"training": 100, "published": 10}}
"""Timed by default, after one or more that warm up."""
PHASES = ("data", "forward", "backward", "optimizer")


def main() -> None:
    parser = argparse.ArgumentParser(description="QIN's training beside the published path.")
    found = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cpu", "cuda"), default=found)
    parser.add_argument("--items", type=int, default=ITEMS, help="of the catalogue")
    parser.add_argument("--rows", type=int, default=ROWS["train"], help="clicks of train")
    parser.add_argument("--batch-size", type=int, default=8192)
    parser.add_argument("--steps", type=int, help="of ours, timed")
    parser.add_argument("--published-steps", type=int, help="of the published path, timed")
    parser.add_argument("--compile", action="store_true", help="ours with torch.compile")
    parser.add_argument("--quick", action="store_true", help="only what the ratios need")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    measured: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        with chdir(folder):
            write_world(items=options.items, train_rows=options.rows)
        print(header())
        for name, arguments in (RUNS if options.quick else RUNS | LONGER).items():
            measured[name] = run(arguments, options, Path(folder))
            print(line(name, measured), flush=True)
    print(closing(measured))
    if options.json is not None:
        write_json(options.json, summary(measured) | {"runs": measured})


def run(arguments: tuple[str, ...], options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The figures of one run, which works in `folder`."""
    module, *flags = arguments
    steps = options.steps if module == "training" else options.published_steps
    flags += [f"--batch-size={options.batch_size}", "--json=figures.json"]
    flags += [f"--steps={steps or STEPS[options.device][module]}"]
    if module == "published":
        flags += [f"--device={options.device}"]
    elif options.compile:
        flags += ["--compile"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    if options.device == "cpu":
        environment["ACCELERATE_USE_CPU"] = "true"
    command = [sys.executable, "-m", f"benchmarks.support.{module}", *flags]
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    return read_json(folder / "figures.json")


def header() -> str:
    phases = "".join(f"{phase:>10}" for phase in PHASES)
    return (
        f"{'':20}{'samples/s':>11}{'ratio':>7}  s a step:{phases}"
        f"{'loader':>9}{'host GB':>9}{'device GB':>11}{'predicted/s':>13}"
    )


def line(name: str, measured: Mapping[str, dict[str, Any]]) -> str:
    figures, published = measured[name], measured["published"]
    ratio = figures["samples_per_s"] / published["samples_per_s"]
    phases = "".join(f"{figures['seconds'][phase]:10.4f}" for phase in PHASES)
    peak = figures["peak_bytes"]
    predicted = f"{figures['predicted_per_s']:13,.0f}" if "predicted_per_s" in figures else ""
    return (
        f"{name:20}{figures['samples_per_s']:11,.0f}{ratio:7.1f}           {phases}"
        f"{figures['loader_share']:9.2%}{peak['host'] / 1e9:9.2f}{peak['device'] / 1e9:11.2f}"
        f"{predicted}"
    )


def closing(measured: Mapping[str, dict[str, Any]]) -> str:
    """How near each of our runs comes to the floor that its matrix products set."""
    lines = []
    for name, figures in measured.items():
        if "flops_per_s" in figures:
            reached, best = figures["flops_per_s"], figures["matmul_flops_per_s"]
            lines.append(
                f"{name}: {reached / 1e9:,.0f} GFLOP/s of matrix products, "
                f"{reached / best:.0%} of the {best / 1e9:,.0f} that the largest of them reaches "
                f"alone; an epoch of {ROWS['train']:,} rows in "
                f"{ROWS['train'] / figures['samples_per_s']:,.0f} s; prediction "
                f"{figures['predicted_per_s'] / figures['samples_per_s']:.1f} times as fast"
            )
    return "\n".join(lines)


def summary(measured: Mapping[str, dict[str, Any]]) -> dict[str, float]:
    published, ours, bf16 = (measured[name] for name in RUNS)
    return {
        "published_samples_per_s": published["samples_per_s"],
        "ours_samples_per_s": ours["samples_per_s"],
        "ours_bf16_samples_per_s": bf16["samples_per_s"],
        "ratio": ours["samples_per_s"] / published["samples_per_s"],
        "ratio_bf16": bf16["samples_per_s"] / published["samples_per_s"],
        "loader_share": max(ours["loader_share"], bf16["loader_share"]),
        "prediction_ratio": ours["predicted_per_s"] / ours["samples_per_s"],
        "prediction_ratio_bf16": bf16["predicted_per_s"] / bf16["samples_per_s"],
    }


if __name__ == "__main__":
    main()
