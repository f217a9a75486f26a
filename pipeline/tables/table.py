"""Columns of the raw parquet files as checked numpy arrays.

Nothing here turns rows into Python objects: 3.6 million histories of 100 ids pass as flat arrays.
Every fault is an InputError that names file, row (counted from 0) and column.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.common.files import InputError, some_of

BATCH_ROWS = 16_384
"""Rows read at a time: 13 MB of histories, small enough that freed memory is used again."""

BUFFER = 1 << 20
"""Bytes read at a time; else pyarrow holds a column of a row group, perhaps a million rows."""

UNREADABLE = (pa.ArrowException, OSError, UnicodeDecodeError)
"""What pyarrow raises on damaged files; the last one for names of columns."""


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

    def refuse_repeats(self, values: np.ndarray) -> None:
        """Raise for the first row whose value, of `values` (n,), an earlier row has."""
        again = np.full(len(values), True)
        again[np.unique(values, return_index=True)[1]] = False
        for index in np.flatnonzero(again)[:1]:
            first = int(np.flatnonzero(values == values[index])[0])
            raise self.fault(
                int(index), f"{values[index]} again", f"it is in row {first} already; give it once"
            )

    def integers(self, low: int, high: int, expected: str) -> np.ndarray:
        """int64 (n,), every value within low..high."""
        if not pa.types.is_integer(self.values.type):
            raise self.wrong_type("integers")
        self.refuse_nulls()
        values = self.values.to_numpy(zero_copy_only=False)
        self.first((values < low) | (values > high), values, expected)
        return values.astype(np.int64, copy=False)

    def strings(self) -> list[str]:
        """Text (n,) without the white space around it, null as ''."""
        kind = self.values.type
        if not (
            pa.types.is_null(kind)  # what pandas writes where no row has any
            or pa.types.is_string(kind)
            or pa.types.is_large_string(kind)
            or pa.types.is_string_view(kind)
        ):
            raise self.wrong_type("text")
        texts = []
        for index, encoded in enumerate(self.values.cast(pa.large_binary()).to_pylist()):
            try:
                texts.append((encoded or b"").decode().strip())
            except UnicodeDecodeError as error:
                found = f"bytes that are not UTF-8 ({error.reason} at byte {error.start})"
                raise self.fault(index, found, "write the text in UTF-8") from None
        return texts

    def integer_lists(self) -> tuple[np.ndarray, np.ndarray]:
        """All rows' integers after one another, and the length of each row's list (null: 0).

        Lists that are all empty or null may be of nothing, as pandas writes them.
        """
        if self._holds_nothing():
            return np.empty(0, np.int64), np.zeros(len(self.values), np.int64)
        self._refuse_all_but_lists("integer")
        return self._flat(), self._lengths()

    def integer_matrix(self, width: int | None, remedy: str) -> np.ndarray:
        """Integers (n, width); None is as wide as the first row."""
        return self._matrix("integer", width, remedy)

    def float_matrix(self, width: int | None = None) -> np.ndarray:
        """float32 (n, width), all finite; None is as wide as the first row."""
        stored = self._matrix("floating", width, "every row needs a vector of one length")
        with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite: refused below
            matrix = stored.astype(np.float32, copy=False)
        self.first(~np.isfinite(matrix), stored, "expected a finite number of 32 bits")
        return matrix

    def _matrix(self, is_kind: str, width: int | None, remedy: str) -> np.ndarray:
        """(n, width), n and width at least 1; None is as wide as the first row."""
        self._refuse_all_but_lists(is_kind)
        self.refuse_nulls()
        lengths = self._lengths()
        width = int(lengths[0]) if width is None else width
        if not width:
            raise self.fault(0, "an empty list", "expected at least one value")
        for index in np.flatnonzero(lengths != width)[:1]:
            raise self.fault(
                int(index), f"{lengths[index]} items", f"expected {width} items: {remedy}"
            )
        return self._flat().reshape(-1, width)

    def _holds_nothing(self) -> bool:
        """Whether no type is known, for want of a single value."""
        kind = self.values.type
        of_null = _is_list(kind) and pa.types.is_null(kind.value_type)
        return pa.types.is_null(kind) or bool(of_null and not self._lengths().any())

    def _refuse_all_but_lists(self, is_kind: str) -> None:
        kind = self.values.type
        if not _is_list(kind) or not getattr(pa.types, f"is_{is_kind}")(kind.value_type):
            raise self.wrong_type(f"lists of {is_kind} values")

    def _flat(self) -> np.ndarray:
        """The items of a list column, all rows after one another."""
        flat = self.values.flatten()
        if flat.null_count:
            item = pc.index(pc.is_null(flat), True).as_py()
            index = int(np.searchsorted(np.cumsum(self._lengths()), item, side="right"))
            raise self.fault(index, "a list with an empty place (null)", "fill it or drop it")
        return np.asarray(flat.to_numpy(zero_copy_only=False))

    def _lengths(self) -> np.ndarray:
        """int64 (n,): items of each row's list, 0 for null."""
        lengths = pc.fill_null(pc.list_value_length(self.values), 0)
        return lengths.to_numpy(zero_copy_only=False).astype(np.int64)


