"""What `make submission` prints at its end: what valid says, beside the run before; the seconds of
each stage; where the files lie; what one would do next."""

import math
from contextlib import suppress
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pipeline.common import paths, scratch
from pipeline.common.files import read_json
from pipeline.common.paths import PARAMS
from pipeline.common.stage import SECONDS, shown
from pipeline.tables.auc import auc, auc_gain_error
from pipeline.tables.split import Split

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


class Measured(NamedTuple):
    """What valid says of the predictions that lie there."""

    valid: str
    """A digest of its rows."""
    predictions: bytes
    """Of these rows: the file."""
    whole: dict[str, Any]
    cold: dict[str, Any]
    """Of the items that train does not have."""


def measured_before() -> Measured | None:
    """None where there is nothing, or nothing whole."""
    with suppress(OSError, ValueError):
        return measured()
    return None


def measured() -> Measured:
    digest = scratch.file_sha256(paths.split_path("valid"))
    predictions = paths.predictions_path("valid").read_bytes()
    whole, cold = (read_json(paths.valid_metrics_path(name)) for name in ("all", "cold_items"))
    return Measured(digest, predictions, whole, cold)


def report(started: float, before: Measured | None, source: str) -> None:
    """Of a run on `source` since the time `started`."""
    console = Console(highlight=False, soft_wrap=True)
    found = measured()
    moved = gain(found, before) if before else None
    console.print(scores(found, before if moved else None))
    if moved:
        console.print(f"AUC against the run before: {moved}, over users, on the same rows.")
    if found.cold["rows"]:
        rows = f"{found.cold['rows']:,} of {found.whole['rows']:,} rows"
        console.print(f"Cold items, which train does not have, are in {rows}.")
    console.print()
    console.print(seconds(started))
    console.print(f"Report: {paths.REPORT}")
    console.print(f"Task 1: {paths.ITEM_INFO}")
    console.print(f"Task 2: {paths.SUBMISSION}")
    console.print("\nNext:")
    for step in next_steps(source):
        console.print(f"- {step}")


def scores(found: Measured, before: Measured | None) -> Table:
    judged = read_json(paths.TASK1_METRICS)
    table = plain_table("on valid", "AUC", "gAUC", "logloss", "AUC of cold items")
    table.add_row("Task 2", *ranked(found))
    table.add_row("  ± over users", *ranked(found, "_se"))
    if before:
        table.add_row("  before this run", *ranked(before))
    figures = (judged["auc"], judged["gauc"], judged["logloss"], judged["auc_cold_items"])
    table.add_row("Task 1, by DIN", *map(shown, figures))
    if "oracle_auc" in found.whole:
        table.add_row("the best possible", shown(found.whole["oracle_auc"]))
    return table


def gain(found: Measured, before: Measured) -> str | None:
    """How far the AUC has moved, with an error that is smaller than those of both, since they are
    of the same rows.

    None where nothing has moved, where rows are others, and where what lay there before is damaged,
    or is of two runs, of which the second was ended before it was measured.
    """
    if before.valid != found.valid or before.predictions == found.predictions:
        return None
    valid, now = Split.load("valid"), probabilities(found)
    label, user = valid.label, valid.user
    try:
        then = probabilities(before)
        reached, earlier = auc(label, now), auc(label, then)
        error = auc_gain_error(label, now, then, user)
        if reached is None or earlier is None or error is None:
            return None
        if not math.isclose(earlier, before.whole["auc"], abs_tol=1e-9):
            return None
    except (ValueError, KeyError, TypeError):
        return None
    return f"{round(reached - earlier, 4) + 0.0:+.4f} ± {error:.4f}"  # no -0.0000


def probabilities(measured: Measured) -> np.ndarray:
    """Of valid's rows (n,)."""
    import pandas as pd  # takes half a second, which a fault in params need not wait for

    return pd.read_parquet(BytesIO(measured.predictions))["probability"].to_numpy()


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
