"""Parquet files with any bytes changed end in an answer or in one InputError."""

from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ingest import ingest
from pipeline.item_info import read_item_info
from pipeline.schema import InputError, Outputs
from tests.fuzz.folder import (
    FEATURE,
    INFO,
    SPLITS,
    Folder,
    click_columns,
    info_columns,
    item_columns,
)

ITEM_IDS = [3, 5, 9]


def plain_folder() -> Folder:
    random = Random(1)
    tables = {
        FEATURE: item_columns(random, ITEM_IDS, ["three", None, "ninth"]),
        INFO: info_columns(random, ITEM_IDS),
        **{split: click_columns(random, ITEM_IDS, 3, split) for split in SPLITS},
    }
    return Folder(3, 2, tables, {})


@pytest.mark.parametrize("compression", ["none", "snappy"])
def test_any_changed_bytes(
    workspace: Path, examples: settings, tally: Counter[str], compression: str
) -> None:
    source = workspace / "raw"
    source.mkdir()
    folder = plain_folder()
    folder.options = {table: {"compression": compression} for table in folder.tables}
    folder.write(source)
    whole = {table: (source / f"{table}.parquet").read_bytes() for table in folder.tables}

    @examples
    @given(
        table=st.sampled_from(sorted(whole)),
        start=st.integers(0, 10_000),
        change=st.binary(min_size=1, max_size=4),
    )
    def read(table: str, start: int, change: bytes) -> None:
        tally["files with changed bytes"] += 1
        file = source / f"{table}.parquet"
        content = bytearray(whole[table])
        start %= len(content)
        content[start : start + len(change)] = change
        file.write_bytes(content)
        with suppress(InputError), Outputs() as outputs:
            ingest(source, folder.data(source), outputs)
        with suppress(InputError):
            read_item_info(file, tags=None)
        file.write_bytes(whole[table])

    read()
