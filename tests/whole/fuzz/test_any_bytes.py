"""Parquet files with any bytes changed end in an answer or in one InputError."""

from collections import Counter
from contextlib import suppress
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pipeline.common.files import InputError, Outputs
from pipeline.ingest import ingest
from pipeline.tables.item_info import read_item_info
from tests.whole.fuzz.conftest import Tries
from tests.whole.fuzz.support.folder import FEATURE, TRAIN, plain_folder


def test_any_changed_bytes(workspace: Path, tries: Tries, tally: Counter[str]) -> None:
    source = workspace / "raw"
    source.mkdir()
    folder = plain_folder()
    folder.options = {FEATURE: {"compression": "none"}, TRAIN: {"compression": "none"}}
    folder.write(source)
    whole = {table: (source / f"{table}.parquet").read_bytes() for table in folder.tables}

    @tries("any bytes", 100, 3_000)
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
