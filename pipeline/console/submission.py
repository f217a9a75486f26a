"""`make submission`: run the pipeline, on another source or other settings if asked, and report.

What is asked for becomes the settings (`pipeline/console/choose.py`).
"""

import argparse
import fcntl
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pipeline.common import paths, scratch
from pipeline.common.files import InputError, read_json
from pipeline.common.guard import FORK_SERVER, environment
from pipeline.common.paths import PARAMS
from pipeline.common.stage import SECONDS, shown
from pipeline.console.choose import SOURCES, take_settings
from pipeline.console.fork_server import fork_server
from pipeline.settings.params import load_params

LOCK = Path(f".{PARAMS}.lock")
CACHED = "cached"
"""In place of its seconds, of a stage that did not run."""
NEXT = {
    "sample": "`make submission SOURCE=<folder>`: the same on your own data (docs/data.md)",
    "microlens_1m": (
        f"upload {paths.SUBMISSION} as it is: https://www.codabench.org/competitions/5372/"
    ),
}
"""By `data.source`, what one would do with such a run."""
COMPARE = "`git commit --all`: `dvc metrics diff` then compares other runs with this one"
"""With a run on a folder."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", default="", help=SOURCES)
    parser.add_argument("--params", default="", help=f"a file of settings, to become {PARAMS}")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        with alone():
            take_settings(arguments.source, arguments.params)
            started, before = time.time(), measured()
            status = repro()
            if status == 0:
                report(started, before)
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
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
    """Run DVC in this environment, with these variables; its exit code."""
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, env=os.environ | variables, check=False).returncode


class Measured(NamedTuple):
    """What valid says of the predictions."""

    valid: str
    """A digest of its rows."""
    whole: dict[str, Any]
    cold: dict[str, Any]
    """Of the items that train does not have."""


def measured() -> Measured | None:
    """By the run whose metrics lie there; None where there are none, or damaged ones."""
    with suppress(OSError, ValueError):
        digest = scratch.file_sha256(paths.split_path("valid"))
        whole, cold = (read_json(paths.valid_metrics_path(x)) for x in ("all", "cold_items"))
        return Measured(digest, whole, cold)
    return None


def report(started: float, before: Measured | None) -> None:
    """What valid says of both tasks, the seconds of each stage, where the files lie, what next."""
    console = Console(highlight=False, soft_wrap=True)
    if found := measured():
        console.print(scores(found, before))
        if found.cold["rows"]:
            rows = f"{found.cold['rows']:,} of {found.whole['rows']:,} rows"
            console.print(f"Cold items, which train does not have, are in {rows}.\n")
    console.print(seconds(started))
    console.print(f"Report: {paths.REPORT}")
    console.print(f"Task 1: {paths.ITEM_INFO}")
    console.print(f"Task 2: {paths.SUBMISSION}")
    console.print("\nNext:")
    for step in next_steps(load_params().data.source):
        console.print(f"- {step}")


def scores(found: Measured, before: Measured | None) -> Table:
    """With the figures of the run `before`, if it was of the same rows and others."""
    judged = read_json(paths.TASK1_METRICS)
    table = plain_table("on valid", "AUC", "gAUC", "logloss", "AUC of cold items")
    table.add_row("Task 2", *ranked(found))
    table.add_row("  ± over users", *ranked(found, "_se"))
    if before and before.valid == found.valid and ranked(before) != ranked(found):
        table.add_row("  before this run", *ranked(before))
    figures = (judged["auc"], judged["gauc"], judged["logloss"], judged["auc_cold_items"])
    table.add_row("Task 1, by DIN", *map(shown, figures))
    if "oracle_auc" in found.whole:
        table.add_row("the best possible", shown(found.whole["oracle_auc"]))
    return table


def ranked(found: Measured, kind: str = "") -> list[str]:
    """The metrics, or of `kind` "_se" their standard errors."""
    figures = [found.whole.get(f"{name}{kind}") for name in ("auc", "gauc", "logloss")]
    return [shown(figure) for figure in (*figures, found.cold.get(f"auc{kind}"))]


def seconds(started: float) -> Table:
    """Of each stage that ended since `started` (a time); the outputs of the others were there, or
    came from DVC's cache."""
    table = plain_table("stage", "seconds")
    for stage in stages():
        path = scratch.SCRATCH / stage / SECONDS
        ran = path.is_file() and path.stat().st_mtime >= started
        table.add_row(stage, path.read_text(encoding="utf-8").strip() if ran else CACHED)
    return table


def stages() -> list[str]:
    """All of dvc.yaml, whose order is the graph's."""
    from dvc.repo import Repo  # takes a second to import, which a fault in params need not wait for

    with Repo() as repo:
        return [stage.addressing for stage in repo.index.stages if stage.cmd]


def next_steps(source: str) -> tuple[str, str, str]:
    """Three things that one would do after a run on `source`."""
    return (
        f"open {paths.REPORT}: scores, curves, a map of the items, their neighbours",
        NEXT.get(source, COMPARE),
        f"change a setting in {PARAMS}, and `make submission` reruns what depends on it alone",
    )


def plain_table(*columns: str) -> Table:
    """Names on the left, figures on the right."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    return table


if __name__ == "__main__":
    main()
