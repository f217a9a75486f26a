"""The machine a stage runs on: its processes, precision, cores and memory."""

import ctypes
import os

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from pipeline.params import CtrPrecision
from pipeline.schema import InputError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""From glibc's malloc.h."""


def open_accelerator(section: str, mixed_precision: CtrPrecision) -> Accelerator:
    """Raises InputError for a precision that the machine lacks, which would run in fp32 in silence.

    `tf32` is fp32 whose matrix products round their inputs to 10 bits.
    """
    accelerator = Accelerator(
        mixed_precision="no" if mixed_precision == "tf32" else mixed_precision,
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
    )
    if mixed_precision in ("fp16", "tf32") and accelerator.device.type == "cpu":
        raise InputError(
            f"params.yaml: {section}.mixed_precision is {mixed_precision}, which needs a GPU; "
            "set it to bf16 or no"
        )
    torch.set_float32_matmul_precision("high" if mixed_precision == "tf32" else "highest")
    return accelerator


def prepare_cpu() -> None:
    """Use all cores, and keep freed memory for the next step."""
    use_all_cores()
    keep_freed_memory()


def use_all_cores() -> None:
    """Undo the launcher's limit of one thread a process on a CPU, unless the user set another."""
    if os.environ.get("OMP_NUM_THREADS", "1") not in ("", "1"):
        return
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(max(1, available_cores() // processes))


def available_cores() -> int:
    """Cores this process may run on; on a system that does not tell (macOS), all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Tell glibc to keep what is freed: it hands every large tensor back to the system.

    The system then clears each page again before the next step gets it, which took a third of the
    time of a training step on a CPU. Without effect where malloc is another.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
