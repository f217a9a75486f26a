from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embed.item_info import write_item_info
from tests.embed.conftest import Catalogue


def test_schema_and_rows_are_the_organisers(catalogue: Catalogue, tmp_path: Path) -> None:
    vectors = np.arange(len(catalogue.titles) * 4, dtype=np.float32).reshape(-1, 4)
    write_item_info(tmp_path / "info.parquet", vectors)
    assert pq.read_schema(tmp_path / "info.parquet").equals(
        pa.schema(
            [
                ("item_id", pa.int64()),
                ("item_tags", pa.list_(pa.int64())),
                ("item_emb_d128", pa.list_(pa.float32())),
            ]
        )
    )
    frame = pd.read_parquet(tmp_path / "info.parquet")
    assert frame["item_id"].tolist() == catalogue.item_ids
    assert [row.tolist() for row in frame["item_tags"]] == catalogue.tags
    np.testing.assert_array_equal(np.stack(frame["item_emb_d128"].tolist()), vectors)


def test_file_that_reads_back_differently_is_refused(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = pq.write_table
    monkeypatch.setattr(pq, "write_table", lambda table, path: write(table.slice(1), path))
    vectors = np.ones((len(catalogue.titles), 4), np.float32)
    with pytest.raises(OSError, match="differs from what was written"):
        write_item_info(tmp_path / "info.parquet", vectors)
