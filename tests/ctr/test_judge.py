from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from accelerate import Accelerator
from torch import Tensor

from ctr import judge as stage
from ctr.engine.scoring import score
from ctr.task1.items import load_judged_items
from pipeline.common import paths
from pipeline.common.files import InputError, read_json, write_array
from pipeline.common.paths import ITEM_INFO, ITEMS, TASK1_METRICS
from pipeline.settings.params import Params
from pipeline.tables.item_info import write_item_info
from pipeline.tables.split import Split
from tests.support.worlds.tiny_world import CONTENT, forget_accelerator, item_table, tiny_params
from tests.support.worlds.tiny_world import ITEMS as N

pytestmark = pytest.mark.usefixtures("cpu", "world", "submitted")

LAST_WARM = 30
"""Items above it are cold: train has none of them as target."""
NOISE = np.random.default_rng(3).normal(size=(N, CONTENT))
TAGS = np.array([[i % 5, 0] for i in range(N + 1)])
GAPS = np.array([0, 3, 7, 500, 2**40])
"""Raw tags of the same order as 0 to 4."""


def submit(vectors: np.ndarray, tags: np.ndarray = TAGS) -> None:
    """Write Task 1's file with `vectors` (N, d) of the items, and `tags` (N + 1, T)."""
    table = {
        "item_id": np.arange(len(tags)) * 10,
        "tags": pa.array(tags.tolist(), pa.list_(pa.int64())),
    }
    pq.write_table(pa.table(table), ITEMS)
    ITEM_INFO.parent.mkdir(parents=True, exist_ok=True)
    write_item_info(ITEM_INFO, item_table(vectors, np.float32))


@pytest.fixture
def submitted(world: object) -> None:
    """Task 1's file, of noise, and a train whose targets are items up to LAST_WARM."""
    assert world
    rows = np.array(Split.load("train").rows)
    target = Split(rows).target
    target[target > LAST_WARM] -= LAST_WARM  # even stays even
    write_array(paths.split_path("train"), rows)
    submit(NOISE)


def settings(**changes: Any) -> Params:
    params = tiny_params()
    small = {
        "batch_size": 50,
        "rows": 100,
        "epochs": 1,
        "seed": 4,
        "mixed_precision": "no",
    }
    judge = params.judge.model_dump() | small | changes
    return Params.model_validate(params.model_dump() | {"judge": judge})


def verdict(**changes: Any) -> dict[str, Any]:
    forget_accelerator()
    stage.main(settings(**changes).judge)
    return read_json(TASK1_METRICS)


def test_metrics_are_means_over_runs_of_successive_seeds() -> None:
    first, second = verdict(seed=4), verdict(seed=5)
    both = verdict(seed=4, runs=2)
    assert first["logloss"] != second["logloss"]  # two AUCs of 150 rows may be equal
    assert first["auc_std"] is None
    for name in ("auc", "gauc", "logloss", "auc_warm_items", "auc_cold_items", "best_epoch"):
        assert both[name] == pytest.approx((first[name] + second[name]) / 2)
    assert both["auc_std"] == pytest.approx(abs(first["auc"] - second["auc"]) / 2**0.5)
    assert [run["runs"] for run in (first, second, both)] == [1, 1, 2]
    assert both["dim"] == CONTENT
    assert both["train_rows"] == 100


def plain_auc(label: list[int], score: list[float]) -> float:
    clicked = [s for s, y in zip(score, label, strict=True) if y]
    others = [s for s, y in zip(score, label, strict=True) if not y]
    wins = sum((s > o) + (s == o) / 2 for s in clicked for o in others)
    return wins / (len(clicked) * len(others))


