"""Stage `blend`: click probabilities from the mean of the logits of models chosen on valid.

The choice is greedy forward selection (Caruana et al. 2004, "Ensemble selection from libraries of
models"), each model at most once: the best one first, then whichever raises AUC most, as long as it
adds more than `blend.min_gain`. Valid chooses, so it flatters the choice; `held_out_gain` is what
the same choice is worth on users that had no part in it. A single model's own probabilities are
the predictions.

Letters: M models, n rows.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit
from tqdm import tqdm

from ctr.evaluation.metrics import auc
from pipeline.common import paths
from pipeline.common.files import InputError, Outputs, forget_others
from pipeline.common.stage import made, run
from pipeline.settings.ctr.blend import Blend
from pipeline.tables.split import Split

SPLITS = ("valid", "test")
HALVINGS = 20
"""Ways in which valid's users are halved for `held_out_gain`."""


class Gain(NamedTuple):
    """What a blend adds to the best single model's AUC, where it was not chosen."""

    mean: float | None
    standard_error: float | None


def main(section: Blend, names: list[str]) -> None:
    forget_others(paths.logits_path(name, "valid").parent for name in names)
    valid = Split.load("valid")
    tables = {split: read_logits(names, split) for split in SPLITS}
    rows, scores = tables["valid"]
    if len(rows) != len(valid):
        raise out_of_step(paths.logits_path(names[0], "valid"), len(rows), len(valid), "valid")
    aucs = single_aucs(scores, valid.label)
    chosen = choose(scores, valid.label, section.min_gain)
    blended = auc_of(scores[chosen].mean(0), valid.label)
    gain = held_out_gain(scores, valid, section.min_gain)
    metrics = {
        "auc": blended,
        "best_model_auc": max(aucs),
        "held_out_gain": gain.mean,
        "held_out_gain_se": gain.standard_error,
        "chosen": " + ".join(names[place] for place in chosen),
        "model_auc": dict(zip(names, aucs, strict=True)),
    }
    with Outputs() as outputs:
        for split, (ids, logits) in tables.items():
            table = pd.DataFrame({"ID": ids, "probability": probability(logits[chosen])})
            table.to_parquet(outputs.path(paths.predictions_path(split)), index=False)
        outputs.json(paths.BLEND_METRICS, metrics)
    made(
        f"{len(chosen)} of {len(names)} models ({metrics['chosen']}), valid AUC {blended:.4f}, "
        f"the best of them {max(aucs):.4f}"
    )


def read_logits(names: list[str], split: str) -> tuple[np.ndarray, np.ndarray]:
    """IDs int64 (n,) and logits float64 (M, n) of every model, whose rows must be the same."""
    files = [paths.logits_path(name, split) for name in names]
    tables = [pd.read_parquet(path) for path in files]
    ids = tables[0]["ID"].to_numpy()
    for path, table in zip(files, tables, strict=True):
        if len(table) != len(ids):
            raise out_of_step(path, len(table), len(ids), str(files[0]))
        for row in np.flatnonzero(table["ID"].to_numpy() != ids)[:1]:
            raise InputError(
                f"{path}, row {row}: ID {table['ID'][row]}; {files[0]} has {ids[row]} there; "
                "run `dvc repro`"
            )
    return ids, np.stack([table["logit"].to_numpy(np.float64) for table in tables])


def out_of_step(path: Path, rows: int, expected: int, other: str) -> InputError:
    return InputError(f"{path}: has {rows} rows, {other} has {expected}; run `dvc repro`")


def probability(logits: np.ndarray) -> np.ndarray:
    """float64 (n,) from the logits of the chosen models, (M, n)."""
    return np.asarray(expit(logits.mean(0)))


def single_aucs(scores: np.ndarray, label: np.ndarray) -> list[float]:
    return [auc_of(score, label) for score in scores]


def auc_of(score: np.ndarray, label: np.ndarray) -> float:
    """Raises InputError where valid has but one class, by which nothing can be chosen."""
    found = auc(label, score)
    if found is None:
        raise InputError(
            f"{paths.split_path('valid')}: all labels are the same; AUC, by which the blend is "
            "chosen, needs both"
        )
    return found


def choose(scores: np.ndarray, label: np.ndarray, min_gain: float) -> list[int]:
    """Places of the chosen models in `scores` (M, n), in the order of choice.

    Of equals the first one is taken, so that more of the same adds nothing.
    """
    aucs = single_aucs(scores, label)
    chosen = [int(np.argmax(aucs))]
    best, total = aucs[chosen[0]], scores[chosen[0]]
    while left := [place for place in range(len(scores)) if place not in chosen]:
        aucs = single_aucs(total + scores[left], label)  # a sum ranks as the mean does
        place = int(np.argmax(aucs))
        if aucs[place] - best <= min_gain:
            break
        chosen.append(left[place])
        best, total = aucs[place], total + scores[left[place]]
    return chosen


def held_out_gain(scores: np.ndarray, valid: Split, min_gain: float) -> Gain:
    """What a blend chosen on half of valid's users adds on the other half, over both halves.

    Beside the best single model, chosen on the same half. The standard error is the deviation over
    halves: half of the sample, drawn without replacement, varies about the whole as the whole does
    about the truth. None where no half has both labels.
    """
    user = np.unique(valid.user, return_inverse=True)[1]
    gains: list[float] = []
    seeds = range(HALVINGS)
    for seed in tqdm(seeds, "halves of valid", unit="halving", leave=False, disable=None):
        order = np.random.default_rng(seed).permutation(user.max() + 1)
        first = (order < len(order) // 2)[user]
        halves = (first, ~first)
        if all(0 < valid.label[half].sum() < half.sum() for half in halves):
            for here, there in (halves, halves[::-1]):
                gains.append(gain_there(scores, valid.label, here, there, min_gain))
    if not gains:
        return Gain(None, None)
    return Gain(float(np.mean(gains)), float(np.std(gains)))


def gain_there(
    scores: np.ndarray, label: np.ndarray, here: np.ndarray, there: np.ndarray, min_gain: float
) -> float:
    """Chosen on the rows `here`, measured on those `there`."""
    chosen = choose(scores[:, here], label[here], min_gain)
    blended = auc_of(scores[chosen][:, there].mean(0), label[there])
    return blended - auc_of(scores[chosen[0], there], label[there])


if __name__ == "__main__":
    run("blend", main)
