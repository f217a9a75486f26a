"""Training in processes of its own, ended from outside, goes on and ends with the same bytes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.common import paths
from tests.support.stage_processes import ENVIRONMENT, to_cores
from tests.support.worlds.tiny_world import contents, tiny_params, write_params

pytestmark = pytest.mark.usefixtures("cpu", "world")

OUTPUTS = [paths.MAIN.weights, paths.MAIN.config, paths.MAIN.curve, paths.MAIN.metrics]
ALONE = ["-m", "ctr.train"]
TOGETHER = [
    *("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"),
    *("-m", "ctr.train"),
]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    """In a process group of its own, a core a process: two threads on a busy core wait long."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=os.environ | ENVIRONMENT,
        preexec_fn=lambda: to_cores(2 if arguments is TOGETHER else 1),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(arguments: list[str]) -> tuple[str, dict[Path, bytes]]:
    process = start(arguments)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    return output, contents(OUTPUTS)


def newest() -> str:
    """The epoch of the last checkpoint, "" for none."""
    found = (path.name for path in Path("scratch/train@main").glob("*/seed-*/epoch-*"))
    return max(found, default="").split("-batch-")[0]


def interrupted(arguments: list[str], end: Callable[[int], None]) -> tuple[int, str]:
    """Exit code and output of a run that `end` ends two epochs after it began."""
    before = newest()
    process = start(arguments)
    deadline = time.monotonic() + 100
    seen = {before}
    while len(seen) < 3:
        assert time.monotonic() < deadline, process.communicate()[0]
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.001)
        seen.add(newest())
    end(process.pid)
    output, _ = process.communicate(timeout=60)
    assert not [path for path in OUTPUTS if path.exists()], output
    return process.returncode, output


def kill(pid: int) -> None:
    os.killpg(pid, signal.SIGKILL)


def interrupt(pid: int) -> None:
    """As a terminal does at Ctrl-C."""
    os.killpg(pid, signal.SIGINT)


def terminate(pid: int) -> None:
    """As a scheduler does, which knows the first process alone."""
    os.kill(pid, signal.SIGTERM)


@pytest.mark.parametrize(
    ("arguments", "ends"),
    [(ALONE, [kill, interrupt, kill]), (TOGETHER, [terminate])],
    ids=["one-process", "two-processes"],
)
def test_a_run_that_is_ended_goes_on(
    arguments: list[str], ends: list[Callable[[int], None]]
) -> None:
    write_params(tiny_params(epochs=16, patience=16, checkpoint_minutes=0))
    _, undisturbed = finish(arguments)
    for path in OUTPUTS:
        path.unlink()
    for end in ends:
        status, output = interrupted(arguments, end)
        if end is kill:
            assert status == -signal.SIGKILL
        else:
            assert status != 0
            assert output.count("stopped: the state is saved in scratch/train@main") == 1
            assert "Traceback" not in output or arguments is TOGETHER  # the launcher's own
    output, found = finish(arguments)
    assert "\ngoing on from scratch/train@main" in output
    assert found == undisturbed
