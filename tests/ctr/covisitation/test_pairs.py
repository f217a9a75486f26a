from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr.covisitation import pairs as module
from ctr.covisitation.pairs import (
    Folds,
    Pairs,
    order_by,
    pairs_of_rows,
    pairs_within_histories,
    recent,
)
from pipeline.tables.split import Split
from tests.ctr.covisitation.made_up import ITEMS, made_up, splits
from tests.support.references import covisitation as plain
from tests.support.terminal import bars

windows = st.integers(1, 10)


def folds_of(train: Split) -> Folds:
    return Folds.of(train, 3, seed=7)


def found_pairs(pairs: Pairs) -> list[tuple[int, ...]]:
    """(first, other, fold, age), as they lie."""
    first = np.repeat(np.arange(ITEMS + 1), np.diff(pairs.start))
    return list(zip(*(x.tolist() for x in (first, *pairs[1:])), strict=True))


def expected_pairs(pairs: Sequence[plain.Pair], folds: Folds) -> list[tuple[int, ...]]:
    fold = dict(zip(folds.users.tolist(), folds.fold.tolist(), strict=True))
    return sorted((pair.later, pair.earlier, fold[pair.user], pair.age) for pair in pairs)


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), max_size=30))
def test_places_in_the_order_of_their_keys(keys: list[int]) -> None:
    order, start = order_by(np.array(keys, np.int32), 6)
    assert order.tolist() == sorted(range(len(keys)), key=lambda place: keys[place])
    assert start.tolist() == [sum(key < value for key in keys) for value in range(7)]


@settings(deadline=None)
@given(splits, st.sampled_from([0, 1]), windows)
def test_targets_with_the_last_items_of_their_histories(
    train: Split, label: int, window: int
) -> None:
    folds = folds_of(train)
    rows = np.flatnonzero(train.label == label)
    found = pairs_of_rows(train, rows, folds, ITEMS + 1, window)
    expected = plain.pairs_of_rows(train, label, window)
    assert sorted(found_pairs(found)) == expected_pairs(expected, folds)
    assert found.start.tolist()[-1] == len(found.other)
    kinds = [column.dtype for column in found]
    assert kinds == [np.int64, np.int32, np.uint8, np.uint16]


@settings(deadline=None)
@given(splits, st.integers(0, 10))
def test_items_of_first_histories_with_each_other(train: Split, window: int) -> None:
    folds = folds_of(train)
    found = pairs_within_histories(train, folds, ITEMS + 1, window)
    expected = plain.pairs_within_histories(train, window)
    assert sorted(found_pairs(found)) == expected_pairs(expected, folds)


@settings(deadline=None)
@given(splits)
def test_pairs_turned_and_joined(train: Split) -> None:
    folds = folds_of(train)
    with bars() as shown:
        clicked = pairs_of_rows(train, np.flatnonzero(train.label), folds, ITEMS + 1, 4)
        within = pairs_within_histories(train, folds, ITEMS + 1, 2)
        turned, both = clicked.turned(), clicked.with_those(within)
    assert [bar.n for bar in shown] == [bar.total for bar in shown]
    assert len({bar.desc for bar in shown}) == len(shown) == 4
    assert sorted((other, first, *more) for first, other, *more in found_pairs(turned)) == sorted(
        found_pairs(clicked)
    )
    assert sorted(found_pairs(both)) == sorted(found_pairs(clicked) + found_pairs(within))


@pytest.mark.parametrize("at_a_time", [1, 7])
def test_parts_of_the_rows_change_nothing(at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    train = made_up(3)
    folds, rows = folds_of(train), np.arange(len(train))

    def both() -> list[list[tuple[int, ...]]]:
        of_rows = pairs_of_rows(train, rows, folds, ITEMS + 1, 4)
        return [
            found_pairs(of_rows),
            sorted(found_pairs(pairs_within_histories(train, folds, ITEMS + 1, 2))),
        ]

    expected = both()
    monkeypatch.setattr(module, "ROWS_AT_A_TIME", at_a_time)
    assert both() == expected


def test_a_window_longer_than_the_history() -> None:
    split = Split(np.array([[0, 4, 2, 3, 0, 0, 1, 1], [5, 6, 7, 8, 0, 0, 1, 1]], np.int32))
    rows = np.array([1, 0])
    assert recent(split, rows, 2).tolist() == [[7, 6], [2, 4]]
    assert recent(split, rows, 9).tolist() == [[7, 6, 5], [2, 4, 0]]


def users_of(*users: int) -> Split:
    rows = np.zeros((len(users), 6), np.int32)
    rows[:, -1] = users
    return Split(rows)


def test_a_user_is_in_one_fold_and_the_folds_are_alike() -> None:
    rng = np.random.default_rng(1)
    train = users_of(*rng.integers(1, 1000, 5000))
    for count in (2, 7, 10):
        folds = Folds.of(train, count, seed=2025)
        fold = folds[train.user]
        users = np.unique(train.user)
        assert all(len(set(fold[train.user == user])) == 1 for user in users[:50])
        sizes = np.bincount(folds.fold, minlength=count)
        assert len(sizes) == count
        assert sizes.min() > 0.9 * len(users) / count
        shifted = np.roll(folds.fold, 1)
        assert (folds.fold == shifted).mean() < 2 / count, "neighbours are not always together"


def test_other_numbers_for_the_same_users_leave_the_folds_as_they_are() -> None:
    """Ids are ranks over all splits, which users of valid alone may shift."""
    before, after = (Folds.of(users_of(*users), 3, 5) for users in ([4, 9, 5, 9], [14, 29, 15, 29]))
    assert before.fold.tolist() == after.fold.tolist()
    users = users_of(*range(1, 100))
    seeds = {Folds.of(users, 3, seed).fold.tobytes() for seed in range(3)}
    assert len(seeds) == 3
