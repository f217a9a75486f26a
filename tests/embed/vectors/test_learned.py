"""Of made-up statistics, item by item."""

from dataclasses import replace

import numpy as np

from embed.vectors.behaviour import Behaviour
from embed.vectors.learned import learned

SEEN = Behaviour(
    company=np.array([[0, 0], [1, 0], [0, 2], [3, 1], [0, 0], [0, 0.0]]),
    appeal=np.array([0, 1, -1, 0.5, 2, 0]),
    shown=np.array([0, 10, 30, 90, 5, 0]),
    known=np.array([0, 1, 1, 1, 0, 0], bool),
    pairs=7,
)
PRESENT = np.array([0, 1, 1, 0, 1, 1], bool)
TOLD = np.array([[0, 0, 0], [1, 1, 1], [2, 0, 1], [0, 0, 0], [3, 3, 3], [-4, 4, 4]], np.float32)


def test_an_item_is_its_clicks_and_its_content_by_how_often_it_is_shown() -> None:
    found = learned(TOLD, PRESENT, SEEN, balance=10.0)
    assert found.dtype == np.float32
    own = np.column_stack([SEEN.company, SEEN.appeal])
    shift = (TOLD[1] + TOLD[2] - own[1] - own[2]) / 2  # over items that have both
    expected = [
        [0, 0, 0],
        (own[1] + shift + TOLD[1]) / 2,
        (30 * (own[2] + shift) + 10 * TOLD[2]) / 40,
        0.9 * (own[3] + shift),  # without content
        [*TOLD[4, :2], (5 * (own[4, 2] + shift[2]) + 10 * TOLD[4, 2]) / 15],  # in no pair
        TOLD[5],
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_without_content_clicks_are_all_there_is() -> None:
    nothing = np.zeros((6, 0), np.float32)
    found = learned(nothing, np.zeros(6, bool), SEEN, balance=10.0)
    known = SEEN.known
    own = np.column_stack([SEEN.company, SEEN.appeal])[known]
    weight = np.array([1 / 2, 3 / 4, 9 / 10])[:, None]
    np.testing.assert_allclose(found[known], weight * (own - own.mean(0)), rtol=1e-6)
    assert not found[~known, :-1].any()
    assert not found[[0, 5]].any()


def test_without_clicks_there_are_no_columns() -> None:
    unknown = replace(SEEN, known=np.zeros(6, bool))
    assert learned(TOLD, PRESENT, unknown, balance=10.0).shape == (6, 0)
