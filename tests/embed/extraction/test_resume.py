"""Extraction that is killed, disturbed or split over processes ends with the same bytes."""

import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.common.paths import PARAMS, metrics_path
from pipeline.settings.params import Params
from tests.embed.conftest import Catalogue, picture, png, write_catalogue
from tests.support.stage_processes import StageProcesses

ITEMS = 200
TOTAL = {"text": ITEMS // 2, "image": (ITEMS - ITEMS // 50) // 2}
"""Shards of two items; every 50th item has no cover."""
Outputs = dict[str, bytes]


@pytest.fixture(scope="module")
def processes() -> Iterator[StageProcesses]:
    modules = ("covers.shards", "encoders.text.titles", "extraction.extract", "vectors.given")
    with StageProcesses(*(f"embed.{name}" for name in modules)) as processes:
        yield processes


@pytest.fixture
def large(trained: Catalogue, params: Params) -> None:
    """A catalogue of 200 items, two a shard, and its settings."""
    pictures = [png(picture(item)) for item in range(8)]
    covers = {item: pictures[item % 8] for item in range(1, ITEMS + 1) if item % 50}
    write_catalogue(
        replace(
            trained,
            item_ids=list(range(ITEMS + 1)),
            titles=["", *(f"red thing {item}" for item in range(1, ITEMS + 1))],
            tags=[[0]] * (ITEMS + 1),
            covers=covers | {7: b"<html>not found</html>"},
        )
    )
    write_params(params, shard_size=2, batch_size=2)


def write_params(params: Params, **sizes: int) -> None:
    content = params.model_dump()
    for section in ("embed_text", "embed_image"):
        content[section] |= sizes
    content["embed_image"]["workers"] = 1  # outlives the kill, but must not keep the lock
    with PARAMS.open("w") as file:
        YAML().dump(content, file)


def outputs(stage: str) -> Outputs:
    files = [*Path("embeddings", stage, "main").iterdir(), metrics_path(f"embed_{stage}/main")]
    assert len(files) == 5
    return {str(path): path.read_bytes() for path in files}


def delete_outputs(stage: str) -> None:
    """As DVC does before it runs a stage."""
    for path in outputs(stage):
        Path(path).unlink()


def shards(stage: str) -> dict[str, tuple[int, int]]:
    """Inode and time of change of every shard that is there."""
    found = {}
    for path in Path(f"scratch/embed_{stage}@main").glob("*/shard-*"):
        status = path.stat()
        found[str(path)] = (status.st_ino, status.st_mtime_ns)
    return found


def kill_after(processes: StageProcesses, stage: str, count: int, wait: float) -> None:
    """Kill a run when so many shards are there and `wait` seconds have passed."""
    run = processes.start(f"embed.{stage}")
    deadline = time.monotonic() + 30
    while len(shards(stage)) < count:
        assert time.monotonic() < deadline, run.log.read_text()
        time.sleep(0.001)
    time.sleep(wait)
    os.kill(run.pid, signal.SIGKILL)
    assert processes.wait(run) == -signal.SIGKILL, "it ended before it could be killed"


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("stage", ["text", "image"])
def test_killed_three_times_it_ends_with_the_bytes_of_an_undisturbed_run(
    stage: str, processes: StageProcesses
) -> None:
    processes.finish(f"embed.{stage}")
    undisturbed = outputs(stage)
    assert shards(stage) == {}
    delete_outputs(stage)
    done: dict[str, tuple[int, int]] = {}
    for count in (3, 30, random.randint(45, 70)):
        kill_after(processes, stage, count, wait=random.uniform(0, 0.01))
        assert done.items() <= shards(stage).items(), "a finished shard was computed again"
        done = shards(stage)
    log = processes.finish(f"embed.{stage}")
    assert f"{len(done)} of {TOTAL[stage]} shards are there" in log
    assert outputs(stage) == undisturbed
    assert shards(stage) == {}


@pytest.mark.usefixtures("large")
def test_a_second_run_waits_for_the_first(processes: StageProcesses) -> None:
    first = processes.start("embed.text")
    while not shards("text"):
        time.sleep(0.001)
    os.kill(first.pid, signal.SIGSTOP)
    second = processes.start("embed.text")
    while not (second.log.exists() and "waiting for it to end" in second.log.read_text()):
        time.sleep(0.001)
    os.kill(first.pid, signal.SIGCONT)
    for run in (first, second):
        assert processes.wait(run) == 0, run.log.read_text()
    assert outputs("text")


@pytest.mark.usefixtures("large")
def test_two_processes_write_the_bytes_of_one(processes: StageProcesses) -> None:
    processes.finish("embed.image")
    alone = outputs("image")
    delete_outputs("image")
    main, other = map(processes.finished, processes.start_together("embed.image", 2))
    assert "items encoded" in main
    assert "items encoded" not in other
    assert outputs("image") == alone
    assert shards("image") == {}
