"""Columns of another type than they should have, as far as a value can be one."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from tests.whole.fuzz.support.folder import FLOATS, INT, INTS, TEXT, Folder, Place

Types = list[tuple[pa.DataType, Callable[[Any], Any]]]
"""Each with how a value of it is made of a right one."""

INTEGER_TYPES: Types = [
    (pa.float64(), float),
    (pa.float32(), lambda _: float("nan")),
    (TEXT, str),
    (pa.binary(), lambda value: str(value).encode()),
    (pa.bool_(), bool),
    (pa.timestamp("us"), int),
    (pa.duration("ms"), int),
    (pa.decimal128(38), Decimal),
    (INTS, lambda value: [value]),
    (pa.struct({"item_id": INT}), lambda value: {"item_id": value}),
    (pa.null(), lambda _: None),
]
LIST_TYPES: Types = [
    (pa.list_(TEXT), lambda row: [str(value) for value in row]),
    (pa.list_(pa.bool_()), lambda row: [bool(value) for value in row]),
    (pa.list_(pa.timestamp("us")), lambda row: [int(value) for value in row]),
    (INT, len),
    (pa.float64(), lambda row: float(len(row))),
    (TEXT, str),
    (pa.struct({"element": INTS}), lambda row: {"element": [int(value) for value in row]}),
    (pa.map_(INT, INT), lambda row: [(int(value), 1) for value in row]),
    (pa.null(), lambda _: None),
]
INTEGER_LIST_TYPES = [
    *(each for each in LIST_TYPES if each[0] != pa.null()),  # as tags they are none
    (FLOATS, lambda row: [float(value) for value in row]),
    (pa.list_(INTS), lambda row: [row]),
]
VECTOR_TYPES = [
    *LIST_TYPES,
    (INTS, lambda row: [int(value) for value in row]),
    (pa.list_(FLOATS), lambda row: [row]),
]
TITLE_TYPES: Types = [
    (INT, len),
    (pa.bool_(), bool),
    (pa.binary(), str.encode),
    (pa.list_(TEXT), list),
    (pa.timestamp("us"), len),
    (pa.struct({"text": TEXT}), lambda title: {"text": title}),
]


def another_type(types: Types) -> Callable[[Folder, Place, st.DrawFn], str]:
    """All values as one of `types`."""

    def spoil(folder: Folder, place: Place, draw: st.DrawFn) -> str:
        folder.kinds[place], convert = draw(st.sampled_from(types))
        values = folder.values(place)
        values[:] = [None if value is None else convert(value) for value in values]
        return f", column {place.column}: found type "

    return spoil
