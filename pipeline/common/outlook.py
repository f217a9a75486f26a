"""What a stage tells at its start, on what it computes and how long that will take; and what it has
of the machine."""

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
from threadpoolctl import threadpool_info

WARM_UP = 3
"""Batches whose pace says nothing: memory is taken, kernels are chosen or compiled."""
BATCHES, SECONDS = 5, 2.0
"""That are watched at least; the seconds not beyond half of the whole."""
A_WHILE = 60.0
"""Seconds below which nobody needs to be told."""

CONTROL_GROUPS = "/sys/fs/cgroup"
"""Where Linux tells what containers and jobs may take (its second version)."""

log = logging.getLogger(__name__)


class Watch:
    """Tells once, by the pace of the first batches, how long all of it takes."""

    def __init__(
        self,
        total: float,
        tell: Callable[[float], None],
        shortest: float = 0.0,
        warm_up: int = WARM_UP,
        watched: int = BATCHES,
    ) -> None:
        """`tell` gets the seconds that `total` takes, unless they are below `shortest`."""
        self.warm_up, self.least = warm_up, warm_up + watched
        self.total, self.tell, self.shortest = total, tell, shortest
        self.batches, self.done, self.told = 0, 0.0, False
        self.started_at, self.done_then = time.perf_counter(), 0.0

    def after_batch(self, amount: float = 1.0) -> None:
        """`amount` of `total` is done."""
        self.batches += 1
        self.done += amount
        if self.batches == self.warm_up:
            self.started_at, self.done_then = time.perf_counter(), self.done
        elif not self.told and self.batches >= self.least:
            self._tell_if_sure(time.perf_counter() - self.started_at, self.done - self.done_then)

    def _tell_if_sure(self, seconds: float, done: float) -> None:
        if done > 0 and (seconds >= SECONDS or self.done >= self.total / 2):
            self.told = True
            expected = seconds / done * self.total
            if expected >= self.shortest:
                self.tell(expected)


def tell_cores(stage: str, precision: str, gpus: int = 0) -> None:
    """One line for a stage that computes with numpy, or faiss on the first of `gpus`."""
    threads = max((pool["num_threads"] for pool in threadpool_info()), default=1)
    log.info("%s: on %s, %s", stage, "a GPU" if gpus else cpu(threads), precision)


def available_memory() -> int:
    """Bytes that this process may still take, of the machine's and of its control groups'."""
    free = [psutil.virtual_memory().available]
    with suppress(OSError):
        own = Path("/proc/self/cgroup").read_text(encoding="utf-8").rpartition("::/")[2].strip()
        groups = Path(CONTROL_GROUPS, own)
        for group in (groups, *groups.parents):
            with suppress(OSError, ValueError):  # no limit has the name "max"
                limit, used = (
                    int((group / f"memory.{name}").read_text()) for name in ("max", "current")
                )
                free.append(limit - used)
    return max(0, min(free))


def available_cores() -> int:
    """Cores this process may run on; on a system that does not tell (macOS), all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu(threads: int, instructions: str = "", processes: int = 1) -> str:
    """In words."""
    each = f"{processes} processes of " if processes > 1 else ""
    words = f"{threads} thread{'' if threads == 1 else 's'}{' each' if each else ''}"
    return f"{each}{words} of a CPU{f' ({instructions})' if instructions else ''}"


def duration(seconds: float) -> str:
    """To two units: 45 s, 3 min 20 s, 2 h 5 min."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
