"""Scorers of one feature each: what a model has to beat to have learned anything."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ctr.evaluation.metrics import auc
from pipeline.tables.split import Split

PRIOR_ROWS = 10.0
"""A mean click rate is drawn towards the overall rate as if by this many rows."""
CHOICE_ROWS = 100_000
"""The last ones of train, on which a kind's number is chosen."""


@dataclass(frozen=True)
class RowNumbers:
    """What stage `companions` tells of the rows of train and valid."""

    names: Sequence[str]
    """Of the F numbers, in order."""
    kinds: Mapping[str, Sequence[str]]
    """The names of each kind."""
    train: np.ndarray
    """float (n, F), usually memory-mapped."""
    valid: np.ndarray
    """float (m, F)."""


class Best(NamedTuple):
    """Of a kind the number that ranks train best."""

    name: str
    """With a minus before it where the lower ranks higher."""
    score: np.ndarray
    """float32 (m,), of valid's rows."""


def single_features(train: Split, valid: Split) -> dict[str, np.ndarray]:
    """Scores (m,) of valid's rows by one feature, its statistics taken from train alone."""
    return {
        "item_count": counts(train.target, valid.target),
        "item_mean": mean_labels(train.target, train.label, valid.target),
        "user_mean": mean_labels(train.user, train.label, valid.user),
        "likes_level": valid.column("likes_level"),
        "views_level": valid.column("views_level"),
        "history_length": (valid.history > 0).sum(axis=1),
    }


def best_numbers(train: Split, numbers: RowNumbers) -> dict[str, Best | None]:
    """Of each kind the best single number, its direction as well by train; None where train has but
    one class."""
    last = slice(-CHOICE_ROWS, None)
    label, rows = train.label[last], np.asarray(numbers.train[last], np.float32)
    place = {name: number for number, name in enumerate(numbers.names)}

    def best(names: Sequence[str]) -> Best | None:
        found = {name: auc(label, rows[:, place[name]]) for name in names}
        lift = {name: value - 0.5 for name, value in found.items() if value is not None}
        if not lift:
            return None
        name = max(lift, key=lambda name: abs(lift[name]))
        score = np.asarray(numbers.valid[:, place[name]], np.float32)
        return Best(f"-{name}", -score) if lift[name] < 0 else Best(name, score)

    return {kind: best(names) for kind, names in numbers.kinds.items()}


def counts(seen: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """int64 (n,): how often each id of `asked` (n,) occurs in `seen`."""
    return np.bincount(seen, minlength=int(asked.max()) + 1)[asked]


def mean_labels(seen: np.ndarray, label: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """float64 (n,): the mean label of each id of `asked`, smoothed; overall for an unseen id."""
    size = max(int(seen.max()), int(asked.max())) + 1
    clicks = np.bincount(seen, weights=label, minlength=size)
    rows = np.bincount(seen, minlength=size)
    return ((clicks + PRIOR_ROWS * label.mean()) / (rows + PRIOR_ROWS))[asked]
