"""The processes of one launch: which of them this is, what it runs on, and what they agree on."""

import os
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, parse_flag_from_env

from pipeline.schema import InputError
from pipeline.scratch import under_dvc

LONGEST_WAIT = timedelta(days=7)
"""Of a process for the others; the default of minutes would end a run whose shares differ."""

T = TypeVar("T")


def open_processes(section: str, launch: str) -> PartialState:
    """This process among all of the launch. Raises InputError if some of them did not start."""
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"), timeout=LONGEST_WAIT)
    use_all_cores()
    refuse_lost_processes(section, state.num_processes, launch)
    return state


def refuse_lost_processes(section: str, started: int, launch: str) -> None:
    """Inside `dvc repro`, refuse a launch of fewer processes: accelerate drops them silently."""
    asked = re.findall(r"--num[_-]processes[= ]+(\d+)", launch)
    if not under_dvc() or not asked or int(asked[-1]) == started:
        return
    raise InputError(
        f"params.yaml: {section}.launch asks for {asked[-1]} processes, "
        f"accelerate started {started}; several GPUs need --multi_gpu as well"
    )


def gpu_or_cpu(state: PartialState) -> torch.device:
    """This process's own GPU; the CPU where there is none that CUDA knows."""
    return state.device if state.device.type == "cuda" else torch.device("cpu")


def arithmetic(device: torch.device) -> dict[str, Any]:
    """What else rounding depends on: the kind of GPU; instruction set and threads of a CPU."""
    if device.type == "cuda":
        return {"device": torch.cuda.get_device_name(device)}
    instructions = torch.backends.cpu.get_cpu_capability()
    return {"device": "cpu", "instructions": instructions, "threads": torch.get_num_threads()}


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


def told_by_main(state: PartialState, answer: Callable[[], T]) -> T:
    """The main process's answer, in every process; where it raises InputError, all of them do.

    Else the others would wait for it until the launcher ends them.
    """
    told: list[Any] = [None, None]
    if state.is_main_process:
        try:
            told = [answer(), None]
        except InputError as error:
            told = [None, str(error)]
    broadcast_object_list(told)
    if told[1] is not None:
        raise InputError(told[1])
    return told[0]


def refuse_separate_storage(made: Path) -> None:
    """Where one process lacks what the main one has made all stop, or some would wait for it."""
    if not all(gathered(made.exists())):
        raise InputError(
            f"{made}, which the main process has made, is not there for every process: "
            "on several machines the repository must lie on storage that all of them share"
        )


def gathered(value: T) -> list[T]:
    """Each process's value, by rank; returns when the last of them has come this far."""
    return list(gather_object([value]))
