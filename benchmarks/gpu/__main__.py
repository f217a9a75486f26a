"""All that a GPU runs of the pipeline, on a machine that nobody knows, in eight minutes at most.

    machine     what it is, and what it copies and multiplies in a second
    agreement   every model and precision beside the CPU in float64; the data path; equal bytes;
                whether a step waits for the host
    training    QIN beside the published path; stage `train` at the challenge's size
    candidates  ways to a faster step that are not in use yet, each alone and all together
    extraction  covers, titles, and both by a model of 7 billion, beside the bare forward pass

Needs no network and no faiss-gpu. Each part is a process of its own, whose figures are kept as far
as it comes: one that fails or takes too long is told, and the others go on. Without a GPU, or with
--small, all runs on little data.

    python -m benchmarks.gpu --json gpu.json
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.common.files import read_json, write_json

ROOT = Path(__file__).parents[2]
SECONDS = 480
"""Of all parts together."""


@dataclass(frozen=True)
class Part:
    command: tuple[str, ...]
    small: tuple[str, ...]
    """Likewise, on little data."""
    seconds: int
    """At most."""


PARTS = {
    "machine": Part(("gpu.machine",), ("gpu.machine", "--small"), 60),
    "agreement": Part(
        ("gpu.agreement", "--compile"), ("gpu.agreement", "--items=500", "--batch=32"), 150
    ),
    "training": Part(
        (
            *("bench_train", "--epochs=2", "--published-steps=4", "--runs"),
            *("published", "ours", "ours bf16", "ours bf16 compiled", "ours bf16 collapsed"),
        ),
        ("bench_train", "--quick", "--items=500", "--rows=200", "--batch-size=64", "--epochs=2"),
        240,
    ),
    "candidates": Part(
        ("gpu.candidates",), ("gpu.candidates", "--items=200", "--batch=64", "--steps=1"), 150
    ),
    "extraction": Part(
        (
            *("bench_embed", "--covers=4096", "--titles=16384", "--rounds=1"),
            *("--batch-size=128", "--workers=8"),  # eight shards of covers, one a worker
        ),
        ("bench_embed", "--covers=6", "--titles=20", "--batch-size=3", "--rounds=1"),
        180,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="All that a GPU runs of the pipeline.")
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=[*PARTS])
    parser.add_argument("--small", action="store_true", help="on little data, as without a GPU")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no part is left running
    if not torch.cuda.is_available() and not options.small:
        print("no GPU is found: all runs on little data, and no figure says anything of speed")
    small, started = options.small or not torch.cuda.is_available(), time.perf_counter()
    result: dict[str, dict[str, Any]] = {}
    for name in options.parts:
        print(f"\n{name}", flush=True)
        left = SECONDS - (time.perf_counter() - started)
        result[name] = run(PARTS[name], small, left)
        if options.json is not None:
            write_json(options.json, result)
    print(f"\n{verdicts(result)}")
    sys.exit(any(found["failure"] for found in result.values()))


def run(part: Part, small: bool, left: float) -> dict[str, Any]:
    """What a part found, how long it took, and what went wrong, if anything."""
    module, *flags = part.small if small else part.command
    seconds, started = min(part.seconds, left), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        command = [sys.executable, "-m", f"benchmarks.{module}", *flags, f"--json={file}"]
        failure = ended(command, seconds, Path(folder)) if left > 0 else "no time is left for it"
        figures = read_json(file) if file.exists() else {}
    if not failure and figures.get("failed"):
        failure = f"differ: {', '.join(figures['failed'])}"
    return {"figures": figures, "seconds": time.perf_counter() - started, "failure": failure}


def ended(command: list[str], seconds: float, folder: Path) -> str:
    """How `command`, run in `folder`, failed; empty if it did not. Nothing of it goes on."""
    own = {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "TMPDIR": str(folder)}
    process = subprocess.Popen(command, cwd=folder, env=os.environ | own, start_new_session=True)
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        return f"stopped after {seconds:.0f} s"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # and what it has started
            process.wait()
    return f"exit code {code}" if code else ""


def verdicts(result: dict[str, dict[str, Any]]) -> str:
    return "\n".join(
        f"{name:14}{found['seconds']:6.0f} s  {found['failure'] or 'passed'}"
        for name, found in result.items()
    )


if __name__ == "__main__":
    main()
