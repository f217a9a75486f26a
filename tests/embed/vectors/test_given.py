from pathlib import Path

import numpy as np
import pytest

from embed.vectors.given import given_vectors
from pipeline.common.files import InputError, write_array


def test_zero_rows_are_absent_and_row_0_is_padding(tmp_path: Path) -> None:
    write_array(tmp_path / "v.npy", np.array([[7.0, 7], [1, 2], [0, 0], [0, -3]]))
    vectors, present = given_vectors(tmp_path / "v.npy", "fuse.given")
    assert vectors.dtype == np.float32
    assert vectors.tolist() == [[0, 0], [1, 2], [0, 0], [0, -3]]
    assert present.tolist() == [False, True, False, True]


def test_vectors_that_are_not_finite_name_file_and_row(tmp_path: Path) -> None:
    write_array(tmp_path / "v.npy", np.array([[0.0, 0], [1, 2], [0, np.nan], [np.inf, 0]]))
    with pytest.raises(InputError, match=r"v\.npy: row 2 .* 1 others"):
        given_vectors(tmp_path / "v.npy", "fuse.given")


def test_none_names_the_setting(tmp_path: Path) -> None:
    write_array(tmp_path / "v.npy", np.zeros((3, 0), np.float32))
    with pytest.raises(InputError, match=r"fuse\.given"):
        given_vectors(tmp_path / "v.npy", "fuse.given")
