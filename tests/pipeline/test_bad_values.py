"""A fault in a raw table ends in one InputError that names file, place, value and remedy."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.common.files import InputError
from tests.pipeline.conftest import TEST, TRAIN, VALID, RawFolder

INT, FLOAT, TEXT = pa.int64(), pa.float64(), pa.string()
INTS, FLOATS = pa.list_(pa.int64()), pa.list_(pa.float32())
NOTHING, NOTHINGS = pa.null(), pa.list_(pa.null())
"""What pandas writes where no row has a value."""


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize(
    ("table", "column", "values", "kind", "message"),
    [
        (TRAIN, "label", [0, 1, 2, 0], INT, "row 2, column label: found 2; expected 0 or 1"),
        (TRAIN, "label", [0, 1, None, 0], INT, r"row 2, column label: found no value \(null\)"),
        (TRAIN, "label", [0.0, 1, 1, 0], FLOAT, "column label: found type double; .* integers"),
        (TRAIN, "label", [1, 1, 1, 1], INT, "every label is 1; .* both"),
        (VALID, "label", [0, 0], INT, "every label is 0; .* both"),
        (TRAIN, "item_id", ["2", "3", "5", "8"], TEXT, "column item_id: found type string"),
        (TRAIN, "item_id", [2, 3, 4, 8], INT, "row 2, column item_id: found 4; .*item_feature"),
        (TRAIN, "item_id", [2, 3, 0, 8], INT, "row 2, column item_id: found 0"),
        (TRAIN, "item_id", [2, 3, -1, 8], INT, "row 2, column item_id: found -1"),
        (TRAIN, "item_id", [2, 3, 2**40, 8], INT, f"row 2, column item_id: found {2**40}"),
        (TRAIN, "user_id", ["a", "b", "c", "d"], TEXT, "column user_id: found type string"),
        (TRAIN, "likes_level", [0, 11, 0, 0], INT, "row 1, column likes_level: found 11"),
        (VALID, "views_level", [0, -1], INT, "row 1, column views_level: found -1"),
        (VALID, "item_seq", [[0, 0, 0, 2], [0, 0, 2]], INTS, "row 1, .*3 items; expected 4"),
        (VALID, "item_seq", [[0, 0, 0, 2], [0] * 5], INTS, "row 1, .*5 items; expected 4 .*data.h"),
        (VALID, "item_seq", [[0, 0, 0, 2], None], INTS, "row 1, column item_seq: found no value"),
        (VALID, "item_seq", [[0] * 4, [0, 2, None, 3]], INTS, "row 1, .*an empty place"),
        (VALID, "item_seq", [[0] * 4, [0, 0, 2, 7]], INTS, "row 1, column item_seq: found 7"),
        (VALID, "item_seq", [[0] * 4, [0, 5, 0, 3]], INTS, "row 1, .*found 0; after an item"),
        (VALID, "item_seq", ["0,0", "0,2"], TEXT, "column item_seq: found type string"),
        (TEST, "item_seq", [[0.5] * 4, [1.0] * 4], FLOATS, "column item_seq: .*list<"),
        (TEST, "ID", [3, 3], INT, "row 1, column ID: found 3 again; it is in row 0 already"),
        ("item_feature", "item_id", [5, 2, 8, 2], INT, "row 3, .*found 2 again; it is in row 1"),
        ("item_feature", "item_id", [5, 2, 0, 3], INT, "row 2, column item_id: found 0"),
        ("item_feature", "item_title", [1, 2, 3, 4], INT, "column item_title: .*expected text"),
        ("item_feature", "item_tags", [[1], [-2], [], []], INTS, "row 1, column item_tags: .*-2"),
        (
            "item_feature",
            "img_emb_CLIPRN50",
            [[1.0], [2.0], [float("nan")], [1.0]],
            FLOATS,
            "row 2, column img_emb_CLIPRN50: found nan; expected a finite number",
        ),
        (TRAIN, "item_seq", [[]] * 4, NOTHINGS, "column item_seq: .*list<.*expected lists of int"),
        (TRAIN, "item_seq", [None] * 4, NOTHING, "column item_seq: found type null; expected lis"),
        (TRAIN, "label", [None] * 4, NOTHING, "column label: found type null; expected integers"),
        ("item_feature", "item_tags", [[], [None], [], []], NOTHINGS, "column item_tags: .*list<"),
        ("item_feature", "txt_emb_BERT", [[]] * 4, NOTHINGS, "column txt_emb_BERT: .*list<"),
        ("item_feature", "txt_emb_BERT", [None] * 4, NOTHING, "column txt_emb_BERT: .*type null"),
        ("item_feature", "item_tags", [[1], [2**63], [], []], pa.list_(pa.uint64()), f"{2**63}"),
        ("item_feature", "txt_emb_BERT", [[]] * 4, FLOATS, "row 0, .*found an empty list"),
        (
            "item_feature",
            "txt_emb_BERT",
            [[1.0], [float("-inf")], [1.0], [1.0]],
            FLOATS,
            "row 1, column txt_emb_BERT: found -inf",
        ),
        (
            "item_feature",
            "txt_emb_BERT",
            ["1.0"] * 4,
            TEXT,
            "column txt_emb_BERT: found type string",
        ),
        (
            "item_feature",
            "txt_emb_BERT",
            [[1.0], [-1e39], [1.0], [1.0]],
            pa.list_(FLOAT),
            r"row 1, column txt_emb_BERT: found -1e\+39; expected a finite number of 32 bits",
        ),
        (
            "item_feature",
            "txt_emb_BERT",
            [[1.0, 2.0], [1.0], [1.0, 2.0], [1.0, 2.0]],
            FLOATS,
            "row 1, column txt_emb_BERT: found 1 items; expected 2",
        ),
    ],
)
def test_a_wrong_value(
    raw: RawFolder, table: str, column: str, values: list[object], kind: pa.DataType, message: str
) -> None:
    raw.replace(table, column, values, kind)
    with pytest.raises(InputError, match=rf"{table}\.parquet.*{message}"):
        raw.write().ingest()


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("kind", [pa.string(), pa.dictionary(pa.int8(), pa.string())])
def test_titles_that_are_not_utf8(raw: RawFolder, kind: pa.DataType) -> None:
    titles = pa.array([b"five", b"tw\xff", b"eight", b"three"], pa.binary())
    raw.tables["item_feature"]["item_title"] = titles.view(pa.string()).cast(kind)
    with pytest.raises(
        InputError, match=r"row 1, column item_title: found bytes that are not UTF-8 .* at byte 2"
    ):
        raw.write().ingest()


@pytest.mark.usefixtures("workspace")
def test_an_item_table_that_lacks_an_item(raw: RawFolder) -> None:
    raw.tables["MicroLens_1M_x1/item_info"] = {
        "item_id": pa.array([0, 2, 3, 8], INT),
        "item_tags": pa.array([[0]] * 4, INTS),
    }
    with pytest.raises(InputError, match=r"item_info\.parquet: no row for item 5"):
        raw.write().ingest()


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize(
    ("table", "column"), [(TRAIN, "label"), (TEST, "item_seq"), ("item_feature", "item_title")]
)
def test_a_missing_column(raw: RawFolder, table: str, column: str) -> None:
    del raw.tables[table][column]
    with pytest.raises(InputError, match=rf"{table}\.parquet: no column {column}; it has "):
        raw.write().ingest()


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize(
    ("table", "column"),
    [(TRAIN, "user_id"), (TEST, "ID"), ("item_feature", "txt_emb_BERT")],
    ids=["needed", "optional ids", "optional vectors"],
)
def test_a_column_that_is_there_twice(raw: RawFolder, table: str, column: str) -> None:
    raw.write()
    columns = {column: raw.tables[table]["item_id"], **raw.tables[table]}
    doubled = pa.table([*columns.values(), columns[column]], names=[*columns, column])
    pq.write_table(doubled, raw.file(table))
    with pytest.raises(InputError, match=rf"{table}\.parquet: column {column} is there twice"):
        raw.ingest()


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("table", ["item_feature", TRAIN, VALID, TEST])
def test_a_table_without_rows(raw: RawFolder, table: str) -> None:
    columns = raw.tables[table]
    raw.tables[table] = {name: values.slice(0, 0) for name, values in columns.items()}
    with pytest.raises(InputError, match=rf"{table}\.parquet: has no rows"):
        raw.write().ingest()
