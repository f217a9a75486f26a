"""All that a GPU runs of the pipeline, on a machine that nobody knows, in eight minutes at most.

    machine     what it is, and what it copies and multiplies in a second
    agreement   every model and precision beside the CPU in float64; the data path; equal bytes;
                whether a step waits for the host
    training    QIN beside the published path; stage `train` at the challenge's size
    extraction  covers and titles beside the bare forward pass

Needs no network and no faiss-gpu. Each part is a process of its own: one that fails or takes too
long is told, and the others go on. Without a GPU, or with --small, all runs on little data.

    python -m benchmarks.gpu --json gpu.json
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.support.measuring import Stopwatch, matmul_rate
from pipeline.common.files import read_json, write_json

ROOT = Path(__file__).parents[1]
SECONDS = 480
"""Of all parts together."""
PACKAGES = ("torch", "triton", "transformers", "timm", "open_clip_torch", "accelerate", "numpy")
PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
COPIED = 1 << 30
"""Bytes."""


@dataclass(frozen=True)
class Part:
    command: tuple[str, ...]
    small: tuple[str, ...]
    """Likewise, on little data."""
    seconds: int
    """At most."""


PARTS = {
    "agreement": Part(
        ("support.agreement", "--compile"), ("support.agreement", "--items=500", "--batch=32"), 150
    ),
    "training": Part(
        ("bench_train", "--epochs=2"),
        ("bench_train", "--quick", "--items=500", "--rows=200", "--batch-size=64", "--epochs=2"),
        240,
    ),
    "extraction": Part(
        ("bench_embed", "--quick"),
        ("bench_embed", "--covers=6", "--titles=20", "--batch-size=3", "--rounds=1"),
        150,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="All that a GPU runs of the pipeline.")
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=[*PARTS])
    parser.add_argument("--small", action="store_true", help="on little data, as without a GPU")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    if not torch.cuda.is_available() and not options.small:
        print("no GPU is found: all runs on little data, and no figure says anything of speed")
    small, started = options.small or not torch.cuda.is_available(), time.perf_counter()
    result: dict[str, Any] = {"machine": machine(small)}
    print("\n".join(f"{name:20}{value}" for name, value in result["machine"].items()), flush=True)
    for name in options.parts:
        print(f"\n{name}", flush=True)
        left = SECONDS - (time.perf_counter() - started)
        result[name] = run(PARTS[name], small, left)
        if options.json is not None:
            write_json(options.json, result)
    print(f"\n{verdicts(result)}")
    sys.exit(any(result[name]["failure"] for name in options.parts))


def machine(small: bool) -> dict[str, Any]:
    """Its rates are those that no code exceeds: copied bytes, and FLOP/s of QIN's products."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found: dict[str, Any] = {"device": "CPU", "cores": os.cpu_count()}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {"device": properties.name, "memory_gb": round(properties.total_memory / 1e9)}
        found |= {"capability": f"{properties.major}.{properties.minor}"}
        found |= {"cuda": torch.version.cuda}
    found |= {"python": platform.python_version()}
    found |= {name: installed(name) for name in PACKAGES}
    rows, copied = (64, COPIED >> 6) if small else (8192, COPIED)
    for name, dtype in PRECISIONS.items():
        if name != "tf32" or device.type == "cuda":
            torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
            found[f"{name}_tflop_per_s"] = round(matmul_rate(device, dtype, rows, 10) / 1e12, 3)
    torch.set_float32_matmul_precision("highest")
    found["copied_gb_per_s"] = round(copy_rate(device, copied) / 1e9, 1)
    return found


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def copy_rate(device: torch.device, size: int, repeats: int = 10) -> float:
    """Bytes a second, those read and those written, of a copy within the device; the best."""
    source = torch.randint(256, (size,), dtype=torch.uint8, device=device)
    copy, watch, best = torch.empty_like(source), Stopwatch(device), float("inf")
    for _ in range(repeats):
        started = watch.now()
        copy.copy_(source)
        best = min(best, watch.now() - started)
    return 2 * size / best


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
    """How `command`, run in `folder`, failed; empty if it did not."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True)
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)  # and what it has started
        process.wait()
        return f"stopped after {seconds:.0f} s"
    return f"exit code {code}" if code else ""


def verdicts(result: dict[str, Any]) -> str:
    return "\n".join(
        f"{name:14}{found['seconds']:6.0f} s  {found['failure'] or 'passed'}"
        for name, found in result.items()
        if name != "machine"
    )


if __name__ == "__main__":
    main()
