import numpy as np
import pytest

from pipeline.tables.auc import auc


def test_auc_is_the_share_of_ordered_pairs() -> None:
    label, score = np.array([0, 1, 0, 1, 1]), np.array([0.1, 0.1, 0.5, 0.9, 0.3])
    pairs = [
        1.0 if score[i] > score[j] else 0.5 if score[i] == score[j] else 0.0
        for i in np.flatnonzero(label)
        for j in np.flatnonzero(label == 0)
    ]
    assert auc(label, score) == pytest.approx(np.mean(pairs))
    for only in (np.ones(3), np.zeros(3), np.full(3, -1), np.zeros(0)):
        assert auc(only, only) is None
