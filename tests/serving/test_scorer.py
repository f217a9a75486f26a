"""Answers of a packaged model beside stage `predict`, and what it is asked wrongly."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import logit

from pipeline.common.files import InputError
from serving.rankers import Trees
from serving.scorer import Scorer
from tests.serving.conftest import World
from tests.serving.packaged import FOLDER, IDS, UNKNOWN, rows_of
from tests.support.worlds.tiny_world import HISTORY, ITEMS

ROUNDING = 1e-6
"""Of a probability: float32 in other orders."""


@pytest.fixture
def asked(qin: Path) -> Scorer:
    return Scorer.load(qin / FOLDER)


def history_of(world: Path, items: int = HISTORY) -> np.ndarray:
    """The first of valid that is so long, without repeats."""
    histories = (row.history for row in rows_of(world, "valid"))
    return next(h for h in histories if len(h) == len(set(h)) == items)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_every_row_as_predicted(world: Path, scorer: Scorer, split: str) -> None:
    expected = []
    for row in rows_of(world, split):
        levels = [row.likes_level], [row.views_level]
        (found,) = scorer.read(row.history).score([row.target], *levels)
        assert found == pytest.approx(row.probability, abs=ROUNDING)
        expected.append(row.probability)
    assert np.std(expected) > 1e-4


def test_without_levels_an_item_has_its_last_ones(world: Path, scorer: Scorer) -> None:
    last = {}
    for split in ("train", "valid", "test"):
        rows = np.load(world / f"data/{split}.npy")
        last.update({int(IDS[row[-5]]): (row[-4], row[-3]) for row in rows})
    levels = [np.array([last[int(item)][place] for item in IDS[1:]]) for place in (0, 1)]
    history = history_of(world)
    expected = scorer.score(history, IDS[1:], *levels)
    assert scorer.score(history, IDS[1:]) == pytest.approx(expected, abs=ROUNDING)
    assert scorer.score(history, IDS[1:], likes_level=levels[0]) == pytest.approx(
        expected, abs=ROUNDING
    )
    other = scorer.score(history, IDS[1:], *((level + 5) % 11 for level in levels))
    if not isinstance(scorer.ranker, Trees):  # which may split by none
        assert np.allclose(other, expected, atol=ROUNDING) == (not scorer.features.levels)


def test_candidates_do_not_see_each_other(world: Path, scorer: Scorer) -> None:
    history = history_of(world)
    expected = [scorer.score(history, [item])[0] for item in IDS[1:]]
    np.testing.assert_allclose(scorer.score(history, IDS[1:]), expected, atol=ROUNDING)
    repeated = scorer.score(history, [8, 15, 8])
    np.testing.assert_allclose(repeated, [expected[0], expected[1], expected[0]], atol=ROUNDING)
    assert scorer.score(history, []).shape == (0,)


@pytest.mark.parametrize("size", [1, 3, ITEMS - 1])
def test_however_many_are_counted_together(
    world: Path, scorer: Scorer, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = history_of(world)
    expected = scorer.score(history, IDS[1:])
    monkeypatch.setattr("serving.scorer.AT_A_TIME", size)
    np.testing.assert_allclose(scorer.score(history, IDS[1:]), expected, atol=ROUNDING)


@pytest.mark.parametrize("seen", [False, True])
def test_the_most_likely_of_all_items(world: Path, scorer: Scorer, seen: bool) -> None:
    history = history_of(world)
    items = IDS[1:] if seen else np.setdiff1d(IDS[1:], history)
    scores = scorer.score(history, items)
    order = np.argsort(-scores, kind="stable")
    titles = dict(zip(scorer.raw.tolist(), scorer.titles, strict=True))
    for k in (1, 5, ITEMS + 9):
        found = scorer.rank(history, k, seen=seen)
        assert len(found.items) == min(k, len(items))
        np.testing.assert_allclose(found.probabilities, scores[order[:k]], atol=ROUNDING)
        again = scorer.score(history, found.items)
        np.testing.assert_allclose(again, found.probabilities, atol=ROUNDING)
        assert found.titles == [titles[int(item)] for item in found.items]
        assert len(set(found.items.tolist())) == len(found.items)
        assert seen or not set(found.items) & set(history)
    assert (np.diff(found.probabilities) <= 0).all()
    assert set(found.items) == set(items)


def test_equals_are_ranked_by_their_ids(packaged: World) -> None:
    found = Scorer.load(packaged("lightgbm of levels") / FOLDER).rank([], ITEMS)
    equal = np.diff(found.probabilities) == 0
    assert 0 < equal.sum() < ITEMS - 1
    assert (np.diff(found.items)[equal] > 0).all()


def test_what_an_item_of_the_history_adds(world: Path, scorer: Scorer) -> None:
    history, candidates = history_of(world, 4), [8, 50, 8]
    found = scorer.read(history).why(candidates)
    assert found.shape == (3, 4)
    whole = logit(scorer.score(history, candidates))
    for place in range(4):
        without = logit(scorer.score(np.delete(history, place), candidates))
        np.testing.assert_allclose(found[:, place], whole - without, atol=1e-5)
    reads_nothing = isinstance(scorer.ranker, Trees) and not scorer.numbers
    assert found.any() == (not reads_nothing)
    assert scorer.read([]).why(candidates).shape == (3, 0)
    assert scorer.read(history).why([]).shape == (0, 4)


def test_what_is_older_than_the_model_reads(
    world: Path, scorer: Scorer, caplog: pytest.LogCaptureFixture
) -> None:
    history = np.resize(history_of(world), 3 * HISTORY)
    person = scorer.read(history)
    assert person.older == len(history) - scorer.window
    assert person.items.tolist() == history[person.older :].tolist()
    expected = scorer.read(person.items).score(IDS[1:])
    assert caplog.messages == []
    assert scorer.score(history, IDS[1:]) == pytest.approx(expected, abs=ROUNDING)
    assert caplog.messages == [f"history: its {person.older} oldest items are not read"]


def test_an_empty_history(scorer: Scorer) -> None:
    found = scorer.score([], IDS[1:])
    assert np.isfinite(found).all()
    assert found.std() > 1e-4
    for empty in ((), np.zeros(0), np.zeros(0, np.int64), [UNKNOWN, 0, -3]):
        assert scorer.score(empty, IDS[1:]) == pytest.approx(found, abs=ROUNDING)
    assert len(scorer.rank([], ITEMS).items) == ITEMS


def test_an_unknown_id_in_the_history_is_left_out_and_told(
    qin: Path, asked: Scorer, caplog: pytest.LogCaptureFixture
) -> None:
    history = history_of(qin, 4)
    unknown = [UNKNOWN, 0, -1, 2**40, 9, 10**18]
    mixed = [*unknown[:3], *history[:2], *unknown[3:], *history[2:]]
    person = asked.read(mixed)
    assert person.unknown.tolist() == unknown
    assert person.items.tolist() == history.tolist()
    assert person.older == 0
    found = asked.rank(mixed)
    assert caplog.messages == [
        f"history: unknown and left out: {UNKNOWN}, 0, -1, {2**40}, 9 and 1 more"
    ]
    assert found.items.tolist() == asked.rank(history).items.tolist()
    assert asked.score(mixed, IDS[1:]) == pytest.approx(asked.score(history, IDS[1:]), abs=ROUNDING)


@pytest.mark.parametrize(
    ("candidates", "told"),
    [
        ([8, UNKNOWN], f"candidates: {UNKNOWN} is not among the {ITEMS} items of "),
        ([0], "candidates: 0 is not among"),
        ([8, -8, 2**62], f"candidates: -8, {2**62} are not among"),
        ([*range(1000, 1009)], "1000, 1001, 1002, 1003, 1004 and 4 more are not among"),
        ([8.0], r"candidates: expected a list of item ids, whole numbers, found \[8.0\]"),
        ([True], r"candidates: expected .* found \[True\]"),
        (["8"], r"candidates: expected .* found \['8'\]"),
        ([None], r"candidates: expected .* found \[None\]"),
        ([2**70], r"candidates: expected .* found \[1180591620717411303424\]"),
        ([[8]], r"candidates: expected .* found \[\[8\]\]"),
        ([[8], [15, 22]], r"candidates: expected .* found \[\[8\], \[15, 22\]\]"),
        (8, "candidates: expected .* found 8"),
        ({8}, r"candidates: expected .* found \{8\}"),
        (None, "candidates: expected .* found None"),
    ],
)
def test_candidates_that_are_refused(asked: Scorer, candidates: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        asked.score([8], candidates)
    with pytest.raises(InputError, match=told):
        asked.read([8]).why(candidates)


@pytest.mark.parametrize(
    "history", [[8.0], [True], ["8"], [[8]], [[8], [15, 22]], 8, None, {8}, np.zeros((0, 3))]
)
def test_a_history_that_is_no_list_of_ids(asked: Scorer, history: Any) -> None:
    for ask in (asked.read, asked.rank, lambda given: asked.score(given, [8])):
        with pytest.raises(InputError, match="history: expected a list of item ids"):
            ask(history)


@pytest.mark.parametrize("name", ["likes_level", "views_level"])
@pytest.mark.parametrize(
    "levels", [[1], [1, 11], [-1, 1], [1.0, 2.0], [True, False], [[1, 2]], [[1], [2, 3]], 1, "ab"]
)
def test_levels_that_are_refused(asked: Scorer, name: str, levels: Any) -> None:
    told = f"{name}: expected 2 whole numbers from 0 to 10, one a candidate, found "
    with pytest.raises(InputError, match=told):
        asked.score([8], [8, 15], **{name: levels})


@pytest.mark.parametrize("k", [0, -1])
def test_no_items_are_not_ranked(asked: Scorer, k: int) -> None:
    with pytest.raises(InputError, match=f"k: {k}; expected 1 or more"):
        asked.rank([8], k)


def test_the_folder_alone_scores(
    world: Path, scorer: Scorer, workspace: Path, tmp_path: Path
) -> None:
    shutil.copytree(world / FOLDER, tmp_path / "elsewhere" / "it")
    alone = Scorer.load(tmp_path / "elsewhere" / "it")
    assert [*workspace.iterdir()] == []
    history = history_of(world)
    expected = scorer.score(history, IDS[1:])
    assert alone.score(history, IDS[1:]) == pytest.approx(expected, abs=ROUNDING)
    assert len(alone) == ITEMS


def test_the_folder_that_is_loaded_by_default(qin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(qin)
    assert (
        Scorer.load().rank([8]).items.tolist() == Scorer.load("packages/main").rank([8])[0].tolist()
    )


def test_several_threads_ask_at_the_same_time(world: Path, scorer: Scorer) -> None:
    histories = [row.history for row in rows_of(world, "test")][:40]
    expected = [scorer.read(history).score(IDS[1:]) for history in histories]

    def ask(history: np.ndarray) -> np.ndarray:
        return scorer.read(history).score(IDS[1:])

    with ThreadPoolExecutor(4) as threads:
        found = [*threads.map(ask, histories)]
    np.testing.assert_allclose(found, expected, atol=ROUNDING)
