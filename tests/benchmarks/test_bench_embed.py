import json
import sys
from pathlib import Path

import pytest

from benchmarks import bench_embed
from benchmarks.bench_embed import header, summary, table
from benchmarks.support.embedding import world


def round_of(ours: float, bare: float, plain: float) -> dict[str, dict[str, float]]:
    phases = {"reading": 0.25, "forward": 3.5, "writing": 0.01}
    return {
        "ours": {"items_per_s": ours, "cpu": 5.0, **phases},
        "bare": {"items_per_s": bare, "cpu": 4.5},
        "plain": {"items_per_s": plain, "cpu": 6.0},
    }


ROUNDS = [round_of(95, 100, 50), round_of(46, 50, 40), round_of(180, 200, 60)]


def test_ratios_are_those_within_a_round() -> None:
    found = summary(ROUNDS)
    assert found["ours"]["ratio"] == 0.92  # 0.95, 0.92, 0.90
    assert found["plain"]["ratio"] == 0.5  # 0.5, 0.8, 0.3
    assert found["bare"]["ratio"] == 1
    assert found["ours"]["items_per_s"] == 95
    assert found["ours"]["reading"] == 0.25


def test_the_table() -> None:
    lines = [header(), *table("covers", summary(ROUNDS)).splitlines()]
    assert len(lines[0]) == len(lines[1])
    assert lines[1].split() == [
        "covers",
        "ours",
        "95.0",
        "92.0%",
        "5.000",
        "0.250",
        "3.500",
        "0.010",
    ]
    assert lines[2].split() == ["covers", "bare", "100.0", "100.0%", "4.500"]


@pytest.mark.long
@pytest.mark.usefixtures("cpu")
def test_a_small_run_writes_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "figures.json"
    sizes = ["--covers=6", "--titles=20", "--batch-size=3", "--rounds=1", f"--json={path}"]
    monkeypatch.setattr(sys, "argv", ["bench_embed", *sizes])
    monkeypatch.setitem(world.VIT, "layers", 1)
    bench_embed.main()
    found = json.loads(path.read_text())
    for name, items in (("ViT-B-32", 6), ("Lite0", 6), ("MiniLM", 20), ("VLM", 2)):
        for row in ("ours", "bare", "plain"):
            assert found[name][row]["items_per_s"] > 0
        ours = found[name]["ours"]
        total = ours["reading"] + ours["forward"] + ours["writing"]
        assert total == pytest.approx(items / ours["items_per_s"], rel=0.05)
        assert found[name]["bare"]["ratio"] == 1
