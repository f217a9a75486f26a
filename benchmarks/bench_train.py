"""QIN's training beside the published path, at the competition's size.

The clicks are made up (`training_world`). Every run is a process of its own, one after the other,
on the same device. Ratios are to the samples a second of the published path, which trains in fp32.
Without --quick also: the published path under bf16 autocast, and our collapsed form; on a GPU tf32
and torch.compile. With --epochs the stage itself, by its own command (on a GPU in bf16): seconds
from an epoch's line to the next one's, with valid's scores. Linux only (/proc).

    python -m benchmarks.bench_train --quick --json bench_train.json
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

import torch

from benchmarks.support.raw_layout import ITEMS, ROWS
from benchmarks.support.stages import write_params
from benchmarks.support.training import RECIPE
from benchmarks.support.training_world import write_world
from pipeline.common.files import read_json, write_json
from pipeline.settings.params import load_params

ROOT = Path(__file__).parents[1]
RUNS: dict[str, tuple[str, ...]] = {
    "published": ("published", "--precision=no"),
    "ours": ("training", "--precision=no"),
    "ours bf16": ("training", "--precision=bf16"),
}
LONGER: dict[str, tuple[str, ...]] = {
    "published bf16": ("published", "--precision=bf16"),
    "ours collapsed": ("training", "--precision=no", "--collapsed"),
    "ours bf16 collapsed": ("training", "--precision=bf16", "--collapsed"),
}
ON_GPU: dict[str, tuple[str, ...]] = {
    "ours tf32": ("training", "--precision=tf32"),
    "ours bf16 compiled": ("training", "--precision=bf16", "--compile"),
}
STEPS = {"cpu": {"training": 3, "published": 1}, "cuda": {"training": 100, "published": 10}}
"""Timed by default, after one or more that warm up."""
AN_EPOCH = re.compile(r"\bepoch +\d+ +loss ")
"""A line of the stage's, at an epoch's end."""
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
    parser.add_argument("--epochs", type=int, default=0, help="of stage train, two or more")
    parser.add_argument("--quick", action="store_true", help="only what the ratios need")
    parser.add_argument("--runs", nargs="+", choices=tuple(RUNS | LONGER | ON_GPU), help="these")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    if options.epochs == 1:
        parser.error("--epochs is 1; the first one's start is not measured, so give 2 or more")
    if options.runs and not {*options.runs} >= {*RUNS}:
        parser.error(f"--runs lacks some of {', '.join(RUNS)}, which the ratios need")
    measured: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        with chdir(folder):
            write_world(items=options.items, train_rows=options.rows)
        print(header())
        for name, arguments in runs(options).items():
            measured[name] = run(arguments, options, Path(folder))
            print(line(name, measured), flush=True)
            if options.json is not None:
                write_json(options.json, {"runs": measured})
        print(closing(measured))
        figures: dict[str, Any] = summary(measured) | {"runs": measured}
        if options.json is not None:
            write_json(options.json, figures)
        if options.epochs:
            figures["stage"] = epochs(options, Path(folder))
            print(", ".join(f"{name} {value}" for name, value in figures["stage"].items()))
            if options.json is not None:
                write_json(options.json, figures)


def runs(options: argparse.Namespace) -> dict[str, tuple[str, ...]]:
    known = RUNS | LONGER | ON_GPU
    if options.runs:
        return {name: known[name] for name in options.runs}
    if options.quick:
        return RUNS
    return known if options.device == "cuda" else RUNS | LONGER


def run(arguments: tuple[str, ...], options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The figures of one run, which works in `folder`."""
    module, *flags = arguments
    steps = options.steps if module == "training" else options.published_steps
    flags += [f"--batch-size={options.batch_size}", "--json=figures.json"]
    flags += [f"--steps={steps or STEPS[options.device][module]}"]
    if module == "published":
        flags += [f"--device={options.device}"]
    command = [sys.executable, "-m", f"benchmarks.support.{module}", *flags]
    silent = subprocess.DEVNULL
    subprocess.run(command, cwd=folder, env=environment(options), check=True, stdout=silent)
    return read_json(folder / "figures.json")


def environment(options: argparse.Namespace) -> dict[str, str]:
    on_cpu = {"ACCELERATE_USE_CPU": "true"} if options.device == "cpu" else {}
    return os.environ | {"PYTHONPATH": str(ROOT)} | on_cpu


def epochs(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Stage `train` on the world in `folder`: seconds of its whole run and of its last epoch."""
    settings = load_params(RECIPE).train.model_dump()
    settings |= {"epochs": options.epochs, "batch_size": options.batch_size}
    with chdir(folder):
        precision = "bf16" if options.device == "cuda" else "no"
        write_params({"train": settings | {"mixed_precision": precision}})
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "ctr.train"],
        cwd=folder,
        env=environment(options),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = [(time.perf_counter() - started, text) for text in process.stdout]
    whole = time.perf_counter() - started
    ends = [(seconds, text.strip()) for seconds, text in lines if AN_EPOCH.search(text)]
    if process.returncode or len(ends) < 2:
        told = "".join(text for _, text in lines)
        raise SystemExit(f"error: stage train ended with {process.returncode}\n{told}")
    (before, _), (after, text) = ends[-2:]
    return {"seconds": round(whole, 2), "an_epoch": round(after - before, 2), "told": text}


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
