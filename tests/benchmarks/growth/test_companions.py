import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.growth import companions
from benchmarks.growth.companions import at, compared, line, table, together
from benchmarks.support.companions.plain import Plain
from benchmarks.support.companions.world import MEDIAN, Histories, World, write_world
from ctr.companions import unit_vectors
from ctr.covisitation.describe import NAMES, Describer
from ctr.covisitation.pairs import recent
from pipeline.common import paths
from pipeline.common.files import read_array
from pipeline.tables.split import Split
from tests.support.worlds.tiny_world import tiny_params

SECTION = tiny_params().companions


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("histories", ["full", "sample"])
def test_the_world_has_the_asked_sizes(histories: Histories) -> None:
    world = World(items=300, train_rows=9_000, histories=histories, rows_per_user=3.6)
    assert World().rows == {"train": 3_600_000, "valid": 10_000, "test": 379_142}
    write_world(world)
    splits = {split: Split.load(split) for split in paths.SPLITS}
    assert {split: len(rows) for split, rows in splits.items()} == world.rows
    train = splits["train"]
    real = train.history > 0
    assert (np.sort(real, axis=1) == real).all()
    assert real.sum(1).min() == (1 if histories == "sample" else 100)
    assert np.median(real.sum(1)) == pytest.approx(MEDIAN if histories == "sample" else 100, abs=1)
    assert len(np.unique(train.user)) == pytest.approx(9_000 / 3.6, rel=0.05)
    assert train.label.mean() == pytest.approx(1 / 3, abs=0.02)
    assert set(splits["test"].label) == {-1}
    assert (train.history.max(), train.target.min(), train.target.max()) == (300, 1, 300)
    assert read_array(paths.ITEM).shape == (301, 128)


def test_both_ways_tell_the_same_of_every_row() -> None:
    write_world(World(items=40, train_rows=300, histories="sample", rows_per_user=10))
    train, tags, unit = Split.load("train"), read_array(paths.TAGS), unit_vectors()
    plain, ours = Plain(train, tags, unit, SECTION), Describer(train, tags, unit, SECTION)
    fold = ours.folds[train.user].astype(int)
    for row in range(0, 300, 7):
        target, history = int(train.target[row]), recent(train, np.array([row]), SECTION.window)
        found = plain(target, train.history[row], int(fold[row]))
        expected = ours(target, history, fold[row, None])[0]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
        assert len(found) == len(NAMES)


def test_what_the_stage_is_at_is_told_by_its_files() -> None:
    found = [at()]
    for path in ("scratch/companions/tmp12/x", "companions/.train.npy.partial"):
        Path(path).parent.mkdir(parents=True)
        Path(path).touch()
        found.append(at())
    assert found == ["counting", "describing", "writing"]


def peak(seconds: float, cpu: float, anonymous: float) -> dict[str, float]:
    return {"seconds": seconds, "cpu": cpu, "anonymous": anonymous, "resident": 2 * anonymous}


def test_the_table_and_what_all_rows_would_take() -> None:
    ours: dict[str, Any] = {
        "rows": 4_000,
        "phases": {"counting": peak(1, 2, 5e6), "describing": peak(3, 4, 3e6)},
    }
    plain: dict[str, Any] = {"rows": 100, "phases": {"counting": peak(2, 2, 9e6)}}
    assert together(ours["phases"]) == peak(4, 6, 5e6)
    assert "80 s, 20.0 times as long, and 13.3 times the CPU seconds" in compared(ours, plain)
    figures = {"ways": {"companions": ours, "matrices": plain}, "pairs": 1234, "load": [0.5, 1.25]}
    header, *lines = table(figures).splitlines()
    assert lines[2] == line("companions, together", 4_000, peak(4, 6, 5e6))
    assert lines[2].split() == ["companions,", "together", "4,000", "4", "6", "5", "10", "1,000"]
    assert len(header) == len(lines[0])
    assert lines[5].startswith("1,234 pairs; load of the machine 0.5 before")


def test_runs_from_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["--rows=4000", "--items=300", "--quick", "--plain-rows=50", "--histories=sample"]
    monkeypatch.setattr(sys, "argv", ["companions", *sizes, "--json=figures.json"])
    companions.main()
    figures = json.loads(Path("figures.json").read_text())
    assert figures["world"]["train_rows"] == 400
    ways = figures["ways"]
    assert {name: way["rows"] for name, way in ways.items()} == {"companions": 444, "matrices": 50}
    assert [*ways["companions"]["phases"]][:2] == ["counting", "describing"]
    for way in ways.values():
        assert 3e7 < together(way["phases"])["anonymous"] < 1e9
    assert figures["pairs"] > 2_000
    assert "times as long" in capsys.readouterr().out
