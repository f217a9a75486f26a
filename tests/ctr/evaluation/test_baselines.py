import numpy as np
import pytest

from ctr.evaluation.baselines import counts, mean_labels, single_feature_aucs
from pipeline.tables.split import Split


def test_statistics_by_hand() -> None:
    seen, label = np.array([1, 1, 2]), np.array([1, 0, 1])
    assert counts(seen, np.array([1, 2, 5])).tolist() == [2, 1, 0]
    prior = 2 / 3
    expected = [(1 + 10 * prior) / 12, (1 + 10 * prior) / 11, prior]
    assert mean_labels(seen, label, np.array([1, 2, 5])) == pytest.approx(expected)


def test_aucs_use_the_labels_of_train_alone() -> None:
    # history, target, likes, views, label, user
    train = Split(np.array([[0, 1, 0, 0, 1, 1], [0, 2, 0, 0, 0, 2], [0, 2, 0, 0, 0, 2]]))
    valid = Split(np.array([[0, 1, 3, 0, 1, 1], [7, 2, 3, 9, 0, 2]]))
    expected = {
        "item_count": 0.0,
        "item_mean": 1.0,
        "user_mean": 1.0,
        "likes_level": 0.5,
        "views_level": 0.0,
        "history_length": 0.0,
    }
    assert single_feature_aucs(train, valid) == expected
    flipped = valid.rows.copy()
    flipped[:, -2] = 1 - flipped[:, -2]
    found = single_feature_aucs(train, Split(flipped))
    assert found == {name: 1 - value for name, value in expected.items()}
