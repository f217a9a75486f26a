"""Stages by their own commands on made-up data, and the memory that they take. Linux only (/proc).

Anonymous memory is what a stage must have; resident memory also counts pages of files that it has
mapped or loaded (libraries, arrays), which the system may take back.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil
from ruamel.yaml import YAML

from benchmarks.support.memory import memory
from pipeline.common.files import Outputs
from pipeline.common.paths import PARAMS
from pipeline.settings.params import Params, load_params

ROOT = Path(__file__).parents[2]
INTERVAL = 0.02
"""Seconds between two looks at a stage's memory, unless a look is slow."""
LOOKING = 0.1
"""Share of the time that the looks may take."""


@dataclass(frozen=True)
class Peak:
    """Bytes at most, of all processes of the stage together."""

    anonymous: int = 0
    """Pages that forked processes share are counted once."""
    resident: int = 0
    """They are counted for each here, as are those of files."""
    seconds: float = 0.0
    cpu: float = 0.0
    """Seconds of all processors together, which tell more where other work shares them."""


def module(name: str) -> tuple[str, ...]:
    return (sys.executable, "-m", name)


def write_params(settings: Mapping[str, Any]) -> None:
    """The repository's, with other `settings` by section, in the working directory."""
    content = load_params(ROOT / PARAMS).model_dump()
    for section, changes in settings.items():
        content[section] |= changes
    with Outputs() as outputs, outputs.path(PARAMS).open("w", encoding="utf-8") as file:
        YAML().dump(Params.model_validate(content).model_dump(), file)


def watched(command: list[str], output: IO[str] | None = None, *, on_cpu: bool = True) -> Peak:
    """Run `command` here, which must succeed, and look at its memory until it ends.

    What it prints goes to `output`, or nowhere; unless `on_cpu`, it may compute on a GPU.
    """
    return watched_by_phase(command, lambda: "", output, on_cpu=on_cpu)[""]


def watched_by_phase(
    command: list[str],
    phase: Callable[[], str],
    output: IO[str] | None = None,
    *,
    on_cpu: bool = True,
) -> dict[str, Peak]:
    """Likewise for each name that `phase` gives meanwhile."""
    found: dict[str, Peak] = {}
    last = Peak(seconds=time.perf_counter())
    process = subprocess.Popen(
        command, env=environment(on_cpu), stdout=output or subprocess.DEVNULL, stderr=output
    )
    while process.poll() is None:
        name, now = phase(), look(process.pid)
        before = found.get(name, Peak())
        found[name] = Peak(
            max(before.anonymous, now.anonymous),
            max(before.resident, now.resident),
            before.seconds + now.seconds - last.seconds,
            before.cpu + max(0.0, now.cpu - last.cpu),
        )
        last = now
        time.sleep(max(INTERVAL, (time.perf_counter() - now.seconds) / LOOKING))
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return found


def look(process: int) -> Peak:
    """What a process and those that it has started take, and have taken, by now."""
    now, family = time.perf_counter(), list(processes(process))
    field = "RssAnon" if len(family) == 1 else "Pss_Anon"
    anonymous, resident = (
        sum(field_of(name, each) for each in family) for name in (field, "VmRSS")
    )
    return Peak(anonymous, resident, now, sum(map(cpu_seconds, family)))


def run_quietly(command: list[str]) -> None:
    subprocess.run(command, env=environment(), check=True, stdout=subprocess.DEVNULL)


def environment(on_cpu: bool = True) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # of `accelerate`
    own = {"PYTHONPATH": str(ROOT), "PATH": path}
    own |= {"ACCELERATE_USE_CPU": "true"} if on_cpu else {}
    return os.environ | own


def processes(root: int) -> Iterator[int]:
    """`root` and what it has started, and what that has."""
    yield root
    children = ""
    with suppress(OSError):  # it has ended meanwhile
        for thread in Path(f"/proc/{root}/task").iterdir():
            children += (thread / "children").read_text(encoding="ascii")
    for child in children.split():
        yield from processes(int(child))


def field_of(name: str, process: int) -> int:
    """Bytes; 0 for a process that has ended."""
    with suppress(OSError):
        return memory(name, process)
    return 0


def cpu_seconds(process: int) -> float:
    """Of a process, and of those that it has started and that have ended; 0 once it has, too."""
    with suppress(psutil.Error):
        return sum(psutil.Process(process).cpu_times()[:4])
    return 0.0
