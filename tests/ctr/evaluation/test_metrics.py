import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from ctr.evaluation.metrics import auc, calibration, calibration_error, gauc, logloss


def pairwise_auc(label: np.ndarray, score: np.ndarray) -> float:
    """The definition: the share of (positive, negative) pairs in the right order, ties half."""
    wins = [
        (p > n) + 0.5 * (p == n)
        for p in score[label == 1].tolist()
        for n in score[label == 0].tolist()
    ]
    return float(np.mean(wins))


rows = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 1), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9])),
    min_size=1,
    max_size=60,
)


@settings(deadline=None)
@given(rows)
def test_gauc_is_the_weighted_mean_of_each_users_auc(
    rows: list[tuple[int, int, float]],
) -> None:
    user, label, score = (np.array(column) for column in zip(*rows, strict=True))
    aucs, weights = [], []
    for one in np.unique(user):
        mine = user == one
        if 0 < label[mine].sum() < mine.sum():
            aucs.append(roc_auc_score(label[mine], score[mine]))
            weights.append(mine.sum())
    found = gauc(label, score, user)
    if aucs:
        assert found == pytest.approx(np.average(aucs, weights=weights), abs=1e-12)
    else:
        assert found is None


@given(rows)
def test_auc_is_the_share_of_ordered_pairs(rows: list[tuple[int, int, float]]) -> None:
    _, label, score = (np.array(column) for column in zip(*rows, strict=True))
    found = auc(label, score)
    if 0 < label.sum() < len(label):
        assert found == pytest.approx(pairwise_auc(label, score), abs=1e-12)
    else:
        assert found is None


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1, width=32)), min_size=1, max_size=60))
def test_both_are_those_of_scikit_learn(rows: list[tuple[int, float]]) -> None:
    label, probability = (np.array(column) for column in zip(*rows, strict=True))
    expected = log_loss(label, probability, labels=[0, 1])
    assert logloss(label, probability) == pytest.approx(expected, rel=1e-12, abs=1e-15)
    if len({*label}) == 2:
        expected = roc_auc_score(label, probability)
        assert auc(label, probability) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(value: float) -> None:
    for metric in (auc, logloss):
        with pytest.raises(ValueError, match="expected finite numbers"):
            metric(np.array([0, 1]), np.array([0.5, value]))


def test_logloss_in_nats() -> None:
    label, probability = np.array([1, 0, 1]), np.array([0.5, 0.25, 1.0])
    expected = -(np.log(0.5) + np.log(0.75) + np.log(1.0)) / 3
    assert logloss(label, probability) == pytest.approx(expected)
    assert logloss(np.empty(0, int), np.empty(0)) is None


def test_calibration_by_hand() -> None:
    label = np.array([0, 1, 1, 1, 0])
    probability = np.array([0.1, 0.2, 0.8, 1.0, 0.9])
    bins = calibration(label, probability, bins=2)
    assert bins["rows"].tolist() == [2, 3]
    assert bins["predicted"] == pytest.approx([0.15, 0.9])
    assert bins["observed"] == pytest.approx([0.5, 2 / 3])
    expected = (2 * 0.35 + 3 * (0.9 - 2 / 3)) / 5
    assert calibration_error(label, probability, bins=2) == pytest.approx(expected)
    assert calibration_error(np.empty(0, int), np.empty(0), bins=2) is None
