"""No row of train is described by its own click, nor by another one of its user.

The items' vectors, which similarity is taken of, are given here: `align` learns them of train.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ctr.companions import described, unit_vectors
from ctr.covisitation.describe import Describer
from ctr.covisitation.pairs import recent
from ctr.evaluation.metrics import auc
from pipeline.common import paths
from pipeline.common.files import read_array
from pipeline.settings.ctr.companions import Companions
from pipeline.tables.split import Split
from tests.whole.leakage.worlds import Run, small_params

SECTION = small_params(Path("nowhere")).companions
OfARow = Callable[[Split, int], Split]


@pytest.fixture
def train(reference: Run, monkeypatch: pytest.MonkeyPatch) -> Split:
    """Of a world in the working directory."""
    monkeypatch.chdir(reference.work)
    return Split(np.array(read_array(paths.split_path("train"))))


def numbers(train: Split, rows: np.ndarray, section: Companions = SECTION) -> np.ndarray:
    """Of some rows of train, one by one, since a row may be rounded otherwise among others."""
    describer = Describer(train, read_array(paths.TAGS), unit_vectors(), section)
    history, fold = recent(train, rows, section.window), describer.folds[train.user[rows]]
    found = [
        describer(int(train.target[row]), history[place, None], fold[place, None].astype(int))[0]
        for place, row in enumerate(rows)
    ]
    return np.stack(found)


def active_users(train: Split) -> list[int]:
    """With clicks and passes."""
    mixed = [user for user in np.unique(train.user) if train.label[train.user == user].any()]
    return [int(user) for user in mixed if not train.label[train.user == user].all()]


def copy_of(train: Split) -> Split:
    return Split(train.rows.copy())


def flipped(train: Split, row: int) -> Split:
    """Its own label."""
    changed = copy_of(train)
    changed.label[row] = 1 - changed.label[row]
    return changed


def all_flipped(train: Split, row: int) -> Split:
    """The labels of all its user's rows."""
    changed = copy_of(train)
    of_user = train.user == train.user[row]
    changed.label[of_user] = 1 - changed.label[of_user]
    return changed


def others_redrawn(train: Split, row: int) -> Split:
    """Targets, labels and histories of its user's other rows."""
    changed = copy_of(train)
    others = np.flatnonzero((train.user == train.user[row]) & (np.arange(len(train)) != row))
    assert len(others) > 1
    rng = np.random.default_rng(row)
    changed.target[others] = rng.integers(1, len(read_array(paths.TAGS)), len(others))
    changed.label[others] = rng.integers(0, 2, len(others))
    changed.history[others] = rng.permuted(changed.history[others], axis=0)
    return changed


@pytest.mark.parametrize("change", [flipped, all_flipped, others_redrawn])
def test_what_its_user_did_tells_nothing_of_a_row(train: Split, change: OfARow, long: bool) -> None:
    """To the last bit, for counts are sums of multiples of 2^-20."""
    for user in active_users(train)[: 30 if long else 4]:
        row = int(np.flatnonzero(train.user == user)[1])
        others = np.flatnonzero(train.user != user)[:40]
        changed = change(train, row)
        np.testing.assert_array_equal(
            numbers(changed, np.array([row])), numbers(train, np.array([row]))
        )
        moved = np.abs(numbers(changed, others) - numbers(train, others)).max(1)
        assert (moved > 1e-6).mean() > 0.3, "the change reaches nobody"


def test_nor_do_the_other_rows_of_its_fold(train: Split) -> None:
    fold = Describer(train, read_array(paths.TAGS), unit_vectors(), SECTION).folds[train.user]
    own, others = np.flatnonzero(fold == 1), np.flatnonzero(fold != 1)
    changed = copy_of(train)
    changed.label[own] = 1 - changed.label[own]
    np.testing.assert_array_equal(numbers(changed, own[:40]), numbers(train, own[:40]))
    assert not np.allclose(numbers(changed, others[:40]), numbers(train, others[:40]))


class Tastes(NamedTuple):
    """Users like items of their own group; nothing else is to be known."""

    train: Split
    valid: Split
    describer: Describer


USERS, ITEMS, GROUPS, ROWS, LONGEST = 300, 60, 3, 3000, 12


def tastes(seed: int) -> Tastes:
    rng = np.random.default_rng(seed)
    of_user, of_item = rng.integers(0, GROUPS, USERS), np.arange(ITEMS) % GROUPS

    def split() -> Split:
        user, target = rng.integers(0, USERS, ROWS), rng.integers(0, ITEMS, ROWS)
        liked = GROUPS * rng.integers(0, ITEMS // GROUPS, (ROWS, LONGEST)) + of_user[user, None]
        anything = rng.integers(0, ITEMS, (ROWS, LONGEST))
        history = np.where(rng.random((ROWS, LONGEST)) < 0.7, liked, anything) + 1
        history[np.arange(LONGEST) < rng.integers(0, LONGEST - 2, (ROWS, 1))] = 0
        label = rng.random(ROWS) < np.where(of_item[target] == of_user[user], 0.8, 0.2)
        columns = [history, target + 1, np.zeros((ROWS, 2)), label, user + 1]
        return Split(np.column_stack(columns).astype(np.int32))

    train, valid = split(), split()
    nothing = np.zeros((ITEMS + 1, 1), np.int32), np.zeros((ITEMS + 1, 2), np.float32)
    return Tastes(train, valid, Describer(train, *nothing, SECTION))


class Aucs(NamedTuple):
    train: float
    valid: float


def learned(train: np.ndarray, valid: np.ndarray, world: Tastes) -> Aucs:
    """By a linear model of train's numbers."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    model.fit(train, world.train.label)
    seen, unseen = (model.predict_proba(rows)[:, 1] for rows in (train, valid))
    found = auc(world.train.label, seen), auc(world.valid.label, unseen)
    return Aucs(*(value for value in found if value is not None))


def test_numbers_that_hold_the_rows_own_click_teach_little_of_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the folds are for: described by all of train its rows tell their labels."""
    monkeypatch.chdir(tmp_path)
    world = tastes(seed=1)
    splits = {"train": world.train, "valid": world.valid, "as valid": world.train}
    with described(splits, world.describer, ITEMS + 1) as raw:
        without, valid, with_own = (np.array(rows) for rows in raw.values())
    honest, fooled = learned(without, valid, world), learned(with_own, valid, world)
    print(honest, fooled)
    assert honest.valid > 0.7
    assert honest.train == pytest.approx(honest.valid, abs=0.05)
    assert fooled.train > 0.9
    assert fooled.valid < honest.valid - 0.04
