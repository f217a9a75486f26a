import math

import numpy as np
import pytest
from scipy.sparse import csr_array

from embed.vectors import behaviour as module
from embed.vectors.behaviour import (
    behaviour,
    factors,
    log_odds,
    pair_counts,
    positive_mutual_information,
)
from pipeline.settings.embed.align import Align
from pipeline.tables.split import Split

ITEMS, HISTORY = 12, 6


def section(dim: int, window: int, smoothing: float, prior: float) -> Align:
    rest = {"balance": 5.0, "landmarks": 100, "seed": 1}
    return Align.model_validate(
        {"dim": dim, "window": window, "smoothing": smoothing, "prior": prior, **rest}
    )


def some_clicks(rows: int = 150, items: int = ITEMS) -> Split:
    """Of items 1 to `items`, histories of every length, popular items often twice in them."""
    rng = np.random.default_rng(4)
    popularity = 1 / np.arange(1, items + 1)
    drawn = rng.choice(items, (rows, HISTORY + 1), p=popularity / popularity.sum()) + 1
    drawn[:, :HISTORY][np.arange(HISTORY) < rng.integers(0, HISTORY + 1, (rows, 1))] = 0
    label = rng.random(rows) < 0.5
    filler = np.full((rows, 2), 9)
    return Split(np.column_stack([drawn, filler, label, filler[:, :1]]).astype(np.int32))


def split_of(*rows: tuple[list[int], int, int]) -> Split:
    """Of (history, target, label)."""
    columns = [[*history, target, 0, 0, label, 1] for history, target, label in rows]
    return Split(np.array(columns, np.int32))


def plain_counts(train: Split, items: int, window: int) -> np.ndarray:
    counts = np.zeros((items + 1, items + 1))
    for row in train.rows.tolist():
        history, target, label = row[:-5], row[-5], row[-2]
        for item in history[-window:]:
            if label == 1 and item != 0:
                counts[target, item] += 1
                counts[item, target] += 1
    return counts


@pytest.mark.parametrize("window", [1, 3, HISTORY, 50])
def test_pair_counts_are_those_of_plain_loops(window: int) -> None:
    train = some_clicks()
    counts = pair_counts(train, ITEMS, window).toarray()
    np.testing.assert_array_equal(counts, plain_counts(train, ITEMS, window))
    assert counts.max() > 5
    assert not counts[0].any()


