"""Stands for a stage in a process that the fork server forks (`pipeline/console/fork_server.py`).

`python -IS pipeline/console/forked.py <socket> <module> <arguments>` is to whoever starts it what
`python -m <module> <arguments>` would be: working directory, environment, streams, signals and end
are the stage's, which is killed with this process. Where nobody forks it is started as ever.
"""

import json
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path


def main(path: str, words: list[str]) -> int:
    """The exit code of the stage; a signal that ended it ends this process as well."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # as of SIGTERM: a stage that begins is killed
    try:
        server = ask(path, words)
        told = server.makefile()
        pid = int(told.readline())
    except (OSError, ValueError):  # it is not there, or has ended
        os.execv(sys.executable, [sys.executable, "-m", *words])  # noqa: S606 - no shell
    pass_signals_on(pid)
    wait_for(server)
    status = int(told.readline() or -signal.SIGKILL)
    if status < 0:
        end_by(-status)
    return status


def ask(path: str, words: list[str]) -> socket.socket:
    """Of the fork server behind `path`, to run `words` as this process would."""
    server = socket.socket(socket.AF_UNIX)
    server.connect(path)
    environment = os.environ | {}  # handed on, as to a process that is started
    request = json.dumps([words, str(Path.cwd()), environment]).encode()
    socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(request)
    return server


def pass_signals_on(pid: int) -> None:
    """To the stage, which leads a process group: SIGTERM to it alone, as whoever asked would send
    it, and to all of them what a terminal sends to all. It may just have ended."""

    def to_the_stage(number: int, _frame: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    def to_all(number: int, _frame: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(pid, number)

    def pause(_number: int, frame: object) -> None:
        to_all(signal.SIGSTOP, frame)
        os.kill(os.getpid(), signal.SIGSTOP)

    signal.signal(signal.SIGTERM, to_the_stage)
    signal.signal(signal.SIGINT, to_all)
    signal.signal(signal.SIGTSTP, pause)
    signal.signal(signal.SIGCONT, to_all)


def wait_for(server: socket.socket) -> None:
    """Until it tells something. A signal that comes just before a read would wait with it."""
    woken, waking = os.pipe()
    os.set_blocking(waking, False)
    signal.set_wakeup_fd(waking)
    while server.fileno() not in select.select([server.fileno(), woken], [], [])[0]:
        os.read(woken, 64)


def end_by(number: int) -> None:
    """As the stage did."""
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
