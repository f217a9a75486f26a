import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr.covisitation.pooling import POOLED, pooled
from tests.support.references import covisitation as plain


@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 6),
    st.integers(1, 25),
    st.sampled_from([0.1, 0.9, 1.0]),
)
def test_histories_of_every_length_as_in_a_loop(
    seed: int, rows: int, window: int, decay: float
) -> None:
    rng = np.random.default_rng(seed)
    length = rng.integers(0, window + 1, rows)
    real = np.arange(window) < length[:, None]
    values = rng.normal(size=(2, rows, window))
    found = pooled(values, real, decay)
    assert found.shape == (2, rows, len(POOLED))
    for statistic in range(2):
        for row in range(rows):
            expected = plain.pooled(values[statistic, row, : length[row]].tolist(), decay)
            named = dict(zip(POOLED, found[statistic, row].tolist(), strict=True))
            assert named == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_what_lies_in_the_padding_is_not_seen() -> None:
    real = np.array([[True, True, False], [False, False, False]])
    values = np.array([[-1.0, -3.0, 50.0], [40.0, 60.0, 70.0]])
    found = pooled(values, real, 0.5)
    assert dict(zip(POOLED, found[0].tolist(), strict=True)) == pytest.approx(
        {
            "mean_3": -2.0,
            "mean_10": -2.0,
            "mean": -2.0,
            "max_10": -1.0,
            "max": -1.0,
            "last": -1.0,
            "decayed": -2.5 / 1.5,
        }
    )
    assert not found[1].any()


def test_numbers_that_are_not_finite_in_the_padding_do_no_harm() -> None:
    values = np.array([[2.0, np.nan, np.inf]])
    found = pooled(values, np.array([[True, False, False]]), 0.9)
    assert found.tolist() == [[2.0] * len(POOLED)]
