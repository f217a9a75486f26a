"""What a machine is, and what it copies and multiplies in a second.

Of its GPU, or of its CPU where it has none.

    python -m benchmarks.gpu.machine --json machine.json
"""

import argparse
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.support.measuring import Stopwatch, matmul_rate
from pipeline.common.files import write_json

PACKAGES = ("torch", "triton", "transformers", "timm", "open_clip_torch", "accelerate", "numpy")
PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
COPIED = 1 << 30
"""Bytes."""


def main() -> None:
    parser = argparse.ArgumentParser(description="What a machine is and reaches.")
    parser.add_argument("--small", action="store_true", help="by little data")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    found = machine(options.small)
    print("\n".join(f"{name:20}{value}" for name, value in found.items()))
    if options.json is not None:
        write_json(options.json, found)


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


if __name__ == "__main__":
    main()
