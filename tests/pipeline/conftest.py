"""A tiny folder in the raw layout, whose tables a test may change before they are written."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from pipeline.common.files import Outputs
from pipeline.ingest import ingest
from pipeline.settings.data import Data

HISTORY = 4
TRAIN, VALID, TEST = (f"MicroLens_1M_x1/{split}" for split in ("train", "valid", "test"))
"""Names of tables, as `item_feature` is."""
RAW_IDS = (2, 3, 5, 8)
"""The items' raw ids have gaps; their dense ids are 1..4."""


def click_columns(history: list[list[int]], items: list[int]) -> dict[str, pa.Array]:
    return {
        "user_id": pa.array([70 + i // 2 for i in range(len(items))], pa.int64()),
        "item_seq": pa.array(history, pa.list_(pa.int64())),
        "item_id": pa.array(items, pa.int64()),
        "likes_level": pa.array([i % 11 for i in range(len(items))], pa.int64()),
        "views_level": pa.array([10 - i for i in range(len(items))], pa.int64()),
        "label": pa.array([i % 2 for i in range(len(items))], pa.int64()),
    }


def item_columns() -> dict[str, pa.Array]:
    """In another order than by id."""
    return {
        "item_id": pa.array([5, 2, 8, 3], pa.int64()),
        "item_title": pa.array(["five", " two ", None, "   "], pa.string()),
        "item_tags": pa.array([[7, 9], [1, 2, 3, 9, 4, 7], [], [0, 0, 9]], pa.list_(pa.int64())),
        "likes_level": pa.array([5, 2, 8, 3], pa.int64()),
        "views_level": pa.array([0, 10, 1, 9], pa.int64()),
    }


@dataclass
class RawFolder:
    """Change `tables` (by file name without ending), then `write`."""

    path: Path
    tables: dict[str, dict[str, pa.Array]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        test = click_columns([[0, 0, 2, 3], [8, 5, 3, 2]], [5, 8])
        del test["label"]
        self.tables = {
            "item_feature": item_columns(),
            TRAIN: click_columns(
                [[0, 0, 0, 0], [0, 0, 0, 2], [2, 3, 5, 8], [0, 8, 8, 2]], [2, 3, 5, 8]
            ),
            VALID: click_columns([[0, 0, 0, 3], [0, 2, 3, 3]], [5, 3]),
            TEST: test,
        }

    def file(self, table: str) -> Path:
        return self.path / f"{table}.parquet"

    def replace(self, table: str, column: str, values: list[Any], kind: pa.DataType) -> None:
        self.tables[table][column] = pa.array(values, kind)

    def write(self) -> "RawFolder":
        for table, columns in self.tables.items():
            self.file(table).parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table(columns), self.file(table))
        images = self.path / "item_images"
        images.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), "red").save(images / "5.jpg")
        (images / "3.jpg").write_bytes(b"not a picture")
        (images / "99.jpg").write_bytes(b"of no item")
        return self

    def ingest(self) -> dict[str, Any]:
        """As the stage does, into the working directory; returns the statistics."""
        with Outputs() as outputs:
            return ingest(self.path, self.data, outputs)

    @property
    def data(self) -> Data:
        return Data(source=str(self.path), history=HISTORY, tags=5, seed=1)


@pytest.fixture
def raw(tmp_path: Path) -> RawFolder:
    return RawFolder(tmp_path / "raw")


@pytest.fixture
def snapshot(workspace: Path) -> Callable[[], dict[str, bytes]]:
    """What lies in the workspace now: each file's bytes."""
    return lambda: {
        str(path.relative_to(workspace)): path.read_bytes()
        for path in sorted(workspace.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def plain(cpu: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of which neither the user nor a launcher has said anything."""
    assert cpu.type == "cpu"  # which says something, and so comes first
    for name in [name for name in os.environ if name.startswith(("ACCELERATE_", "MASTER_"))]:
        monkeypatch.delenv(name)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "LOCAL_RANK", "WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
