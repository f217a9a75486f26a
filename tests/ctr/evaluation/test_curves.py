import numpy as np
import pytest
from sklearn.metrics import roc_curve

from ctr.evaluation.curves import ROC_POINTS, auc_by, bin_label, roc, scores

STARTS = (0, 1, 5, 10)


def test_roc_runs_from_corner_to_corner() -> None:
    label = np.random.default_rng(1).integers(0, 2, 5_000)
    curve = roc(label, np.random.default_rng(2).random(5_000))
    assert len(curve) <= ROC_POINTS
    assert curve.iloc[0].tolist() == [0, 0]
    assert curve.iloc[-1].tolist() == [1, 1]
    assert np.trapezoid(curve["true_positive_rate"], curve["false_positive_rate"]) == pytest.approx(
        0.5, abs=0.03
    )


def test_roc_turns_where_scikit_learns_does() -> None:
    label = np.array([1, 1, 0, 1, 0, 0, 1, 0])
    probability = np.array([0.9, 0.8, 0.8, 0.7, 0.6, 0.5, 0.5, 0.1])
    expected = np.column_stack(roc_curve(label, probability)[:2])
    assert roc(label, probability).to_numpy() == pytest.approx(expected)


def test_scores_are_shares_of_their_label() -> None:
    label = np.array([1, 1, 1, 1, 0])
    table = scores(label, np.array([0.0, 0.01, 0.051, 1.0, 0.5]))
    clicked = table[table["label"] == "clicked"].set_index("probability")["share"]
    others = table[table["label"] == "not clicked"].set_index("probability")["share"]
    assert clicked[clicked > 0].to_dict() == {0.025: 0.5, 0.075: 0.25, 0.975: 0.25}
    assert others[others > 0].to_dict() == {0.525: 1.0}


def test_scores_of_a_label_that_has_no_rows() -> None:
    table = scores(np.zeros(3), np.full(3, 0.5))
    assert table.groupby("label")["share"].sum().to_dict() == {"clicked": 0.0, "not clicked": 1.0}


def test_auc_of_each_bin_that_has_both_labels() -> None:
    values = np.array([0, 0, 1, 4, 4, 5, 9, 10, 99])
    label = np.array([1, 0, 1, 0, 1, 1, 1, 0, 1])
    probability = np.array([0.9, 0.1, 0.2, 0.5, 0.7, 0.1, 0.2, 0.8, 0.3])
    table = auc_by("items", values, STARTS, label, probability)
    assert table.to_dict("list") == {
        "items": ["0", "1-4", "10+"],  # both rows of 5-9 are clicked
        "auc": [1.0, 0.5, 0.0],
        "rows": [2, 3, 2],
    }


def test_no_bin_with_both_labels() -> None:
    assert auc_by("items", np.array([3]), STARTS, np.array([1]), np.array([0.5])).empty


def test_labels_of_bins() -> None:
    assert [bin_label(STARTS, number) for number in range(4)] == ["0", "1-4", "5-9", "10+"]
