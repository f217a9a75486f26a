import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from benchmarks.growth import ingest
from benchmarks.growth.ingest import Measurement, run_ingest, run_pandas, table
from benchmarks.support.raw_layout import HISTORY, write_raw
from pipeline.common.paths import SPLITS
from pipeline.tables.split import Split

ITEMS = 200


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    assert write_raw(folder, 3_000, ITEMS) == 3_000 + 8 + 315
    return folder


def test_clicks_are_as_the_competition_distributes_them(raw: Path) -> None:
    path = raw / "MicroLens_1M_x1/train.parquet"
    column = pq.ParquetFile(path).metadata.row_group(0).column(1)
    assert (column.physical_type, column.compression) == ("INT64", "SNAPPY")
    history = np.stack(pd.read_parquet(path)["item_seq"].to_list())
    real = history != 0
    assert history.shape == (3_000, HISTORY)
    assert (np.sort(real, axis=1) == real).all()
    assert {1, 10, 30, 99, HISTORY} <= set(real.sum(axis=1))
    count = np.sort(np.bincount(history[real]))[::-1]
    assert len(count) == ITEMS + 1
    # log(1 + 1 / k) / log(1 + 200) of all ids are of rank k.
    assert count[:2] / real.sum() == pytest.approx([0.1307, 0.0765], abs=0.005)


def test_both_readers_write_the_same_rows(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_ingest(raw)
    run_pandas(raw)
    user = {}
    for split in SPLITS:
        ours, plain = Split(np.load(f"data/{split}.npy")), Split(np.load(f"{split}.npy"))
        np.testing.assert_array_equal(ours.rows[:, :-1], plain.rows[:, :-1])
        user[split] = ours.user, plain.user
    dense, raw_user = (np.concatenate(both) for both in zip(*user.values(), strict=True))
    np.testing.assert_array_equal(dense, 1 + np.unique(raw_user, return_inverse=True)[1])


def test_table_gives_rates_and_their_ratio() -> None:
    fast, slow = Measurement(6_000, 2.0, 3 * 10**9, 10**9), Measurement(1_000, 4.0, 10**9, 10**9)
    _, first, second = table({"ingest": fast, "pandas": slow}).splitlines()
    assert first.split() == ["ingest", "6,000", "2.0", "3,000", "3.00", "1.00", "12.0"]
    assert second.split() == ["pandas", "1,000", "4.0", "250", "1.00", "1.00", "1.0"]


@pytest.mark.long
def test_each_reader_is_measured_in_a_process_of_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = ["--rows", "3000", "--alternative-rows", "1500", "--items", str(ITEMS)]
    monkeypatch.setattr(sys, "argv", ["ingest", *sizes])
    ingest.main()
    _, ours, plain = (line.split() for line in capsys.readouterr().out.splitlines())
    assert ours[:2] == ["ingest", "3,323"]
    assert plain[:2] == ["pandas", "1,661"]
    for line in (ours, plain):
        peak, anonymous = float(line[4]), float(line[5])
        assert 0 < anonymous < peak < 2
