"""What features are worth: each alone, and to the boosted trees that read them all."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from ctr.boosting.library import library
from ctr.boosting.model import load
from ctr.models.architecture import is_neural
from gallery.page.tables import NONE, Bar, Bars, above_chance, number, read
from pipeline.common.paths import (
    BLEND_METRICS,
    ROW_FEATURES,
    baseline_metrics_path,
    model_files,
    model_section,
    valid_metrics_path,
)

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

LEVELS = "levels"
"""What is of no kind: the levels that come with the rows."""

SPLIT_BY = 12
"""Features of the trees that are shown, those of the highest gain."""


@dataclass(frozen=True)
class Features:
    lead: str
    alone: Bars
    trees: list[Bars]
    """Of each model of boosted trees."""


class Alone(NamedTuple):
    """One feature, by which valid is ranked."""

    words: str
    auc: float | None
    gain_se: float | None
    """Standard error of how far the predictions' AUC lies above it."""


def features() -> Features:
    return Features(lead(), by_one_feature(), [gains(name) for name in forests()])


def lead() -> str:
    whole, best = read(valid_metrics_path("all")).get("auc"), best_alone()
    return (
        f"The best of them alone, {best.words}, ranks valid with an AUC of {number(best.auc)}; the "
        f"predictions reach {number(whole)}."
    )


def each_alone() -> list[Alone]:
    """The best first; those without an AUC last."""
    told = [(words, read(baseline_metrics_path(name))) for name, words in FEATURES.items()]
    for kind in read(ROW_FEATURES)["kinds"]:
        best = read(baseline_metrics_path(kind))
        told.append((f"{kind}: {best['name'] or NONE}", best))
    found = [Alone(words, one.get("auc"), one.get("gain_se")) for words, one in told]
    return sorted(found, key=lambda one: -1 if one.auc is None else one.auc, reverse=True)


def best_alone() -> Alone:
    return each_alone()[0]


def by_one_feature() -> Bars:
    """The whole model, then the best first."""
    auc = read(valid_metrics_path("all")).get("auc")
    rows = [
        Bar("the whole model", (number(auc),), above_chance(auc), "ours"),
        *(Bar(one.words, (number(one.auc),), above_chance(one.auc)) for one in each_alone()),
    ]
    note = "What a model has to beat. Bars from chance, 0.5, to 1."
    kinds = read(ROW_FEATURES)["kinds"]
    return Bars("One feature alone", ("AUC",), rows, f"{note} {OF_KINDS}" if kinds else note)


def forests() -> list[str]:
    """The ranking models that are boosted trees."""
    return [name for name in read(BLEND_METRICS)["model_auc"] if not is_neural(model_files(name))]


def gains(name: str) -> Bars:
    """By how much splits on each feature lower the loss on train, as shares of the whole."""
    booster = load(library(model_section(name)), model_files(name))
    gain = pd.Series(booster.feature_importance("gain"), booster.feature_name(), np.float64)
    share = (gain / gain.sum()).sort_values(ascending=False, kind="stable")
    shown = share[:SPLIT_BY]
    rows = [
        Bar(str(words), (f"{part:.1%}",), part / share.iloc[0]) for words, part in shown.items()
    ]
    note = (
        f"The first {len(shown)} of {len(share)} features, by how much splits on them lower the "
        f"loss on train. By kind: {by_kind(share)}."
    )
    return Bars(f"Gain by feature: {name}", ("share",), rows, note)


def by_kind(share: pd.Series) -> str:
    """Such as `target 61 %, levels 39 %`, the largest first."""
    of = {name: kind for kind, names in read(ROW_FEATURES)["kinds"].items() for name in names}
    sums = share.groupby([of.get(name, LEVELS) for name in share.index], sort=False).sum()
    order = sums.sort_values(ascending=False, kind="stable")
    return ", ".join(f"{kind} {part:.0%}" for kind, part in order.items())
