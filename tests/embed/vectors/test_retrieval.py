"""Against references that go one row, and one item, at a time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embed.vectors import retrieval
from embed.vectors.geometry import unit_vectors
from pipeline.tables.split import Split
from tests.support.terminal import bars

ITEMS, HISTORY = 30, 6


def clicks(rows: int, seed: int = 0, items: int = ITEMS) -> Split:
    """Histories of every length, targets that may stand in them."""
    random = np.random.default_rng(seed)
    history = random.integers(1, items + 1, (rows, HISTORY))
    history[np.arange(HISTORY) < random.integers(0, HISTORY + 1, (rows, 1))] = 0
    rest = random.integers(0, 2, (rows, 4))
    target = random.integers(1, items + 1, rows)
    return Split(np.column_stack([history, target, rest]).astype(np.int32))


def world(seed: int = 0, rows: int = 200, items: int = ITEMS) -> tuple[np.ndarray, Split]:
    """Unit vectors, two items without one; and rows with a click on an item not in the history."""
    vectors = np.random.default_rng(seed).normal(size=(items + 1, 5)).astype(np.float32)
    vectors[[0, 3, 8]] = 0
    split = clicks(rows, seed, items)
    return unit_vectors(vectors), Split(split.rows[retrieval.next_clicks(split)])


def real(history: np.ndarray) -> list[int]:
    return [int(item) for item in history if item > 0]


def mean_vector(unit: np.ndarray, items: list[int]) -> np.ndarray | None:
    with_vector = [unit[item].astype(float) for item in items if unit[item].any()]
    return sum(with_vector) / len(with_vector) if with_vector else None


def plain_hit(unit: np.ndarray, history: list[int], target: int, window: int, k: int) -> bool:
    query = mean_vector(unit, history[-window:])
    if query is None:
        return False
    offered = [i for i in range(1, len(unit)) if unit[i].any() and i not in history]
    return target in sorted(offered, key=lambda item: -float(unit[item] @ query))[:k]


def plain_popular_hit(clicked: list[int], history: list[int], target: int, k: int) -> bool:
    offered = [item for item in set(clicked) if item not in history]
    return target in sorted(offered, key=lambda item: (-clicked.count(item), item))[:k]


def test_next_clicks_are_clicks_on_something_new() -> None:
    split = clicks(300)
    expected = [
        row
        for row in range(300)
        if split.label[row] == 1
        and real(split.history[row])
        and split.target[row] not in real(split.history[row])
    ]
    assert retrieval.next_clicks(split).tolist() == expected
    assert 0 < len(expected) < (split.label == 1).sum()


@pytest.mark.parametrize("scores", [31 * 7, 2**24])
@pytest.mark.parametrize(("window", "k"), [(1, 1), (3, 5), (6, 12), (100, 26), (100, 100)])
def test_hits_are_those_of_brute_force(
    scores: int, window: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval, "SCORES", scores)
    unit, rows = world()
    expected = [
        plain_hit(unit, real(history), target, window, k)
        for history, target in zip(rows.history, rows.target, strict=True)
    ]
    with bars() as shown:
        assert retrieval.hits(unit, rows, window, k).tolist() == expected
    assert [(bar.n, bar.total) for bar in shown] == [(len(rows), len(rows))]
    assert 0 < sum(expected) < len(expected)  # k of 100 misses the items without a vector


def test_equal_vectors_do_no_better_than_chance() -> None:
    _, rows = world()
    unit = unit_vectors(np.ones((ITEMS + 1, 5), np.float32))
    chance = [7 / (ITEMS - len(set(real(history)))) for history in rows.history]
    np.testing.assert_allclose(retrieval.hits(unit, rows, 4, 7), chance)


def test_a_tie_across_the_cut_counts_its_share() -> None:
    rounding = [[5e-7, 1], [0, 1], [-5e-7, 1]]
    unit = np.array([[0, 0], [1, 0], [0.8, 0.6], *rounding], np.float32)
    rows = Split(np.array([[0, 1, 4, 0, 0, 1, 0]], np.int32))
    found = [float(retrieval.hits(unit, rows, 2, k)[0]) for k in (1, 2, 3, 4)]
    assert found == pytest.approx([0, 1 / 3, 2 / 3, 1])


@given(seed=st.integers(0, 999), k=st.integers(1, 40))
@settings(deadline=None, max_examples=40)
def test_popular_hits_are_those_of_brute_force(seed: int, k: int) -> None:
    items = 9  # of which many are equally popular, and some never clicked
    _, rows = world(seed, 30, items)
    train = clicks(12, seed + 1, items)
    clicked = [int(item) for item in train.target[train.label == 1]]
    found = retrieval.popular_hits(retrieval.popularity(train, items).clicks, rows, k)
    assert found.tolist() == [
        plain_popular_hit(clicked, real(history), target, k)
        for history, target in zip(rows.history, rows.target, strict=True)
    ]


@pytest.mark.parametrize("rows_at_a_time", [3, 1000])
def test_popularity_counts_clicks_and_what_was_shown(
    rows_at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval, "ROWS_AT_A_TIME", rows_at_a_time)
    train = clicks(8)
    found = retrieval.popularity(train, ITEMS)
    shown = {*train.target.tolist(), *real(train.history.reshape(-1))}
    clicked = train.target[train.label == 1].tolist()
    for item in range(1, ITEMS + 1):
        assert found.seen[item] == (item in shown)
        assert found.clicks[item] == clicked.count(item)
    assert not found.seen[1:].all()


def test_chance_is_what_random_items_reach() -> None:
    unit, rows = world()
    random = np.random.default_rng(0)
    found = retrieval.chance_hits(unit, rows, 9)
    for row in range(5):
        target, history = rows.target[row], real(rows.history[row])
        offered = [i for i in range(1, len(unit)) if unit[i].any() and i not in history]
        draws = [target in random.choice(offered, 9, replace=False) for _ in range(2000)]
        assert found[row] == pytest.approx(np.mean(draws), abs=0.04)
        assert found[row] == (9 / len(offered) if target in offered else 0)
    assert set(retrieval.chance_hits(unit, rows, 1000)) == {0, 1}


def test_alignment_is_the_mean_squared_distance_to_the_last_item() -> None:
    unit, rows = world()
    distances = [
        float(((unit[history[-1]].astype(float) - unit[target]) ** 2).sum())
        for history, target in zip(rows.history, rows.target, strict=True)
        if unit[history[-1]].any() and unit[target].any()
    ]
    assert len(distances) < len(rows)
    assert retrieval.alignment(unit, rows) == pytest.approx(np.mean(distances), rel=1e-6)
    assert retrieval.alignment(np.zeros_like(unit), rows) is None


@pytest.mark.parametrize("rows_at_a_time", [7, 1000])
@pytest.mark.parametrize("window", [1, 3, 50])
def test_the_cosine_score_is_the_mean_over_the_last_items(
    window: int, rows_at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval, "ROWS_AT_A_TIME", rows_at_a_time)
    unit, _ = world()
    split = clicks(100)
    expected = []
    for history, target in zip(split.history, split.target, strict=True):
        mean = mean_vector(unit, real(history)[-window:])
        expected.append(0.0 if mean is None else float(mean @ unit[target]))
    found = retrieval.cosine_scores(unit, split, window)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert expected.count(0.0) > 5
