"""What a user at a terminal sees: a command's lines and bars, and the bars of this process."""

import io
import os
import pty
import subprocess
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tqdm import tqdm

SIZE = (40, 120)
"""Lines and columns."""


def on_terminal(command: Sequence[str], folder: Path, environment: dict[str, str]) -> str:
    """All that the command, which must succeed, writes to a terminal; each step of a bar too."""
    master, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, SIZE)
    every_step = {"TQDM_MININTERVAL": "0"}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | every_step | environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    written = b"".join(pieces(master))
    os.close(master)
    assert process.wait() == 0, written.decode()
    return written.decode()


def pieces(master: int) -> Iterator[bytes]:
    with suppress(OSError):  # by which Linux tells that nobody writes any more
        while piece := os.read(master, 1 << 16):
            yield piece


def lines(written: str) -> list[str]:
    """As they stand there in the end: what follows a carriage return is over what was before."""
    found = []
    for line in written.split("\n"):
        shown = ""
        for piece in line.split("\r"):
            shown = piece + shown[len(piece) :]
        found.append(shown.rstrip())
    return found


@contextmanager
def bars() -> Iterator[list[Any]]:
    """Those that this process would show in the block on a terminal, as tqdm's objects."""
    found: list[Any] = []
    start = tqdm.__init__

    def shown(self: Any, *arguments: Any, **options: Any) -> None:
        hidden = options["disable"] is not None
        start(self, *arguments, **options | {"disable": hidden, "file": io.StringIO()})
        if not hidden:
            found.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tqdm, "__init__", shown)
        yield found
