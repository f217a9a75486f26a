"""What has become of other processes."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil

SECONDS = 20.0
"""For what takes a moment."""


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether it has a handler of its own for a signal; on Linux."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ended(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
