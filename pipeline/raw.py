"""Columns of the raw parquet files as checked numpy arrays.

Nothing here turns rows into Python objects: 3.6 million histories of 100 ids pass as flat arrays.
Every fault is an InputError that names file, row (counted from 0) and column.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.schema import InputError

BATCH_ROWS = 16_384
"""Rows read at a time: 13 MB of histories, small enough that freed memory is used again."""


@dataclass(frozen=True)
class Column:
    """A column's values in some consecutive rows, and where they stand for error messages."""

    values: pa.Array
    path: Path
    name: str
    first_row: int

    def fault(self, index: int, found: object, expected: str) -> InputError:
        """The error for row `index` of this piece."""
        row = self.first_row + index
        return InputError(f"{self.path}, row {row}, column {self.name}: found {found}; {expected}")

    def wrong_type(self, expected: str) -> InputError:
        return InputError(
            f"{self.path}, column {self.name}: found type {self.values.type}; expected {expected}"
        )

    def refuse_nulls(self) -> None:
        if self.values.null_count:
            index = pc.index(pc.is_null(self.values), True).as_py()
            raise self.fault(index, "no value (null)", "every row needs one")

    def first(self, wrong: np.ndarray, values: np.ndarray, expected: str) -> None:
        """Raise for the first row of `wrong` (n,) bool or (n, width) bool, if there is one."""
        if wrong.any():
            index = int(np.flatnonzero(wrong)[0])
            row = index // wrong.shape[1] if wrong.ndim == 2 else index
            raise self.fault(row, values.reshape(-1)[index], expected)

    def integers(self, low: int, high: int, expected: str) -> np.ndarray:
        """int64 (n,), every value within low..high."""
        if not pa.types.is_integer(self.values.type):
            raise self.wrong_type("integers")
        self.refuse_nulls()
        values = self.values.to_numpy(zero_copy_only=False)
        self.first((values < low) | (values > high), values, expected)
        return values.astype(np.int64, copy=False)

    def strings(self) -> list[str]:
        """Text (n,), null and blank as ''."""
        kind = self.values.type
        if not (
            pa.types.is_string(kind)
            or pa.types.is_large_string(kind)
            or pa.types.is_string_view(kind)
        ):
            raise self.wrong_type("text")
        try:
            self.values.validate(full=True)
        except pa.ArrowInvalid as error:
            raise InputError(
                f"{self.path}, column {self.name}: not valid UTF-8 ({error})"
            ) from None
        trimmed = pc.utf8_trim_whitespace(pc.fill_null(self.values.cast(pa.large_string()), ""))
        return list(trimmed.to_pylist())

    def _flat(self, is_kind: str) -> np.ndarray:
        """The items of a list column, all rows after one another."""
        kind = self.values.type
        if not (
            pa.types.is_list(kind)
            or pa.types.is_large_list(kind)
            or pa.types.is_fixed_size_list(kind)
        ) or not getattr(pa.types, f"is_{is_kind}")(kind.value_type):
            raise self.wrong_type(f"lists of {is_kind} values")
        flat = self.values.flatten()
        if flat.null_count:
            item = pc.index(pc.is_null(flat), True).as_py()
            index = int(np.searchsorted(np.cumsum(self.lengths()), item, side="right"))
            raise self.fault(index, "a list with an empty place (null)", "fill it or drop it")
        return np.asarray(flat.to_numpy(zero_copy_only=False))

    def lengths(self) -> np.ndarray:
        """int64 (n,): items of each row's list, 0 for null."""
        lengths = pc.fill_null(pc.list_value_length(self.values), 0)
        return lengths.to_numpy(zero_copy_only=False).astype(np.int64)

    def integer_lists(self) -> tuple[np.ndarray, np.ndarray]:
        """All rows' integers after one another, and the length of each row's list (null: 0)."""
        return self._flat("integer"), self.lengths()

    def integer_matrix(self, width: int, remedy: str) -> np.ndarray:
        """Integers (n, width)."""
        self.refuse_nulls()
        flat = self._flat("integer")
        self._refuse_other_widths(width, remedy)
        return flat.reshape(-1, width)

    def float_matrix(self, width: int) -> np.ndarray:
        """float32 (n, width), all finite."""
        self.refuse_nulls()
        flat = self._flat("floating")
        self._refuse_other_widths(width, "every row needs a vector of one length")
        if not width:
            raise self.fault(0, "an empty vector", "expected numbers")
        matrix = flat.astype(np.float32, copy=False).reshape(-1, width)
        self.first(~np.isfinite(matrix), matrix, "expected a finite number")
        return matrix

    def _refuse_other_widths(self, width: int, remedy: str) -> None:
        lengths = self.lengths()
        for index in np.flatnonzero(lengths != width)[:1]:
            raise self.fault(
                int(index), f"{lengths[index]} items", f"expected {width} items: {remedy}"
            )


class RawTable:
    """A raw parquet file, open for reading by column and in order."""

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        """Open `path` and check that it has `columns`."""
        self.path = path
        if not path.is_file():
            raise InputError(f"{path}: not found; the raw layout needs this file")
        try:
            self._file = pq.ParquetFile(path)
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from None
        self.names = tuple(self._file.schema_arrow.names)
        missing = [name for name in columns if name not in self.names]
        if missing:
            raise InputError(
                f"{path}: no column {', '.join(missing)}; it has {', '.join(self.names)}"
            )
        doubled = [name for name in columns if self.names.count(name) > 1]
        if doubled:
            raise InputError(f"{path}: column {doubled[0]} is there twice; expected it once")
        if not len(self):
            raise InputError(f"{path}: has no rows; expected at least one")

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def batches(self, *columns: str) -> Iterator[dict[str, Column]]:
        """The named columns, some ten thousand rows at a time, in file order."""
        first_row = 0
        try:
            for batch in _ahead(self._file.iter_batches(BATCH_ROWS, columns=list(columns))):
                yield {name: self._column(batch.column(name), name, first_row) for name in columns}
                first_row += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from None

    def column(self, name: str) -> Column:
        """One whole column, for tables of one row an item and columns of one number a row."""
        try:
            whole = self._file.read(columns=[name]).column(name).combine_chunks()
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from None
        return self._column(whole, name, 0)

    def _column(self, values: pa.Array, name: str, first_row: int) -> Column:
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        return Column(values, self.path, name, first_row)

    def _unreadable(self, error: Exception) -> InputError:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return InputError(
            f"{self.path}: not a readable parquet file ({reason}); "
            "it may be cut short: copy or download it again"
        )


def _ahead(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same batches, the next one decoded in a thread while the caller works on this one."""
    with ThreadPoolExecutor(1) as decoder:
        following = decoder.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = decoder.submit(next, batches, None)
            yield batch