def spied_logits(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Fills with the logits of valid, epoch by epoch."""
    seen: list[Tensor] = []

    def spy(*arguments: Any) -> list[Tensor]:
        logits = score(*arguments)
        seen.extend(logits)
        return logits

    monkeypatch.setattr("ctr.engine.loop.score", spy)
    return seen


def test_auc_of_warm_and_cold_items_is_that_of_the_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = spied_logits(monkeypatch)
    found = verdict(epochs=2)
    assert len(seen) == 2  # valid is scored once an epoch
    logits = seen[int(found["best_epoch"]) - 1]
    valid = Split.load("valid").rows.tolist()
    scored = list(zip(valid, logits.tolist(), strict=True))
    groups = {
        "auc": scored,
        "auc_warm_items": [pair for pair in scored if pair[0][-5] <= LAST_WARM],
        "auc_cold_items": [pair for pair in scored if pair[0][-5] > LAST_WARM],
    }
    assert len(groups["auc_cold_items"]) > 20
    for name, pairs in groups.items():
        expected = plain_auc([row[-2] for row, _ in pairs], [logit for _, logit in pairs])
        assert found[name] == pytest.approx(expected, abs=1e-4)  # the probabilities may tie


def test_without_cold_targets_their_auc_is_null() -> None:
    rows = np.array(Split.load("valid").rows)
    target = Split(rows).target
    target[target > LAST_WARM] -= LAST_WARM
    write_array(paths.split_path("valid"), rows)
    found = verdict(runs=2)
    assert found["auc_cold_items"] is None
    assert found["auc_warm_items"] == pytest.approx(found["auc"], abs=1e-4)


def test_of_the_items_only_the_file_is_read() -> None:
    expected = verdict()
    for path in (paths.TAGS, paths.ITEM, paths.NEIGHBORS, ITEMS, paths.split_path("test")):
        path.unlink()
    assert verdict() == expected


def test_the_files_vectors_and_tags_count() -> None:
    expected = verdict()
    submit(NOISE[::-1])
    assert verdict()["logloss"] != expected["logloss"]
    submit(NOISE, item_table(np.roll(TAGS[1:], 1, axis=0), np.int64))
    assert verdict()["logloss"] != expected["logloss"]


def test_raw_tags_with_gaps_are_the_same_as_dense_ones() -> None:
    expected = verdict()
    dense = load_judged_items(ITEM_INFO, Accelerator().device)
    submit(NOISE, GAPS[TAGS])
    gaps = load_judged_items(ITEM_INFO, Accelerator().device)
    assert gaps.tags.tolist() == dense.tags.tolist() == TAGS.tolist()
    assert verdict() == expected


def test_a_file_may_stand_elsewhere(world: Any) -> None:
    expected = verdict()
    ITEM_INFO.rename(world / "mine.parquet")
    assert verdict(file="mine.parquet") == expected
    with pytest.raises(InputError, match=r"item_info\.parquet: not found"):
        verdict()


def test_a_file_of_another_catalogue_names_both_counts() -> None:
    submit(NOISE[:-1], TAGS[:-1])
    with pytest.raises(InputError, match=rf"has {N - 1} items, the source has {N};"):
        verdict()
    assert not TASK1_METRICS.exists()


def test_the_last_rows_of_train_are_read() -> None:
    expected = verdict(rows=100)
    rows = np.array(Split.load("train").rows)
    rows[:-100, -2] = 1 - rows[:-100, -2]
    write_array(paths.split_path("train"), rows)
    assert verdict(rows=100) == expected
    assert verdict(rows=0)["train_rows"] == len(rows)


def test_a_better_embedding_scores_higher() -> None:
    training = {"rows": 0, "epochs": 2, "batch_size": 50}
    submit(np.zeros((N, CONTENT)))
    worse = verdict(**training)
    parity = np.where(np.arange(1, N + 1) % 2 == 0, 1.0, -1.0)
    submit(np.repeat(parity[:, None], CONTENT, axis=1))
    better = verdict(**training)
    assert better["auc"] > worse["auc"] + 0.01
    assert better["auc_cold_items"] > 0.8
    assert better["auc_cold_items"] > worse["auc_cold_items"] + 0.15
