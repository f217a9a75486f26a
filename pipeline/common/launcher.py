"""How this process was started, and what the user set before: the launcher sets more."""

import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline.common.files import InputError

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""By which a user limits torch's threads."""

FIRST_SPEAKS = 20.0
"""Seconds that the other processes of a refused launch wait to be ended with the first."""


@dataclass(frozen=True)
class Launcher:
    """The parent process, where it is `accelerate launch` or `torchrun`."""

    words: list[str]
    """Its command line."""
    environment: Mapping[str, str]
    """In which it was started."""

    @property
    def is_accelerate(self) -> bool:
        return is_accelerate(self.words)

    def flag(self, name: str) -> str | None:
        """The value of `--name VALUE` or `--name=VALUE`, the last one counts; None without it."""
        found = None
        for word, following in zip(self.words, [*self.words[1:], ""], strict=True):
            given, equals, value = word.partition("=")
            if given.replace("-", "_") == f"__{name}":
                found = value if equals else following
        return found


def launcher() -> Launcher | None:
    """None for a process that was started directly, and where the system does not tell."""
    with suppress(psutil.Error, OSError):
        parent = psutil.Process().parent()
        words = parent.cmdline() if parent else []
        if parent and (is_accelerate(words) or is_torchrun(words)):
            return Launcher(words, parent.environ())
    return None


def is_accelerate(words: list[str]) -> bool:
    """Also `python -m accelerate.commands.launch`."""
    return any(Path(word).name.split(".")[0].split("-")[0] == "accelerate" for word in words[:3])


def is_torchrun(words: list[str]) -> bool:
    names = ("torchrun", "torch.distributed.run", "torch.distributed.launch")
    return any(Path(word).name in names for word in words[:3])


def threads_are_the_users(started_by: Launcher | None) -> bool:
    """Whether the user has limited the threads, and not the launcher, which does by itself."""
    if started_by is None:
        return any(os.environ.get(name) for name in THREADS)
    typed = started_by.flag("num_cpu_threads_per_process") is not None
    return typed or any(started_by.environment.get(name) for name in THREADS)


def processes_asked_for(started_by: Launcher | None) -> int:
    """By the launcher's environment or command line; 2 for several whose number nothing tells."""
    if "LOCAL_RANK" in os.environ:
        return int(os.environ.get("WORLD_SIZE") or 1)
    if started_by is None or not started_by.is_accelerate:
        return 1
    if (typed := started_by.flag("num_processes") or "").isdecimal():
        return int(typed)
    # A configuration file asked for them: the launcher sets this for several only.
    several = "MASTER_PORT" in os.environ and "MASTER_PORT" not in started_by.environment
    return 2 if several else 1


def age() -> float:
    """Seconds since this process started.

    psutil goes by the moment at which the system started, which is rough: on Linux by up to a
    second, where a process knows its own start to a hundredth.
    """
    with suppress(OSError, AttributeError):
        told = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        started = int(told[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    return time.time() - psutil.Process().create_time()


def is_first_process() -> bool:
    """Of all that a launch has started, on whatever machines; one that none has started is."""
    return os.environ.get("RANK", "0") == "0"


def refuse_several_processes() -> None:
    """For a stage that runs in one process: several would each do all of the work."""
    count = int(os.environ.get("WORLD_SIZE") or 1) if "LOCAL_RANK" in os.environ else 1
    if count > 1:
        file = Path(sys.argv[0])
        refuse_in_one_voice(
            f"{count} processes were started of a stage that runs in one; "
            f"type python -m {file.parent.name}.{file.stem}"
        )


def refuse_in_one_voice(message: str) -> None:
    """Raise InputError, in the first process of a launch at once: the launcher ends the others."""
    if os.environ.get("LOCAL_RANK", "0") != "0":
        time.sleep(FIRST_SPEAKS)
    raise InputError(message)
