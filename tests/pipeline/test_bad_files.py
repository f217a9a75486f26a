"""Raw files that are missing, cut off or something else are told by name, in one message."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.common.files import InputError
from pipeline.ingest import raw_folder
from tests.pipeline.conftest import TEST, TRAIN, VALID, RawFolder

ROOT = Path(__file__).resolve().parents[2]


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
        raw.ingest()


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("table", ["item_feature", TRAIN, VALID, TEST])
def test_a_missing_file(raw: RawFolder, table: str) -> None:
    raw.write().file(table).unlink()
    with pytest.raises(InputError, match=rf"{table}\.parquet: not found"):
        raw.ingest()


def test_a_source_that_is_no_folder(raw: RawFolder) -> None:
    with (
        pytest.raises(
            InputError, match=r"data\.source: .*nowhere is not a folder; expected sample"
        ),
        raw_folder(raw.data.model_copy(update={"source": "nowhere"})),
    ):
        pass


@pytest.mark.usefixtures("workspace")
def test_no_covers_at_all(raw: RawFolder) -> None:
    images = raw.write().path / "item_images"
    for image in images.iterdir():
        image.unlink()
    images.rmdir()
    with pytest.raises(InputError, match=r"item_images: not found.*empty folder"):
        raw.ingest()


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("table", [TRAIN, "MicroLens_1M_x1/item_info"])
def test_something_else_in_place_of_a_table(raw: RawFolder, table: str) -> None:
    file = raw.write().file(table)
    file.unlink(missing_ok=True)
    file.symlink_to(file.name)
    with pytest.raises(InputError, match=rf"{table}\.parquet: not a file"):
        raw.ingest()
    file.unlink()
    file.mkdir()
    with pytest.raises(InputError, match=rf"{table}\.parquet: not a file"):
        raw.ingest()


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("kept", [0, 4, 50, -20])
def test_a_truncated_parquet(raw: RawFolder, kept: int) -> None:
    file = raw.write().file(TRAIN)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"train\.parquet: not a readable parquet file"):
        raw.ingest()


@pytest.mark.usefixtures("workspace")
def test_a_damaged_page(raw: RawFolder) -> None:
    file = raw.write().file(TRAIN)
    content = bytearray(file.read_bytes())
    content[4:60] = b"\xff" * 56
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"train\.parquet"):
        raw.ingest()


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
        raw.ingest()


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
        raw.write().ingest()


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
        raw.write().ingest()


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
    raw.write().ingest()
    before = snapshot()
    raw.replace(TRAIN, "label", [0, 1, 7, 0], pa.int64())
    raw.write()
    result = stage(*(["--debug"] if debug else []))
    assert result.returncode == 1
    assert "row 2, column label: found 7; expected 0 or 1" in result.stderr
    assert ("Traceback" in result.stderr) == debug
    if not debug:
        assert result.stderr.startswith("error: ")
        assert len(result.stderr.splitlines()) == 1
    assert snapshot() == before | {"scratch/ingest/lock": b""}
