"""The metrics of the run as a few tables, the most important first."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.common.files import InputError, read_json
from pipeline.common.paths import (
    BLEND_METRICS,
    MAIN,
    ROW_FEATURES,
    TASK1_METRICS,
    baseline_metrics_path,
    metrics_path,
    valid_metrics_path,
)

Metrics = dict[str, Any]

NONE = "-"

GROUPS = {
    "all": "all rows",
    "warm_items": "warm items (train has shown them)",
    "cold_items": "cold items (train has not)",
    "long_history": "long histories",
    "short_history": "short histories",
}
FEATURES = {
    "item_mean": "the item's mean label in train",
    "user_mean": "the user's mean label in train",
    "item_count": "the item's count in train",
    "likes_level": "likes_level",
    "views_level": "views_level",
    "history_length": "length of the history",
}

OF_KINDS = (
    "A name after a colon is, of a kind of number that stage companions tells of each row, the one "
    "that ranks train best (after a minus: the lower, the better), here by its AUC on valid."
)

OF_TASK1 = (
    "Of what is submitted to Task 1 (fuse.task1); the map and the neighbours on this page are of "
    "the vectors that the ranking models of Task 2 read (fuse.recipe)."
)


@dataclass(frozen=True)
class Figure:
    """One number that stands out."""

    name: str
    value: str
    note: str


@dataclass(frozen=True)
class Table:
    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    """The first cell is the row's name, the others are numbers."""
    note: str = ""


def headline() -> list[Figure]:
    valid, task1 = read(valid_metrics_path("all")), read(TASK1_METRICS)
    figures = [
        Figure("AUC", number(valid.get("auc")), "on valid"),
        Figure("gAUC", number(valid.get("gauc")), "within users, by their rows"),
        Figure("logloss", number(valid.get("logloss")), "lower is better"),
    ]
    if "oracle_share" in valid:
        best = number(valid["oracle_auc"])
        figures.append(
            Figure(
                "Oracle share", number(valid["oracle_share"]), f"the best possible AUC is {best}"
            )
        )
    return [*figures, Figure("Task 1", number(task1.get("auc")), "AUC of the organisers' DIN")]


def tables() -> list[Table]:
    return [by_rows(), by_one_feature(), training(), item_vectors(), *blend()]


def by_rows() -> Table:
    rows = []
    for group, words in GROUPS.items():
        found = read(valid_metrics_path(group))
        names = ("auc", "gauc", "logloss", "calibration_error", "rows")
        rows.append((words, *(number(found.get(name)) for name in names)))
    return Table(
        "Valid, by rows", ("", "AUC", "gAUC", "logloss", "calibration error", "rows"), rows
    )


def by_one_feature() -> Table:
    """The whole model, then the best first; where a feature's AUC is unknown it comes last."""
    found = {
        words: read(baseline_metrics_path(name)).get("auc") for name, words in FEATURES.items()
    }
    kinds = read(ROW_FEATURES)["kinds"]
    for kind in kinds:
        best = read(baseline_metrics_path(kind))
        found[f"{kind}: {best['name'] or NONE}"] = best["auc"]
    order = sorted(found.items(), key=lambda pair: -1 if pair[1] is None else pair[1], reverse=True)
    model = ("the whole model", read(valid_metrics_path("all")).get("auc"))
    rows = [(words, number(auc)) for words, auc in (model, *order)]
    note = "What a model has to beat."
    return Table("One feature alone", ("", "AUC"), rows, f"{note} {OF_KINDS}" if kinds else note)


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
            f"error {error}). The scores above are its; curves by epoch and attention are main's.",
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


def number(value: float | None) -> str:
    """Four digits after the point; counts as they are; NONE where there is no value."""
    if value is None:
        return NONE
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
