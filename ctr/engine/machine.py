"""The machine a stage runs on: its processes, precision, cores and memory."""

import ctypes
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, set_seed

from pipeline.common.files import InputError
from pipeline.common.launch import (
    let_params_decide,
    refuse_lost_processes,
    tell_device,
    use_all_cores,
)
from pipeline.common.section import CtrPrecision
from pipeline.settings.ctr.training import Training

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""From glibc's malloc.h."""


@contextmanager
def training_machine(
    stage: str, section: str, settings: Training, *, deterministic: bool = False
) -> Iterator[Accelerator]:
    """What trains, ready for the seed's first draw: precision, processes, batches are as asked for.

    `section` is where messages look for the settings. Raises InputError before any work for what
    this machine or this launch cannot do.
    """
    with machine(section, settings.mixed_precision, deterministic=deterministic) as accelerator:
        refuse_lost_processes(stage, accelerator.num_processes, settings.launch)
        refuse_uneven_batches(section, settings.batch_size, accelerator.num_processes)
        set_seed(settings.seed)
        yield accelerator
        accelerator.end_training()


@contextmanager
def machine(
    section: str, mixed_precision: CtrPrecision, *, deterministic: bool = False
) -> Iterator[Accelerator]:
    """What computes: all cores or the GPU, in the precision that the settings ask for."""
    prepare_cpu()
    with deterministic_algorithms(deterministic):
        yield open_accelerator(section, mixed_precision)


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


def seed_dropout(seed: int, accelerator: Accelerator) -> None:
    """Give each process's GPU dropout masks of its own; a CPU's are drawn for all processes."""
    if accelerator.device.type == "cuda":
        torch.cuda.manual_seed(seed + accelerator.process_index)


def refuse_uneven_batches(section: str, batch_size: int, processes: int) -> None:
    """Every process has an equal part of a batch, and batch norm needs two rows."""
    if batch_size % processes or batch_size < 2 * processes:
        raise InputError(
            f"params.yaml: {section}.batch_size is {batch_size} for {processes} processes; "
            f"make it a multiple of {processes}, at least {2 * processes}"
        )


def prepare_cpu() -> None:
    """Use all cores, and keep freed memory for the next step."""
    use_all_cores()
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Tell glibc to keep what is freed: it hands every large tensor back to the system.

    The system then clears each page again before the next step gets it, which took a third of the
    time of a training step on a CPU. Without effect where malloc is another. `FREED_MEMORY` bounds
    what is kept.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


class FreedMemory:
    """What glibc keeps for the next batch, bounded by what a batch was seen to need.

    Batches differ in how many history items they have, so a tensor seldom fits into the hole that
    the last one left, and small ones that live on take places in it: without a bound the holes grew
    to 17 GB in `judge`.
    """

    GROWTH = 1.5

    def __init__(self) -> None:
        self.needed = math.inf
        """Bytes, the fewest held after a batch since the last were given back."""

    def bound(self) -> None:
        """Call after a batch: give free pages back if much more is held than there need be."""
        held = held_memory()
        self.needed = min(self.needed, held)
        if held > self.GROWTH * self.needed:
            give_back_freed_memory()
            self.needed = math.inf


FREED_MEMORY = FreedMemory()
"""Of this process."""


def held_memory() -> int:
    """Bytes of this process that are no file's pages; 0 on a system that does not tell (macOS)."""
    try:
        pages = Path("/proc/self/statm").read_bytes().split()
    except OSError:
        return 0
    return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE")


def give_back_freed_memory() -> None:
    """All free pages of glibc's to the system; without effect where malloc is another."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
