"""Unusual ways to store the same values, none of which may make a difference."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from tests.whole.fuzz.support.cover_dresses import COVER_DRESSES
from tests.whole.fuzz.support.folder import FLOATS, INT, INTS, TEXT, Folder, Place, as_array

Dress = Callable[[Folder, st.DrawFn], bool]
"""False where the folder has nothing that can be stored like this."""

INTEGER_KINDS = [
    *(pa.int8(), pa.int16(), pa.int32(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    pa.dictionary(pa.int8(), INT),
]
TEXT_KINDS = [
    pa.large_string(),
    pa.string_view(),
    pa.dictionary(pa.int8(), TEXT),
    pa.dictionary(pa.int32(), pa.large_string()),
]
EMPTY: st.SearchStrategy[list[int] | None] = st.sampled_from([None, []])
ELEMENTS = {INTS: [INT, *INTEGER_KINDS], FLOATS: [pa.float32(), pa.float16(), pa.float64()]}
LISTS = [pa.list_, pa.large_list, pa.list_view, pa.large_list_view]


def stored_as(usual: pa.DataType, kinds: list[pa.DataType]) -> Dress:
    """Some column of type `usual` as one of `kinds`."""

    def dress(folder: Folder, draw: st.DrawFn) -> bool:
        kind = draw(st.sampled_from(kinds))
        fitting = [
            place
            for place in folder.places()
            if place not in folder.kinds
            and folder.kind(place) == usual
            and fits(folder.values(place), kind)
        ]
        if fitting:
            folder.kinds[draw(st.sampled_from(fitting))] = kind
        return bool(fitting)

    return dress


def nothing(usual: pa.DataType, *kinds: pa.DataType) -> Dress:
    """Titles or tags, none of which is there, as columns of no type; pandas writes them."""

    def dress(folder: Folder, draw: st.DrawFn) -> bool:
        kind = draw(st.sampled_from(kinds))
        fitting = [
            place
            for place in folder.places()
            if place not in folder.kinds
            and place.column in ("item_title", "item_tags")
            and folder.kind(place) == usual
        ]
        for place in fitting:
            empty = None if pa.types.is_null(kind) or usual == TEXT else draw(EMPTY)
            folder.tables[place.table][place.column] = [empty] * folder.rows(place.table)
            folder.kinds[place] = kind
        return bool(fitting)

    return dress


def unsigned_histories(folder: Folder, _: st.DrawFn) -> bool:
    """NumPy compares uint64 with int64 as floats, which cannot tell huge ids apart."""
    places = [place for place in folder.places() if place.column == "item_seq"]
    usual = [
        place
        for place in places
        if place not in folder.kinds and fits(folder.values(place), pa.list_(pa.uint64()))
    ]
    folder.kinds.update(dict.fromkeys(usual, pa.list_(pa.uint64())))
    return bool(usual)


def fits(values: list[Any], kind: pa.DataType) -> bool:
    try:
        as_array(values, kind)
    except (pa.ArrowException, OverflowError):
        return False
    return True


def fixed_size_lists(folder: Folder, draw: st.DrawFn) -> bool:
    """Lists that all have one length, as that type."""
    kinds: dict[Place, pa.DataType] = {}
    for place in folder.places():
        usual = folder.kind(place)
        if place not in folder.kinds and usual in ELEMENTS:
            lengths = {len(value) for value in folder.values(place) if value is not None}
            if len(lengths) == 1 and lengths != {0}:
                kinds[place] = pa.list_(usual.value_type, lengths.pop())
    if kinds:
        place = draw(st.sampled_from(list(kinds)))
        folder.kinds[place] = kinds[place]
    return bool(kinds)


def tables(folder: Folder) -> st.SearchStrategy[str]:
    return st.sampled_from(list(folder.tables))


def row_groups(folder: Folder, draw: st.DrawFn) -> bool:
    """Of any size, also empty ones."""
    table = draw(tables(folder))
    rows = folder.rows(table)
    cuts = sorted(draw(st.lists(st.integers(0, rows), max_size=6)))
    ends = [0, *cuts, rows]
    folder.groups[table] = [stop - start for start, stop in pairwise(ends)]
    return True


def empty_row_group_first(folder: Folder, draw: st.DrawFn) -> bool:
    table = draw(tables(folder))
    folder.groups[table] = [0, folder.rows(table), 0]
    return True


def other_order(folder: Folder, draw: st.DrawFn) -> bool:
    table = draw(tables(folder))
    names = folder.names.get(table, list(folder.tables[table]))
    folder.names[table] = list(draw(st.permutations(names)))
    return True


EXTRA: dict[str, tuple[pa.DataType, Any]] = {
    "split": (TEXT, "x"),
    "when": (pa.timestamp("us"), 0),
    "item_id.x": (INT, 1),
    "item_seq.list.element": (INT, -1),
    "nested": (pa.struct({"item_id": INT, "label": FLOATS}), {"item_id": 1, "label": [0.5]}),
    "nothing": (pa.null(), None),
    "": (pa.bool_(), True),
    "__index_level_0__": (INT, 7),
    "название": (pa.decimal128(5), 1),
    "Label": (TEXT, "no"),
}


def extra_columns(folder: Folder, draw: st.DrawFn) -> bool:
    table = draw(tables(folder))
    names = folder.names.get(table, list(folder.tables[table]))
    for name in draw(st.sets(st.sampled_from(sorted(EXTRA)), min_size=1)):
        kind, value = EXTRA[name]
        folder.kinds[Place(table, name)] = kind
        folder.tables[table][name] = [value] * folder.rows(table)
        names.insert(draw(st.integers(0, len(names))), name)
    folder.names[table] = names
    return True


def written_with(**options: Any) -> Dress:
    """Some table with these options of the parquet writer."""

    def dress(folder: Folder, draw: st.DrawFn) -> bool:
        folder.options.setdefault(draw(tables(folder)), {}).update(options)
        return True

    return dress


# No tiny `data_page_size`: of a list in a row group of one row pyarrow then reads no rows at all,
# from a file of its own, which ends in an InputError.
OPTIONS: list[dict[str, Any]] = [
    *({"compression": name} for name in ("none", "gzip", "brotli", "lz4", "zstd")),
    {"data_page_version": "2.0"},
    {"version": "1.0"},
    {"use_dictionary": False},
    {"use_dictionary": False, "column_encoding": {"item_id": "DELTA_BINARY_PACKED"}},
    {"store_schema": False},
    {"write_statistics": False},
    {"write_page_checksum": True},
    {"write_batch_size": 1, "dictionary_pagesize_limit": 1},
    {"use_compliant_nested_type": False},
]

DRESSES: dict[str, Dress] = {
    "row groups": row_groups,
    "empty row groups": empty_row_group_first,
    "other order": other_order,
    "extra columns": extra_columns,
    "fixed-size lists": fixed_size_lists,
    "unsigned histories": unsigned_histories,
    "other integers": stored_as(INT, INTEGER_KINDS),
    "other text": stored_as(TEXT, TEXT_KINDS),
    "no text": nothing(TEXT, pa.null()),
    "no tags": nothing(INTS, *(outer(pa.null()) for outer in LISTS), pa.null()),
    **COVER_DRESSES,
    **{
        f"other lists of {usual.value_type}": stored_as(
            usual, [outer(kind) for kind in kinds for outer in LISTS][1:]
        )
        for usual, kinds in ELEMENTS.items()
    },
    **{f"written with {options}": written_with(**options) for options in OPTIONS},
}
