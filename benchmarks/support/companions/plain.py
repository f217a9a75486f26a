"""The numbers of stage `companions` the plain way: sparse matrices, looked up row by row.

A matrix (N + 1, N + 1) of the pairs for each fold that is left out, and one of all. Folds and rates
are `ctr`'s own, which cost nothing beside the rest. Describes the first rows of train by what these
tell, in the working directory.

    python -m benchmarks.support.companions.plain ROWS
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix

from ctr.companions import unit_vectors
from ctr.covisitation.counts import FEW
from ctr.covisitation.describe import NEAREST
from ctr.covisitation.pairs import Folds
from ctr.covisitation.rates import click_rates
from pipeline.common import paths
from pipeline.common.files import read_array
from pipeline.settings.ctr.companions import Companions
from pipeline.settings.params import load_params
from pipeline.tables.split import Split

COUNTED = Path("counted")
"""Is there when all pairs are counted."""


class Pairs(NamedTuple):
    """(n,) each."""

    later: np.ndarray
    earlier: np.ndarray
    fold: np.ndarray
    age: np.ndarray

    def and_those(self, more: "Pairs") -> "Pairs":
        return Pairs(*map(np.concatenate, zip(self, more, strict=True)))


class Taken(NamedTuple):
    """Pairs without a fold."""

    together: csr_matrix
    """(N + 1, N + 1): later items by earlier ones."""
    later: np.ndarray
    earlier: np.ndarray
    """Sums of both, float64 (N + 1,)."""

    @staticmethod
    def of(pairs: Pairs, kept: np.ndarray, decay: float, items: int) -> "Taken":
        weight = decay ** pairs.age[kept].astype(float)
        place = pairs.later[kept], pairs.earlier[kept]
        matrix = coo_matrix((weight, place), (items, items)).tocsr()
        return Taken(matrix, *(np.asarray(matrix.sum(axis)).ravel() for axis in (1, 0)))

    def pairs(self, later: np.ndarray, earlier: np.ndarray) -> np.ndarray:
        return np.asarray(self.together[later, earlier]).ravel()


class Plain:
    """All that is counted of train."""

    def __init__(
        self, train: Split, tags: np.ndarray, unit: np.ndarray, section: Companions
    ) -> None:
        self.section, self.unit, self.items = section, unit, len(tags)
        self.folds = Folds.of(train, section.folds, section.seed)
        fold = self.folds[train.user]
        self.rates = click_rates(train, fold, section.folds, tags, section.prior)
        clicked, passed = (pairs_of_rows(train, fold, label, section.window) for label in (1, 0))
        taken = clicked.and_those(pairs_within(train, fold, section.within))
        self.decayed, self.flat = self.without(taken, section.decay), self.without(taken, 1.0)
        self.clicked, self.passed = self.without(clicked, 1.0), self.without(passed, 1.0)

    def without(self, pairs: Pairs, decay: float) -> list[Taken]:
        """Without each fold, and all."""
        kept = [pairs.fold != fold for fold in range(self.section.folds + 1)]
        return [Taken.of(pairs, each, decay, self.items) for each in kept]

    def __call__(self, target: int, history: np.ndarray, fold: int) -> list[float]:
        """A row's numbers, in the order of `NAMES`; `history` (W,) with its padding on the left."""
        read = history[history > 0][::-1][: self.section.window]
        targets = np.full_like(read, target)
        numbers: list[float] = []
        for later, earlier in ((targets, read), (read, targets)):
            for taken, m in ((self.decayed, self.section.shrinkage), (self.flat, 0.0)):
                numbers += self.pooled(self.information(taken[fold], later, earlier, m))
        numbers.append(float((self.flat[fold].pairs(targets, read) > 0).mean()))
        rate, prior = self.rates.rate[fold, target], self.section.prior
        clicked = self.clicked[fold].pairs(targets, read) + prior * rate
        passed = self.passed[fold].pairs(targets, read) + prior * (1 - rate)
        numbers += self.pooled(np.log(clicked / passed) - np.log(rate / (1 - rate)))
        clicks, rows, rate_of_item, of_tags = self.rates[:4]
        numbers += np.log1p([x[fold, target] for x in (clicks, rows)]).tolist()
        numbers += [float(x[fold, target]) for x in (rate_of_item, of_tags)]
        near = self.unit[read[:NEAREST]]
        numbers += [float(np.log1p(len(read))), float(np.linalg.norm(near.mean(0)))]
        return numbers + self.pooled(near @ self.unit[target])

    def information(
        self, taken: Taken, later: np.ndarray, earlier: np.ndarray, shrinkage: float
    ) -> np.ndarray:
        share = (taken.later[later] + FEW) / (taken.later.sum() + FEW * self.items)
        assumed = self.section.smoothing * share + shrinkage
        expected = taken.earlier[earlier] * share
        return np.log((taken.pairs(later, earlier) + assumed) / (expected + assumed))

    def pooled(self, values: np.ndarray) -> list[float]:
        weight = self.section.decay ** np.arange(len(values))
        return [
            *(values[:3].mean(), values[:10].mean(), values.mean()),
            *(values[:10].max(), values.max(), values[0]),
            (values * weight).sum() / weight.sum(),
        ]


def pairs_of_rows(train: Split, fold: np.ndarray, label: int, window: int) -> Pairs:
    rows = train.label == label
    history = train.history[rows][:, ::-1][:, :window]
    row, age = np.nonzero(history)
    return Pairs(train.target[rows][row], history[row, age], fold[rows][row], age)


def pairs_within(train: Split, fold: np.ndarray, window: int) -> Pairs:
    """Of each user's first history the items with each other."""
    first = np.unique(train.user, return_index=True)[1]
    history = train.history[first]
    found = Pairs(*[np.zeros(0, np.int32)] * 4)
    for age in range(window):
        row, place = np.nonzero(history[:, : -age - 1])
        younger, older = history[row, place + age + 1], history[row, place]
        found = found.and_those(Pairs(younger, older, fold[first][row], np.full(len(row), age)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=int, help="of train, the first ones")
    train = Split(np.array(read_array(paths.split_path("train"))[: parser.parse_args().rows]))
    section, tags = load_params().companions, np.array(read_array(paths.TAGS))
    plain = Plain(train, tags, unit_vectors(), section)
    COUNTED.touch()
    fold = plain.folds[train.user]
    for row in range(len(train)):
        plain(int(train.target[row]), train.history[row], int(fold[row]))


if __name__ == "__main__":
    main()
