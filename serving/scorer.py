"""Click probabilities on request: a trained model, one person's history, any candidates.

    scorer = Scorer.load("packages/main")
    scorer.score(history=[12, 7, 99], candidates=[5, 6])
    scorer.rank(history=[12, 7, 99], k=10)

Ids are those of the source. A history has the youngest item last, as in the competition's files. A
request computes what its history and candidates need, and QIN reads the history once for all of
them; the probabilities are those of stage `predict`.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from ctr.covisitation.describe import of_length_1
from pipeline.common.files import InputError
from pipeline.common.paths import MAIN_MODEL, package_path
from pipeline.raw.ids import DenseIds
from pipeline.settings.ctr.companions import Companions
from pipeline.settings.ctr.train import Train
from pipeline.tables.split import LEVELS
from serving.folder import CONFIG, NUMBERS, TALLIES, Package, read_package, read_tallies, reading
from serving.rankers import Ranker, Rows, ranker
from serving.row_numbers import RowNumbers, Standard

DEFAULT = package_path(MAIN_MODEL)
AT_A_TIME = 1 << 12
"""Candidates whose numbers are counted together: 8 MB of them are pooled over a hundred items."""
TOLD = 5
"""Ids that a message shows."""

log = logging.getLogger(__name__)
Ids = Sequence[int] | np.ndarray


class Ranking(NamedTuple):
    """Items in the order of their probability, the most likely first."""

    items: np.ndarray
    """int64 (k,): raw ids."""
    probabilities: np.ndarray
    """float64 (k,)"""
    titles: list[str]


class Scorer:
    """A model that was read from a package; several threads may ask it at the same time."""

    def __init__(self, package: Package) -> None:
        with reading(package.path(CONFIG)):
            settings = Train.model_validate(package.config["train"])
        self.folder, self.features = package.folder, settings.features
        self.ids = DenseIds.of(package.items["item_id"][1:])
        self.raw, self.titles = package.items["item_id"], package.items["title"]
        self.likes, self.views = package.items["likes_level"], package.items["views_level"]
        self.ranker: Ranker = ranker(package, settings)
        self.length = settings.history if settings.features.history else 0
        """Items of a history that the model reads."""
        with reading(package.path(NUMBERS)):
            self.numbers = row_numbers(package, settings)
        self.window = max(self.length, self.numbers.window if self.numbers else 0)
        """Items of a history that are read in any way."""

    @staticmethod
    def load(folder: Path | str = DEFAULT) -> "Scorer":
        """Raises InputError where `folder` is not a whole package, naming the file."""
        return Scorer(read_package(Path(folder)))

    def __len__(self) -> int:
        """How many items there are."""
        return len(self.ids)

    def read(self, history: Ids) -> "Person":
        """Somebody's history, to ask about as often as one likes.

        Ids that the model does not know are left out, and so are items that are older than what it
        reads: the person has both. A history may be empty. InputError for what is no list of ids.
        """
        raw = self._ids(history, "history")
        dense = self.ids.dense(raw)
        return Person(self, raw[dense > 0], raw[dense <= 0])

    def score(
        self,
        history: Ids,
        candidates: Ids,
        likes_level: Ids | None = None,
        views_level: Ids | None = None,
    ) -> np.ndarray:
        """float64 (C,): probabilities of a click on each of `candidates`, which may repeat.

        Levels (C,) are 0 to 10; without them an item has those that it was last shown with.
        InputError for a candidate that the model does not know, or a level out of range. What is
        left out of the history is logged.
        """
        return self.told(history).score(candidates, likes_level, views_level)

    def rank(self, history: Ids, k: int = 10, *, seen: bool = False) -> Ranking:
        """The `k` most likely of all items, but those of the history unless they may be `seen`."""
        return self.told(history).rank(k, seen=seen)

    def dense(self, ids: Ids, what: str) -> np.ndarray:
        """int64 (n,). InputError for what is no list of ids that the model knows."""
        raw = self._ids(ids, what)
        dense = self.ids.dense(raw)
        if (dense <= 0).any():
            unknown = raw[dense <= 0]
            raise InputError(
                f"{what}: {some(unknown)} {'is' if len(unknown) == 1 else 'are'} not among the "
                f"{len(self):,} items of {self.folder}; leave out what it does not know"
            )
        return dense.astype(np.int64)

    def told(self, history: Ids) -> "Person":
        """As `read`, and what is left out is logged."""
        person = self.read(history)
        if len(person.unknown):
            log.warning("history: unknown and left out: %s", some(person.unknown))
        if person.older:
            log.warning("history: its %d oldest items are not read", person.older)
        return person

    def _ids(self, ids: Ids, what: str) -> np.ndarray:
        """int64 (n,) of any list of whole numbers."""
        found = listed(ids)
        if found.ndim != 1 or not (found.dtype.kind in "iu" or found.size == 0):
            raise InputError(f"{what}: expected a list of item ids, whole numbers, found {ids!r}")
        return found.astype(np.int64)


class Person:
    """One history, read."""

    def __init__(self, scorer: Scorer, known: np.ndarray, unknown: np.ndarray) -> None:
        self.scorer, self.unknown = scorer, unknown
        self.seen = scorer.ids.dense(known).astype(np.int64)
        """Dense ids, as old as they may be."""
        self.older = max(0, len(known) - scorer.window)
        """How many are too old to be read."""
        self.items, self.dense = known[self.older :], self.seen[self.older :]
        """Those that are read, the youngest last: raw ids, and dense ones."""
        length = scorer.length
        self.history = scorer.ranker.read(self.dense[-length:] if length else self.dense[:0])

    def score(
        self, candidates: Ids, likes_level: Ids | None = None, views_level: Ids | None = None
    ) -> np.ndarray:
        """As `Scorer.score`."""
        dense = self.scorer.dense(candidates, "candidates")
        return np.asarray(expit(self.logits(dense, likes_level, views_level)))

    def rank(self, k: int = 10, *, seen: bool = False) -> Ranking:
        """As `Scorer.rank`; equals are in the order of their ids."""
        if k < 1:
            raise InputError(f"k: {k}; expected 1 or more")
        candidates = np.arange(1, len(self.scorer) + 1)
        if not seen:
            candidates = np.setdiff1d(candidates, self.seen)
        logits = self.logits(candidates)
        best = np.argsort(-logits, kind="stable")[:k]
        items = candidates[best]
        titles = [str(title) for title in self.scorer.titles[items]]
        return Ranking(self.scorer.raw[items], expit(logits[best]), titles)

    def why(self, candidates: Ids) -> np.ndarray:
        """float64 (C, n): what each item of the history adds to a candidate's log odds.

        That is what they lose if the model is asked without it; of all that the model reads of it,
        attention and counts alike. Below 0 an item speaks against the candidate.
        """
        dense = self.scorer.dense(candidates, "candidates")
        whole = self.logits(dense)
        without = [
            Person(self.scorer, np.delete(self.items, place), self.unknown).logits(dense)
            for place in range(len(self.items))
        ]
        return whole[:, None] - np.array(without).reshape(len(self.items), len(dense)).T

    def logits(
        self,
        candidates: np.ndarray,
        likes_level: Ids | None = None,
        views_level: Ids | None = None,
    ) -> np.ndarray:
        """float64 (C,), of dense ids, int64 (C,)."""
        scorer = self.scorer
        given = {"likes_level": likes_level, "views_level": views_level}
        likes, views = (
            of_item[candidates] if levels is None else checked(levels, name, len(candidates))
            for (name, levels), of_item in zip(
                given.items(), (scorer.likes, scorer.views), strict=True
            )
        )
        if not scorer.features.levels:
            likes, views = np.zeros_like(likes), np.zeros_like(views)

        found = np.empty(len(candidates))
        for start in range(0, len(candidates), AT_A_TIME):
            part = slice(start, start + AT_A_TIME)
            numbers = np.empty((len(found[part]), 0), np.float32)
            if scorer.numbers:
                numbers = scorer.numbers(self.dense, candidates[part])
            rows = Rows(candidates[part], likes[part], views[part], numbers)
            found[part] = scorer.ranker.logits(self.history, rows)
        return found


def row_numbers(package: Package, settings: Train) -> RowNumbers | None:
    """What computes the numbers that the model reads; none where it reads none."""
    told, features = package.numbers, settings.features
    read = {
        name for kind, names in told["kinds"].items() if getattr(features, kind) for name in names
    }
    if not read:
        return None
    names = [name for name in told["names"] if name in read]
    standard = Standard(
        np.array([told["names"].index(name) for name in names]),
        np.array([told["mean"][name] for name in names]),
        np.array([told["deviation"][name] for name in names]),
    )
    section = Companions.model_validate(told["settings"])
    window = min(section.window, told["history"])
    tallies = read_tallies(package.folder)
    if tallies is None:
        raise InputError(
            f"{package.path(TALLIES)}: has nothing, since `companions.tallies` was off, and the "
            "model reads what is computed of it; switch that on and run `dvc repro package`"
        )
    unit = of_length_1(package.arrays["content"])
    return RowNumbers(tallies, unit, section, standard, window)


def checked(levels: Ids, name: str, count: int) -> np.ndarray:
    """int64 (C,)."""
    found = listed(levels)
    whole = found.shape == (count,) and (found.dtype.kind in "iu" or not count)
    if not whole or not ((found >= 0) & (found < LEVELS)).all():
        raise InputError(
            f"{name}: expected {count} whole numbers from 0 to {LEVELS - 1}, one a candidate, "
            f"found {levels!r}"
        )
    return found.astype(np.int64)


def listed(given: Ids) -> np.ndarray:
    """As an array, of no dimension where lists of several lengths are in it."""
    try:
        return np.asarray(given)
    except ValueError:
        return np.empty(())


def some(ids: np.ndarray) -> str:
    more = f" and {len(ids) - TOLD:,} more" if len(ids) > TOLD else ""
    return ", ".join(map(str, ids[:TOLD].tolist())) + more
