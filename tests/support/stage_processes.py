"""Stages as `python -m` runs them, each in a process of its own that may be killed.

A process that has imported what the stages import, and done nothing else, forks for every run: a
run then starts in milliseconds. As a script this module is that process.
"""

import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

REPOSITORY = Path(__file__).parents[2]
TIMEOUT = 120
"""Seconds of a run."""
ENVIRONMENT = {
    "PYTHONPATH": str(REPOSITORY),
    "OMP_NUM_THREADS": "1",
    "ACCELERATE_USE_CPU": "true",
    "CUDA_VISIBLE_DEVICES": "",
}


def to_cores(count: int) -> None:
    """With as many cores as processes each has one thread: fast for tiny models, and the same."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


@dataclass(frozen=True)
class Run:
    stage: str
    pid: int
    log: Path


class StageProcesses:
    """Starts runs in the working directory of the caller, each in a process group of its own."""

    def __init__(self, *modules: str, **environment: str) -> None:
        """`modules` are what the stages import; `environment` is there from the start."""
        self.forker = subprocess.Popen(
            [sys.executable, __file__, *modules],
            env=os.environ | ENVIRONMENT | environment,
            preexec_fn=lambda: to_cores(1),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "StageProcesses":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self.forker.stdin is not None
        self.forker.stdin.close()
        self.forker.wait(timeout=60)

    def start(self, stage: str, **environment: str) -> Run:
        """`stage` is a module, and its arguments."""
        log = Path.cwd() / f"{stage.split()[0]}-{os.urandom(4).hex()}.log"
        pid = self._ask(["start", stage, str(Path.cwd()), str(log), environment])
        return Run(stage, pid, log)

    def start_together(self, stage: str, count: int) -> list[Run]:
        """So many processes that share the work, with the environment a launcher gives them."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        shared["LOCAL_WORLD_SIZE"] = str(count)
        ranks = ({"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count))
        return [self.start(stage, **shared, **rank) for rank in ranks]

    def wait(self, run: Run) -> int:
        """The exit code, or minus the signal that ended it."""
        return self._ask(["wait", str(run.pid)])

    def finish(self, stage: str) -> str:
        """Run to the end, which must be a good one; what it logged."""
        return self.finished(self.start(stage))

    def finished(self, run: Run) -> str:
        """What a run logged, which must end well."""
        status = self.wait(run)
        assert status == 0, run.log.read_text()
        return run.log.read_text()

    def _ask(self, words: list[Any]) -> int:
        assert self.forker.stdin is not None
        assert self.forker.stdout is not None
        print(json.dumps(words), file=self.forker.stdin, flush=True)
        return int(self.forker.stdout.readline())


def serve() -> None:
    for module in (*sys.argv[1:], "pipeline.settings.params", "pipeline.common.stage"):
        import_module(module)
    gc.freeze()  # a run need not look at what is imported, nor copy it
    for line in sys.stdin:
        match json.loads(line):
            case ["start", stage, folder, log, environment]:
                pid = os.fork()
                if pid == 0:
                    os.environ |= environment
                    become(stage, folder, log)
                print(pid, flush=True)
            case ["wait", pid]:
                print(end_of(int(pid)), flush=True)


def end_of(pid: int) -> int:
    """The exit code of a child that ends in time, or is killed."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.001)


def become(stage: str, folder: str, log: str) -> None:
    """`python -m stage`, which may have arguments, in `folder`, its output in the file `log`."""
    os.setsid()
    os.chdir(folder)
    with Path(log).open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.close(0)
    module, *_ = sys.argv = stage.split()
    code = 1
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else code
        print(end.code)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
