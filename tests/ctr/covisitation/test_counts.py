from collections.abc import Sequence
from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr.covisitation import counts as module
from ctr.covisitation.counts import Contrast, Counts, Information, weights, without_fold
from ctr.covisitation.pairs import Folds, pairs_of_rows
from pipeline.tables.split import Split
from tests.ctr.covisitation.made_up import ITEMS, made_up, splits
from tests.support.references import covisitation as plain

K, WINDOW = 3, 5
EVERY_ITEM, EVERY_FOLD = list(range(ITEMS + 1)), np.arange(K + 1)
slowly = settings(max_examples=30, deadline=None)
decays = st.sampled_from([1.0, 0.9, 0.5, 0.01])


def users_of_folds(train: Split) -> list[set[int]]:
    """Of each fold; of none in the end."""
    folds = Folds.of(train, K, seed=7)
    return [set(folds.users[folds.fold == fold].tolist()) for fold in range(K)] + [set()]


def counts_of(train: Split, decay: float, label: int = 1, *, turned: bool = False) -> Counts:
    folds = Folds.of(train, K, seed=7)
    pairs = pairs_of_rows(train, np.flatnonzero(train.label == label), folds, ITEMS + 1, WINDOW)
    return Counts(pairs.turned() if turned else pairs, weights(decay, WINDOW), K)


def plain_counts(train: Split, decay: float, label: int = 1) -> Sequence[plain.Counted]:
    """Without each fold, and of all."""
    pairs = plain.pairs_of_rows(train, label, WINDOW)
    return [plain.Counted(pairs, decay, users) for users in users_of_folds(train)]


def with_every_item(counts: Counts, item: int) -> np.ndarray:
    """(K + 1, N + 1): a row for each fold."""
    other = np.tile(EVERY_ITEM, (K + 1, 1))
    known = counts.known(item, other, EVERY_FOLD)
    found = np.zeros(other.shape)
    found.ravel()[known.place] = counts.at(known)
    return found


