"""`dvc repro` as a process that is watched and killed."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

import psutil

from tests.support.clone import Clone

TIMEOUT = 900
"""Seconds of a `dvc repro`; far more than any takes."""
Target = Literal["session", "stage", "dvc"]
"""What is killed: all processes, the stage's own one, or `dvc` alone."""


class Repro:
    """One `dvc repro`, started; it and what it starts are a process group of their own."""

    def __init__(self, clone: Clone, log: Path) -> None:
        self.log = log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                ["dvc", "repro"],
                cwd=clone.folder,
                env=clone.environment | {"PYTHONUNBUFFERED": "1"},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started = time.monotonic()

    def stages(self) -> list[str]:
        """Those that ran or run, in order."""
        return re.findall(r"^Running stage '([\w@]+)'", self.log.read_text(), re.MULTILINE)

    def ended(self) -> bool:
        return self.process.poll() is not None

    def wait(self) -> int:
        self.wait_until(self.ended)
        return self.process.returncode

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Or until it has ended. One that hangs is killed and fails with its log."""
        while not (condition() or self.ended()):
            if time.monotonic() - self.started > TIMEOUT:
                self.kill("session")
                raise AssertionError(f"hung for {TIMEOUT} s:\n{self.log.read_text()}")
            time.sleep(0.02)  # each look reads the log

    def kill(self, target: Target) -> None:
        """Returns when `dvc` has ended."""
        if target == "session":
            with suppress(ProcessLookupError):  # it has just ended
                os.killpg(self.process.pid, signal.SIGKILL)
        elif target == "dvc":
            self.process.kill()
        elif stage := self.stage_processes():
            with suppress(psutil.NoSuchProcess):
                (next(filter(runs_a_module, stage), None) or stage[-1]).kill()
        self.wait()

    def stage_processes(self) -> list[psutil.Process]:
        """What `dvc` has started, parents before children: shell, launcher, module, workers."""
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def wait_for_orphans(self) -> None:
        """What outlived a killed `dvc` or stage ends by itself."""
        deadline = time.monotonic() + TIMEOUT
        while alive := [each for each in psutil.process_iter() if self.is_one_of_ours(each)]:
            assert time.monotonic() < deadline, f"still there: {alive}\n{self.log.read_text()}"
            time.sleep(0.02)

    def is_one_of_ours(self, process: psutil.Process) -> bool:
        try:
            ours = os.getpgid(process.pid) == self.process.pid
            return ours and process.status() != psutil.STATUS_ZOMBIE
        except (ProcessLookupError, psutil.NoSuchProcess):
            return False


def runs_a_module(process: psutil.Process) -> bool:
    """Whether it is a stage's own process."""
    with suppress(psutil.NoSuchProcess):
        line = " ".join(process.cmdline()[1:])
        return bool(
            re.fullmatch(r"(-m (ctr|embed|pipeline)\.\w+|(ctr|embed)/\w+\.py)( --model \w+)?", line)
        )
    return False
