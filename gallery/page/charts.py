"""The charts: each from a CSV that an earlier stage wrote, as SVG that goes into the page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from gallery.page.svg import BLUE, NEUTRAL, ORANGE, drawn
from pipeline.common import paths
from pipeline.common.files import InputError


@dataclass(frozen=True)
class Chart:
    title: str
    svg: str
    """'' where the file has no numbers to draw."""
    reading: str
    """How it is read."""


@dataclass(frozen=True)
class Plan:
    """How one chart is made."""

    part: str
    """Of the page: rows, training or vectors."""
    path: Path
    columns: tuple[str, ...]
    title: str
    reading: str
    draw: Callable[[Axes, pd.DataFrame], None]


def charts(part: str) -> list[Chart]:
    """Those of one part of the page."""
    return [made(plan) for plan in PLANS if plan.part == part]


def made(plan: Plan) -> Chart:
    table = read(plan.path, plan.columns)
    if table.empty:
        return Chart(plan.title, "", plan.reading)
    return Chart(plan.title, drawn(plan.title, lambda axes: plan.draw(axes, table)), plan.reading)


def read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Raises InputError where the file, or one of its `columns`, is missing."""
    try:
        table = pd.read_csv(path, dtype={"items": str, "rows_in_train": str, "label": str})
    except FileNotFoundError:
        raise InputError(f"{path}: not found; run `dvc repro`") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a table: {str(error).strip()}; run `dvc repro`") from None
    missing = [column for column in columns if column not in table]
    if missing:
        found = ", ".join(map(str, table.columns))
        raise InputError(f"{path}: has columns {found}, expected {missing[0]}; run `dvc repro`")
    return table


def auc_by_epoch(axes: Axes, table: pd.DataFrame) -> None:
    _lines(axes, table, {"auc": "AUC", "gauc": "gAUC"})
    axes.set(xlabel="epoch", ylabel="on valid")


def loss_by_epoch(axes: Axes, table: pd.DataFrame) -> None:
    _lines(axes, table, {"train_loss": "train, without penalty", "logloss": "valid"})
    axes.set(xlabel="epoch", ylabel="logloss, nats a sample")


def _lines(axes: Axes, table: pd.DataFrame, names: dict[str, str]) -> None:
    for column, name in names.items():
        axes.plot(table["epoch"], table[column], marker="o", markersize=3, label=name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()


def roc(axes: Axes, table: pd.DataFrame) -> None:
    _diagonal(axes, "chance")
    axes.plot(table["false_positive_rate"], table["true_positive_rate"], label="the model")
    axes.set(xlabel="false positive rate", ylabel="true positive rate")
    axes.legend()


def calibration(axes: Axes, table: pd.DataFrame) -> None:
    _diagonal(axes, "perfect")
    axes.plot(table["predicted"], table["observed"], marker="o", markersize=4, label="the model")
    axes.set(xlabel="mean predicted probability of the bin", ylabel="share that was clicked")
    axes.legend()


def _diagonal(axes: Axes, name: str) -> None:
    axes.plot([0, 1], [0, 1], color=NEUTRAL, alpha=0.5, linestyle="--", linewidth=1, label=name)
    axes.set(xlim=(0, 1), ylim=(0, 1))


def scores(axes: Axes, table: pd.DataFrame) -> None:
    for name, color in (("not clicked", BLUE), ("clicked", ORANGE)):
        rows = table[table["label"] == name].sort_values("probability")
        x, share = rows["probability"].to_numpy(), rows["share"].to_numpy()
        axes.fill_between(x, share, step="mid", alpha=0.25, color=color, linewidth=0)
        axes.step(x, share, where="mid", color=color, label=name)
    axes.set(xlim=(0, 1), xlabel="predicted probability", ylabel="share of the label's rows")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.legend()


def by_history(axes: Axes, table: pd.DataFrame) -> None:
    _auc_bars(axes, table, "items")
    axes.set_xlabel("items in the history (below: rows)")


def by_popularity(axes: Axes, table: pd.DataFrame) -> None:
    _auc_bars(axes, table, "rows_in_train")
    axes.set_xlabel("rows of the item in train (below: rows of valid)")


def _auc_bars(axes: Axes, table: pd.DataFrame, bins: str) -> None:
    """Bars from 0.5, chance, on; a bin whose rows have one class alone has none."""
    auc = table["auc"].to_numpy(float)
    places = np.arange(len(table))
    axes.bar(places, np.nan_to_num(auc, nan=0.5) - 0.5, bottom=0.5, width=0.7)
    pairs = zip(table[bins], table["rows"], strict=True)
    axes.set_xticks(places, [f"{name}\n{rows:,}" for name, rows in pairs], fontsize=8)
    for place, value in zip(places, auc, strict=True):
        told, top = (f"{value:.3f}", max(value, 0.5)) if np.isfinite(value) else ("none", 0.5)
        axes.annotate(told, (place, top), (0, 2), textcoords="offset points", ha="center", size=8)
    axes.axhline(0.5, color=NEUTRAL, linewidth=0.8)
    known = auc[np.isfinite(auc)]
    axes.set_ylim(known.min(initial=0.5) - 0.03, min(known.max(initial=0.5) + 0.08, 1.04))
    axes.set_ylabel("AUC on valid")
    axes.grid(False, axis="x")


def explained_variance(axes: Axes, table: pd.DataFrame) -> None:
    axes.plot(table["components"], table["explained"], marker="o", markersize=2)
    axes.set(xlabel="principal components", ylabel="share of the variance", ylim=(0, 1.02))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


PLANS = (
    Plan(
        "training",
        paths.MAIN.curve,
        ("epoch", "auc", "gauc"),
        "AUC by epoch",
        "Higher is better. The epoch with the highest AUC is the one that was kept.",
        auc_by_epoch,
    ),
    Plan(
        "training",
        paths.MAIN.curve,
        ("epoch", "train_loss", "logloss"),
        "Loss by epoch",
        "Lower is better. Where valid rises while train falls, the model learns train by heart.",
        loss_by_epoch,
    ),
    Plan(
        "rows",
        paths.ROC,
        ("false_positive_rate", "true_positive_rate"),
        "ROC",
        "The further above the diagonal, the better; the area under the curve is the AUC.",
        roc,
    ),
    Plan(
        "rows",
        paths.CALIBRATION,
        ("predicted", "observed"),
        "Calibration",
        "On the diagonal, of the rows given 30 % three in ten were clicked. Above it the model "
        "promises too little, below it too much.",
        calibration,
    ),
    Plan(
        "rows",
        paths.SCORES,
        ("probability", "share", "label"),
        "Scores by label",
        "The less the two overlap, the better clicks are told apart.",
        scores,
    ),
    Plan(
        "rows",
        paths.AUC_BY_HISTORY,
        ("items", "auc", "rows"),
        "AUC by length of history",
        "Bars begin at chance, 0.5. Bins with few rows are uncertain.",
        by_history,
    ),
    Plan(
        "rows",
        paths.AUC_BY_POPULARITY,
        ("rows_in_train", "auc", "rows"),
        "AUC by popularity of the item",
        "Items without a row in train are ranked by their content alone, or nearly so.",
        by_popularity,
    ),
    Plan(
        "vectors",
        paths.EXPLAINED_VARIANCE,
        ("components", "explained"),
        "Explained variance",
        "How much of the content features the first principal components keep.",
        explained_variance,
    ),
)
