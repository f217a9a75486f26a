"""`make submission`: run the pipeline, on another source or other settings if asked, and report.

What is asked for becomes the settings (`pipeline/console/choose.py`).
"""

import argparse
import fcntl
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pipeline.common import paths, scratch
from pipeline.common.files import InputError, read_json
from pipeline.common.paths import PARAMS
from pipeline.common.stage import SECONDS, shown
from pipeline.console.choose import SOURCES, take_settings

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
            started = time.time()
            status = dvc("repro")
            if status == 0:
                report(started)
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


def dvc(*arguments: str) -> int:
    """Run DVC in this environment; its exit code."""
    return subprocess.run([sys.executable, "-m", "dvc", *arguments], check=False).returncode


def report(started: float) -> None:
    """What valid says of both tasks, seconds of the stages that ran since, where the files lie."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(scores())
    console.print(seconds(started))
    console.print(f"Report: {paths.REPORT}")
    console.print(f"Task 1: {paths.ITEM_INFO}")
    console.print(f"Task 2: {paths.SUBMISSION}")


def scores() -> Table:
    ranked, judged = (read_json(paths.valid_metrics_path("all")), read_json(paths.TASK1_METRICS))
    cold = read_json(paths.valid_metrics_path("cold_items"))["auc"]
    table = plain_table("on valid", "AUC", "gAUC", "logloss", "AUC of cold items")
    for name, found, of_cold in (
        ("Task 2", ranked, cold),
        ("Task 1, by DIN", judged, judged["auc_cold_items"]),
    ):
        figures = (found["auc"], found["gauc"], found["logloss"], of_cold)
        table.add_row(name, *map(shown, figures))
    if "oracle_auc" in ranked:
        table.add_row("the best possible", shown(ranked["oracle_auc"]))
    return table


def seconds(started: float) -> Table:
    """Of each stage that ended since `started` (a time), in the order they ran."""
    files = scratch.SCRATCH.glob(f"*/{SECONDS}")
    ended = sorted((path.stat().st_mtime, path) for path in files)
    ran = [path for time, path in ended if time >= started]
    table = plain_table("stage", "seconds")
    for path in ran:
        table.add_row(path.parent.name, path.read_text(encoding="utf-8").strip())
    if not ran:
        table.add_row("all up to date", "")
    return table


def plain_table(*columns: str) -> Table:
    """Names on the left, figures on the right."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    return table


if __name__ == "__main__":
    main()
