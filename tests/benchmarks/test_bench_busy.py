import subprocess
from pathlib import Path

import pytest

from benchmarks.bench_busy import LIBGOMP, OURS, SLEEP, busy_cores, policies, rate, table
from benchmarks.support.stages import cpu_seconds
from benchmarks.support.training_world import write_world
from pipeline.common.guard import WAITING
from pipeline.common.outlook import available_cores


def test_the_stages_policy_is_tried_beside_the_others() -> None:
    assert policies()[LIBGOMP] == {}
    assert policies()[OURS] == WAITING
    spins = [each["GOMP_SPINCOUNT"] for name, each in policies().items() if "spin" in name]
    assert len(set(spins)) == len(spins) > 1


@pytest.mark.long
def test_a_policy_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_world(items=50, tags=9, train_rows=1_200, valid_rows=2)
    assert rate(policies()[OURS], steps=1) > 0


def test_others_keep_the_cores_busy_until_it_is_measured() -> None:
    with busy_cores() as others:
        while not all(map(has_worked, others)):
            assert [other.poll() for other in others] == [None] * available_cores()
        assert [other.poll() for other in others] == [None] * available_cores()
    assert all(other.poll() is not None for other in others)


def has_worked(process: subprocess.Popen[bytes]) -> bool:
    """For far more than its start takes."""
    return cpu_seconds(process.pid) > 0.3


def test_the_table_compares_with_the_best_alone() -> None:
    rates = {
        LIBGOMP: {"alone": [110.0, 90.0], "busy": [20.0]},
        SLEEP: {"alone": [50.0], "busy": [25.0]},
    }
    first, second = table(rates).splitlines()[1:]
    assert first.split()[-4:] == ["100", "100%", "20", "20%"]
    assert second.split()[-4:] == ["50", "50%", "25", "50%"]
