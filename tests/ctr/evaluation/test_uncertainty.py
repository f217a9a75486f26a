from collections.abc import Callable, Iterator

import numpy as np
import pytest

from ctr.evaluation.metrics import auc, gauc, logloss
from ctr.evaluation.uncertainty import gauc_error, logloss_error
from pipeline.tables.auc import auc_error, auc_gain_error, over_users

USERS, MOST = 300, 8
METRICS: dict[str, Callable[..., float | None]] = {
    "auc": lambda label, score, _: auc(label, score),
    "gauc": gauc,
    "logloss": lambda label, score, _: logloss(label, score),
}
ERRORS = {"auc": auc_error, "gauc": gauc_error, "logloss": logloss_error}


def world(seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """label, probability, user: rows of one user have much in common, and clicked or not are scored
    high of one and low of another; some scores are tied.
    """
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(USERS) * 7, rng.integers(1, MOST, USERS))
    taste = rng.normal(size=USERS).repeat(np.unique(user, return_counts=True)[1])
    fit = rng.normal(size=len(user))
    label = (fit + rng.normal(size=len(user)) / 2 > 0).astype(int)
    return label, (1 / (1 + np.exp(-fit - 2 * taste))).round(2).clip(0.01, 0.99), user


def redrawn(user: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows of as many users, drawn with replacement, and whose they are as drawn."""
    rng, rows = np.random.default_rng(1), [np.flatnonzero(user == one) for one in np.unique(user)]
    for _ in range(600):
        drawn = [rows[place] for place in rng.integers(0, len(rows), len(rows))]
        yield np.concatenate(drawn), np.repeat(np.arange(len(drawn)), [*map(len, drawn)])


@pytest.mark.parametrize("name", METRICS)
def test_the_error_is_how_far_other_users_move_the_metric(name: str) -> None:
    label, score, user = world()
    found = [METRICS[name](label[place], score[place], who) for place, who in redrawn(user)]
    assert ERRORS[name](label, score, user) == pytest.approx(
        np.std(np.array(found, float)), rel=0.1
    )


def test_that_of_a_gain_is_how_far_they_move_the_difference() -> None:
    """Both scores rank the same rows, so it is far less than those of the two AUCs."""
    label, score, user = world()
    other = score + np.random.default_rng(2).normal(size=len(score)) / 10
    found = [auc(label[at], score[at]) - auc(label[at], other[at]) for at, _ in redrawn(user)]  # type: ignore[operator]
    error = auc_gain_error(label, score, other, user)
    assert error == pytest.approx(np.std(found), rel=0.1)
    alone = auc_error(label, score, user)
    assert alone is not None
    assert error is not None
    assert error < alone / 2
    assert auc_gain_error(label, score, score, user) == 0


def test_where_every_user_has_one_row_it_is_that_of_delong() -> None:
    label, score, _ = world()
    wins = (score[label == 1][:, None] > score[label == 0]) * 1.0
    wins += (score[label == 1][:, None] == score[label == 0]) / 2
    variance = sum(wins.mean(axis).var() / wins.shape[1 - axis] for axis in (0, 1))
    assert auc_error(label, score, np.arange(len(label))) == pytest.approx(variance**0.5, rel=2e-3)


def test_what_rows_of_one_user_have_in_common_counts() -> None:
    label, score, _ = world()
    twice = np.tile(np.arange(len(label)), 2)
    alone = auc_error(label, score, np.arange(len(label)))
    assert alone is not None
    assert auc_error(label[twice], score[twice], twice) == pytest.approx(alone)
    assert auc_error(label[twice], score[twice], np.arange(2 * len(label))) == pytest.approx(
        alone / 2**0.5, rel=1e-3
    )


def test_it_does_not_depend_on_the_order_of_rows() -> None:
    label, score, user = world()
    order = np.random.default_rng(0).permutation(len(label))
    for error in ERRORS.values():
        assert error(label[order], score[order], user[order]) == pytest.approx(
            error(label, score, user)
        )


def test_gauc_is_of_the_users_with_both_labels_alone() -> None:
    label, user = np.array([1, 0, 1, 0, 0, 1, 1]), np.array([1, 1, 2, 2, 2, 3, 3])
    score = np.array([0.9, 0.1, 0.5, 0.5, 0.2, 0.3, 0.4])  # AUC 1 over 2 rows, 3/4 over 3
    mean = (2 * 1 + 3 * 0.75) / 5
    sums = np.array([2 / 5 * (1 - mean), 3 / 5 * (0.75 - mean)])
    assert gauc_error(label, score, user) == pytest.approx((2 * (sums**2).sum()) ** 0.5)
    assert gauc(label, score, user) == pytest.approx(mean)


def test_what_cannot_be_known_is_none() -> None:
    label, score, user = world()
    assert auc_error(np.ones_like(label), score, user) is None
    assert gauc_error(np.ones_like(label), score, user) is None
    assert auc_gain_error(np.ones_like(label), score, score, user) is None
    for error in ERRORS.values():
        assert error(label[:1], score[:1], user[:1]) is None
        assert error(label[:0], score[:0], user[:0]) is None
    assert over_users(np.array([0.5, -0.5]), np.array([4, 4])) is None


def test_certainty_that_was_wrong_has_an_error_all_the_same() -> None:
    label, user = np.array([1, 0, 1]), np.array([1, 2, 3])
    found = logloss_error(label, np.array([1.0, 0.0, 0.0]), user)
    assert found is not None
    assert np.isfinite(found)
    assert found > 1
