import logging
import os
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from pipeline.common import outlook
from pipeline.common.outlook import (
    Watch,
    available_cores,
    available_memory,
    cpu,
    duration,
    tell_cores,
)


@pytest.mark.parametrize(
    ("limit", "used", "expected"),
    [("max", "5", 1000), ("900", "300", 600), ("2000", "300", 1000), ("900", "901", 0)],
)
def test_memory_is_the_machines_or_what_a_control_group_leaves(
    limit: str, used: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1000))
    monkeypatch.setattr("pipeline.common.outlook.CONTROL_GROUPS", str(tmp_path))
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text(f"{used}\n")
    told = Path("/proc/self/cgroup").exists()
    assert available_memory() == (expected if told else 1000)


def test_memory_of_this_machine() -> None:
    assert 0 < available_memory() <= psutil.virtual_memory().total


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """One entry, the seconds that it shows."""
    time = [100.0]
    monkeypatch.setattr("pipeline.common.outlook.time.perf_counter", lambda: time[0])
    return time


def watched(watch: Watch, clock: list[float], seconds: list[float]) -> None:
    for each in seconds:
        clock[0] += each
        watch.after_batch()


def test_the_pace_after_the_slow_first_batches_is_told_once(clock: list[float]) -> None:
    told: list[float] = []
    watch = Watch(1000, told.append)
    watched(watch, clock, [30.0, 5.0, 5.0, 0.5, 0.5, 0.5])
    assert told == []
    watched(watch, clock, [0.5, 0.5] + [0.7] * 100)
    assert told == [pytest.approx(500)]


def test_what_is_quick_is_told_at_its_half_and_what_is_short_is_not(clock: list[float]) -> None:
    told: list[float] = []
    watched(Watch(20, told.append), clock, [0.01] * 20)
    assert told == [pytest.approx(0.2)]
    watched(Watch(20, told.append, shortest=60), clock, [0.01] * 20)
    assert len(told) == 1
    watched(Watch(7, told.append), clock, [10.0] * 7)  # its end tells more
    assert len(told) == 1


def test_few_equal_parts(clock: list[float]) -> None:
    told: list[float] = []
    watched(Watch(5, told.append, 60, warm_up=0, watched=1), clock, [30.0])
    assert told == [pytest.approx(150)]


def test_batches_of_which_nothing_is_done_tell_nothing(clock: list[float]) -> None:
    watch = Watch(10, lambda _seconds: pytest.fail("told"))
    for _ in range(20):
        clock[0] += 1
        watch.after_batch(0)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (59.4, "59 s"), (60, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_available_cores_are_those_of_this_process_or_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 2, 5}, raising=False)
    assert available_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 9)
    assert available_cores() == 9


def test_processors_in_words() -> None:
    assert cpu(1) == "1 thread of a CPU"
    assert cpu(2, "AVX2") == "2 threads of a CPU (AVX2)"
    assert cpu(1, "AVX2", 4) == "4 processes of 1 thread each of a CPU (AVX2)"


def test_a_stage_of_numpy_tells_its_threads(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools = [{"num_threads": 1}, {"num_threads": 3}]
    monkeypatch.setattr(outlook, "threadpool_info", lambda: pools)
    with caplog.at_level(logging.INFO):
        tell_cores("align", "fp64")
        tell_cores("neighbors", "fp32", gpus=1)
    assert caplog.messages == [
        "align: on 3 threads of a CPU, fp64",
        "neighbors: on a GPU, fp32",
    ]
