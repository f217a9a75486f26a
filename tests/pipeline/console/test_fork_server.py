"""A stage that the fork server forks is what `python -m` starts."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from pipeline.common import guard
from pipeline.console import fork_server as module
from pipeline.console.fork_server import fork_server
from tests.support.processes import catches, ended, wait_until

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux alone")

PACKAGE = "decimal"
"""Imported by the server, and by nothing else here."""
PROBE = """
import json, os, sys, threading
print(json.dumps({
    "name": __name__, "file": __file__, "argv": sys.argv, "path": sys.path, "cwd": os.getcwd(),
    "environment": dict(os.environ), "imported": "decimal" in sys.modules,
    "input": sys.stdin.read(), "threads": threading.active_count(),
}))
print("to the other stream", file=sys.stderr)
"""
PATIENT = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
read, write = os.pipe()
worker = os.fork()
if worker:
    os.read(read, 1)
    print(os.getpid(), worker, flush=True)
else:
    os.write(write, b"1")  # it has begun
while True:
    time.sleep(0.01)
"""
ONE = ["--num_processes", "1"]
SECONDS = 20.0
"""After which a test fails in place of waiting longer."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where stages are run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "probe.py").write_text(PROBE)
    (tmp_path / "patient.py").write_text(PATIENT)
    return tmp_path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Its socket; it has imported what it has to."""
    monkeypatch.setattr(module, "DEVICES", Path("/nowhere"))
    with TemporaryDirectory() as short:
        path = Path(short) / "socket"
        with fork_server(path, os.environ | {"PYTHONPATH": ""}, [PACKAGE]) as forking:
            assert forking
            run(str(path), "this")  # the first may come before the import
            yield str(path)


def command(server: str, *words: str) -> list[str]:
    return [sys.executable, "-IS", guard.FORKED, server, *words]


