"""Training in processes of its own, ended from outside, goes on and ends with the same bytes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.common import paths
from tests.support.stage_processes import ENVIRONMENT, TIMEOUT, StageProcesses, to_cores
from tests.support.worlds.tiny_world import contents, tiny_params, write_params

pytestmark = pytest.mark.usefixtures("cpu", "world")

OUTPUTS = [paths.MAIN.weights, paths.MAIN.config, paths.MAIN.curve, paths.MAIN.metrics]
TOGETHER = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "ctr.train"]


@dataclass(frozen=True)
class Training:
    """A run in a process group of its own, a core a process: two threads on a busy core wait
    long."""

    pid: int
    end: Callable[[], tuple[int, str]]
    """Waits for its exit code and all that it says."""


Start = Callable[[], Training]


@pytest.fixture
def alone(processes: StageProcesses) -> Start:
    def start() -> Training:
        run = processes.start("ctr.train")
        return Training(run.pid, lambda: (processes.wait(run), run.log.read_text()))

    return start


@pytest.fixture
def together(processes: StageProcesses) -> Start:
    """Two processes, with the environment that torch's launcher gives them."""

    def start() -> Training:
        main, other = processes.start_together("ctr.train", 2)

        def end() -> tuple[int, str]:
            return max(map(processes.wait, (main, other)), key=abs), main.log.read_text()

        return Training(main.pid, end)

    return start


@pytest.fixture
def launched() -> Start:
    """Two processes, by torch's launcher."""

    def start() -> Training:
        process = subprocess.Popen(
            [sys.executable, "-m", *TOGETHER],
            env=os.environ | ENVIRONMENT,
            preexec_fn=lambda: to_cores(2),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

        def end() -> tuple[int, str]:
            output, _ = process.communicate(timeout=TIMEOUT)
            return process.returncode, output

        return Training(process.pid, end)

    return start


def finish(start: Start) -> tuple[str, dict[Path, bytes]]:
    status, output = start().end()
    assert status == 0, output
    return output, contents(OUTPUTS)


def newest() -> str:
    """The epoch of the last checkpoint, "" for none."""
    found = (path.name for path in Path("scratch/train@main").glob("*/seed-*/epoch-*"))
    return max(found, default="").split("-batch-")[0]


def interrupted(start: Start, end: Callable[[int], None]) -> tuple[int, str]:
    """Exit code and output of a run that `end` ends two epochs after it began."""
    before = newest()
    training = start()
    deadline = time.monotonic() + 100
    seen = {before}
    while len(seen) < 3:
        assert time.monotonic() < deadline, training.end()
        time.sleep(0.001)
        seen.add(newest())
    end(training.pid)
    status, output = training.end()
    assert not [path for path in OUTPUTS if path.exists()], output
    return status, output


def kill(pid: int) -> None:
    os.killpg(pid, signal.SIGKILL)


def interrupt(pid: int) -> None:
    """As a terminal does at Ctrl-C."""
    os.killpg(pid, signal.SIGINT)


def terminate(pid: int) -> None:
    """As a scheduler does, which knows the first process alone."""
    os.kill(pid, signal.SIGTERM)


def test_a_run_that_is_ended_goes_on(alone: Start) -> None:
    undisturbed = finish_undisturbed(alone)
    for end in (kill, interrupt, kill):
        status, output = interrupted(alone, end)
        if end is kill:
            assert status == -signal.SIGKILL
        else:
            assert status == 128 + signal.SIGINT
            assert output.count(STOPPED) == 1
            assert "Traceback" not in output
    assert_goes_on(alone, undisturbed)


def test_two_processes_that_are_ended_go_on(together: Start, launched: Start) -> None:
    undisturbed = finish_undisturbed(together)
    status, output = interrupted(launched, terminate)
    assert status != 0
    assert output.count(STOPPED) == 1  # beside the launcher's own traceback
    assert_goes_on(together, undisturbed)


STOPPED = "stopped: the state is saved in scratch/train@main"


def finish_undisturbed(start: Start) -> dict[Path, bytes]:
    """The bytes of a run that nothing ends, whose outputs are then deleted."""
    write_params(tiny_params(epochs=16, patience=16, checkpoint_minutes=0))
    _, undisturbed = finish(start)
    for path in OUTPUTS:
        path.unlink()
    return undisturbed


def assert_goes_on(start: Start, undisturbed: dict[Path, bytes]) -> None:
    output, found = finish(start)
    assert "\ngoing on from scratch/train@main" in output
    assert found == undisturbed
