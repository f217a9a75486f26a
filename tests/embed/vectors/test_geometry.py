"""Against references that go one item, or one pair, at a time."""

from math import exp, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embed.vectors import geometry
from embed.vectors.geometry import (
    effective_rank,
    mean_norm,
    near_duplicates,
    uniformity,
    unit_vectors,
)

ALL = 10**9


def made_up(rows: int, dim: int = 6, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(1, 2, (rows, dim)).astype(np.float32)
    vectors[0] = 0
    return vectors


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one.astype(float), other.astype(float)
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


def items_of(vectors: np.ndarray) -> list[int]:
    return [item for item in range(1, len(vectors)) if vectors[item].any()]


def plain_uniformity(vectors: np.ndarray) -> float:
    items = items_of(vectors)
    potentials = []
    for item in items:
        for other in items:
            if other < item:
                one, two = (vectors[i] / np.linalg.norm(vectors[i]) for i in (item, other))
                potentials.append(
                    exp(-2 * sum((float(a) - float(b)) ** 2 for a, b in zip(one, two, strict=True)))
                )
    return log(sum(potentials) / len(potentials))


def plain_near_duplicates(vectors: np.ndarray, threshold: float) -> float:
    items = items_of(vectors)
    near = [
        any(cosine(vectors[item], vectors[other]) > threshold for other in items if other != item)
        for item in items
    ]
    return sum(near) / len(near)


def test_unit_vectors_keep_directions_and_zeros() -> None:
    vectors = made_up(9)
    vectors[4] = 0
    vectors[0] = 7  # whatever stands in padding's row
    unit = unit_vectors(vectors)
    assert unit.dtype == np.float32
    assert not unit[[0, 4]].any()
    for item in (1, 2, 3, 5, 6, 7, 8):
        np.testing.assert_allclose(unit[item], vectors[item] / np.linalg.norm(vectors[item]), 1e-6)


def test_mean_norm_is_of_items_that_have_a_vector() -> None:
    vectors = np.array([[9, 9], [3, 4], [0, 0], [0, 2]], np.float32)
    assert mean_norm(vectors) == pytest.approx(3.5)
    assert mean_norm(np.zeros((3, 2), np.float32)) is None


def test_effective_rank_of_known_spectra() -> None:
    axes = np.eye(5, dtype=np.float32)[:3]
    cross = np.concatenate([np.zeros((1, 5)), axes, -axes]).astype(np.float32)
    assert effective_rank(cross) == pytest.approx(3)  # three equal singular values
    assert effective_rank(cross + np.eye(1, 5, 4, dtype=np.float32)) == pytest.approx(3)  # centred
    line = np.outer(np.arange(6), [1, 2, 3]).astype(np.float32)
    assert effective_rank(line) == pytest.approx(1)
    assert effective_rank(np.full((50, 3), 0.1, np.float32)) is None


@pytest.mark.parametrize("rows_at_a_time", [7, 1000])
def test_effective_rank_is_that_of_the_singular_values(
    rows_at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(geometry, "ROWS_AT_A_TIME", rows_at_a_time)
    vectors = made_up(40) * np.array([5, 3, 1, 1, 0.1, 0.01], np.float32)
    vectors[11] = 0
    present = vectors[items_of(vectors)].astype(float)
    singular = np.linalg.svd(present - present.mean(axis=0), compute_uv=False)
    entropy = -sum(s / singular.sum() * log(s / singular.sum()) for s in singular)
    assert effective_rank(vectors) == pytest.approx(exp(entropy), rel=1e-6)


@pytest.mark.parametrize("pairs_at_a_time", [50, 10**6])
def test_uniformity_of_all_pairs_is_exact(
    pairs_at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(geometry, "PAIRS_AT_A_TIME", pairs_at_a_time)
    vectors = made_up(30)
    vectors[[5, 17]] = 0
    found = uniformity(unit_vectors(vectors), 27 * 26 // 2, seed=0)
    assert found == pytest.approx(plain_uniformity(vectors), rel=1e-5)


def test_uniformity_of_some_pairs_is_near_and_of_the_seed() -> None:
    vectors = made_up(60, seed=3)
    unit = unit_vectors(vectors)
    found = [uniformity(unit, 1500, seed) for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
    assert found == pytest.approx([plain_uniformity(vectors)] * 3, rel=0.05)


@given(n=st.integers(2, 9), most=st.integers(1, 50), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_pairs_are_of_two_different_items(n: int, most: int, seed: int) -> None:
    first, second = geometry._pairs(n, most, seed)
    assert len(first) == len(second) == min(most, n * (n - 1) // 2)
    assert (first != second).all()
    assert 0 <= min(first.min(), second.min()) <= max(first.max(), second.max()) < n


def test_random_pairs_are_any_two_items_equally_often() -> None:
    first, second = geometry._pairs(150, 10_000, 0)
    few = (first < 5) & (second < 150)
    assert first.max() == second.max() == 149
    assert few.mean() == pytest.approx(5 / 150, abs=0.006)
    assert (second < 5).mean() == pytest.approx(5 / 150, abs=0.006)


def test_near_duplicates_are_those_of_brute_force() -> None:
    vectors = made_up(50, dim=3)
    vectors[[9, 31]] = 0
    vectors[20] = 2 * vectors[21]
    for threshold in (0.9, 0.99, 0.9999):
        found = near_duplicates(unit_vectors(vectors), threshold, ALL, seed=0)
        assert found == plain_near_duplicates(vectors, threshold) > 0


def test_many_equal_items_are_all_duplicates() -> None:
    vectors = np.concatenate([made_up(2), np.ones((300, 6), np.float32)])
    vectors[0] = 0
    assert near_duplicates(unit_vectors(vectors), 0.99, ALL, seed=0) == pytest.approx(300 / 301)


def test_a_sample_of_items_is_compared_with_all() -> None:
    vectors = np.random.default_rng(0).normal(size=(401, 16)).astype(np.float32)
    vectors[0], vectors[201:] = 0, vectors[1:201]  # every item twice
    vectors[301:] = np.random.default_rng(1).normal(size=(100, 16))  # but 200 of 400 only once
    found = [near_duplicates(unit_vectors(vectors), 0.99, 100, seed) for seed in range(20)]
    assert all(share is not None for share in found)
    assert sum(share or 0 for share in found) / 20 == pytest.approx(0.5, abs=0.03)
    assert len(set(found)) > 1


def test_of_no_vector_and_of_one() -> None:
    none, one = np.zeros((4, 3), np.float32), np.zeros((4, 3), np.float32)
    one[2] = 1
    for vectors in (none, one):
        assert uniformity(vectors, ALL, 0) is None
        assert effective_rank(vectors) is None
    assert near_duplicates(none, 0.9, ALL, 0) is None
    assert near_duplicates(unit_vectors(one), 0.9, ALL, 0) == 0
