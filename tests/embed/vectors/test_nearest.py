import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embed.vectors.nearest import (
    Neighbors,
    Search,
    exact_recall,
    exact_search,
    nearest_items,
    offered_rows,
    unit_rows,
)
from tests.support.terminal import bars

EXACT = 10**9


def catalogue(rows: int, dim: int = 8, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    vectors[0] = 0
    return vectors


def brute_force(vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """One item at a time in plain Python: other items by falling cosine, then by rising id."""
    ids, cosine = np.zeros((len(vectors), k), int), np.zeros((len(vectors), k))
    norms = np.linalg.norm(vectors.astype(float), axis=1)
    for item in np.flatnonzero(norms):
        others = [
            (round(-float(vectors[item] @ vectors[other] / norms[item] / norms[other]), 5), other)
            for other in np.flatnonzero(norms)
            if other != item
        ]
        for place, (negative, other) in enumerate(sorted(others)[:k]):
            ids[item, place], cosine[item, place] = other, -negative
    return ids, cosine


def test_exact_search_is_brute_force() -> None:
    vectors = catalogue(300)
    vectors[[17, 40]] = 0
    found = nearest_items(vectors, 9, EXACT, seed=0)
    ids, cosine = brute_force(vectors, 9)
    np.testing.assert_allclose(found.cosine, cosine, atol=2e-5)
    assert (found.ids == ids).mean() > 0.995  # cosines equal to 5 digits may change places
    assert found.index == "exact"
    assert found.ids.dtype == np.int32
    assert found.cosine.dtype == np.float32


def test_columns_of_zeros_change_nothing() -> None:
    narrow = catalogue(60, dim=3)
    wide = np.zeros((60, 9), np.float32)
    wide[:, [1, 4, 8]] = narrow
    found = nearest_items(wide, 5, EXACT, seed=0)
    ids, cosine = brute_force(narrow, 5)
    np.testing.assert_array_equal(found.ids, ids)
    np.testing.assert_allclose(found.cosine, cosine, atol=2e-5)


@given(seed=st.integers(0, 999), rows=st.integers(1, 40), k=st.integers(1, 45))
@settings(deadline=None, max_examples=40)
def test_small_grids_full_of_ties_are_brute_force(seed: int, rows: int, k: int) -> None:
    vectors = np.random.default_rng(seed).integers(-1, 2, (rows, 3)).astype(np.float32)
    vectors[0] = 0
    found = nearest_items(vectors, k, EXACT, seed=0)
    ids, cosine = brute_force(vectors, k)
    np.testing.assert_array_equal(found.ids, ids)
    np.testing.assert_allclose(found.cosine, cosine, atol=2e-5)


def test_of_many_equal_items_the_lowest_ids_are_taken() -> None:
    vectors = catalogue(400)
    vectors[50:350] = vectors[50]
    found = nearest_items(vectors, 5, EXACT, seed=0)
    assert found.ids[200].tolist() == [50, 51, 52, 53, 54]
    assert found.ids[52].tolist() == [50, 51, 53, 54, 55]
    np.testing.assert_allclose(found.cosine[200], 1, atol=1e-6)


def test_ties_do_not_hang_on_the_order_that_faiss_gives() -> None:
    vectors = catalogue(200)
    vectors[50:150] = vectors[50]
    _, unit = unit_rows(vectors)
    last_first = faiss.IndexIDMap(faiss.IndexFlatIP(unit.shape[1]))
    last_first.add_with_ids(unit[::-1].copy(), np.arange(len(unit))[::-1].copy())
    rows = np.arange(len(unit))
    places, _ = Search(last_first, unit, rows, len(unit)).nearest(rows, 5)
    np.testing.assert_array_equal(places, exact_search(unit, 5).nearest(rows, 5)[0])
    assert places[99].tolist() == [49, 50, 51, 52, 53]


def test_an_item_that_is_searched_again_counts_once_in_the_bar(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vectors = catalogue(400)
    vectors[1:] = np.outer(np.random.default_rng(0).uniform(0.5, 2, 399), vectors[1])
    with bars() as shown:
        work, _ = searched(monkeypatch, vectors, 5)
    assert work > 399 * 22
    assert [(bar.n, bar.total) for bar in shown] == [(399, 399)]


def searched(monkeypatch: pytest.MonkeyPatch, vectors: np.ndarray, k: int) -> tuple[int, Neighbors]:
    """How many candidates were looked at for how many neighbours."""
    looked_at: list[int] = []
    candidates = Search._candidates

    def count(self: Search, rows: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
        looked_at.append(len(rows) * width)
        return candidates(self, rows, width)

    with monkeypatch.context() as patched:
        patched.setattr(Search, "_candidates", count)
        found = nearest_items(vectors, k, EXACT, seed=0)
    return sum(looked_at), found


def test_with_one_effective_column_few_candidates_are_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All cosines are 1 or -1, and every item is tied with half of the catalogue."""
    vectors = np.zeros((1001, 6), np.float32)
    vectors[1:, 2] = np.random.default_rng(0).normal(size=1000)
    work, found = searched(monkeypatch, vectors, 5)
    assert work <= 1000 * 2 * (5 + 1 + 16)
    ids, cosine = brute_force(vectors, 5)
    np.testing.assert_array_equal(found.ids, ids)
    np.testing.assert_array_equal(found.cosine, cosine)


def test_ties_that_rounding_tells_apart_are_ranked_within_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(0)
    vectors = np.outer(random.uniform(0.5, 2, 601), random.normal(size=9)).astype(np.float32)
    vectors[0], vectors[600] = 0, np.eye(9)[0]
    assert len(np.unique(unit_rows(vectors)[1], axis=0)) > 100
    monkeypatch.setattr("embed.vectors.nearest.WIDEST", 50)
    work, found = searched(monkeypatch, vectors, 5)
    assert work <= 600 * (22 + 50)
    np.testing.assert_allclose(found.cosine[1:600], 1, atol=1e-6)
    np.testing.assert_array_equal(found.ids, nearest_items(vectors, 5, EXACT, seed=0).ids)


@given(seed=st.integers(0, 999), k=st.integers(0, 6))
@settings(deadline=None, max_examples=40)
def test_of_equal_vectors_as_many_are_searched_as_can_be_found(seed: int, k: int) -> None:
    unit = np.random.default_rng(seed).integers(0, 2, (40, 3)).astype(np.float32)
    expected = [
        row
        for row, vector in enumerate(unit)
        if sum(np.array_equal(vector, earlier) for earlier in unit[:row]) <= k
    ]
    assert offered_rows(unit, k).tolist() == expected


def test_cosine_never_exceeds_1() -> None:
    twice = np.concatenate([catalogue(300), catalogue(300)])
    cosine = nearest_items(twice, 1, EXACT, seed=0).cosine[1:300]
    assert cosine.max() <= 1
    assert cosine.min() == pytest.approx(1, abs=1e-6)


def test_length_does_not_matter() -> None:
    vectors = catalogue(60)
    scaled = vectors * np.random.default_rng(1).uniform(0.01, 100, (60, 1)).astype(np.float32)
    np.testing.assert_array_equal(
        nearest_items(scaled, 4, EXACT, 0).ids, nearest_items(vectors, 4, EXACT, 0).ids
    )


@pytest.mark.filterwarnings("error")
def test_items_without_a_vector_neither_have_nor_are_neighbours() -> None:
    vectors = catalogue(30)
    vectors[[4, 9]] = 0
    found = nearest_items(vectors, 27, EXACT, seed=0)
    assert not found.ids[[0, 4, 9]].any()
    assert not found.cosine[[0, 4, 9]].any()
    for item in set(range(1, 30)) - {4, 9}:
        neighbours = found.ids[item][:26].tolist()
        assert sorted(neighbours) == sorted(set(range(1, 30)) - {4, 9, item})
        assert found.ids[item][26] == 0


@pytest.mark.parametrize("rows", [1, 2])
def test_too_few_items_have_no_neighbours(rows: int) -> None:
    found = nearest_items(catalogue(rows), 3, EXACT, seed=0)
    assert found.ids.tolist() == [[0, 0, 0]] * rows
    assert found.index == "none"


def test_no_neighbours_wanted() -> None:
    found = nearest_items(catalogue(9), 0, EXACT, seed=0)
    assert found.ids.shape == found.cosine.shape == (9, 0)
    assert exact_recall(catalogue(9), found, 0) == 1


def clustered(rows: int) -> np.ndarray:
    """Items near one of 40 centres, as embeddings lie and as an inverted file needs it."""
    random = np.random.default_rng(3)
    centres = random.normal(size=(40, 16))
    vectors = centres[random.integers(0, 40, rows)] + random.normal(0, 0.3, (rows, 16))
    vectors[0] = 0
    return vectors.astype(np.float32)


def test_inverted_file_finds_most_and_is_repeatable() -> None:
    vectors = clustered(3000)
    found = nearest_items(vectors, 10, exact_below=100, seed=1)
    again = nearest_items(vectors, 10, exact_below=100, seed=1)
    assert found.index == "ivf"
    np.testing.assert_array_equal(found.ids, again.ids)
    truth = nearest_items(vectors, 10, EXACT, seed=1)
    shares = [np.isin(t, f).mean() for t, f in zip(truth.ids[1:], found.ids[1:], strict=True)]
    assert np.mean(shares) > 0.9
    assert exact_recall(vectors, found, seed=1) == pytest.approx(np.mean(shares), abs=0.03)
    _, unit = unit_rows(vectors)
    for item in (1, 1500, 2999):
        real = found.ids[item] > 0
        expected = unit[found.ids[item][real] - 1] @ unit[item - 1]
        np.testing.assert_allclose(found.cosine[item][real], expected, atol=1e-5)
        assert item not in found.ids[item]


def test_inverted_file_is_drawn_by_the_seed() -> None:
    one, same, other = (nearest_items(catalogue(2000), 5, 0, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.ids, same.ids)
    assert (one.ids != other.ids).any()


def test_recall_counts_the_true_neighbours() -> None:
    vectors = catalogue(200)
    truth = nearest_items(vectors, 4, EXACT, seed=0)
    half = truth.ids.copy()
    half[:, 2:] = 0
    assert exact_recall(vectors, Neighbors(half, truth.cosine, "ivf"), seed=0) == 0.5
    assert exact_recall(vectors, Neighbors(truth.ids, truth.cosine, "ivf"), seed=0) == 1


def test_search_in_chunks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    _, unit = unit_rows(catalogue(100))
    whole = exact_search(unit, 6).nearest(np.arange(99), 6)
    monkeypatch.setattr("embed.vectors.nearest.CANDIDATES", 100)
    with bars() as shown:
        places, cosine = exact_search(unit, 6).nearest(np.arange(99), 6)
    assert [(bar.n, bar.total) for bar in shown] == [(99, 99)]
    np.testing.assert_array_equal(places, whole[0])
    np.testing.assert_allclose(cosine, whole[1], atol=1e-6)
