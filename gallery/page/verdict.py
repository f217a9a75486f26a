"""The first screen: how good the run is, compared with what, and whether it is calibrated."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from gallery.page.calibration import Calibration, calibration, click_rate, load_bins
from gallery.page.features import FEATURES, best_alone
from gallery.page.tables import Bar, Bars, Metrics, above_chance, number, read
from pipeline.common.paths import (
    BLEND_METRICS,
    TASK1_METRICS,
    baseline_metrics_path,
    model_files,
    valid_metrics_path,
)

KINDS = {"qin": "QIN", "transformer_dcn": "transformer", "lightgbm": "LightGBM"}
"""`train.model` in words."""

MODELS = 3
"""The best so many are compared; all stand in the table of the blend."""


@dataclass(frozen=True)
class Figure:
    """One number that stands out."""

    name: str
    value: str
    error: str
    """Its standard error; "" where there is none."""
    note: str


@dataclass(frozen=True)
class Verdict:
    title: str
    subject: str
    """Whose predictions, and for how many rows."""
    figures: list[Figure]
    groups: str
    """How good where train knows the item, and where it does not."""
    ladder: Bars
    calibration: Calibration


class Rung(NamedTuple):
    """Something to compare with."""

    name: str
    auc: float | None
    logloss: float | None = None
    kind: str = ""
    """As a `Bar` has it."""


@dataclass(frozen=True)
class Model:
    name: str
    words: str
    auc: float
    logloss: float | None


def verdict() -> Verdict:
    valid, bins = read(valid_metrics_path("all")), load_bins()
    clicked = click_rate(bins)
    return Verdict(
        title(valid),
        subject(valid["rows"], valid["users"], clicked),
        figures(valid),
        groups(),
        ladder(valid, clicked),
        calibration(valid.get("calibration_error"), bins),
    )


def title(valid: Metrics) -> str:
    auc, (name, alone, error) = valid.get("auc"), best_alone()
    if auc is None:
        return "No AUC: all labels of valid are the same"
    if "oracle_share" in valid:
        return f"{valid['oracle_share']:.1%} of the way from chance to the best possible AUC"
    if alone is None:
        return f"AUC {auc:.4f} on valid"
    way = "above" if auc >= alone else "below"
    return f"AUC {abs(auc - alone):.4f}{plus_minus(error)} {way} the best feature alone, {name}"


def subject(rows: int, users: int, clicked: float | None) -> str:
    share = "" if clicked is None else f", {clicked:.1%} clicked"
    names = chosen()
    whose = names[0] if len(names) == 1 else f"the blend {' + '.join(names)}"
    return f"Predictions of {whose} for valid: {rows:,} rows of {users:,} users{share}."


def figures(valid: Metrics) -> list[Figure]:
    told = (
        ("AUC", "auc", "over all rows"),
        ("gAUC", "gauc", "within users"),
        ("logloss", "logloss", "lower is better"),
    )
    return [
        Figure(name, number(valid.get(key)), plus_minus(valid.get(f"{key}_se")).strip(), note)
        for name, key, note in told
    ]


def plus_minus(error: float | None) -> str:
    """A standard error as it stands after its number; "" where it is not known."""
    return "" if error is None else f" ± {error:.4f}"


def groups() -> str:
    warm, cold = (read(valid_metrics_path(f"{name}_items")) for name in ("warm", "cold"))
    if not cold["rows"]:
        return "Train has every item of valid."
    share = cold["rows"] / (cold["rows"] + warm["rows"])
    return (
        f"AUC {number(warm.get('auc'))} on items that train has, {number(cold.get('auc'))} on the "
        f"others ({share:.0%} of rows)."
    )


def ladder(valid: Metrics, clicked: float | None) -> Bars:
    """The best first; what has no AUC comes last."""
    order = sorted(rungs(valid, clicked), key=lambda rung: (rung.auc is None, -(rung.auc or 0)))
    rows = [
        Bar(name, (number(auc), number(logloss)), above_chance(auc), kind)
        for name, auc, logloss, kind in order
    ]
    return Bars("Compared with what?", ("AUC", "logloss"), rows, flattery())


def rungs(valid: Metrics, clicked: float | None) -> Iterator[Rung]:
    if "oracle_auc" in valid:
        yield Rung("the best possible", valid["oracle_auc"], kind="bound")
    yield from ranked(valid)
    task1 = read(TASK1_METRICS)
    yield Rung("Task 1's vectors, by DIN", task1.get("auc"), task1.get("logloss"))
    name, alone, _ = best_alone()
    yield Rung(f"best feature alone, {name}", alone)
    popular = FEATURES["item_count"]
    if name != popular:
        auc = read(baseline_metrics_path("item_count")).get("auc")
        yield Rung(f"popularity, {popular}", auc)
    if clicked is not None:
        yield Rung("the click rate for every row", 0.5, entropy(clicked))


def ranked(valid: Metrics) -> Iterator[Rung]:
    """What is reported on, and the models that it is made of or that were left out."""
    ours, names = Rung("", valid.get("auc"), valid.get("logloss"), "ours"), chosen()
    if len(names) > 1:
        yield ours._replace(name=f"blend: {' + '.join(names)}")
    for model in models()[:MODELS]:
        if names == [model.name]:
            yield ours._replace(name=model.words)
        else:
            yield Rung(model.words, model.auc, model.logloss)


def models() -> list[Model]:
    """Those that were trained, the best first."""
    aucs = read(BLEND_METRICS)["model_auc"]
    return sorted((model(name, auc) for name, auc in aucs.items()), key=lambda one: -one.auc)


def model(name: str, auc: float) -> Model:
    files = model_files(name)
    kind = read(files.config)["model"]
    logloss = read(files.metrics).get("logloss")
    return Model(name, f"{name} ({KINDS.get(kind, kind)})", auc, logloss)


def chosen() -> list[str]:
    """The models whose blend is reported on."""
    return str(read(BLEND_METRICS)["chosen"]).split(" + ")


def flattery() -> str:
    """What valid had a part in before it measured."""
    found = read(BLEND_METRICS)
    bars = "Bars from chance, 0.5, to 1."
    if len(found["model_auc"]) == 1:
        return f"{bars} Valid chose the epoch, which flatters somewhat."
    gain, error = number(found["held_out_gain"]), number(found["held_out_gain_se"])
    return (
        f"{bars} Valid chose epochs and models, which flatters: on users that did not choose, the "
        f"blend adds {gain} ± {error} to the best model."
    )


def entropy(share: float) -> float:
    """Logloss, in nats, of predicting the click rate itself: no other constant has a lower one."""
    return -sum(part * math.log(part) for part in (share, 1 - share) if part)
