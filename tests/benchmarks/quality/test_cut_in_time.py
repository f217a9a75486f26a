import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.quality import cut_in_time
from benchmarks.quality.cut_in_time import LABELS, cut
from pipeline.common.paths import CLICKS

ROWS = 200


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Rows that are told apart by `user_id`, in time's order."""
    folder = tmp_path / "source"
    (folder / CLICKS).mkdir(parents=True)
    (folder / "item_feature.parquet").write_bytes(b"items")
    table = pa.table({"user_id": np.arange(ROWS), "label": np.arange(ROWS) % 3 % 2})
    for split in ("train", "valid"):
        pq.write_table(table, folder / CLICKS / f"{split}.parquet")
    pq.write_table(table.drop_columns(["label"]), folder / CLICKS / "test.parquet")
    return folder


def test_an_earlier_time_of_the_same_data(source: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    assert cut(source, there, 0.5, 0.1) == {"train": 100, "valid": 20, "test": 20}
    assert (there / "item_feature.parquet").read_bytes() == b"items"
    tables = {
        split: pq.read_table(there / CLICKS / f"{split}.parquet")
        for split in ("train", "valid", "test")
    }
    rows = {split: table["user_id"].to_pylist() for split, table in tables.items()}
    assert rows == {"train": [*range(100)], "valid": [*range(100, 120)], "test": [*range(120, 140)]}
    assert tables["train"]["label"].to_pylist() == [row % 3 % 2 for row in range(100)]
    assert tables["test"].schema.names == ["user_id", "ID"]
    assert tables["test"]["ID"].to_pylist() == [*range(20)]
    labels = pq.read_table(there / LABELS)["label"].to_pylist()
    assert labels == [row % 3 % 2 for row in range(120, 140)]


def test_the_command(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    there = tmp_path / "there"
    monkeypatch.setattr(sys, "argv", ["", str(source), str(there)])
    cut_in_time.main()
    assert (
        capsys.readouterr().out == f"{there}: 40 rows of train, 5 rows of valid, 5 rows of test\n"
    )
    monkeypatch.setattr(sys, "argv", ["", str(source), str(there), "--train", "0.97"])
    with pytest.raises(SystemExit, match="more than all rows"):
        cut_in_time.main()
