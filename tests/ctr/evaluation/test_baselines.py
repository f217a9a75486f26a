from collections.abc import Mapping

import numpy as np
import pytest

from ctr.evaluation import baselines
from ctr.evaluation.baselines import (
    RowNumbers,
    best_numbers,
    counts,
    mean_labels,
    single_features,
)
from ctr.evaluation.metrics import auc
from pipeline.tables.split import Split

KINDS = {"one": ["a", "b"], "two": ["c"]}
ROWS = [[3, 0, 2], [1, 1, 2], [2, 2, 2], [0, 3, 1]]
"""Of the numbers a, b, c."""


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
    assert aucs(single_features(train, valid), valid) == expected
    flipped = valid.rows.copy()
    flipped[:, -2] = 1 - flipped[:, -2]
    found = aucs(single_features(train, Split(flipped)), Split(flipped))
    assert found == {name: 1 - value for name, value in expected.items()}


def aucs(scores: Mapping[str, np.ndarray], valid: Split) -> dict[str, float | None]:
    return {name: auc(valid.label, score) for name, score in scores.items()}


def chosen(train: Split, valid: Split, read: RowNumbers) -> dict[str, tuple[str, float | None]]:
    """Of each kind the number, and its AUC on valid."""
    found = best_numbers(train, read)
    return {kind: (best.name, auc(valid.label, best.score)) for kind, best in found.items() if best}


def labelled(*labels: int) -> Split:
    return Split(np.array([[0, 1, 0, 0, label, 1] for label in labels], np.int32))


def numbers(train: list[list[int]], valid: list[list[int]]) -> RowNumbers:
    of_train, of_valid = (np.array(rows, np.float16) for rows in (train, valid))
    return RowNumbers(["a", "b", "c"], KINDS, of_train, of_valid)


def test_a_number_is_chosen_on_train_and_told_on_valid() -> None:
    """Of the first kind b has 0 on train and 1/4 on valid, where a has 1."""
    train, valid = labelled(1, 1, 0, 0), labelled(1, 0, 1, 0)
    read = numbers([[2, 0, 2], [1, 1, 2], [3, 2, 2], [0, 3, 1]], ROWS)
    assert chosen(train, valid, read) == {"one": ("-b", 0.75), "two": ("c", 0.75)}


def test_the_first_of_equally_good_numbers_is_taken() -> None:
    """a has 1 on train, b 0."""
    train, valid = labelled(1, 1, 0, 0), labelled(0, 0, 1, 1)
    read = numbers([[3, 0, 2], [2, 1, 2], [1, 2, 2], [0, 3, 1]], ROWS)
    assert chosen(train, valid, read)["one"] == ("a", 0.25)


def test_the_choice_is_made_on_the_last_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """On all of train a has 3/4, b 5/8; on the last three rows a has 1/2, b 1."""
    train, valid = labelled(1, 0, 1, 0), labelled(1, 0, 0, 1)
    read = numbers([[9, 0, 0], [1, 1, 0], [1, 2, 0], [1, 0, 0]], ROWS)
    assert chosen(train, valid, read)["one"][0] == "a"
    monkeypatch.setattr(baselines, "CHOICE_ROWS", 3)
    assert chosen(train, valid, read)["one"] == ("b", 0.5)


def test_where_train_has_one_class_no_number_is_chosen() -> None:
    read = numbers(ROWS, ROWS)
    assert best_numbers(labelled(1, 1, 1, 1), read) == {"one": None, "two": None}


def test_where_valid_has_one_class_the_number_has_no_auc() -> None:
    read = numbers(ROWS, ROWS)
    found = chosen(labelled(1, 1, 0, 0), labelled(1, 1, 1, 1), read)
    assert found == {"one": ("-b", None), "two": ("c", None)}
