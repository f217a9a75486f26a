from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality.content import by_recipe, counted, table
from ctr import companions
from pipeline.common import paths
from pipeline.common.files import read_array
from pipeline.settings.params import Params
from tests.benchmarks.quality.test_cold_items import judged_by, world

__all__ = ["world"]

VALID = paths.companions_path("valid")


def made_anew() -> dict[Path, bytes]:
    made = (paths.COMPANIONS, paths.NEIGHBORS, VALID, paths.ITEM)
    return {path: path.read_bytes() for path in made}


@pytest.fixture
def params(monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.setattr(companions, "available_cores", lambda: 1)
    return judged_by(runs=1)


@pytest.mark.usefixtures("cpu")
def test_without_content_no_vector_no_neighbour_and_no_likeness(
    world: Path, params: Params
) -> None:
    before = made_anew()
    with counted("zeros", params):
        assert Path.cwd() != world
        assert not read_array(paths.ITEM).any()
        with np.load(paths.NEIGHBORS) as near:
            assert not near["ids"].any()
        without = made_anew()[VALID]
    with counted("pca", params):
        assert read_array(paths.ITEM).any()
        assert made_anew()[VALID] != without
    assert Path.cwd() == world
    assert made_anew() == before


@pytest.mark.usefixtures("cpu", "world")
def test_each_recipe_is_asked_of_known_and_of_cold_items(params: Params) -> None:
    before = made_anew()
    found = dict(by_recipe(["zeros", "pca"], 1, 4, params))
    assert [*found] == ["zeros", "pca"]
    for known, cold in found.values():
        assert known > 0.6  # an even item is clicked, which an id tells
        assert 0 <= cold <= 1
    assert found["zeros"] != found["pca"]
    assert made_anew() == before


def test_the_table_is_of_differences_of_equal_seeds() -> None:
    zeros = np.array([[0.80, 0.50], [0.84, 0.60]])
    lines = [*table({"zeros": zeros, "align": zeros + np.array([[0.01, 0.1], [0.03, 0.1]])})]
    assert lines[1].split() == ["zeros", "0.8200", "(0.0283)", "0.5500", "(0.0707)"]
    assert lines[2].split() == [
        "align",
        *("0.8400", "(0.0424)", "+0.0200", "±", "0.0100"),
        *("0.6500", "(0.0707)", "+0.1000", "±", "0.0000"),
    ]
