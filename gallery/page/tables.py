"""The metrics of the run as tables, and as bars beside their numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.common.files import InputError, read_json
from pipeline.common.paths import (
    BLEND_METRICS,
    MAIN,
    TASK1_METRICS,
    metrics_path,
    valid_metrics_path,
)

Metrics = dict[str, Any]

NONE = "-"

GROUPS = {
    "all": "all rows",
    "warm_items": "warm items",
    "cold_items": "cold items",
    "long_history": "long histories",
    "short_history": "short histories",
}

OF_GROUPS = (
    "Warm items are those that train has, cold ones the others; a history of fewer items than "
    "evaluate.short_history is short."
)
OF_TASK1 = (
    "Of what is submitted to Task 1 (fuse.task1); the map and the neighbours on this page are of "
    "the vectors that the ranking models of Task 2 read (fuse.recipe)."
)


@dataclass(frozen=True)
class Table:
    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    """The first cell is the row's name, the others are numbers."""
    note: str = ""


@dataclass(frozen=True)
class Bar:
    """One row of `Bars`."""

    name: str
    cells: tuple[str, ...]
    share: float
    """Of the bar's full length, 0 to 1."""
    kind: str = ""
    """ours: of the run's own predictions; bound: what none can pass; or "" for others."""


@dataclass(frozen=True)
class Bars:
    """A table whose rows are drawn as well."""

    title: str
    columns: tuple[str, ...]
    """Of the cells."""
    rows: list[Bar]
    note: str = ""


def by_rows() -> Table:
    rows = []
    for group, words in GROUPS.items():
        found = read(valid_metrics_path(group))
        names = ("auc", "gauc", "logloss", "calibration_error", "rows")
        rows.append((words, *(number(found.get(name)) for name in names)))
    columns = ("", "AUC", "gAUC", "logloss", "calibration error", "rows")
    return Table("Valid, by rows", columns, rows, OF_GROUPS)


def item_vectors() -> Table:
    judge, found = read(TASK1_METRICS), read(metrics_path("embeddings"))
    rows = [
        ("AUC of the organisers' DIN on them", number(judge.get("auc"))),
        ("the same on warm items", number(judge.get("auc_warm_items"))),
        ("the same on cold items", number(judge.get("auc_cold_items"))),
        *recalls(found),
        ("AUC of the cosine of target and history", number(found.get("separation"))),
        ("effective rank", number(found.get("effective_rank"))),
        ("share of items with a near duplicate", number(found.get("near_duplicates"))),
        ("items without a vector", number(found.get("without_vector"))),
    ]
    return Table("Item vectors (Task 1)", ("", "value"), rows, OF_TASK1)


def recalls(found: Metrics) -> list[tuple[str, str]]:
    """recall@k of the next click, and of the simple ways to find it; k stands in the names."""
    words = {"cold": "cold items", "popular": "popular items alone", "chance": "chance"}
    rows = []
    for name in sorted(name for name in found if name.startswith("recall_")):
        _, k, *kind = name.split("_")
        if k.isdigit():
            told = f": {words.get(kind[0], kind[0])}" if kind else " of the next click"
            rows.append((f"recall@{k}{told}", number(found[name])))
    return rows


def training() -> Table:
    found = read(MAIN.metrics)
    rows = [
        ("best epoch", number(found.get("best_epoch"))),
        ("epochs", number(found.get("epochs"))),
        ("parameters", number(found.get("parameters"))),
    ]
    return Table("Training", ("", "value"), rows)


def blend() -> list[Table]:
    """Nothing where a model is alone."""
    found = read(BLEND_METRICS)
    if len(found["model_auc"]) == 1:
        return []
    gain, error = number(found["held_out_gain"]), number(found["held_out_gain_se"])
    rows = [(name, number(auc)) for name, auc in found["model_auc"].items()]
    return [
        Table(
            "Blend",
            ("", "AUC"),
            [*rows, (f"the blend: {found['chosen']}", number(found["auc"]))],
            f"On users that did not choose it the blend adds {gain} to the best model (standard "
            f"error {error}). Scores and curves are its; those by epoch and attention are main's.",
        )
    ]


def read(path: Path) -> Metrics:
    """Raises InputError where the file is missing or no JSON."""
    try:
        return read_json(path)
    except FileNotFoundError:
        raise InputError(f"{path}: not found; run `dvc repro`") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}; run `dvc repro`") from None


def above_chance(auc: float | None) -> float:
    """How far an AUC is from chance to 1; 0 below it, or where it is not known."""
    return max(0.0, 2 * auc - 1) if auc is not None else 0.0


def number(value: float | None) -> str:
    """Four digits after the point; counts as they are; NONE where there is no value."""
    if value is None:
        return NONE
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
