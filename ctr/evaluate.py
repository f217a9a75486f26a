"""Stage `evaluate`: what the predictions for valid are worth, and for which rows."""

from collections.abc import Sized
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ctr.evaluation.baselines import RowNumbers, best_numbers, counts, single_features
from ctr.evaluation.curves import HISTORY_STARTS, POPULARITY_STARTS, auc_by, roc, scores
from ctr.evaluation.metrics import auc, calibration, calibration_error, gauc, logloss
from ctr.evaluation.uncertainty import gauc_error, logloss_error
from pipeline.common import paths
from pipeline.common.files import InputError, Outputs, read_array, read_json
from pipeline.common.stage import made, run, shown
from pipeline.settings.ctr.evaluate import Evaluate
from pipeline.tables.auc import auc_error, auc_influence, gain_error
from pipeline.tables.split import Split


def main(settings: Evaluate) -> None:
    train, valid = Split.load("train"), Split.load("valid")
    path = paths.predictions_path("valid")
    probability = pd.read_parquet(path)["probability"].to_numpy()
    refuse_other_length(path, probability, "valid", valid)
    numbers = load_numbers(train, valid)
    overall = rated(valid, probability, settings.calibration_bins)
    metrics = {
        "all": overall | oracle(overall["auc"], read_json(paths.STATS)),
        **by_group(train, valid, probability, settings),
    }
    with Outputs() as outputs:
        for group, values in metrics.items():
            outputs.json(paths.valid_metrics_path(group), values)
        predicted = auc_influence(valid.label, probability)
        for feature, score in single_features(train, valid).items():
            outputs.json(paths.baseline_metrics_path(feature), alone(valid, score, predicted))
        for kind, best in best_numbers(train, numbers).items():
            values = alone(valid, best.score if best else None, predicted)
            named = {"name": best.name if best else None}
            outputs.json(paths.baseline_metrics_path(kind), values | named)
        for curve, table in plots(train, valid, probability, settings).items():
            table.to_csv(outputs.path(curve), index=False)
    made(f"valid AUC {shown(overall['auc'])} over {len(valid):,} rows")


def load_numbers(train: Split, valid: Split) -> RowNumbers:
    told = read_json(paths.ROW_FEATURES)
    rows = {}
    for name, split in (("train", train), ("valid", valid)):
        path = paths.companions_path(name)
        rows[name] = read_array(path)
        refuse_other_length(path, rows[name], name, split)
    return RowNumbers(told["names"], told["kinds"], rows["train"], rows["valid"])


def refuse_other_length(path: Path, found: Sized, name: str, split: Split) -> None:
    if len(found) != len(split):
        raise InputError(f"{path}: has {len(found)} rows, {name} has {len(split)}; run `dvc repro`")


def rated(valid: Split, probability: np.ndarray, bins: int) -> dict[str, Any]:
    """The metrics of some rows, and `<metric>_se`, their standard errors over users; None where the
    rows have but one class, or no user has both."""
    label, user = valid.label, valid.user
    return {
        "rows": len(valid),
        "users": len(np.unique(user)),
        "auc": auc(label, probability),
        "auc_se": auc_error(label, probability, user),
        "gauc": gauc(label, probability, user),
        "gauc_se": gauc_error(label, probability, user),
        "logloss": logloss(label, probability),
        "logloss_se": logloss_error(label, probability, user),
        "calibration_error": calibration_error(label, probability, bins),
    }


def alone(valid: Split, score: np.ndarray | None, predicted: np.ndarray | None) -> dict[str, Any]:
    """AUC of one feature's `score`, if there is one, and the standard error of how far that of the
    predictions, whose influence is `predicted`, lies above it: the rows are the same, so it is less
    than their own errors say."""
    if score is None:
        return {"auc": None, "gain_se": None, "rows": len(valid)}
    error = gain_error(predicted, auc_influence(valid.label, score), valid.user)
    return {"auc": auc(valid.label, score), "gain_se": error, "rows": len(valid)}


def oracle(model_auc: float | None, stats: dict[str, Any]) -> dict[str, float]:
    """Where the click probabilities are known: the best possible AUC, and the share reached."""
    oracle_auc = stats.get("oracle_auc")
    if oracle_auc is None or model_auc is None:
        return {}
    return {"oracle_auc": oracle_auc, "oracle_share": (model_auc - 0.5) / (oracle_auc - 0.5)}


def by_group(
    train: Split, valid: Split, probability: np.ndarray, settings: Evaluate
) -> dict[str, dict[str, Any]]:
    """The metrics by whether train has shown the target, and by length of history."""
    warm = np.isin(valid.target, train.target)
    short = (valid.history > 0).sum(axis=1) < settings.short_history
    groups = {
        "warm_items": warm,
        "cold_items": ~warm,
        "short_history": short,
        "long_history": ~short,
    }
    return {
        name: rated(Split(valid.rows[rows]), probability[rows], settings.calibration_bins)
        for name, rows in groups.items()
    }


def plots(
    train: Split, valid: Split, probability: np.ndarray, settings: Evaluate
) -> dict[Path, pd.DataFrame]:
    label = valid.label
    length, seen = (valid.history > 0).sum(axis=1), counts(train.target, valid.target)
    return {
        paths.ROC: roc(label, probability),
        paths.CALIBRATION: pd.DataFrame(calibration(label, probability, settings.calibration_bins)),
        paths.SCORES: scores(label, probability),
        paths.AUC_BY_HISTORY: auc_by("items", length, HISTORY_STARTS, label, probability),
        paths.AUC_BY_POPULARITY: auc_by(
            "rows_in_train", seen, POPULARITY_STARTS, label, probability
        ),
    }


if __name__ == "__main__":
    run("evaluate", main)
