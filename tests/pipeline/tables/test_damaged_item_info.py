"""Whatever is wrong with a file of Task 1, the error names the file, the column and the row."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.common.files import InputError
from pipeline.tables.item_info import ItemInfo, read_item_info
from tests.pipeline.tables.made_up import made_up, read_table, table_of

Damage = Callable[[pa.Table, int, int], pa.Table]
"""One damage to a valid file, in a row of at least 1 and at a place of its list."""
LIST_COLUMNS = ("item_tags", "item_emb_d128")


def replaced(table: pa.Table, name: str, values: list[Any], kind: pa.DataType) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pa.array(values, kind))


def edited(table: pa.Table, name: str, row: int, edit: Callable[[Any], Any]) -> pa.Table:
    values = table[name].to_pylist()
    values[row] = edit(values[row])
    return replaced(table, name, values, table.schema.field(name).type)


def with_value(name: str, value: object, row: int | None = None) -> Damage:
    """Another value in one row, given or not."""
    return lambda table, r, _place: edited(table, name, r if row is None else row, lambda _: value)


def with_place(name: str, value: object, row: int | None = None) -> Damage:
    """Another value at one place of one row's list."""

    def damage(table: pa.Table, r: int, place: int) -> pa.Table:
        def edit(items: list[Any]) -> list[Any]:
            place_here = place % len(items)
            return [*items[:place_here], value, *items[place_here + 1 :]]

        return edited(table, name, r if row is None else row, edit)

    return damage


def of_type(name: str, value: object, kind: pa.DataType) -> Damage:
    """A column of another type."""
    return lambda table, _row, _place: replaced(table, name, [value] * len(table), kind)


def faults_of_any(name: str) -> list[tuple[str, Damage]]:
    return [
        (name, lambda table, _row, _place: table.drop_columns([name])),
        (name, lambda table, _row, _place: table.rename_columns({name: name.upper()})),
        (name, lambda table, _row, _place: table.append_column(name, table[name])),
        (name, with_value(name, None)),
        (name, of_type(name, "1", pa.string())),
        (name, of_type(name, True, pa.bool_())),
        (name, of_type(name, None, pa.null())),
        (name, of_type(name, {"a": 1}, pa.struct([("a", pa.int64())]))),
        (name, of_type(name, [("a", 1)], pa.map_(pa.string(), pa.int64()))),
    ]


def faults_of_lists(name: str) -> list[tuple[str, Damage]]:
    return [
        (name, with_value(name, [])),
        (name, lambda table, row, _place: edited(table, name, row, lambda items: [*items, 0])),
        (name, lambda table, row, _place: edited(table, name, row, lambda items: items[1:])),
        (name, with_place(name, None)),
        (name, with_place(name, 5, row=0)),
        (name, of_type(name, 1, pa.int64())),
        (name, of_type(name, ["1"], pa.list_(pa.string()))),
        (name, of_type(name, [[1]], pa.list_(pa.list_(pa.int64())))),
    ]


DAMAGES: list[tuple[str, Damage]] = [
    *(fault for name in ("item_id", *LIST_COLUMNS) for fault in faults_of_any(name)),
    *(fault for name in LIST_COLUMNS for fault in faults_of_lists(name)),
    ("item_id", with_value("item_id", -1)),
    ("item_id", with_value("item_id", 0)),
    ("item_id", with_value("item_id", 1, row=0)),
    ("item_id", lambda table, row, _: table.take([*range(row), row - 1, *range(row, len(table))])),
    ("item_id", lambda table, row, _: table.take([*range(row + 1, len(table)), *range(row + 1)])),
    ("item_id", of_type("item_id", 1.0, pa.float64())),
    ("item_tags", with_place("item_tags", -1)),
    ("item_tags", of_type("item_tags", [1.0, 2.0], pa.list_(pa.float64()))),
    ("item_emb_d128", with_place("item_emb_d128", np.nan)),
    ("item_emb_d128", with_place("item_emb_d128", -np.inf)),
    ("item_emb_d128", of_type("item_emb_d128", [0.0] * 129, pa.list_(pa.float32()))),
    ("item_emb_d128", of_type("item_emb_d128", [], pa.list_(pa.float32()))),
    ("item_emb_d128", of_type("item_emb_d128", [0], pa.list_(pa.int64()))),
    ("price", lambda table, _row, _place: table.append_column("price", table["item_id"])),
]


@pytest.mark.parametrize("number", range(len(DAMAGES)))
@given(data=st.data(), rows=st.integers(3, 6), seed=st.integers(0, 999))
@settings(deadline=None, max_examples=6)
def test_a_damaged_column_is_named(number: int, data: st.DataObject, rows: int, seed: int) -> None:
    name, damage = DAMAGES[number]
    table = table_of(made_up(rows, 3, seed))
    damaged = damage(table, data.draw(st.integers(1, rows - 2)), data.draw(st.integers(0, 9)))
    with pytest.raises(InputError, match=rf"file\.parquet.* column {name}\b"):
        read_table(damaged)


@pytest.mark.parametrize(
    ("row", "name", "value", "message"),
    [
        (2, "item_id", 2, "row 2, column item_id: found 2; expected ids in ascending order"),
        (2, "item_tags", [1, -7], "row 2, column item_tags: found -7; expected a tag id of 0"),
        (1, "item_tags", [1], "row 1, column item_tags: found 1 items; expected 2 items"),
        (0, "item_tags", [0, 4], "row 0, column item_tags: found 4; expected 0: row 0 is padding"),
        (0, "item_emb_d128", [0, 4], "row 0, column item_emb_d128: found 4.0; expected 0"),
        (1, "item_emb_d128", [1] * 3, "row 1, column item_emb_d128: found 3 items; expected 2"),
    ],
)
def test_row_and_value_are_told(row: int, name: str, value: object, message: str) -> None:
    info = ItemInfo(np.array([0, 2, 5]), np.zeros((3, 2), int), np.zeros((3, 2), np.float32))
    with pytest.raises(InputError) as error:
        read_table(edited(table_of(info), name, row, lambda _: value))
    assert message in str(error.value)


def test_a_float64_that_float32_cannot_hold_is_refused() -> None:
    table = table_of(made_up(2, 1, 0))
    vectors = pa.array([[0.0], [1e300]], pa.list_(pa.float64()))
    with pytest.raises(InputError, match="row 1, column item_emb_d128: found 1e\\+300"):
        read_table(table.set_column(2, "item_emb_d128", vectors))


def test_tags_that_are_no_lists_are_refused_whatever_their_number() -> None:
    table = of_type("item_tags", 0, pa.int64())(table_of(made_up(2, 1, 0)), 0, 0)
    with pytest.raises(InputError, match=r"column item_tags: found type int64; .* lists"):
        read_table(table, tags=None)


@given(content=st.binary(max_size=200) | st.just(b"PAR1" * 4), cut=st.integers(0, 10**6))
@settings(deadline=None, max_examples=50)
def test_what_is_no_parquet_file_is_named(content: bytes, cut: int) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file.parquet"
        pq.write_table(table_of(made_up(4, 3, 0)), path)
        whole = path.read_bytes()
        for damaged in (content, whole[: cut % len(whole)]):
            path.write_bytes(damaged)
            with pytest.raises(InputError, match=r"file\.parquet: not a readable parquet file"):
                read_item_info(path)


def test_no_file_and_no_rows(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.parquet"):
        with pytest.raises(InputError, match=rf"{path}: not found"):
            read_item_info(path)
    with pytest.raises(InputError, match=r"file\.parquet: has no rows"):
        read_table(table_of(made_up(2, 3, 0)).slice(0, 0))
