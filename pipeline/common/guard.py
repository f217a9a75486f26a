"""Starts a stage's command, and where that fails brings the stage's earlier outputs back.

`python -m pipeline.common.guard <command>`, in dvc.yaml, or `--launch <flags> -m <module>` for what
may run in several processes. DVC deletes a stage's outputs before it runs the command, so whatever
fails then, an import or the launcher too, would cost the user the earlier result. Imports nothing
but the standard library until something has failed.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

LAUNCHER = ["accelerate-launch", "--quiet", "--config_file", "pipeline/accelerate.yaml"]
"""`accelerate launch`, which would import the models of other commands first."""
LAUNCHERS = ("accelerate", "accelerate-launch")
ONE_PROCESS = ["--num_processes", "1", "-m"]
FORK_SERVER = "MMCTR_FORK_SERVER"
"""In the environment: the socket of a process that forks, so that a stage need not import all anew;
`make submission` sets it (`pipeline/console/fork_server.py`), unless it is set."""
FORKED = str(Path(__file__).parents[1] / "console/forked.py")
"""What stands for such a stage; no stage depends on it."""

NOT_FOUND = 127
"""The exit code of a shell that does not find a command."""

FOREIGN = ("ACCELERATE_", "DEEPSPEED_", "FSDP_", "MEGATRON_LM_", "PARALLELISM_CONFIG_")
"""Prefixes of what tells Accelerate how to compute, from the environment."""
GROUP = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What a launcher tells its processes of each other."""
WAITING = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "3000"}
"""How threads of OpenMP wait for the next piece of work, unless the user has said: for a moment,
and then asleep. By itself libgomp spins, which takes the cores from any other work, and makes the
stage itself several times as slow beside it (`benchmarks/bench_busy.py`)."""
OF_THE_MACHINE = ("ACCELERATE_USE_CPU", "ACCELERATE_TORCH_DEVICE", "ACCELERATE_CPU_AFFINITY")
"""What tells it on what."""


def main(command: Sequence[str]) -> int:
    """Run `command`; its exit code, 128 and the number of the signal that ended it."""
    status = exit_code(command)
    if status:
        with suppress(Exception):  # or it would hide what went wrong
            bring_back_outputs(os.environ.get("DVC_STAGE", ""))
    return status


def exit_code(words: Sequence[str]) -> int:
    command = forked(command_of(words))
    try:
        child = subprocess.Popen(command, env=environment())
    except OSError as error:
        print(
            f"error: {command[0]} cannot be started: {error.strerror}; is the environment active "
            "(source .venv/bin/activate)?",
            file=sys.stderr,
        )
        return NOT_FOUND
    pass_signals_on(child)
    status = child.wait()
    return status if status >= 0 else 128 - status


def command_of(words: Sequence[str]) -> list[str]:
    """What `words` start. One process is launched by itself: the launcher would only wait for it,
    and takes longer to start than many a stage."""
    return by_itself(list(words[1:])) if words[:1] == ["--launch"] else list(words)


def by_itself(launched: list[str]) -> list[str]:
    """What the launcher is told to launch, where that is one process; else the launcher."""
    if launched[: len(ONE_PROCESS)] == ONE_PROCESS:
        return ["python", "-m", *launched[len(ONE_PROCESS) :]]
    return [*LAUNCHER, *launched]


def forked(command: list[str]) -> list[str]:
    """The same by the fork server, where there is one and it is one process of a module."""
    server = os.environ.get(FORK_SERVER)
    if server and command[: len(LAUNCHER)] == LAUNCHER:
        command = by_itself(command[len(LAUNCHER) :])
    if server and command[:2] == ["python", "-m"]:
        return [sys.executable, "-IS", FORKED, server, *command[2:]]
    return command


def environment() -> dict[str, str]:
    """The user's, less what would tell Accelerate how to compute, since params.yaml does that, and
    with how threads wait, where it says nothing of it."""
    own_way = any(name in os.environ for name in WAITING)
    libgomp = sys.platform == "linux"  # elsewhere torch brings another OpenMP
    result = os.environ | (WAITING if libgomp and not own_way else {})
    told = [name for name in result if name.startswith(FOREIGN) or name in GROUP]
    for name in set(told) - set(OF_THE_MACHINE):
        del result[name]
    return result


def pass_signals_on(child: subprocess.Popen[bytes]) -> None:
    """A SIGTERM reaches what does the work; Ctrl-C does so by itself, and is waited for here."""

    def terminate(number: int, _frame: FrameType | None) -> None:
        for pid in workers(child.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGINT, lambda *_: None)  # not ignored, or the child would inherit that


def workers(child: int) -> list[int]:
    """The processes of Accelerate's launcher, which would leave them behind; else the child."""
    with suppress(Exception):
        import psutil

        process = psutil.Process(child)
        if any(Path(word).name in LAUNCHERS for word in process.cmdline()[:2]):
            return [each.pid for each in process.children()] or [child]
    return [child]


def bring_back_outputs(stage: str) -> None:
    """Put those outputs of the stage's last good run that are missing back from DVC's cache."""
    missing = [out for out in recorded_outputs(stage) if not is_made(Path(out["path"]))]
    if not missing:
        return
    from dvc.repo import Repo  # takes a second to import, which only a failing stage pays

    cache = Path(Repo().cache.local.path)
    for out in missing:
        with suppress(OSError):  # one that cannot be brought back does not cost the others
            bring_back(Path(out["path"]), out["md5"], cache)


def recorded_outputs(stage: str) -> list[dict[str, Any]]:
    """As dvc.lock has them; none outside DVC, where `stage` is empty."""
    if not stage:
        return []
    from ruamel.yaml import YAML

    recorded = YAML(typ="safe").load(Path("dvc.lock"))["stages"].get(stage, {})
    return [out for out in recorded.get("outs", []) if "md5" in out]


def bring_back(path: Path, md5: str, cache: Path) -> None:
    """The file, or folder, whole or not at all. What has appeared there meanwhile stays."""
    with appearing(path) as partial:
        if not md5.endswith(".dir"):
            shutil.copyfile(cached(md5, cache), partial)
            return
        partial.mkdir()
        for entry in json.loads(cached(md5, cache).read_text(encoding="utf-8")):
            file = partial / entry["relpath"]
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(cached(entry["md5"], cache), file)


def cached(md5: str, cache: Path) -> Path:
    return cache / md5[:2] / md5[2:]


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which becomes it when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    remove(partial)
    try:
        yield partial
        if not is_made(path):
            remove(path)
            partial.rename(path)
    finally:
        remove(partial)


def is_made(path: Path) -> bool:
    """Whether a file is there, or a folder with a file that is not half-written."""
    files = path.rglob("*") if path.is_dir() else [path]
    return any(file.is_file() and not file.name.endswith(".partial") for file in files)


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