def _is_list(kind: pa.DataType) -> bool:
    return (
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )


def _not_there(path: Path) -> InputError:
    """What lies where `path` was expected: perhaps it under another name, or a folder deeper."""
    if os.path.lexists(path):
        return InputError(f"{path}: not a file; the raw layout has a parquet file here")
    near = next(folder for folder in path.parents if folder.is_dir())
    names = [each.name for each in near.iterdir() if not each.name.startswith(".")]
    return InputError(
        f"{path}: not found; the raw layout has a parquet file here. {near} holds {some_of(names)}"
    )


class RawTable:
    """A raw parquet file, open for reading by column and in order."""

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        """Open `path` and check that it has `columns`."""
        self.path = path
        if not path.is_file():
            raise _not_there(path)
        try:
            self._file = pq.ParquetFile(
                path, pre_buffer=False, buffer_size=BUFFER, page_checksum_verification=True
            )
            self.names = tuple(self._file.schema_arrow.names)
        except UNREADABLE as error:
            raise self._unreadable(error) from None
        missing = [name for name in columns if not self.has(name)]
        if missing:
            raise InputError(
                f"{path}: no column {', '.join(missing)}; it has {', '.join(self.names)}"
            )
        if not len(self):
            raise InputError(f"{path}: has no rows; expected at least one")

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def has(self, name: str) -> bool:
        """Whether there is a column `name`; InputError if there are two."""
        if self.names.count(name) > 1:
            raise InputError(f"{self.path}: column {name} is there twice; expected it once")
        return name in self.names

    def batches(self, *columns: str) -> Iterator[dict[str, Column]]:
        """The named columns, some ten thousand rows at a time, in file order."""
        first_row = 0
        try:
            for batch in _ahead(self._file.iter_batches(BATCH_ROWS, columns=list(columns))):
                if (stop := first_row + batch.num_rows) > len(self):
                    self._refuse_other_count(stop)
                yield {name: self._column(batch.column(name), name, first_row) for name in columns}
                first_row = stop
        except UNREADABLE as error:
            raise self._unreadable(error) from None
        self._refuse_other_count(first_row)

    def column(self, name: str) -> Column:
        """One whole column, for tables of one row an item and columns of one number a row."""
        try:
            whole = self._file.read(columns=[name]).column(name).combine_chunks()
        except UNREADABLE as error:
            if not pa.types.is_dictionary(self._file.schema_arrow.field(name).type):
                raise self._unreadable(error) from None
            whole = self._as_stored(name)
        self._refuse_other_count(len(whole))
        return self._column(whole, name, 0)

    def _as_stored(self, name: str) -> pa.Array:
        """A column without the Arrow type that its writer noted in the footer.

        Of a dictionary with text that is not UTF-8 pyarrow refuses the whole column and does not
        say where; the plain text can be looked through.
        """
        try:
            content = bytearray(self.path.read_bytes())
            note = content.rfind(b"ARROW:schema")
            content[note : note + 5] = b"arrow"
            file = pq.ParquetFile(pa.py_buffer(content), page_checksum_verification=True)
            return file.read(columns=[name]).column(name).combine_chunks()
        except UNREADABLE as error:
            raise self._unreadable(error) from None

    def _column(self, values: pa.Array, name: str, first_row: int) -> Column:
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        return Column(values, self.path, name, first_row)

    def _refuse_other_count(self, rows: int) -> None:
        """pyarrow reads damaged files with more or fewer rows than their footer counts."""
        if rows != len(self):
            raise self._unreadable(ValueError(f"its columns do not have {len(self)} rows each"))

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
