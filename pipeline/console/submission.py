"""`make submission`: run the pipeline, on another source or other settings if asked, and report.

What is asked for becomes the settings (`pipeline/console/choose.py`).
"""

import argparse
import fcntl
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.common.files import InputError
from pipeline.common.guard import FORK_SERVER, environment
from pipeline.common.paths import PARAMS
from pipeline.console.choose import SOURCES, take_settings
from pipeline.console.fork_server import fork_server
from pipeline.console.results import measured_before, report
from pipeline.settings.params import load_params

LOCK = Path(f".{PARAMS}.lock")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", default="", help=SOURCES)
    parser.add_argument("--params", default="", help=f"a file of settings, to become {PARAMS}")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        with alone():
            take_settings(arguments.source, arguments.params)
            started, before = time.time(), measured_before()
            status = repro()
            if status == 0:
                report(started, before, load_params().data.source)
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("stopped: `make submission` goes on from what is finished", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    sys.exit(1 if status else 0)


@contextmanager
def alone() -> Iterator[None]:
    """Refuse a second run beside this one: it would change the settings under it."""
    with LOCK.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another `make submission` is running here ({LOCK}); wait for it"
            ) from None
        yield


def repro() -> int:
    """`dvc repro`, whose stages do not import all anew (`fork_server.py`); its exit code."""
    if FORK_SERVER in os.environ:
        return dvc("repro")
    with TemporaryDirectory(prefix="mmctr-") as folder:
        path = Path(folder) / "socket"
        with fork_server(path, environment()) as forking:
            return dvc("repro", **({FORK_SERVER: str(path)} if forking else {}))


def dvc(*arguments: str, **variables: str) -> int:
    """Run DVC in this environment, with these variables; its exit code.

    Ctrl-C reaches DVC as well, and its stage, which may save what it has: they are waited for.
    """
    command, interrupted = [sys.executable, "-m", "dvc", *arguments], False
    with subprocess.Popen(command, env=os.environ | variables) as process:
        while process.returncode is None:
            try:
                process.wait()
            except KeyboardInterrupt:
                interrupted = True
    if interrupted and process.returncode:
        raise KeyboardInterrupt
    return process.returncode


if __name__ == "__main__":
    main()
