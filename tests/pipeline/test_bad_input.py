"""Every fault of the raw files ends in one InputError that names file, place, value and remedy."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.common.files import InputError, Outputs
from pipeline.ingest import ingest, raw_folder
from tests.pipeline.conftest import RawFolder

ROOT = Path(__file__).resolve().parents[2]
TRAIN, VALID, TEST = (f"MicroLens_1M_x1/{split}" for split in ("train", "valid", "test"))
INT, FLOAT, TEXT = pa.int64(), pa.float64(), pa.string()
INTS, FLOATS = pa.list_(pa.int64()), pa.list_(pa.float32())
NOTHING, NOTHINGS = pa.null(), pa.list_(pa.null())
"""What pandas writes where no row has a value."""


def run(raw: RawFolder) -> None:
    with Outputs() as outputs:
        ingest(raw.path, raw.data, outputs)


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
        run(raw.write())


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize(
    ("moved", "there", "found"),
    [
        ("MicroLens_1M_x1", "MicroLens_1M_x1/MicroLens_1M_x1", "MicroLens_1M_x1 holds MicroL"),
        ("MicroLens_1M_x1", "clicks", "raw holds clicks, item_feature.parquet, item_images$"),
        ("MicroLens_1M_x1/train.parquet", "MicroLens_1M_x1/train.csv", "test.parquet, train.csv"),
        ("item_feature.parquet", "items.parquet", "raw holds MicroLens_1M_x1, item_images, items"),
    ],
)
def test_what_is_there_under_another_name_is_told(
    raw: RawFolder, moved: str, there: str, found: str
) -> None:
    (raw.write().path / moved).rename(raw.path / "moved")
    (raw.path / there).parent.mkdir(exist_ok=True)
    (raw.path / "moved").rename(raw.path / there)
    with pytest.raises(InputError, match=rf"parquet: not found; the raw layout .*{found}"):
        run(raw)


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("table", ["item_feature", TRAIN, VALID, TEST])
def test_a_missing_file(raw: RawFolder, table: str) -> None:
    raw.write().file(table).unlink()
    with pytest.raises(InputError, match=rf"{table}\.parquet: not found"):
        run(raw)


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize(
    ("table", "column"), [(TRAIN, "label"), (TEST, "item_seq"), ("item_feature", "item_title")]
)
def test_a_missing_column(raw: RawFolder, table: str, column: str) -> None:
    del raw.tables[table][column]
    with pytest.raises(InputError, match=rf"{table}\.parquet: no column {column}; it has "):
        run(raw.write())


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("kind", [pa.string(), pa.dictionary(pa.int8(), pa.string())])
def test_titles_that_are_not_utf8(raw: RawFolder, kind: pa.DataType) -> None:
    titles = pa.array([b"five", b"tw\xff", b"eight", b"three"], pa.binary())
    raw.tables["item_feature"]["item_title"] = titles.view(pa.string()).cast(kind)
    with pytest.raises(
        InputError, match=r"row 1, column item_title: found bytes that are not UTF-8 .* at byte 2"
    ):
        run(raw.write())


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
        run(raw)


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("table", ["item_feature", TRAIN, VALID, TEST])
def test_a_table_without_rows(raw: RawFolder, table: str) -> None:
    columns = raw.tables[table]
    raw.tables[table] = {name: values.slice(0, 0) for name, values in columns.items()}
    with pytest.raises(InputError, match=rf"{table}\.parquet: has no rows"):
        run(raw.write())


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("kept", [0, 4, 50, -20])
def test_a_truncated_parquet(raw: RawFolder, kept: int) -> None:
    file = raw.write().file(TRAIN)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"train\.parquet: not a readable parquet file"):
        run(raw)


@pytest.mark.usefixtures("workspace")
def test_a_damaged_page(raw: RawFolder) -> None:
    file = raw.write().file(TRAIN)
    content = bytearray(file.read_bytes())
    content[4:60] = b"\xff" * 56
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"train\.parquet"):
        run(raw)


@pytest.mark.usefixtures("workspace")
def test_a_page_that_fails_its_checksum(raw: RawFolder) -> None:
    file = raw.write().file(TRAIN)
    pq.write_table(
        pa.table(raw.tables[TRAIN]), file, write_page_checksum=True, use_dictionary=False
    )
    labels = pq.read_metadata(file).row_group(0).column(5)
    content = bytearray(file.read_bytes())
    content[labels.data_page_offset + labels.total_compressed_size - 1] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"train\.parquet: not a readable parquet file .*CRC"):
        run(raw)


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("column", ["item_tags", "item_title", "item_id"])
def test_fewer_rows_than_the_footer_counts(
    raw: RawFolder, column: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(file: pq.ParquetFile, columns: list[str]) -> pa.Table:
        table = original(file, columns=columns)
        return table.slice(1) if columns == [column] else table

    original = pq.ParquetFile.read
    monkeypatch.setattr(pq.ParquetFile, "read", read)
    with pytest.raises(InputError, match=r"item_feature\.parquet: .*not have 4 rows each"):
        run(raw.write())


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("rows", [1, 9])
def test_another_number_of_rows_in_batches(
    raw: RawFolder, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def iter_batches(file: pq.ParquetFile, _: int, columns: list[str]) -> Iterator[pa.RecordBatch]:
        whole = pa.concat_tables([file.read(columns=columns)] * 9).slice(0, rows)
        return iter(whole.to_batches())

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", iter_batches)
    with pytest.raises(InputError, match=r"train\.parquet: .*not have 4 rows each"):
        run(raw.write())


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("table", [TRAIN, "MicroLens_1M_x1/item_info"])
def test_something_else_in_place_of_a_table(raw: RawFolder, table: str) -> None:
    file = raw.write().file(table)
    file.unlink(missing_ok=True)
    file.symlink_to(file.name)
    with pytest.raises(InputError, match=rf"{table}\.parquet: not a file"):
        run(raw)
    file.unlink()
    file.mkdir()
    with pytest.raises(InputError, match=rf"{table}\.parquet: not a file"):
        run(raw)


@pytest.mark.usefixtures("workspace")
def test_no_covers_at_all(raw: RawFolder) -> None:
    images = raw.write().path / "item_images"
    for image in images.iterdir():
        image.unlink()
    images.rmdir()
    with pytest.raises(InputError, match=r"item_images: not found.*empty folder"):
        run(raw)


@pytest.mark.usefixtures("workspace")
def test_an_item_table_that_lacks_an_item(raw: RawFolder) -> None:
    raw.tables["MicroLens_1M_x1/item_info"] = {
        "item_id": pa.array([0, 2, 3, 8], INT),
        "item_tags": pa.array([[0]] * 4, INTS),
    }
    with pytest.raises(InputError, match=r"item_info\.parquet: no row for item 5"):
        run(raw.write())


def test_a_source_that_is_no_folder(raw: RawFolder) -> None:
    with (
        pytest.raises(
            InputError, match=r"data\.source: .*nowhere is not a folder; expected sample"
        ),
        raw_folder(raw.data.model_copy(update={"source": "nowhere"})),
    ):
        pass


@pytest.mark.parametrize("debug", [False, True])
def test_the_command_ends_with_one_message(
    raw: RawFolder, workspace: Path, snapshot: Callable[[], dict[str, bytes]], debug: bool
) -> None:
    def stage(*flags: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pipeline.ingest", *flags]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.run(
            command, cwd=workspace, env=environment, capture_output=True, text=True, check=False
        )

    settings = (ROOT / "params.yaml").read_text()
    settings = settings.replace("source: sample", f"source: {raw.path}")
    settings = settings.replace("history: 100", "history: 4").replace("history: 64", "history: 4")
    (workspace / "params.yaml").write_text(settings)
    run(raw.write())
    before = snapshot()
    raw.replace(TRAIN, "label", [0, 1, 7, 0], INT)
    raw.write()
    result = stage(*(["--debug"] if debug else []))
    assert result.returncode == 1
    assert "row 2, column label: found 7; expected 0 or 1" in result.stderr
    assert ("Traceback" in result.stderr) == debug
    if not debug:
        assert result.stderr.startswith("error: ")
        assert len(result.stderr.splitlines()) == 1
    assert snapshot() == before | {"scratch/ingest/lock": b""}