def test_pair_counts_by_hand() -> None:
    train = split_of(
        ([0, 3, 2, 2], 1, 1),  # 3 is out of the window, 2 counts twice
        ([1, 1, 1, 1], 2, 0),  # not clicked
        ([0, 0, 0, 0], 3, 1),  # nothing before it
        ([0, 0, 0, 3], 3, 1),  # with itself
    )
    counts = pair_counts(train, 4, window=2).toarray()
    assert counts[1].tolist() == [0, 0, 2, 0, 0]
    assert counts[2].tolist() == [0, 2, 0, 0, 0]
    assert counts[3].tolist() == [0, 0, 0, 2, 0]
    assert not counts[[0, 4]].any()


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_counting_in_chunks_is_counting_at_once(
    monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    train = some_clicks()
    counts = pair_counts(train, ITEMS, 4).toarray()
    np.testing.assert_array_equal(counts, plain_counts(train, ITEMS, 4))


@pytest.mark.parametrize("smoothing", [0.5, 2.0])
def test_mutual_information_of_each_pair(smoothing: float) -> None:
    counts = pair_counts(some_clicks(), ITEMS, 4)
    found = positive_mutual_information(counts, smoothing).toarray()
    plain = counts.toarray().tolist()
    degree = [sum(row) for row in plain]
    positive = 0
    for i in range(ITEMS + 1):
        for j in range(ITEMS + 1):
            expected = degree[i] * degree[j] / sum(degree)
            information = math.log((plain[i][j] + smoothing) / (expected + smoothing))
            wanted = information if plain[i][j] > 0 and information > 0 else 0.0
            assert found[i, j] == pytest.approx(wanted, abs=1e-12)
            positive += wanted > 0
    assert positive > 10
    np.testing.assert_allclose(found, found.T, atol=1e-12)


def low_rank(known: np.ndarray, rank: int) -> np.ndarray:
    """(n, n) positive semidefinite; its rows of items that are not known are zero."""
    roots = np.random.default_rng(6).normal(size=(len(known), rank)) * 2.0 ** np.arange(rank)
    roots[~known] = 0
    return np.asarray(roots @ roots.T)


KNOWN = np.array([False, *[True, True, False, True] * 5])


def test_factors_give_a_low_rank_matrix_back_up_to_its_scale() -> None:
    matrix = low_rank(KNOWN, rank=3)
    vectors = factors(csr_array(matrix), 3, KNOWN)
    scale = np.sqrt(np.diag(matrix))[KNOWN].mean()
    np.testing.assert_allclose(vectors @ vectors.T, matrix / scale**2, atol=1e-10)
    assert np.linalg.norm(vectors[KNOWN], axis=1).mean() == pytest.approx(1)


def test_factors_have_the_largest_first_and_their_signs_fixed() -> None:
    vectors = factors(csr_array(low_rank(KNOWN, rank=3)), 3, KNOWN)
    strength = np.linalg.norm(vectors, axis=0)
    assert (np.diff(strength) < 0).all()
    for column in vectors.T:
        assert column[np.abs(column).argmax()] > 0


def test_factors_beyond_the_rank_are_zero() -> None:
    vectors = factors(csr_array(low_rank(KNOWN, rank=3)), 6, KNOWN)
    assert vectors.shape == (len(KNOWN), 6)
    np.testing.assert_allclose(vectors[:, 3:], 0, atol=1e-5)
    assert (np.linalg.norm(vectors[:, :3], axis=0) > 0.1).all()


def test_a_negative_eigenvalue_adds_nothing() -> None:
    known = np.ones(4, bool)
    matrix = np.diag([4.0, -1.0, -9.0, 0.25])
    vectors = factors(csr_array(matrix), 3, known)
    # Norms 2, 0, 0 and 1/2, of mean 5/8; the third eigenvalue is -1.
    expected = np.array([[2, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0.5, 0]]) * 8 / 5
    np.testing.assert_allclose(vectors, expected, atol=1e-8)


def test_items_that_are_not_known_have_no_part_in_factors() -> None:
    matrix = low_rank(KNOWN, rank=3)
    expected = factors(csr_array(matrix), 3, KNOWN)
    matrix[~KNOWN] = 7
    matrix[:, ~KNOWN] = 7
    vectors = factors(csr_array(matrix), 3, KNOWN)
    np.testing.assert_allclose(vectors, expected, atol=1e-9)
    assert not vectors[~KNOWN].any()


def test_factors_of_fewer_items_than_dimensions() -> None:
    known = np.array([False, True, True, True])
    vectors = factors(csr_array(low_rank(known, rank=2)), 5, known)
    assert vectors.shape == (4, 5)
    assert not vectors[:, 2:].any()
    assert np.linalg.norm(vectors[known], axis=1).mean() == pytest.approx(1)


def test_log_odds_by_hand() -> None:
    train = split_of(([0], 1, 1), ([0], 1, 1), ([0], 1, 0), ([0], 2, 0))
    # Mean rate (2 + 1/2) / (4 + 1) = 1/2. With two rows more at it: 3/5, 1/3, and 1/2 unseen.
    appeal = log_odds(train, np.array([0, 3, 1, 0]), prior=2.0)
    np.testing.assert_allclose(appeal, [0, math.log(3 / 2), math.log(1 / 2), 0], atol=1e-12)


def test_log_odds_are_against_those_of_all_rows() -> None:
    train = split_of(([0], 1, 1), ([0], 2, 0), ([0], 2, 0), ([0], 2, 0))
    # Mean rate 1.5 / 5 = 3/10; with one row more at it: 1.3 / 2 and 0.3 / 4.
    appeal = log_odds(train, np.array([0, 1, 3]), prior=1.0)
    base = math.log(0.3 / 0.7)
    expected = [0, math.log(0.65 / 0.35) - base, math.log(0.075 / 0.925) - base]
    np.testing.assert_allclose(appeal, expected, atol=1e-12)


def test_known_is_shown_and_in_a_pair() -> None:
    train = split_of(
        ([0, 4], 1, 1),  # 1 is shown and paired, 4 paired alone
        ([0, 0], 2, 1),  # 2 is shown alone
        ([0, 1], 3, 0),  # 3 is shown, but its pair is not clicked
    )
    seen = behaviour(train, 5, section(dim=2, window=2, smoothing=1.0, prior=1.0))
    assert seen.known.tolist() == [False, True, False, False, False, False]
    assert seen.shown.tolist() == [0, 1, 1, 1, 0, 0]
    assert seen.pairs == 1


def test_behaviour_joins_its_parts() -> None:
    train = some_clicks()
    seen = behaviour(train, ITEMS + 3, section(dim=3, window=4, smoothing=2.0, prior=5.0))
    counts = pair_counts(train, ITEMS + 3, 4)
    assert seen.known.tolist() == [False, *[True] * ITEMS, False, False, False]
    expected = factors(positive_mutual_information(counts, 2.0), 3, seen.known)
    np.testing.assert_allclose(seen.company, expected, atol=1e-9)
    assert seen.company.any()
    np.testing.assert_allclose(seen.appeal, log_odds(train, seen.shown, 5.0), atol=1e-12)
    for item in range(ITEMS + 4):
        assert seen.shown[item] == train.target.tolist().count(item)
    clicked = train.history[train.label == 1][:, -4:]
    assert seen.pairs == np.count_nonzero(clicked)


@pytest.mark.filterwarnings("error")
def test_no_clicks_at_all() -> None:
    rows = some_clicks().rows.copy()
    rows[:, -2] = 0
    seen = behaviour(Split(rows), ITEMS, section(dim=3, window=4, smoothing=2.0, prior=5.0))
    assert seen.company.shape == (ITEMS + 1, 3)
    assert not seen.company.any()
    assert not seen.known.any()
    assert seen.pairs == 0
    assert np.isfinite(seen.appeal).all()


def test_equal_eigenvalues_give_the_same_bytes_twice() -> None:
    """The solver starts again from random vectors where it has found a subspace that is closed."""
    pairs = csr_array(np.kron(np.eye(20), [[0.0, 1.0], [1.0, 0.0]]))
    known = np.ones(40, bool)
    first, second = (factors(pairs, 8, known) for _ in range(2))
    assert first.any()
    assert first.tobytes() == second.tobytes()
