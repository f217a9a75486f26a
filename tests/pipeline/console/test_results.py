from pathlib import Path

import pytest

from pipeline.console import results
from tests.support.code.graph import graph, makers

ROOT = Path(__file__).resolve().parents[3]


def test_every_stage_is_told_after_those_that_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    told, stages = [name.split("@")[0] for name in results.stages()], graph()
    assert set(told) == set(stages)
    for name, entry in stages.items():
        read = {maker for dependency in entry["deps"] for maker in makers(dependency, stages)}
        assert read <= set(told[: told.index(name)]), name


@pytest.mark.parametrize(
    ("source", "own"),
    [
        ("sample", "make submission SOURCE=<folder>"),
        ("microlens_1m", "upload submissions/task2/prediction.zip"),
        ("/raw", "dvc metrics diff"),
    ],
)
def test_three_things_are_next_of_which_one_is_the_sources_own(source: str, own: str) -> None:
    steps = results.next_steps(source)
    assert [own in step for step in steps] == [False, True, False]
    assert "report/index.html" in steps[0]
    assert "params.yaml" in steps[2]
