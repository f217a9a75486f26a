"""The processes of one launch: which of them this is, what it runs on, and what they agree on."""

import logging
import os
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, parse_flag_from_env

from pipeline.common.files import InputError
from pipeline.common.launcher import (
    Launcher,
    is_first_process,
    launcher,
    processes_asked_for,
    refuse_in_one_voice,
    threads_are_the_users,
)
from pipeline.common.outlook import available_cores, cpu
from pipeline.common.scratch import under_dvc

NO_CONFIG = "--config_file pipeline/accelerate.yaml"
"""What keeps the launcher from reading the configuration of another project."""
THEIR_CONFIG = "your Accelerate configuration, of another project, says so"
STRATEGIES = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism_config",
}
"""Ways to spread a model over GPUs that no stage knows, by the launcher's variable."""
IN_PARAMS = (
    "ACCELERATE_DYNAMO_",
    "ACCELERATE_MIXED_PRECISION",
    "ACCELERATE_GRADIENT_",
    "ACCELERATE_DOWNCAST_BF16",
    "ACCELERATE_FP8_",
)
"""Prefixes of what the launcher says of matters that params.yaml decides."""
log = logging.getLogger(__name__)

LONGEST_WAIT = timedelta(days=7)
"""Of a process for the others; the default of minutes would end a run whose shares differ."""

T = TypeVar("T")


def open_processes(section: str, launch: str) -> PartialState:
    """This process among all of the launch. Raises InputError if they are not as asked for."""
    let_params_decide()
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"), timeout=LONGEST_WAIT)
    use_all_cores()
    refuse_lost_processes(section, state.num_processes, launch)
    return state


def let_params_decide() -> None:
    """Forget what Accelerate was told of how to compute. InputError for what cannot be forgotten.

    It comes from the user's configuration file, environment, or flags.
    """
    for variable, strategy in STRATEGIES.items():
        if parse_flag_from_env(variable):
            refuse_in_one_voice(
                f"accelerate was told to use {strategy}, which no stage does; "
                + without_strategy(variable, launcher())
            )
    for name in [name for name in os.environ if name.startswith(IN_PARAMS)]:
        del os.environ[name]


def without_strategy(variable: str, started_by: Launcher | None) -> str:
    """What to type instead."""
    flag = "--" + variable.removeprefix("ACCELERATE_").lower()
    if under_dvc():
        return f"take {flag} out of the stage's `launch` in params.yaml"
    if started_by is None or variable in started_by.environment:
        return f"unset {variable}"
    if flag in started_by.words:
        return f"leave {flag} out"
    return f"{THEIR_CONFIG}: type accelerate launch {NO_CONFIG} ..."


def refuse_lost_processes(section: str, started: int, launch: str) -> None:
    """Refuse processes that form no group, and a launch of which only one process started.

    Each of them would do all of the work. `launch` is params.yaml's, which counts inside DVC.
    """
    started_by = launcher()
    asked = processes_asked_for(started_by)
    if under_dvc() and (typed := re.findall(r"--num[_-]processes[= ]+(\d+)", launch)):
        asked = int(typed[-1])
    if asked > started:
        remedy = within_dvc(section, asked) if under_dvc() else together(asked, started_by)
        refuse_in_one_voice(f"{not_together(section, asked, started)}; {remedy}")


def not_together(section: str, asked: int, started: int) -> str:
    """What is wrong."""
    if under_dvc():
        fault = f"{section}.launch asks for {asked} processes, accelerate started {started}"
    elif "LOCAL_RANK" in os.environ:
        fault = f"{asked} processes were started, each of which would do all of the work"
    else:
        fault = "several processes were asked for, and one was started"
    if "LOCAL_RANK" in os.environ:
        return f"{fault}: they form no group, since there is no GPU that torch can use"
    return f"{fault}, as accelerate does with --cpu, and without --multi_gpu"


def within_dvc(section: str, asked: int) -> str:
    flags = f"--num_processes {asked} --multi_gpu"
    return (
        f"in params.yaml set {section}.launch to --num_processes 1, or to {flags} for several "
        "GPUs; with this, several share a CPU's work in ACCELERATE_USE_CPU=true dvc repro"
    )


def together(asked: int, started_by: Launcher | None) -> str:
    """What to type in the place of what was typed, outside DVC."""
    if started_by is None or not started_by.is_accelerate:
        return "put ACCELERATE_USE_CPU=true before torchrun, and they share the work"
    if started_by.flag("num_processes") is None:
        return f"{THEIR_CONFIG}: accelerate launch {NO_CONFIG} ... starts one"
    return (
        "they share the work of a CPU with ACCELERATE_USE_CPU=true accelerate launch "
        f"--num_processes {asked} --multi_gpu ...; --num_processes 1 alone starts one"
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


def tell_device(section: str, device: torch.device, precision: str, processes: int = 1) -> None:
    """In the main process: a line of what computes, and one of a GPU that is there and cannot."""
    if not is_first_process():
        return
    found = arithmetic(device)
    if device.type == "cuda":
        words = found["device"] if processes == 1 else f"{processes} GPUs: {found['device']}"
    else:
        words = cpu(found["threads"], found["instructions"], processes)
    log.info("%s: on %s, %s", section, words, "fp32" if precision == "no" else precision)
    if device.type != "cuda" and (unused := unused_gpu()):
        log.warning(unused)


def unused_gpu() -> str | None:
    """Why a GPU that is there is not used; None where there is none, or the user wants it so."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if hidden or parse_flag_from_env("ACCELERATE_USE_CPU") or not has_nvidia_gpu():
        return None
    if torch.version.cuda is None:
        return "a GPU is there, but the installed torch is built for CPUs alone"
    return (
        f"a GPU is there, but the installed torch, built for CUDA {torch.version.cuda}, cannot use "
        "it; most likely its driver is too old: nvidia-smi names the CUDA version it is good for"
    )


def has_nvidia_gpu() -> bool:
    return any(Path("/dev").glob("nvidia[0-9]*"))


def use_all_cores() -> None:
    """Undo the launcher's limit of one thread a process on a CPU, unless it is the user's own."""
    if threads_are_the_users(launcher()):
        return
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(max(1, available_cores() // processes))


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
