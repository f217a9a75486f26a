import numpy as np
import pytest

from benchmarks.quality.linear_reader import columns, read
from pipeline.tables.split import Split

VECTORS = np.array([[0, 0], [1, 0], [0, 2], [3, 4]], np.float32)


def split(history: list[list[int]], target: list[int], label: list[int]) -> Split:
    levels = np.array([[5, 6]] * len(target))
    return Split(np.column_stack([history, target, levels, label, target]).astype(np.int32))


def test_columns_of_a_row() -> None:
    found = columns(VECTORS, split([[0, 1, 2], [0, 0, 0]], [3, 1], [1, 0]), 64)
    recent = [1.5, 4.0]  # (3, 4) times (0.5, 1)
    cosines = [0.0, 0.6, 0.8]
    expected = [5, 6, 5.5, 5.5, np.mean(cosines), 0.8, *[np.mean(cosines)] * 2]
    assert found[0] == pytest.approx([*expected, 3, 4, *recent, *recent])
    assert found[1] == pytest.approx([5, 6, *[0] * 6, 1, 0, *[0] * 4])


def test_what_the_vectors_hold_is_read() -> None:
    rng = np.random.default_rng(3)
    vectors = np.concatenate([np.zeros((1, 2)), rng.normal(size=(40, 2)), [[0, 0]]])
    vectors = np.column_stack([vectors, np.zeros(42)]).astype(np.float32)
    target = rng.integers(1, 41, 5000)
    label = (vectors[target, 0] > 0).astype(int)
    label[target > 30] = 1 - label[target > 30]
    rows = split(rng.integers(0, 41, (5000, 4)).tolist(), target.tolist(), label.tolist())
    warm = Split(rows.rows[target <= 30])
    verdict = read(vectors, warm, rows, target > 30, 64)
    assert verdict["auc_warm_items"] == pytest.approx(1, abs=0.02)
    assert verdict["auc_cold_items"] == pytest.approx(0, abs=0.02)
