import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.raw.ids import UNKNOWN, DenseIds

small, huge = st.integers(1, 50), st.integers(1, 2**62)


@given(
    st.sets(small | huge, min_size=1, max_size=30),
    st.lists(st.integers(-3, 60) | huge | st.integers(-(2**63), 2**63 - 1), max_size=30),
)
def test_dense_ids_count_the_raw_ids_in_order(known: set[int], asked: list[int]) -> None:
    raw = sorted(known)
    asked += raw
    ids = DenseIds.of(np.array(raw, np.int64))
    expected = [0 if id == 0 else raw.index(id) + 1 if id in known else UNKNOWN for id in asked]
    found = ids.dense(np.array(asked, np.int64))
    assert found.tolist() == expected
    assert found.dtype == np.int32
    assert len(ids) == len(raw)


def test_shape_is_kept() -> None:
    ids = DenseIds.of(np.array([4, 9]))
    assert ids.dense(np.array([[0, 9], [4, 5]])).tolist() == [[0, 2], [1, UNKNOWN]]
    assert DenseIds.of(np.empty(0, np.int64)).dense(np.zeros((2, 3), np.int64)).tolist() == [
        [0, 0, 0],
        [0, 0, 0],
    ]


def test_unsigned_ids_beyond_what_a_float_tells_apart() -> None:
    ids = DenseIds.of(np.array([2**62 - 2, 2**62 - 1, 2**62]))
    asked = np.array([2**62, 2**62 - 1, 0, 2**62 - 3, 2**64 - 1], np.uint64)
    assert ids.dense(asked).tolist() == [3, 2, 0, UNKNOWN, UNKNOWN]
