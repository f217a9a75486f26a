from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.quality.cold_items import (
    by_part,
    compare,
    judged_cold,
    parts,
    row,
    without,
    world_without,
)
from benchmarks.support.embedding.world import write_no_pictures
from pipeline.common import paths
from pipeline.common.files import read_json, write_array
from pipeline.settings.params import Params
from pipeline.tables.split import Split
from tests.support.worlds.tiny_world import ITEMS, item_table, tiny_params, write_world

ROWS = np.array(
    [
        [0, 0, 1, 2, 5, 0, 0, 1, 1],
        [0, 3, 1, 2, 4, 7, 0, 1, 1],
        [2, 3, 3, 4, 1, 0, 8, 0, 2],
        [0, 0, 0, 0, 2, 0, 0, 0, 2],
        [0, 0, 0, 3, 2, 0, 0, 1, 2],
    ],
    np.int32,
)
"""Four places of history, target, likes, views, label, user."""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny world with titles but no covers."""
    monkeypatch.chdir(tmp_path)
    write_world()
    tags = pa.array([[i % 5, 0] for i in range(ITEMS + 1)], pa.list_(pa.int64()))
    pq.write_table(pa.table({"item_id": np.arange(ITEMS + 1), "tags": tags}), paths.ITEMS)
    text = np.random.default_rng(5).normal(size=(ITEMS, 4))
    write_array(paths.TEXT, item_table(text, np.float32))
    write_array(paths.TEXT_PRESENT, np.arange(ITEMS + 1) > 0)
    write_no_pictures(ITEMS)
    return tmp_path


def judged_by(runs: int) -> Params:
    params = tiny_params()
    tiny = {"batch_size": 50, "rows": 100, "epochs": 1, "mixed_precision": "no", "runs": runs}
    judge = params.judge.model_dump() | tiny
    return Params.model_validate(params.model_dump() | {"judge": judge})


def test_every_item_is_in_one_part() -> None:
    drawn = parts(10, 3, seed=1)
    assert sorted(map(len, drawn)) == [3, 3, 4]
    assert sorted(np.concatenate(drawn)) == list(range(1, 11))
    assert list(drawn[0]) == list(parts(10, 3, seed=1)[0]) != list(parts(10, 3, seed=2)[0])


def test_items_taken_out_of_train_leave_no_gap() -> None:
    assert without(Split(ROWS), np.array([3, 5])).tolist() == [
        [0, 0, 1, 2, 4, 7, 0, 1, 1],
        [0, 0, 2, 4, 1, 0, 8, 0, 2],
        [0, 0, 0, 0, 2, 0, 0, 0, 2],
        [0, 0, 0, 0, 2, 0, 0, 1, 2],
    ]
    assert ROWS[2, 1] == 3


def test_long_histories_keep_their_order() -> None:
    history = np.random.default_rng(7).integers(1, 20, (50, 100))
    rows = np.column_stack([history, np.full((50, 5), 1)]).astype(np.int32)
    found = Split(without(Split(rows), np.array([4, 9]))).history
    for before, after in zip(history, found, strict=True):
        kept = [item for item in before if item not in (4, 9)]
        assert after.tolist() == [0] * (100 - len(kept)) + kept


def test_only_train_of_the_other_world_lacks_the_items(world: Path) -> None:
    before = {path: path.read_bytes() for path in world.rglob("*") if path.is_file()}
    items = np.array([2, 7, 11])
    with world_without(items):
        assert Path.cwd() != world
        train = Split.load("train")
        assert (
            len(train) == (~np.isin(Split(np.load(world / "data/train.npy")).target, items)).sum()
        )
        assert not np.isin(train.rows[:, :-4], items).any()
        after = {path: (world / path).read_bytes() for path in before}
        for path in before:
            if not path.name.startswith("train.npy"):
                assert path.relative_to(world).read_bytes() == before[path]
    assert Path.cwd() == world
    assert after == before


@pytest.mark.usefixtures("cpu", "world")
def test_recipes_are_judged_on_the_same_parts(capsys: pytest.CaptureFixture[str]) -> None:
    file = Path("cold.json")
    verdicts = compare(["zeros", "pca"], 2, judged_by(runs=2), file)
    assert read_json(file) == verdicts
    assert [[len(runs) for runs in verdicts[recipe]] for recipe in verdicts] == [[2, 2], [2, 2]]
    seed = judged_by(runs=2).judge.seed
    second = parts(ITEMS, 2, seed)[1]
    with world_without(second):
        again = judged_cold("pca", second, range(seed + 1, seed + 5, 2), judged_by(runs=2))
    assert again == verdicts["pca"][1]
    rows = capsys.readouterr().out.splitlines()
    assert rows[0] == "150 rows of valid, each cold in one of 2 parts"
    assert rows[1:3] == [row("zeros", verdicts), row("pca", verdicts)]


@pytest.mark.usefixtures("cpu", "world")
def test_cold_is_what_was_taken_out() -> None:
    items = np.array([2, 3, 7, 11])
    rows = np.array(Split.load("valid").rows)
    Split(rows).label[np.isin(Split(rows).target, items)] = 1  # no AUC
    write_array(paths.split_path("valid"), rows)
    with world_without(items):
        (verdict,) = judged_cold("pca", items, range(4, 5), judged_by(runs=1))
    assert verdict["auc_cold_items"] is None
    assert verdict["auc_warm_items"] is not None
    assert np.isnan(by_part([[verdict]], "auc_cold_items")).all()


@pytest.mark.usefixtures("world")
def test_a_logistic_regression_in_place_of_the_judge() -> None:
    verdicts = compare(["zeros", "pca"], 2, judged_by(runs=2), None, linear=True)
    assert [len(runs) for runs in verdicts["pca"]] == [1, 1]
    assert verdicts == compare(["zeros", "pca"], 2, judged_by(runs=9), None, linear=True)


def test_differences_are_of_the_same_parts() -> None:
    pca: list[list[dict[str, float | None]]] = [
        [{"auc_cold_items": 0.5, "auc_warm_items": 0.7}],
        [{"auc_cold_items": 0.7, "auc_warm_items": 0.7}],
    ]
    align: list[list[dict[str, float | None]]] = [
        [
            {"auc_cold_items": 0.6, "auc_warm_items": 0.8},
            {"auc_cold_items": 0.54, "auc_warm_items": 0.8},
        ],
        [{"auc_cold_items": 0.73, "auc_warm_items": 0.8}] * 2,
    ]
    assert by_part(align, "auc_cold_items") == pytest.approx([0.57, 0.73])
    verdicts = {"pca": pca, "align": align}
    found = " ".join(row("align", verdicts).split())
    assert found == "align cold 0.6500 +0.0500 ± 0.0200 others 0.8000 +0.1000 ± 0.0000"
    assert row("pca", verdicts).split() == ["pca", "cold", "0.6000", "others", "0.7000"]