def informed(by: Information, item: int, other: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """(n, W), of `other` (n, W) and `fold` (n,)."""
    return by.at(by.counts.known(item, other, fold))


def contrasted(by: Contrast, item: int, other: np.ndarray, fold: np.ndarray) -> np.ndarray:
    return by.at(by.clicked.known(item, other, fold), by.passed.known(item, other, fold))


def test_weights_are_multiples_of_what_sums_exactly() -> None:
    found = weights(0.9, 100)
    assert found[:2].tolist() == [1.0, 943718 / 2**20]
    assert (found * 2**20 % 1 == 0).all()
    np.testing.assert_allclose(found, 0.9 ** np.arange(100), rtol=0, atol=2**-21)
    assert weights(1.0, 4).tolist() == [1.0] * 4


def test_sums_without_one() -> None:
    assert without_fold(np.array([[1, 2], [10, 20], [100, 200]])).tolist() == [
        [110, 220],
        [101, 202],
        [11, 22],
        [111, 222],
    ]


@slowly
@given(splits, decays)
def test_pairs_of_two_items_without_a_fold(train: Split, decay: float) -> None:
    """Exactly: a fold that is left out leaves nothing behind."""
    counts, expected = counts_of(train, decay), plain_counts(train, decay)
    turned = counts_of(train, decay, turned=True)
    for item in EVERY_ITEM:
        found = with_every_item(counts, item)
        for fold, counted in enumerate(expected):
            assert found[fold].tolist() == [counted.both.get((item, i), 0.0) for i in EVERY_ITEM]
        found = with_every_item(turned, item)
        for fold, counted in enumerate(expected):
            assert found[fold].tolist() == [counted.both.get((i, item), 0.0) for i in EVERY_ITEM]


@slowly
@given(splits, decays, st.integers(1, 8))
def test_pairs_of_one_item_without_a_fold(train: Split, decay: float, at_a_time: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PAIRS_AT_A_TIME", at_a_time)
        counts, turned = counts_of(train, decay), counts_of(train, decay, turned=True)
    for fold, counted in enumerate(plain_counts(train, decay)):
        later = [counted.later.get(item, 0.0) for item in EVERY_ITEM]
        earlier = [counted.earlier.get(item, 0.0) for item in EVERY_ITEM]
        assert counts.of_first[fold].tolist() == turned.of_other[fold].tolist() == later
        assert counts.of_other[fold].tolist() == turned.of_first[fold].tolist() == earlier


@slowly
@given(splits, decays, st.sampled_from([0.01, 1.0, 30.0]), st.sampled_from([0.0, 0.3, 5.0]))
def test_information_is_what_its_formula_says(
    train: Split, decay: float, smoothing: float, shrinkage: float
) -> None:
    added = smoothing, shrinkage
    after = Information(counts_of(train, decay), *added, later_first=True)
    before = Information(counts_of(train, decay, turned=True), *added, later_first=False)
    other = np.tile(EVERY_ITEM, (K + 1, 1))
    for item in EVERY_ITEM:
        found_after, found_before = (
            informed(each, item, other, EVERY_FOLD) for each in (after, before)
        )
        for fold, counted in enumerate(plain_counts(train, decay)):
            np.testing.assert_allclose(
                found_after[fold],
                [counted.information(item, i, ITEMS, *added) for i in EVERY_ITEM],
                rtol=1e-9,
                atol=1e-12,
            )
            np.testing.assert_allclose(
                found_before[fold],
                [counted.information(i, item, ITEMS, *added) for i in EVERY_ITEM],
                rtol=1e-9,
                atol=1e-12,
            )


def test_information_by_hand() -> None:
    """Item 2 is taken twice after 1, and once after 3; item 4 never."""
    rows = [[1, 2, 0, 0, 1, 8], [1, 2, 0, 0, 1, 8], [3, 2, 0, 0, 1, 8], [1, 4, 0, 0, 0, 8]]
    found = Information(counts_of(Split(np.array(rows)), 1.0), 2.0, 0.0, later_first=True)
    share = 3.5 / (3 + 0.5 * (ITEMS + 1))
    (after_1, after_3, after_4), (no_fold,) = (
        informed(found, 2, np.array([[1, 3, 4]]), np.array([K]))[0],
        informed(found, 4, np.array([[9]]), np.array([K]))[0],
    )
    assert after_1 == pytest.approx(log((2 + 2 * share) / (2 + 2) / share))
    assert after_3 == pytest.approx(log((1 + 2 * share) / (1 + 2) / share))
    assert after_4 == pytest.approx(0, abs=1e-12)
    assert no_fold == pytest.approx(0, abs=1e-12)
    own = Folds.of(Split(np.array(rows)), K, seed=7).fold[0]
    assert informed(found, 2, np.array([[1, 3]]), np.array([own])) == pytest.approx(0, abs=1e-12)
    shrunk = Information(counts_of(Split(np.array(rows)), 1.0), 2.0, 0.3, later_first=True)
    (after_1,) = informed(shrunk, 2, np.array([[1]]), np.array([K]))[0]
    assert after_1 == pytest.approx(log((2 + 2 * share + 0.3) / (2 * share + 2 * share + 0.3)))


@slowly
@given(splits, st.sampled_from([0.1, 5.0]))
def test_contrast_is_what_its_formula_says(train: Split, prior: float) -> None:
    rate = np.random.default_rng(len(train)).uniform(0.1, 0.9, (K + 1, ITEMS + 1))
    clicked, passed = (counts_of(train, 1.0, label) for label in (1, 0))
    found_by = Contrast(clicked, passed, rate, prior)
    of_clicked, of_passed = (plain_counts(train, 1.0, label) for label in (1, 0))
    for item in EVERY_ITEM:
        found = contrasted(found_by, item, np.tile(EVERY_ITEM, (K + 1, 1)), EVERY_FOLD)
        expected = [
            [
                plain.contrast(
                    of_clicked[fold].both.get((item, i), 0.0),
                    of_passed[fold].both.get((item, i), 0.0),
                    rate[fold, item],
                    prior,
                )
                for i in EVERY_ITEM
            ]
            for fold in range(K + 1)
        ]
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_a_click_raises_and_a_pass_lowers_the_contrast() -> None:
    train = made_up(5)
    rate = np.full((K + 1, ITEMS + 1), 0.5)
    clicked, passed = (counts_of(train, 1.0, label) for label in (1, 0))
    for item in range(1, ITEMS):
        more = with_every_item(clicked, item)[K] - with_every_item(passed, item)[K]
        by = Contrast(clicked, passed, rate, 1.0)
        found = contrasted(by, item, np.array([EVERY_ITEM]), np.array([K]))
        assert np.sign(found[0]).tolist() == np.sign(more).tolist()
