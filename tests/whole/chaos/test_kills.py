"""SIGKILL at any moment: nothing finished is lost, and a plain `dvc repro` goes on."""

from collections.abc import Iterator
from itertools import cycle
from random import Random

import pytest

from tests.support.references.run import ReferenceRun
from tests.support.repro import Target
from tests.whole.chaos.disturbed import finish, forget, kill

pytestmark = pytest.mark.slow

KILLS = 20
SEED = 2025
IMPORTS = 4
"""Seconds, about, that a stage takes to import what the reference's stages had at once."""
SHORT = ("train@main", "fuse")
TARGETS: tuple[Target, ...] = ("session", "stage", "dvc")


def test_killed_anywhere_it_ends_with_the_bytes_of_an_undisturbed_run(
    run: ReferenceRun, long: bool
) -> None:
    random, targets = Random(SEED), cycle(TARGETS)
    survived = 0
    for stage, kills in planned(run, random) if long else ((stage, 1) for stage in SHORT):
        forget(run, stage)
        for _ in range(kills):
            wait, target = random.uniform(0, run.seconds[stage] + IMPORTS), next(targets)
            while not kill(run, stage, wait, target):  # faster than in the undisturbed run
                forget(run, stage)
                wait /= 2
            survived += 1
        finish(run)
        print(f"{stage}: killed {kills} times, the bytes of an undisturbed run", flush=True)
    assert survived == (KILLS if long else len(SHORT))


def planned(run: ReferenceRun, random: Random) -> Iterator[tuple[str, int]]:
    """Each stage and its kills in a row: one, and more of the stages that take longest."""
    stages, seconds = zip(*run.seconds.items(), strict=True)
    drawn = [*stages, *random.choices(stages, seconds, k=KILLS - len(stages))]
    for stage in stages:
        yield stage, drawn.count(stage)
