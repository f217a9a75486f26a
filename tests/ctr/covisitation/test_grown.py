from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctr.covisitation.grown import GrownArray


@given(
    st.lists(st.integers(0, 5), max_size=6),
    st.sampled_from([(), (1,), (4,), (2, 3)]),
    st.sampled_from([np.int32, np.int64, np.float32, np.bool_]),
)
def test_the_parts_in_their_order(
    tmp_path_factory: pytest.TempPathFactory,
    lengths: list[int],
    of_row: tuple[int, ...],
    dtype: type[np.generic],
) -> None:
    path = tmp_path_factory.mktemp("grown") / "a.npy"
    rng = np.random.default_rng(sum(lengths))
    parts = [rng.normal(0, 9, (length, *of_row)) for length in lengths]
    with GrownArray(path, dtype, *of_row) as grown:
        for part in parts:
            grown.append(part)
    expected = np.concatenate([np.zeros((0, *of_row)), *parts]).astype(dtype)
    for mode in (None, "r"):
        found = np.load(path, mmap_mode=mode)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected)
    np.save(path.with_name("b.npy"), expected)
    assert path.read_bytes() == path.with_name("b.npy").read_bytes()


def test_columns_of_a_larger_array(tmp_path: Path) -> None:
    """They do not lie side by side."""
    table = np.arange(12, dtype=np.int32).reshape(4, 3)
    with GrownArray(tmp_path / "a.npy", np.int32) as grown:
        grown.append(table[:, 1])
    assert np.load(tmp_path / "a.npy").tolist() == [1, 4, 7, 10]


def test_a_part_of_another_width_is_refused(tmp_path: Path) -> None:
    with GrownArray(tmp_path / "a.npy", np.int32, 2) as grown:
        grown.append(np.ones((3, 2)))
        with pytest.raises(ValueError, match=r"rows of \(2,\), found \(3,\)"):
            grown.append(np.ones((3, 3)))
    assert np.load(tmp_path / "a.npy").tolist() == [[1, 1]] * 3
