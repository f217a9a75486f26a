import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import bench_online
from benchmarks.bench_online import Published, drawn, measured
from pipeline.common.files import read_json

ITEMS = 200


def test_both_ways_give_the_same_logits() -> None:
    world = Published(ITEMS)
    history, candidates = next(drawn(ITEMS, 7, np.ones(ITEMS)))
    ours, plain = world.ours(history, candidates), world.plain(history, candidates)
    assert np.ptp(plain) > 0.1
    assert ours == pytest.approx(plain, rel=1e-4, abs=1e-4 * float(np.ptp(plain)))


def test_a_request_names_different_items_by_their_weight() -> None:
    weight = np.ones(ITEMS)
    weight[:20] = 1e-9
    for history, candidates in (next(drawn(ITEMS, ITEMS, weight)) for _ in range(3)):
        assert len({*history.tolist()}) == min(ITEMS, bench_online.HISTORY)
        assert sorted(candidates.tolist()) == [*range(1, ITEMS + 1)]
        assert (history[:30] > 20).all()


def test_times_are_of_every_request_but_the_first_two() -> None:
    asked: list[int] = []

    def ask(history: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        asked.append(len(candidates))
        return history

    times = measured(ask, drawn(ITEMS, 3, np.ones(ITEMS)), 0.0)
    assert asked == [3] * (2 + bench_online.PLAIN_FEWEST)
    assert 0 < times.p50 <= times.p99
    assert times.rate > 0


def test_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bench.json"
    options = ["--items", str(ITEMS), "--seconds", "0", "--json", str(file)]
    monkeypatch.setattr(sys, "argv", ["bench_online", *options, "--package", str(tmp_path / "no")])
    monkeypatch.setattr(bench_online, "CANDIDATES", (1, 2))
    monkeypatch.setattr(bench_online, "counts_of_threads", lambda: [1])
    bench_online.main()
    lines = read_json(file)["requests"]
    assert [line["candidates"] for line in lines] == [1, 2, ITEMS]
    assert [line["ratio"] for line in lines[:2]] == [
        pytest.approx(line["plain_p50"] / line["p50"]) for line in lines[:2]
    ]
    assert "ratio" not in lines[2]
    printed = capsys.readouterr().out.splitlines()
    assert printed[1].startswith("published sizes: the probabilities differ by at most ")
    assert len(printed) == 2 + len(lines)
