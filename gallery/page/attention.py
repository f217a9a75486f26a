"""The attention sheet: what ASTA reads of some users' histories, and how sparse it is.

Beside it stand the target's companions in the history.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from ctr.engine.data import ClickLog, load_items
from ctr.models.architecture import is_neural, load_model
from ctr.models.base import CTRModel, ItemTable
from ctr.models.qin import QIN
from gallery.page.companions import Kept, load_companions
from pipeline.common import paths
from pipeline.settings.ctr.train import Train
from pipeline.tables.split import Split

CPU = torch.device("cpu")

BATCH = 256
"""Rows at a time: a vector for every place of their histories is held."""

EXTREME = 10
"""A user is drawn from the tenth of the rows with the highest, or lowest, probability."""


@dataclass(frozen=True)
class Kind:
    words: str
    label: int
    high: bool
    """Whether of the highest probabilities, or of the lowest."""


KINDS = (
    Kind("a click that was scored high", 1, high=True),
    Kind("a click that was missed: scored low", 1, high=False),
    Kind("no click, yet scored high", 0, high=True),
)


@dataclass(frozen=True)
class Reader:
    """One user at one moment."""

    kind: str
    target: int
    clicked: bool
    probability: float
    places: list[tuple[int, float]]
    """(item, weight), newest first."""
    companions: list[tuple[int, float]]
    """(item, information), strongest first: items of its history that the target is taken after."""

    @property
    def zeros(self) -> int:
        return sum(weight == 0 for _, weight in self.places)

    @property
    def largest(self) -> float:
        return max((weight for _, weight in self.places), default=0.0)

    def told(self, weight: float) -> str:
        """`weight` with three digits of the largest; "0" is exactly zero and nothing else."""
        if weight == 0:
            return "0"
        digits = max(0, 2 - math.floor(math.log10(self.largest)))
        least = 10.0**-digits
        return f"{weight:.{digits}f}" if weight >= least / 2 else f"<{least:.{digits}f}"


@dataclass(frozen=True)
class Attention:
    readers: list[Reader]
    rows: int
    """Of valid, over which the two figures go."""
    zero_share: float | None
    """Of the places that hold an item, those of weight exactly 0; None if no place does."""
    median_read: float | None
    """Items of a history with a weight above 0, in the median row."""
    kept: int
    """Companions of each item that there are to choose from; 0 where that stage is off."""


def trained() -> tuple[CTRModel, Train]:
    """The trained model, and the settings it was trained with."""
    return load_model(paths.MAIN)


def attention(
    valid: Split, probability: np.ndarray, users: int, rows: int, seed: int
) -> Attention | None:
    """Of `users` rows of valid, and figures over `rows` drawn at random (all, if it has fewer).

    None where the trained model is no QIN, and so has no ASTA. Reads model, items, their companions
    and clicks.
    """
    if not is_neural(paths.MAIN):
        return None
    model, settings = trained()
    if not isinstance(model, QIN):
        return None
    log = ClickLog.load("valid", settings.history, settings.features, CPU)
    items = load_items(settings.features, CPU)
    length = (valid.history[:, -settings.history :] > 0).sum(axis=1)
    chosen = chosen_rows(valid, probability, length, users, seed)
    drawn = np.random.default_rng(seed).choice(len(valid), min(rows, len(valid)), replace=False)
    history, weight = weights(model, log, items, np.append(list(chosen), np.sort(drawn)))
    kept = load_companions(len(items.id))
    readers = [
        reader(kind, valid.rows[row], float(probability[row]), history[place], weight[place], kept)
        for place, (row, kind) in enumerate(chosen.items())
    ]
    figures = sparsity(history[len(chosen) :], weight[len(chosen) :])
    return Attention(readers, *figures, kept.ids.shape[1])


def chosen_rows(
    valid: Split, probability: np.ndarray, length: np.ndarray, count: int, seed: int
) -> dict[int, Kind]:
    """Rows of different users, of each kind in turn: the longest histories of its extreme rows.

    A kind of which no row is on its side of the median has none.
    """
    random = np.random.default_rng(seed)
    median = np.median(probability) if len(probability) else 0.0
    chosen: dict[int, Kind] = {}
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        others = ~np.isin(valid.user, valid.user[list(chosen)])
        rows = np.flatnonzero((length > 0) & others & (valid.label == kind.label))
        order = rows[np.argsort(probability[rows], kind="stable")]
        extreme = (order[::-1] if kind.high else order)[: -(-len(order) // EXTREME)]
        side = probability[extreme] >= median if kind.high else probability[extreme] <= median
        extreme = extreme[side]
        longest = extreme[length[extreme] == length[extreme].max(initial=0)]
        if len(longest):
            chosen[int(random.choice(longest))] = kind
    return chosen


@torch.inference_mode()
def weights(
    model: QIN, log: ClickLog, items: ItemTable, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of the rows numbered in `rows` (n,): items read, int32 (n, L), and their float32 weights."""
    model.eval()
    history, weight = [], []
    for clicks, _ in log.batches(list(torch.from_numpy(rows.astype(np.int64)).split(BATCH))):
        history.append(clicks.history)
        weight.append(model.attention_weights(clicks, items))
    return torch.cat(history).numpy(), torch.cat(weight).numpy()


def reader(
    kind: Kind,
    row: np.ndarray,
    probability: float,
    history: np.ndarray,
    weight: np.ndarray,
    kept: Kept,
) -> Reader:
    """One row of a `Split`; `history` (L,) and its `weight` (L,) as the model has them."""
    real = np.flatnonzero(history)[::-1]
    places = [(int(history[place]), float(weight[place])) for place in real]
    one = Split(row[None])
    target = int(one.target[0])
    companions = kept.of(target, one.history[0])
    return Reader(kind.words, target, bool(one.label[0]), probability, places, companions)


def sparsity(history: np.ndarray, weight: np.ndarray) -> tuple[int, float | None, float | None]:
    """Rows, the share of exact zeros among the places that hold an item, median items read."""
    real = history > 0
    if not real.any():
        return len(history), None, None
    read = real & (weight > 0)
    return len(history), float(1 - read.sum() / real.sum()), float(np.median(read.sum(axis=1)))
