import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.raw.items import pad_left


@given(st.lists(st.lists(st.integers(1, 99), max_size=9), max_size=12), st.integers(1, 6))
def test_pad_left_keeps_the_last_values(rows: list[list[int]], width: int) -> None:
    values = np.array([value for row in rows for value in row], np.int64)
    lengths = np.array([len(row) for row in rows], np.int64)
    expected = [([0] * width + row)[-width:] for row in rows]
    assert pad_left(values, lengths, width).tolist() == expected
