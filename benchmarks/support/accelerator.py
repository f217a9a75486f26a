"""A new accelerator, whatever this process has opened before."""

from typing import Any

from accelerate import Accelerator
from accelerate.state import AcceleratorState

from ctr.engine.machine import open_accelerator


def opened(section: str, mixed_precision: Any) -> Accelerator:
    """As in a process of its own; `section` is where messages look for the precision."""
    AcceleratorState._reset_state(reset_partial_state=True)
    return open_accelerator(section, mixed_precision)
