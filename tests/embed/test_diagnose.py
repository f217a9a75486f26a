from pathlib import Path

import numpy as np
import pytest

from embed import diagnose as stage
from embed.diagnose import diagnose
from embed.vectors import retrieval
from embed.vectors.geometry import effective_rank, near_duplicates, uniformity, unit_vectors
from pipeline.common.files import read_json, write_array
from pipeline.common.paths import TASK1_ITEM, metrics_path, split_path
from pipeline.settings.embed.diagnose import Diagnose
from pipeline.settings.params import Params
from pipeline.tables.auc import auc
from pipeline.tables.split import Split
from tests.embed.vectors.test_retrieval import HISTORY, ITEMS, clicks, plain_hit, real

SETTINGS = Diagnose(k=4, window=3, sample=10**6, pairs=10**6, near_duplicate=0.7, seed=5)


def item_vectors() -> np.ndarray:
    vectors = np.random.default_rng(2).normal(size=(ITEMS + 1, 5)).astype(np.float32)
    vectors[[0, 3, 8]] = 0
    return vectors


def number(value: float | None) -> float:
    assert value is not None
    return value


TRAIN, VALID = clicks(9, seed=3), clicks(150, seed=4)


def cold(item: int) -> bool:
    return item not in TRAIN.history and item not in TRAIN.target


def test_every_measure_by_name() -> None:
    vectors = item_vectors()
    unit = unit_vectors(vectors)
    rows = Split(VALID.rows[retrieval.next_clicks(VALID)])
    hits = [
        plain_hit(unit, real(history), target, 3, 4)
        for history, target in zip(rows.history, rows.target, strict=True)
    ]
    cold_rows = [cold(target) for target in rows.target]
    clicked = retrieval.popularity(TRAIN, ITEMS).clicks
    scores = retrieval.cosine_scores(unit, VALID, 3)
    cold_valid = np.array([cold(target) for target in VALID.target])
    assert 0 < sum(cold_rows) < len(rows)
    assert near_duplicates(unit, 0.7, 10**6, 0) != near_duplicates(unit, 0.99, 10**6, 0)
    assert diagnose(vectors, TRAIN, VALID, SETTINGS) == pytest.approx(
        {
            "items": ITEMS,
            "without_vector": 2,
            "mean_norm": np.mean([np.linalg.norm(v) for v in vectors if v.any()]),
            "effective_rank": effective_rank(vectors),
            "uniformity": uniformity(unit, 10**6, 0),
            "near_duplicates": near_duplicates(unit, 0.7, 10**6, 0),
            "alignment": retrieval.alignment(unit, rows),
            "recall_rows": len(rows),
            "recall_rows_cold": sum(cold_rows),
            "recall_4": np.mean(hits),
            "recall_4_cold": np.mean(np.array(hits)[cold_rows]),
            "recall_4_popular": retrieval.popular_hits(clicked, rows, 4).mean(),
            "recall_4_chance": retrieval.chance_hits(unit, rows, 4).mean(),
            "separation": auc(VALID.label, scores),
            "separation_cold": auc(VALID.label[cold_valid], scores[cold_valid]),
        },
        rel=1e-6,
    )


def test_an_embedding_of_what_goes_together_is_told_from_noise() -> None:
    """Ten topics of three items each; everybody stays within one and clicks on nothing else."""
    random = np.random.default_rng(0)
    topic = np.arange(ITEMS + 1) % 10
    vectors = np.eye(10, dtype=np.float32)[topic] + random.normal(0, 0.1, (ITEMS + 1, 10))
    vectors[0] = 0
    wanted = random.integers(0, 10, 200)
    history = wanted[:, None] + np.full(HISTORY, 10)  # one item, again and again
    target = random.integers(1, ITEMS + 1, 200)
    label = topic[target] == wanted
    zero = np.zeros_like(label)
    valid = Split(np.column_stack([history, target, zero, zero, label, zero]).astype(np.int32))
    found = diagnose(vectors.astype(np.float32), TRAIN, valid, SETTINGS)
    noise = diagnose(item_vectors(), TRAIN, valid, SETTINGS)
    assert found["recall_4"] == 1
    assert found["separation"] == 1
    assert number(found["alignment"]) < 0.3 < 1 < number(noise["alignment"])
    assert number(noise["recall_4"]) < 0.5


def test_a_sample_of_the_rows_has_a_size_and_a_seed() -> None:
    found = [
        diagnose(
            item_vectors(), TRAIN, VALID, SETTINGS.model_copy(update={"sample": 20, "seed": seed})
        )
        for seed in (1, 1, 2, 3, 4, 5)
    ]
    assert {each["recall_rows"] for each in found} == {20}
    assert found[0] == found[1]
    assert len({each["recall_4_chance"] for each in found}) > 1
    assert len({each["separation"] for each in found}) == 1


@pytest.mark.parametrize("width", [4, 0])
def test_without_any_vector(width: int) -> None:
    vectors = np.zeros((ITEMS + 1, width), np.float32)
    found = diagnose(vectors, TRAIN, VALID, SETTINGS)
    nothing = ("mean_norm", "effective_rank", "uniformity", "near_duplicates", "alignment")
    assert {name: found[name] for name in nothing} == dict.fromkeys(nothing)
    assert found["without_vector"] == found["items"] == ITEMS
    assert found["recall_4"] == found["recall_4_chance"] == 0
    assert found["recall_4_popular"]
    assert found["separation"] == 0.5


@pytest.mark.parametrize("label", [0, -1])
def test_without_a_click(label: int) -> None:
    rows = VALID.rows.copy()
    rows[:, HISTORY + 3] = label
    found = diagnose(item_vectors(), TRAIN, Split(rows), SETTINGS)
    assert found["recall_rows"] == 0
    for name in ("alignment", "recall_4", "recall_4_cold", "recall_4_popular", "separation"):
        assert found[name] is None
    assert found["effective_rank"] == pytest.approx(effective_rank(item_vectors()))


def test_without_a_row_and_of_one_item() -> None:
    empty = Split(VALID.rows[:0])
    assert diagnose(item_vectors(), empty, empty, SETTINGS)["separation"] is None
    one = np.array([[0, 0], [1, 1]], np.float32)
    row = Split(np.array([[0, 1, 1, 0, 0, 1, 0]], np.int32))
    found = diagnose(one, row, row, SETTINGS)
    assert found["recall_rows"] == 0
    assert found["near_duplicates"] == 0


def test_stage_writes_what_was_found(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_array(TASK1_ITEM, item_vectors())
    write_array(split_path("train"), TRAIN.rows)
    write_array(split_path("valid"), VALID.rows)
    stage.main(params.diagnose)
    found = read_json(metrics_path("embeddings"))
    assert found == pytest.approx(diagnose(item_vectors(), TRAIN, VALID, params.diagnose))
    assert found["recall_50"] > 0
