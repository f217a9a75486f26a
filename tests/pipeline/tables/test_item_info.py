"""Task 1's file is written as the organisers want it, and read in any dress."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.common.files import InputError
from pipeline.common.paths import ITEM_INFO, ITEMS
from pipeline.tables.item_info import ItemInfo, summary, write_item_info
from tests.pipeline.tables.made_up import LISTS, lists, made_up, read_table

ROOT = Path(__file__).resolve().parents[3]
ITEM_IDS = [0, 3, 4, 90]
ITEM_TAGS = [[0, 0], [0, 7], [2**40, 1], [0, 0]]
FLOATS = (pa.float16(), pa.float32(), pa.float64())
INTEGERS = (pa.int8(), pa.int32(), pa.int64(), pa.uint64())
LINE = "3 items, 3 dimensions, 1 without a vector, mean norm 12.2246"


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
