"""The machine a stage runs on: its precision, cores and memory."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from pipeline.launch import let_params_decide, tell_device, use_all_cores
from pipeline.params import CtrPrecision
from pipeline.schema import InputError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""From glibc's malloc.h."""


def open_accelerator(section: str, mixed_precision: CtrPrecision) -> Accelerator:
    """Raises InputError for a precision that the machine lacks, which would run in fp32 in silence.

    `tf32` is fp32 whose matrix products round their inputs to 10 bits.
    """
    let_params_decide()
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
    tell_device(section, accelerator.device, mixed_precision, accelerator.num_processes)
    return accelerator


@contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """Enter before CUDA starts. InputError for an operation that may give other bytes next time."""
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        raise InputError(
            f"params.yaml: train.deterministic is true, but {error}; set it to false"
        ) from error
    finally:
        torch.use_deterministic_algorithms(False)


def prepare_cpu() -> None:
    """Use all cores, and keep freed memory for the next step."""
    use_all_cores()
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Tell glibc to keep what is freed: it hands every large tensor back to the system.

    The system then clears each page again before the next step gets it, which took a third of the
    time of a training step on a CPU. Without effect where malloc is another.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
