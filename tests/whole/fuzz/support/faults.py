"""What can be wrong in a raw folder: each fault spoils one and says what the error must name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from tests.whole.fuzz.support.file_faults import FILE_FAULTS
from tests.whole.fuzz.support.folder import (
    EMB,
    FEATURE,
    INFO,
    OPTIONAL,
    SPLITS,
    TEST,
    TRAIN,
    VALID,
    Folder,
    Place,
)
from tests.whole.fuzz.support.type_faults import (
    INTEGER_LIST_TYPES,
    INTEGER_TYPES,
    TITLE_TYPES,
    VECTOR_TYPES,
    another_type,
)

Spoil = Callable[[Folder, Place, st.DrawFn], str]
"""Spoils the column; returns how the message goes on after the file's name."""
Bad = Callable[[Any, Folder, st.DrawFn], Any]
"""A wrong value in place of a right one."""

TARGETS = [Place(split, "item_id") for split in SPLITS]
CLICK_LEVELS = [Place(split, f"{name}_level") for split in SPLITS for name in ("likes", "views")]
USERS = [Place(split, "user_id") for split in SPLITS]
LABELS = [Place(TRAIN, "label"), Place(VALID, "label")]
TEST_ID = [Place(TEST, "ID")]
ITEM_ID, INFO_ID = Place(FEATURE, "item_id"), Place(INFO, "item_id")
EMB_ID, EMB_VECTORS = Place(EMB, "item_id"), Place(EMB, "item_emb_d128_v3")
LATER_IDS = [INFO_ID, EMB_ID]
"""Of tables that speak of the items of the first."""
INTEGERS = [*TARGETS, *CLICK_LEVELS, *USERS, *LABELS, *TEST_ID, ITEM_ID, *LATER_IDS]
HISTORIES = [Place(split, "item_seq") for split in SPLITS]
TITLES = [Place(FEATURE, "item_title")]
TAGS = Place(INFO, "item_tags"), Place(FEATURE, "item_tags")
VECTORS = [
    Place(FEATURE, "txt_emb_BERT"),
    Place(FEATURE, "img_emb_CLIPRN50"),
    Place(INFO, "item_emb_d128"),
    EMB_VECTORS,
]


@dataclass(frozen=True)
class Fault:
    places: list[Place]
    """Where it may be; a place without a column is the whole table."""
    spoil: Spoil

    def possible(self, folder: Folder) -> list[Place]:
        """Its places in `folder`, as far as they are read: tags only where they come from."""
        there = [
            place
            for place in self.places
            if place.table not in folder.tables or place.column in ("", *folder.tables[place.table])
        ]
        unread = {TAGS[1]} if INFO in folder.tables else set()
        absent = {place for place in there if place.table in OPTIONAL - folder.tables.keys()}
        return [place for place in there if place not in unread | absent]


def rows(bad: Bad) -> Spoil:
    """One or two rows get a bad value; the first is named."""

    def spoil(folder: Folder, place: Place, draw: st.DrawFn) -> str:
        values = folder.values(place)
        wrong = draw(st.sets(st.integers(0, len(values) - 1), min_size=1, max_size=2))
        for row in sorted(wrong):
            values[row] = bad(values[row], folder, draw)
        return f", row {min(wrong)}, column {place.column}: "

    return spoil


def one_of(*bad: Any) -> Spoil:
    return rows(lambda _, __, draw: draw(st.sampled_from(bad)))


def unknown_item(_: int, folder: Folder, draw: st.DrawFn) -> int:
    known = {0, *folder.item_ids()}
    ids = st.one_of(st.integers(-3, 50), st.integers(-(2**62), 2**62))
    return draw(ids.filter(lambda item_id: item_id not in known))


def inside(bad: Bad) -> Bad:
    """A list with one bad place."""

    def spoil(value: list[Any] | None, folder: Folder, draw: st.DrawFn) -> list[Any]:
        spoiled = list(value or [0])
        place = draw(st.integers(0, len(spoiled) - 1))
        spoiled[place] = bad(spoiled[place], folder, draw)
        return spoiled

    return spoil


def misplaced_padding(value: list[int], folder: Folder, draw: st.DrawFn) -> list[int]:
    item = folder.item_ids()[0]
    after = draw(st.integers(1, len(value) - 1))
    return [0 if place == after else item for place in range(len(value))]


def not_utf8(value: str | None, _: Folder, draw: st.DrawFn) -> bytes:
    """Stray bytes, a cut character, an encoded surrogate, an overlong form."""
    wrong = draw(st.sampled_from([b"\xff", b"\xf0\x9f", b"\xed\xa0\x80", b"\xc0\x80"]))
    return (value or "").encode()[:4000] + wrong


def again(folder: Folder, place: Place, draw: st.DrawFn) -> str:
    """A later row repeats the id of an earlier one, which is not padding."""
    values = folder.values(place)
    real = [row for row, value in enumerate(values) if value or place in TEST_ID]
    first, second = sorted(draw(st.permutations(real))[:2])
    values[second] = values[first]
    return f", row {second}, column {place.column}: "


def missing_item(folder: Folder, place: Place, draw: st.DrawFn) -> str:
    columns = folder.tables[place.table]
    item = draw(st.sampled_from(folder.item_ids()))
    row = columns["item_id"].index(item)
    for values in columns.values():
        del values[row]
    return f": no row for item {item} of item_feature.parquet"


def one_class(folder: Folder, place: Place, draw: st.DrawFn) -> str:
    label = draw(st.integers(0, 1))
    folder.values(place)[:] = [label] * folder.rows(place.table)
    return f", column {place.column}: every label is {label}"


