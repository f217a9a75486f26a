import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.growth import memory
from benchmarks.growth.memory import CASES, header, judged, line, measure
from benchmarks.support.stages import Peak, watched
from pipeline.common import paths
from pipeline.common.files import read_array
from pipeline.tables.item_info import read_item_info
from pipeline.tables.split import Split

MB = 10**6


def test_the_peak_is_that_of_the_process_and_its_children_together() -> None:
    hold = "import time; kept = b'x' * {}; time.sleep(0.4)"
    child = f"[sys.executable, '-c', {hold.format(60 * MB)!r}]"
    code = f"import subprocess, sys; kept = b'x' * {40 * MB}; subprocess.run({child})"
    alone = watched([sys.executable, "-c", hold.format(40 * MB)])
    together = watched([sys.executable, "-c", code])
    assert 40 * MB < alone.anonymous < 60 * MB
    assert 100 * MB < together.anonymous < 130 * MB
    assert together.resident > together.anonymous
    with pytest.raises(subprocess.CalledProcessError):
        watched([sys.executable, "-c", "raise SystemExit(3)"])


def test_pages_of_files_are_not_anonymous(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.zeros(10 * MB))
    code = "import numpy, sys, time; numpy.load(sys.argv[1], mmap_mode='r').sum(); time.sleep(1)"
    found = watched([sys.executable, "-c", code, str(tmp_path / "array.npy")])
    assert found.resident > found.anonymous  # by how much is up to the system
    assert found.anonymous < 60 * MB


def test_a_line_tells_the_growth_of_anonymous_memory() -> None:
    peaks = {100: Peak(50 * MB, 70 * MB, 1.2), 1000: Peak(60 * MB, 90 * MB, 4.0)}
    assert line("ingest", "rows", peaks).split() == (
        ["ingest", "100", "rows", "1,000", "50", "60", "1.20", "11,111", "70", "90", "1", "4"]
    )
    assert len(line("ingest", "rows", peaks)) == len(header())


@pytest.mark.parametrize("stage", ["ingest", "neighbors"])
def test_a_stage_is_measured(stage: str) -> None:
    found = measure(CASES[stage], 300)
    assert 30 * MB < found.anonymous < found.resident < 3000 * MB
    assert found.seconds > 0


def test_the_challenge_is_judged_on_its_own_items(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    judged(40, items=60, train_rows=50)
    info = read_item_info(paths.ITEM_INFO)
    np.testing.assert_array_equal(info.tags, read_array(paths.TAGS))
    np.testing.assert_array_equal(info.vectors, read_array(paths.ITEM))
    assert Split.load("valid").history.shape == (40, 100)
    assert len(Split.load("train")) == 50
    for name in ("judge", "judge_unbounded"):
        assert (CASES[name].size, CASES[name].size * CASES[name].factor) == (10_000, 300_000)


@pytest.mark.long
def test_runs_from_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["memory", "--stages", "align", "--scale-down", "40"])
    memory.main()
    _, found = capsys.readouterr().out.splitlines()
    assert found.split()[:3] == ["align", "50", "items"]
