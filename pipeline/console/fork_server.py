"""A process that has imported what the stages import, and forks for each of them.

Starting Python and importing torch, transformers and others again for every stage takes longer than
many a stage of a small source. `pipeline/common/guard.py` has a stage forked where `fork_server`
says where to ask. As a script this module is that process: it imports packages alone, nothing of
this project, so a stage runs the code, settings and environment of the moment it begins, in a
process of its own. What a library reads of the environment when it is imported is as it was when
the server started.
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
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NoReturn

PACKAGES = (
    *("pydantic", "ruamel.yaml", "numpy", "pyarrow.parquet", "PIL.Image", "pyarrow.dataset"),
    *("torch", "accelerate", "torch._dynamo", "torchvision", "transformers", "timm", "open_clip"),
    *("safetensors.torch", "torch.utils.data", "scipy.sparse.linalg", "scipy.stats", "faiss"),
    *("pandas", "lightgbm", "matplotlib.pyplot", "sklearn.manifold", "rich"),
)
"""In the order in which the stages want them; one that is not there is one they miss themselves."""
DEVICES = Path("/dev")
GPUS = ("nvidia[0-9]*", "dxg", "kfd")
"""Of NVIDIA, in Windows' subsystem for Linux, of AMD."""
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What ends a stage, and whoever asked for it, but not who tells of its end."""
NOT_FLUSHED = 120
"""Python's own exit code where the last of the output is lost."""
AT_ONCE = 0.0
MOMENT, INSTANT = 1.0, 0.005
"""Seconds between two looks: after stages that have ended; after one that is at work."""


@contextmanager
def fork_server(
    path: Path, environment: Mapping[str, str], packages: Sequence[str] = PACKAGES
) -> Iterator[bool]:
    """Within the block stages may be asked for at the socket `path`; `environment` is theirs.

    Yields whether that is so. The server ends with this process, however that does; a stage that is
    at work then goes on.
    """
    with socket.socket(socket.AF_UNIX) as listening:
        if not (can_fork() and bound(listening, path)):
            yield False
            return
        listening.listen(64)
        process = subprocess.Popen(
            [sys.executable, __file__, str(listening.fileno()), *packages],
            env=environment,
            stdin=subprocess.PIPE,
            pass_fds=[listening.fileno()],
            start_new_session=True,  # Ctrl-C is for the stages
        )
    with process:
        try:
            yield True
        finally:
            process.kill()


def can_fork() -> bool:
    """Not where there is a GPU, which an import may begin to use: no process can after a fork."""
    gpus = (device for pattern in GPUS for device in DEVICES.glob(pattern))
    return sys.platform == "linux" and not any(gpus)


def bound(listening: socket.socket, path: Path) -> bool:
    """Not to too long a name, or on a file system without sockets."""
    try:
        listening.bind(str(path))
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Request:
    words: list[str]
    """A module, and its arguments."""
    folder: str
    environment: dict[str, str]
    streams: list[int]
    """Descriptors of input, output and errors."""


def serve(listening: socket.socket, packages: Sequence[str]) -> Request | None:
    """Import and fork until the input ends: None. In a forked process what it is to become."""
    asked, _, _ = select.select([listening, sys.stdin], [], [])
    for package in packages if listening in asked else ():  # else all was cached
        if request := answer(listening, AT_ONCE):
            return request
        with suppress(Exception):  # it fails again in the stage that needs it, which tells
            import_module(package)
    gc.collect()
    gc.freeze()  # stages need not look at what is imported, nor copy it
    while not select.select([sys.stdin], [], [], AT_ONCE)[0]:
        if request := answer(listening, MOMENT):
            return request
    return None


def answer(listening: socket.socket, seconds: float) -> Request | None:
    """Fork for whoever asks within so many seconds."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    ready, _, _ = select.select([listening, sys.stdin], [], [], seconds)
    if listening not in ready:
        return None
    connection, _ = listening.accept()
    size, streams, _, _ = socket.recv_fds(connection, 8, 3)
    if len(streams) == 3 and os.fork() == 0:
        listening.close()
        with connection.makefile("rb") as file:
            told = file.read(int.from_bytes(size, "big"))
        if len(told) < int.from_bytes(size, "big"):
            os._exit(1)  # whoever asked was killed
        words, folder, environment = json.loads(told)
        return look_after(connection, Request(words, folder, environment, streams))
    connection.close()
    for stream in streams:
        os.close(stream)
    return None


def look_after(connection: socket.socket, request: Request) -> Request:
    """Fork once more and tell how that one ends. It is killed if nobody waits for it any more."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    pid = os.fork()
    if pid == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        os.setpgid(0, 0)  # so that its own processes end with it
        connection.close()
        return request
    with suppress(PermissionError):
        os.setpgid(pid, pid)  # whoever of the two comes first
    for stream in (*request.streams, 0, 1, 2):
        os.close(stream)  # others wait for their end
    with suppress(OSError):
        connection.sendall(f"{pid}\n".encode())
    while True:
        gone, _, _ = select.select([connection], [], [], INSTANT)
        if gone:
            os.killpg(pid, signal.SIGKILL)
            os._exit(1)
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            with suppress(OSError):
                connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
            os._exit(0)


def become(request: Request) -> NoReturn:
    """`python -m`, there and with these words."""
    for number, stream in enumerate(request.streams):
        os.dup2(stream, number)
        os.close(stream)
    for name in [name for name in os.environ if name not in request.environment]:
        del os.environ[name]
    for name, value in request.environment.items():
        os.environ[name] = value
    os.chdir(request.folder)
    sys.path.insert(0, request.folder)
    sys.argv = list(request.words)
    with suppress(OSError):
        Path("/proc/self/comm").write_text(request.words[0], encoding="utf-8")  # for ps and top
    for text in (sys.stdout, sys.stderr):
        text.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # of files
    end(exit_code(request.words[0]))


def exit_code(module: str) -> int:
    """After it has run, as Python would tell it."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as exit:
        if isinstance(exit.code, int | None):
            return exit.code or 0
        print(exit.code, file=sys.stderr)
        return 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def end(status: int) -> NoReturn:
    """As Python ends, but for taking apart the thousands of modules: half a second of a stage."""
    for step in (threading._shutdown, atexit._run_exitfuncs):  # type: ignore[attr-defined]
        with suppress(BaseException):
            step()
    for text in (sys.stdout, sys.stderr):
        try:
            text.flush()
        except OSError:
            status = status or NOT_FLUSHED
    os._exit(status)


if __name__ == "__main__":
    del sys.path[0]  # the folder of this file
    # Threads of OpenBLAS, which Python 3.12 warns of, are looked after by OpenBLAS at a fork.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    if asked := serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:]):
        become(asked)
