"""A .npy file of more rows than memory may hold, written a part at a time."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

import numpy as np
from numpy.lib import format as npy


class GrownArray(AbstractContextManager["GrownArray"]):
    """How many rows it has is told by its header, and known when the block ends."""

    def __init__(self, path: Path, dtype: type[np.generic], *of_row: int) -> None:
        """`of_row` is the shape of a row."""
        self.dtype, self.of_row, self.rows = np.dtype(dtype), of_row, 0
        self.file = path.open("wb")
        self._write_header()

    def append(self, rows: np.ndarray) -> None:
        """(k, *of_row), of any type that becomes `dtype`. ValueError for another shape."""
        if rows.shape[1:] != self.of_row:
            raise ValueError(f"expected rows of {self.of_row}, found {rows.shape[1:]}")
        self.file.write(np.ascontiguousarray(rows, self.dtype).data)
        self.rows += len(rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self.file:
            self.file.seek(0)
            self._write_header()

    def _write_header(self) -> None:
        """As long for any number of rows: numpy leaves room for it."""
        shape = (self.rows, *self.of_row)
        described = {"descr": npy.dtype_to_descr(self.dtype), "fortran_order": False}
        npy.write_array_header_1_0(self.file, described | {"shape": shape})