def too_long(folder: Folder, place: Place, _: st.DrawFn) -> str:
    """The last vector: the first one says how long they are."""
    values = folder.values(place)
    values[-1] = [*values[-1], 1.0]
    return f", row {len(values) - 1}, column {place.column}: "


def every_row(change: Callable[[list[Any]], list[Any]]) -> Spoil:
    def spoil(folder: Folder, place: Place, _: st.DrawFn) -> str:
        folder.values(place)[:] = [change(value) for value in folder.values(place)]
        return f", row 0, column {place.column}: "

    return spoil


def beyond_int64(folder: Folder, place: Place, draw: st.DrawFn) -> str:
    folder.kinds[place] = pa.uint64()
    return one_of(2**63, 2**64 - 1)(folder, place, draw)


def beyond_float32(folder: Folder, place: Place, draw: st.DrawFn) -> str:
    folder.kinds[place] = pa.list_(pa.float64())
    return rows(inside(lambda *_: 1e300))(folder, place, draw)


def missing_column(folder: Folder, place: Place, _: st.DrawFn) -> str:
    folder.names[place.table] = [
        name for name in names(folder, place.table) if name != place.column
    ]
    return f": no column {place.column}"


def doubled_column(folder: Folder, place: Place, draw: st.DrawFn) -> str:
    columns = names(folder, place.table)
    columns.insert(draw(st.integers(0, len(columns))), place.column)
    folder.names[place.table] = columns
    return f": column {place.column} is there twice"


def names(folder: Folder, table: str) -> list[str]:
    return list(folder.names.get(table, folder.tables[table]))


REQUIRED = [
    *(place for place in INTEGERS if place not in TEST_ID),
    *HISTORIES,
    *TITLES,
    *TAGS,
    EMB_VECTORS,
]

FAULTS: dict[str, Fault] = {
    "null": Fault([*INTEGERS, *HISTORIES, *VECTORS], one_of(None)),
    "level out of range": Fault(CLICK_LEVELS, one_of(-1, 11, 2**40, -(2**63))),
    "label out of range": Fault(LABELS, one_of(-1, 2, 2**63 - 1)),
    "target unknown": Fault(TARGETS, rows(unknown_item)),
    "target zero": Fault(TARGETS, one_of(0)),
    "id beyond 2^62": Fault(
        [*TARGETS, *USERS, *TEST_ID, ITEM_ID, *LATER_IDS], one_of(2**62 + 1, 2**63 - 1)
    ),
    "id beyond int64": Fault([*TARGETS, ITEM_ID, *LATER_IDS, *TEST_ID], beyond_int64),
    "user below -2^62": Fault(USERS, one_of(-(2**62) - 1, -(2**63))),
    "ID negative": Fault(TEST_ID, one_of(-1, -(2**63))),
    "item id not positive": Fault([ITEM_ID], one_of(0, -1, -(2**63))),
    "item id negative in a later table": Fault(LATER_IDS, one_of(-1, -(2**63))),
    "item unknown in a later table": Fault(
        LATER_IDS,
        rows(lambda value, folder, draw: abs(unknown_item(value, folder, draw)) % 2**40 + 2**41),
    ),
    "id again": Fault([ITEM_ID, *LATER_IDS, *TEST_ID], again),
    "item missing in a later table": Fault([Place(INFO, ""), Place(EMB, "")], missing_item),
    "one class": Fault(LABELS, one_class),
    "history too short": Fault(HISTORIES, rows(lambda row, *_: row[1:])),
    "history too long": Fault(HISTORIES, rows(lambda row, *_: [0, *row])),
    "history empty": Fault(HISTORIES, one_of([])),
    "every history too long": Fault(HISTORIES, every_row(lambda row: [0, *row])),
    "history with null": Fault(HISTORIES, rows(inside(lambda *_: None))),
    "history with an unknown item": Fault(HISTORIES, rows(inside(unknown_item))),
    "history with a huge id": Fault(HISTORIES, rows(inside(lambda *_: 2**63 - 1))),
    "history padded on the right": Fault(HISTORIES, rows(misplaced_padding)),
    "tags with null": Fault([*TAGS], rows(inside(lambda *_: None))),
    "tag negative": Fault([*TAGS], rows(inside(lambda *_: -1))),
    "tag beyond 2^62": Fault([*TAGS], rows(inside(lambda *_: 2**62 + 1))),
    "title not UTF-8": Fault(TITLES, rows(not_utf8)),
    "vector too long": Fault(VECTORS, too_long),
    "every vector empty": Fault(VECTORS, every_row(lambda _: [])),
    "vector with null": Fault(VECTORS, rows(inside(lambda *_: None))),
    "vector not finite": Fault(
        VECTORS, rows(inside(lambda _, __, draw: float(draw(st.sampled_from(["nan", "-inf"])))))
    ),
    "vector beyond float32": Fault(VECTORS, beyond_float32),
    "column missing": Fault(REQUIRED, missing_column),
    "column twice": Fault([*REQUIRED, *TEST_ID, *VECTORS[:-1]], doubled_column),
    "integers of another type": Fault(INTEGERS, another_type(INTEGER_TYPES)),
    "integer lists of another type": Fault([*HISTORIES, *TAGS], another_type(INTEGER_LIST_TYPES)),
    "histories of no type": Fault(HISTORIES, another_type([(pa.null(), lambda _: None)])),
    "vectors of another type": Fault(VECTORS, another_type(VECTOR_TYPES)),
    "titles of another type": Fault(TITLES, another_type(TITLE_TYPES)),
    **{name: Fault(places, spoil) for name, (places, spoil) in FILE_FAULTS.items()},
}
