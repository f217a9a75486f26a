"""How a process was started, as that process finds out: real parents and children."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.common.files import InputError
from pipeline.common.launcher import (
    Launcher,
    age,
    is_accelerate,
    is_torchrun,
    processes_asked_for,
    refuse_several_processes,
    threads_are_the_users,
)

ROOT = Path(__file__).resolve().parents[3]
LAUNCH = """
import os, subprocess, sys
os.environ["OMP_NUM_THREADS"] = "1"
os.environ |= dict(word.split("=") for word in sys.argv[1:] if word.startswith("MASTER_"))
subprocess.run([sys.executable, "told.py"], check=True)
"""
"""As a launcher does it: a limit of threads of its own, and an address for several processes."""
TOLD = """
import json
from pipeline.common.launcher import launcher, processes_asked_for, threads_are_the_users
found = launcher()
told = [found and found.is_accelerate, processes_asked_for(found), threads_are_the_users(found)]
print(json.dumps(told))
"""


def told(folder: Path, *command: str, **environment: str) -> list[object]:
    """What a process finds that `command` has started: launcher, processes, whose threads."""
    (folder / "told.py").write_text(TOLD)
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    output = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=kept | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return list(json.loads(output.stdout))


@pytest.mark.parametrize(
    ("words", "environment", "expected"),
    [
        ("accelerate launch --cpu --num_processes 2 x.py", {}, [True, 2, False]),
        ("accelerate launch --num-processes=3 x.py", {}, [True, 3, False]),
        ("accelerate launch x.py", {}, [True, 1, False]),
        ("accelerate launch x.py", {"OMP_NUM_THREADS": "1"}, [True, 1, True]),
        ("accelerate launch x.py", {"MKL_NUM_THREADS": "1"}, [True, 1, True]),
        ("accelerate launch x.py", {"OMP_NUM_THREADS": ""}, [True, 1, False]),
        ("accelerate launch --num_cpu_threads_per_process 1 x.py", {}, [True, 1, True]),
        ("accelerate launch x.py MASTER_PORT=1", {}, [True, 2, False]),
        ("accelerate launch x.py MASTER_PORT=1", {"MASTER_PORT": "1"}, [True, 1, False]),
        ("torchrun --nproc_per_node 1 x.py", {}, [False, 1, False]),
        ("torchrun x.py", {"OMP_NUM_THREADS": "1"}, [False, 1, True]),
        ("another x.py", {}, [None, 1, True]),  # here OMP_NUM_THREADS is taken for the user's
    ],
)
def test_what_the_user_typed(
    tmp_path: Path, words: str, environment: dict[str, str], expected: list[object]
) -> None:
    program, *arguments = words.split()
    (tmp_path / program).write_text(LAUNCH)
    assert told(tmp_path, program, *arguments, **environment) == expected


def test_a_process_that_was_started_directly(tmp_path: Path) -> None:
    assert told(tmp_path, "told.py") == [None, 1, False]
    assert told(tmp_path, "told.py", OMP_NUM_THREADS="1") == [None, 1, True]


def test_programs_by_their_command_lines() -> None:
    assert is_accelerate(["python", "/venv/bin/accelerate", "launch", "x.py"])
    assert is_accelerate(["python", "/venv/bin/accelerate-launch", "x.py"])
    assert is_accelerate(["python", "-m", "accelerate.commands.launch", "x.py"])
    assert not is_accelerate(["python", "-m", "pytest", "tests/accelerate"])
    assert is_torchrun(["python", "-m", "torch.distributed.run", "x.py"])
    assert is_torchrun(["python", "/venv/bin/torchrun", "x.py"])
    assert not is_torchrun(["python", "x.py", "--with", "torchrun"])


def test_the_last_of_equal_flags_counts() -> None:
    words = ["accelerate", "launch", "--num_processes", "1", "--num_processes=4", "x.py"]
    assert Launcher(words, {}).flag("num_processes") == "4"


def test_the_processes_of_a_group_are_counted_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert processes_asked_for(None) == 1  # a scheduler's, for which nothing was started
    refuse_several_processes()
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert processes_asked_for(None) == 4


def test_only_the_first_process_speaks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("pipeline.common.launcher.time.sleep", waited.append)
    monkeypatch.setenv("WORLD_SIZE", "4")
    for rank, expected in (("0", 0), ("1", 1)):
        monkeypatch.setenv("LOCAL_RANK", rank)
        with pytest.raises(InputError, match="4 processes were started of a stage that runs in on"):
            refuse_several_processes()
        assert len(waited) == expected


def test_the_users_limit_is_found_without_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
        assert not threads_are_the_users(None)
        monkeypatch.setenv(name, "3")
        assert threads_are_the_users(None)


def test_the_age_is_exact() -> None:
    program = "from pipeline.common.launcher import age; import time; time.sleep(0.5); print(age())"
    before = time.monotonic()
    told = float(subprocess.check_output([sys.executable, "-c", program], cwd=ROOT, text=True))
    assert 0.5 <= told <= time.monotonic() - before + 0.02  # the clock of processes is that rough


def test_the_age_where_only_psutil_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = age()
    monkeypatch.delattr("time.CLOCK_BOOTTIME", raising=False)
    assert abs(age() - exact) < 2.0
