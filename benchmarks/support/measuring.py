"""Clocks, a GPU's memory, and what the machine could do at best."""

import time

import torch


class Stopwatch:
    """Seconds by phase; a phase ends when the device has done its work."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self.last = self.now()

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def lap(self, phase: str) -> None:
        """Count the time since the last lap as `phase`."""
        now = self.now()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self.last
        self.last = now

    def total(self) -> float:
        return sum(self.seconds.values())


def device_memory(device: torch.device) -> int:
    """Bytes of tensors on a GPU at the peak; 0 on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def matmul_rate(
    device: torch.device, dtype: torch.dtype, rows: int = 8192, repeats: int = 3
) -> float:
    """FLOP/s of the matrix product that QIN spends its time on, the best of `repeats`.

    (rows, 1024) times (1024, 4096): a layer of the published QNN.
    """
    left = torch.randn(rows, 1024, device=device).to(dtype)
    right = torch.randn(4096, 1024, device=device).to(dtype)
    out = torch.empty(rows, 4096, device=device, dtype=dtype)
    torch.mm(left, right.T, out=out)
    watch = Stopwatch(device)
    best = float("inf")
    for _ in range(repeats):
        started = watch.now()
        torch.mm(left, right.T, out=out)
        best = min(best, watch.now() - started)
    return 2 * rows * 1024 * 4096 / best