def run(server: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return finished(command(server, *words), environment)


def finished(words: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        env=os.environ | environment,
        input="what is read",
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@contextmanager
def started(server: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """What stands for `patient`, which is at work; its processes."""
    with subprocess.Popen(command(server, "patient"), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = list(map(int, process.stdout.readline().split()))
        try:
            wait_until(lambda: catches(process.pid, signal.SIGCONT))  # the last that it passes on
            yield process, pids
        finally:
            for pid in (process.pid, *pids):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def test_it_has_the_surroundings_of_whoever_asks(server: str, folder: Path) -> None:
    words = ("probe", "--model", "a b", "é")
    surroundings = {"SOME": "thing", "PYTHONPATH": ""}
    forked = run(server, *words, **surroundings)
    native = finished([sys.executable, "-m", *words], surroundings)
    found, expected = json.loads(forked.stdout), json.loads(native.stdout)
    assert (found.pop("imported"), expected.pop("imported")) == (True, False)
    assert found == expected
    assert found["argv"] == [str(folder / "probe.py"), "--model", "a b", "é"]
    assert found["environment"]["SOME"] == "thing"
    assert forked.stderr == native.stderr == "to the other stream\n"
    assert forked.returncode == native.returncode == 0


@pytest.mark.parametrize(
    ("code", "status", "told"),
    [
        ("raise SystemExit", 0, ""),
        ("raise SystemExit(7)", 7, ""),
        ("raise SystemExit('error: a.csv, row 3')", 1, "error: a.csv, row 3\n"),
        ("import atexit; atexit.register(print, 'at the end', flush=True)", 0, ""),
        ("import threading; threading.Timer(0.1, print, ('late',)).start()", 0, ""),
        ("import os; os.kill(os.getpid(), 15)", -15, ""),
        ("import os; os.kill(os.getpid(), 9)", -9, ""),
    ],
)
def test_it_ends_as_python_does(
    server: str, folder: Path, code: str, status: int, told: str
) -> None:
    (folder / "ending.py").write_text(code)
    forked, native = run(server, "ending"), finished([sys.executable, "-m", "ending"], {})
    assert (forked.returncode, forked.stderr) == (native.returncode, native.stderr)
    assert (forked.returncode, forked.stderr, forked.stdout) == (status, told, native.stdout)


def test_a_fault_shows_its_traceback(server: str, folder: Path) -> None:
    (folder / "faulty.py").write_text("def divide():\n    1 / 0\n\ndivide()\n")
    result = run(server, "faulty")
    assert result.returncode == 1
    assert "line 2, in divide" in result.stderr
    assert result.stderr.endswith("ZeroDivisionError: division by zero\n")
    assert "No module named no_such" in run(server, "no_such").stderr


def test_it_runs_the_code_of_the_moment(server: str, folder: Path) -> None:
    for number in range(2):
        (folder / "changing.py").write_text(f"from part import x\nprint({number}, x)")
        (folder / "part.py").write_text(f"x = {number + 10}")
        for name in ("changing.py", "part.py"):
            os.utime(folder / name, (number, number))  # or its compiled form would be taken
        assert run(server, "changing").stdout == f"{number} {number + 10}\n"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_reach_it(server: str, number: signal.Signals, status: int) -> None:
    with started(server) as (process, (stage, worker)):
        process.send_signal(number)
        assert process.wait(SECONDS) == status
        assert ended(stage)
        if number == signal.SIGINT:  # which a terminal sends to all
            wait_until(lambda: ended(worker))


def test_a_signal_to_all_of_them_leaves_the_stage_its_end(server: str) -> None:
    """As a scheduler sends it to whatever it has started."""
    with started(server) as (process, (stage, _)):
        for pid in (psutil.Process(stage).ppid(), process.pid, stage):
            os.kill(pid, signal.SIGTERM)
        assert process.wait(SECONDS) == 143


def test_it_is_killed_with_whoever_asked(server: str) -> None:
    with started(server) as (process, pids):
        process.kill()
        wait_until(lambda: all(map(ended, pids)))
    assert run(server, "probe").returncode == 0  # others go on


def test_it_pauses_with_whoever_asked(server: str) -> None:
    with started(server) as (process, pids):

        def stopped() -> set[bool]:
            return {
                psutil.Process(pid).status() == psutil.STATUS_STOPPED
                for pid in (process.pid, *pids)
            }

        process.send_signal(signal.SIGTSTP)
        wait_until(lambda: stopped() == {True})
        process.send_signal(signal.SIGCONT)
        wait_until(lambda: stopped() == {False})


def test_where_nobody_forks_it_is_started_as_ever(folder: Path) -> None:
    found = json.loads(run(str(folder / "none"), "probe", "word").stdout)
    assert not found["imported"]
    assert found["argv"] == [str(folder / "probe.py"), "word"]


def test_the_server_ends_with_its_block_and_stages_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEVICES", Path("/nowhere"))
    with TemporaryDirectory() as short, ExitStack() as beside:
        path = Path(short) / "socket"
        with fork_server(path, os.environ, [PACKAGE]):
            (server,) = of_the_server()
            process, (stage, _) = beside.enter_context(started(str(path)))
        assert ended(server)
        assert not ended(stage)
        assert not json.loads(run(str(path), "probe").stdout)["imported"]
        process.terminate()
        assert process.wait(SECONDS) == 143


def of_the_server() -> list[int]:
    """Of these tests; another may be there for the session."""
    lines = [(each.pid, each.cmdline()) for each in psutil.Process().children()]
    return [pid for pid, line in lines if module.__file__ in line and line[-1] == PACKAGE]


def test_the_server_ends_with_a_process_that_is_killed(folder: Path) -> None:
    (folder / "killed.py").write_text(
        "import os, time\nfrom pathlib import Path\nfrom pipeline.console import fork_server\n"
        "fork_server.DEVICES = Path('/nowhere')\n"
        "with fork_server.fork_server(Path('socket'), os.environ, []):\n"
        "    print(flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "killed.py"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    (server,) = psutil.Process(process.pid).children()
    process.kill()
    process.wait()
    wait_until(lambda: ended(server.pid))


@pytest.mark.parametrize("gpu", ["nvidia0", "dxg", "kfd"])
def test_where_there_is_a_gpu_there_is_none(
    folder: Path, gpu: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DEVICES", folder)
    (folder / gpu).touch()
    with fork_server(folder / "s", os.environ, [PACKAGE]) as forking:
        assert (forking, of_the_server()) == (False, [])


def test_where_no_socket_can_be_there_is_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DEVICES", Path("/nowhere"))
    for path in (folder / "s" / "in no folder", folder / ("é" * 100)):
        with fork_server(path, os.environ, [PACKAGE]) as forking:
            assert (forking, of_the_server()) == (False, [])


@pytest.mark.parametrize("words", [["python"], ["--launch", *ONE], [*guard.LAUNCHER, *ONE]])
def test_a_module_is_run_by_the_fork_server(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = guard.command_of([*words, "-m", "embed.text", "--model", "main"])
    assert guard.forked(command) == command
    monkeypatch.setenv(guard.FORK_SERVER, "socket")
    client = [sys.executable, "-IS", guard.FORKED, "socket"]
    assert guard.forked(command) == [*client, "embed.text", "--model", "main"]


def test_a_launcher_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(guard.FORK_SERVER, "socket")
    several = ["--num_processes", "2", "-m", "x"]
    for words in (
        ["accelerate-launch", "-m", "x"],
        [*guard.LAUNCHER, *several],
        ["--launch", *several],
    ):
        command = guard.command_of(words)
        assert guard.forked(command) == command
    monkeypatch.setenv(guard.FORK_SERVER, "")
    assert guard.forked(["python", "-m", "x"]) == ["python", "-m", "x"]
