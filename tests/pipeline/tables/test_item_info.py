import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.common.files import InputError
from pipeline.common.paths import ITEM_INFO, ITEMS
from pipeline.tables.item_info import ItemInfo, read_item_info, summary, write_item_info

ROOT = Path(__file__).resolve().parents[3]
ITEM_IDS = [0, 3, 4, 90]
ITEM_TAGS = [[0, 0], [0, 7], [2**40, 1], [0, 0]]


@pytest.fixture
def path(workspace: Path) -> Path:
    """Where to write Task 1's file; the working directory holds what `ingest` says of the items."""
    ITEMS.parent.mkdir()
    items = {
        "item_id": pa.array(ITEM_IDS, pa.int64()),
        "tags": pa.array(ITEM_TAGS, pa.list_(pa.int64())),
    }
    pq.write_table(pa.table(items), ITEMS)
    return workspace / "info.parquet"


def item_vectors(width: int = 3) -> np.ndarray:
    vectors = np.arange(len(ITEM_IDS) * width, dtype=np.float32).reshape(-1, width)
    vectors[[0, 2]] = 0
    return vectors


def test_schema_and_rows_are_the_organisers(path: Path) -> None:
    write_item_info(path, item_vectors())
    assert pq.read_schema(path).equals(
        pa.schema(
            [
                ("item_id", pa.int64()),
                ("item_tags", pa.list_(pa.int64())),
                ("item_emb_d128", pa.list_(pa.float32())),
            ]
        )
    )
    frame = pd.read_parquet(path)
    assert frame["item_id"].tolist() == ITEM_IDS
    assert [row.tolist() for row in frame["item_tags"]] == ITEM_TAGS
    np.testing.assert_array_equal(np.stack(frame["item_emb_d128"].tolist()), item_vectors())


def test_a_file_that_reads_back_differently_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = pq.write_table
    monkeypatch.setattr(pq, "write_table", lambda table, path: write(table.slice(0, 3), path))
    with pytest.raises(OSError, match="differs from what was written"):
        write_item_info(path, item_vectors())


@pytest.mark.usefixtures("workspace")
def test_what_is_written_is_checked(path: Path) -> None:
    with pytest.raises(InputError, match=r"row 0, column item_emb_d128: .* 129 numbers"):
        write_item_info(path, item_vectors(129))
    vectors = item_vectors()
    vectors[2, 1] = np.nan
    with pytest.raises(InputError, match=r"row 2, column item_emb_d128: found nan"):
        write_item_info(path, vectors)


# Any valid file, in any dress.

LISTS: dict[str, Callable[[pa.DataType, int], pa.DataType]] = {
    "list": lambda kind, _width: pa.list_(kind),
    "large_list": lambda kind, _width: pa.large_list(kind),
    "fixed_size_list": lambda kind, width: pa.list_(kind, width),
}
FLOATS = (pa.float16(), pa.float32(), pa.float64())
INTEGERS = (pa.int8(), pa.int32(), pa.int64(), pa.uint64())
TAGS = 2


def made_up(rows: int, width: int, seed: int) -> ItemInfo:
    """With gaps in the ids; the vectors' values are exact in half precision."""
    random = np.random.default_rng(seed)
    item_id = np.cumsum(random.integers(1, 4, rows))
    tags = random.integers(0, 9, (rows, TAGS))
    vectors = random.integers(-3, 4, (rows, width)).astype(np.float32) / 4
    tags[0], vectors[0] = 0, 0
    return ItemInfo(item_id - item_id[0], tags, vectors)


def lists(matrix: np.ndarray, kind: pa.DataType, dress: str) -> pa.Array:
    rows = [row.astype(kind.to_pandas_dtype()) for row in matrix]
    return pa.array(rows, LISTS[dress](kind, matrix.shape[1]))


def table_of(info: ItemInfo) -> pa.Table:
    return pa.table(
        {
            "item_id": pa.array(info.item_id, pa.int64()),
            "item_tags": lists(info.tags, pa.int64(), "list"),
            "item_emb_d128": lists(info.vectors, pa.float32(), "list"),
        }
    )


def read_table(table: pa.Table, row_group_size: int | None = None) -> ItemInfo:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file.parquet"
        pq.write_table(table, path, row_group_size=row_group_size)
        return read_item_info(path, TAGS)


@given(data=st.data(), rows=st.integers(1, 6), seed=st.integers(0, 999))
@settings(deadline=None, max_examples=50)
def test_a_valid_file_in_any_dress_is_read_equal(data: st.DataObject, rows: int, seed: int) -> None:
    info = made_up(rows, data.draw(st.sampled_from([1, 3, 128])), seed)
    dress, integer = st.sampled_from(sorted(LISTS)), st.sampled_from(INTEGERS)
    table = pa.table(
        {
            "item_id": pa.array(info.item_id).cast(data.draw(integer)),
            "item_tags": lists(info.tags, data.draw(integer), data.draw(dress)),
            "item_emb_d128": lists(
                info.vectors, data.draw(st.sampled_from(FLOATS)), data.draw(dress)
            ),
        }
    ).select(data.draw(st.permutations(["item_id", "item_tags", "item_emb_d128"])))
    found = read_table(table, data.draw(st.integers(1, rows)))
    assert found.item_id.dtype == found.tags.dtype == np.int64
    assert found.vectors.dtype == np.float32
    assert found.equals(info)


# One damage to a valid file, in a row of at least 1 and at a place of its list.

Damage = Callable[[pa.Table, int, int], pa.Table]
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
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file.parquet"
        pq.write_table(table, path)
        with pytest.raises(InputError, match=r"column item_tags: found type int64; .* lists"):
            read_item_info(path, tags=None)


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


# The command.

LINE = "3 items, 3 dimensions, 1 without a vector, mean norm 12.2246"


def test_the_summary_is_of_items_that_have_a_vector() -> None:
    norms = [np.linalg.norm([3, 4, 5]), np.linalg.norm([9, 10, 11])]
    assert f"{np.mean(norms):.4f}" in LINE
    tags = np.array(ITEM_TAGS)
    assert summary(ItemInfo(np.array(ITEM_IDS), tags, item_vectors())) == LINE
    nothing = ItemInfo(np.zeros(1, int), tags[:1], item_vectors()[:1])
    assert summary(nothing) == "0 items, 3 dimensions, 0 without a vector, mean norm 0.0000"


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline.tables.item_info", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_prints_one_line_or_the_error(path: Path) -> None:
    ITEM_INFO.parent.mkdir(parents=True)
    write_item_info(path, item_vectors())
    shutil.copy(path, ITEM_INFO)
    for arguments, named in (([], ITEM_INFO), ([str(path)], path)):
        found = command("--tags=2", *arguments)
        assert (found.returncode, found.stdout) == (0, f"{named}: {LINE}\n"), found.stderr
    wrong = command(str(path))  # the competition's five tags
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr.startswith(f"error: {path}, row 0, column item_tags: found 2 items; ")
    assert wrong.stderr.count("\n") == 1
