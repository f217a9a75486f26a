from collections.abc import Callable

import numpy as np
import pytest

from ctr.evaluation.metrics import auc, gauc, logloss
from gallery.page.uncertainty import auc_error, errors, gauc_error, logloss_error, over_users

USERS, MOST = 300, 8
METRICS: dict[str, Callable[..., float | None]] = {
    "auc": lambda label, score, _: auc(label, score),
    "gauc": gauc,
    "logloss": lambda label, score, _: logloss(label, score),
}


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


@pytest.mark.parametrize("name", METRICS)
def test_the_error_is_how_far_other_users_move_the_metric(name: str) -> None:
    label, score, user = world()
    rng, rows = np.random.default_rng(1), [np.flatnonzero(user == one) for one in np.unique(user)]
    found = []
    for _ in range(600):
        drawn = [rows[place] for place in rng.integers(0, len(rows), len(rows))]
        place = np.concatenate(drawn)
        as_drawn = np.repeat(np.arange(len(drawn)), [len(each) for each in drawn])
        found.append(METRICS[name](label[place], score[place], as_drawn))
    assert getattr(errors(label, score, user), name) == pytest.approx(
        np.std(np.array(found, float)), rel=0.1
    )


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
    assert errors(label[order], score[order], user[order]) == pytest.approx(
        errors(label, score, user)
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
    assert errors(label[:1], score[:1], user[:1]) == (None, None, None)
    assert errors(label[:0], score[:0], user[:0]) == (None, None, None)
    assert over_users(np.array([0.5, -0.5]), np.array([4, 4])) is None


def test_certainty_that_was_wrong_has_an_error_all_the_same() -> None:
    label, user = np.array([1, 0, 1]), np.array([1, 2, 3])
    found = logloss_error(label, np.array([1.0, 0.0, 0.0]), user)
    assert found is not None
    assert np.isfinite(found)
    assert found > 1
