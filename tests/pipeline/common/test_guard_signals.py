"""What ends the guard of a stage reaches the stage, which is waited for."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.common import guard

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """#!{python}
import sys
from accelerate.commands.launch import main
del sys.argv[1:{words}]
main()
"""
"""Accelerate's own, but for the models that other commands of `accelerate` import."""
PATIENT = """
import signal, sys, time
def stop(number, frame):
    print(number, flush=True)
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def started(*command: str) -> subprocess.Popen[str]:
    """The guard in a process group of its own, when its command is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", guard.__name__, *command],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)  # the guard may still be about to listen
    return process


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


def test_a_scheduler_that_knows_the_first_process_reaches_the_stage() -> None:
    process = started(sys.executable, "-c", PATIENT)
    process.terminate()
    assert ended(process) == (143, "15\n")


@pytest.mark.parametrize("launcher", [["accelerate", "launch"], ["accelerate-launch"]])
def test_it_reaches_the_stage_through_the_launcher(tmp_path: Path, launcher: list[str]) -> None:
    """Which would end at once, and leave the stage behind."""
    (tmp_path / "patient.py").write_text(PATIENT)
    program = tmp_path / launcher[0]
    program.write_text(PROGRAM.format(python=sys.executable, words=len(launcher)))
    program.chmod(0o755)
    flags = ["--quiet", "--config_file", str(ROOT / "pipeline/accelerate.yaml")]
    process = started(str(program), *launcher[1:], *flags, "patient.py")
    process.terminate()
    assert ended(process) == (1, "15\n")


def test_ctrl_c_reaches_the_stage_once_and_is_waited_for() -> None:
    process = started(sys.executable, "-c", PATIENT)
    os.killpg(process.pid, signal.SIGINT)
    assert ended(process) == (130, "2\n")
