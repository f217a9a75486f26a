"""A folder with a `python` whose stages fork from a process that has imported what they import.

Stages of a small source compute for less time than they import. Whoever is first in PATH with this
`python` gets from `python -m <stage>` what he gets from any other: the files that he is in, his
environment, arguments, streams and exit code, and it hears of SIGTERM and SIGINT and ends with
him. It is not one of his children, though, and what libraries read of the environment when they
are imported has been read. Every other command goes to the real Python, as does all when no process
is there to fork. As a script this module is that process, which knows nothing of the project.
"""

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

IMPORTED = (
    *("accelerate", "faiss", "lightgbm", "matplotlib.pyplot", "open_clip", "pandas", "rich"),
    *("pyarrow.parquet", "pydantic", "safetensors.torch", "scipy.sparse.linalg", "scipy.stats"),
    *("sklearn.manifold", "timm", "torch._dynamo"),
    *("torch.utils.data", "torchvision", "transformers"),
)
"""By stages; a package that is not there is one that a stage will miss by itself."""
STARTS_WITHIN = 120
"""Seconds."""
PROGRAM = """#!/bin/sh
exec '{python}' -IS '{client}' "$@"
"""
CLIENT = """
import json, os, signal, socket, sys
words = sys.argv[1:]
stage = words[1] if words[:1] == ["-m"] and len(words) > 1 else ""
ours = stage.split(".")[0] in ("ctr", "embed", "gallery", "pipeline", "serving")
server = socket.socket(socket.AF_UNIX)
try:
    if not ours or stage == "pipeline.common.guard":
        raise OSError("not a stage")
    server.connect({path!r})
except OSError:
    os.execv({python!r}, [{python!r}, *words])
numbers = (signal.SIGTERM, signal.SIGINT)
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
request = json.dumps([words[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
server.sendall(request)
told = server.makefile()
pid = int(told.readline())
for number in numbers:
    signal.signal(number, lambda number, _: os.kill(pid, number))
signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
status = int(told.readline())
if status < 0:
    signal.signal(-status, signal.SIG_DFL) if status != -signal.SIGKILL else None
    os.kill(os.getpid(), -status)
os._exit(status)
"""


@contextmanager
def programs(folder: Path) -> Iterator[Path]:
    """The folder to be first in PATH; only one process at a time may enter."""
    path, program = folder / "socket", folder / "bin/python"
    if len(str(path)) > 100:  # no system has sockets of such names
        yield Path(sys.executable).parent
        return
    hold = socket.socket(socket.AF_UNIX)
    process = None
    if not connected(hold, path):
        path.unlink(missing_ok=True)
        process = start(path)
        deadline = time.monotonic() + STARTS_WITHIN
        while not connected(hold, path):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        program.parent.mkdir(exist_ok=True)
        client = folder / "client.py"
        client.write_text(CLIENT.format(python=sys.executable, path=str(path)))
        program.write_text(PROGRAM.format(python=sys.executable, client=client))
        program.chmod(0o755)
    try:
        yield program.parent
    finally:
        hold.close()
        if process:  # which others may still hold
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)


def connected(hold: socket.socket, path: Path) -> bool:
    try:
        hold.connect(str(path))
    except OSError:
        return False
    hold.sendall(bytes(8))
    return True


def start(path: Path) -> subprocess.Popen[bytes]:
    waiting = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "3000"}  # as the guard sets them
    environment = waiting | {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.Popen(
        [sys.executable, __file__, str(path)], env=environment, start_new_session=True
    )


def serve(path: str) -> None:
    """Until nobody holds it any more."""
    del sys.path[0]  # the folder of this file
    for module in IMPORTED:
        with suppress(ImportError):
            import_module(module)
    gc.collect()
    gc.freeze()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen(64)
    holders: list[socket.socket] = []
    deadline = time.monotonic() + STARTS_WITHIN
    while holders or time.monotonic() < deadline:
        ready, _, _ = select.select([listening, *holders], [], [], 1.0)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        for each in ready:
            if each is listening:
                accept(listening, holders)
            else:  # it says nothing more, so it was closed
                holders.remove(each)
                each.close()
                deadline = 0.0


def accept(listening: socket.socket, holders: list[socket.socket]) -> None:
    connection, _ = listening.accept()
    size, streams, _, _ = socket.recv_fds(connection, 8, 3)
    if not streams:
        holders.append(connection)
        return
    if os.fork() == 0:
        for each in (listening, *holders):
            each.close()
        look_after(connection, int.from_bytes(size, "big"), streams)
    connection.close()
    for stream in streams:
        os.close(stream)


def look_after(connection: socket.socket, size: int, streams: list[int]) -> None:
    """Start a stage and tell how it ended; it ends with whoever asked for it."""
    with connection.makefile("rb") as file:
        words, folder, environment = json.loads(file.read(size))
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)  # so that its own processes end with it
        connection.close()
        become(words, folder, environment, streams)
    with suppress(PermissionError):
        os.setpgid(pid, pid)  # whoever of the two comes first
    for stream in streams:
        os.close(stream)
    connection.sendall(f"{pid}\n".encode())
    while True:
        ready, _, _ = select.select([connection], [], [], 0.005)
        if ready:
            os.killpg(pid, signal.SIGKILL)
            os._exit(1)
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            with suppress(OSError):
                connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
            os._exit(0)


def become(words: list[str], folder: str, environment: dict[str, str], streams: list[int]) -> None:
    """`python -m`, with `words`, there."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ |= environment
    os.chdir(folder)
    sys.path[:0] = [folder, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = list(words)
    code: Any = 1
    try:
        for text in (sys.stdout, sys.stderr):
            text.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # of files
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = 0 if end.code is None else end.code
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with suppress(BaseException):
            threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as at any end
            atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
