"""What an item's vector may know: every item's content, and the clicks of train.

`align` learns from warm items alone. Cold items' content reaches other items through what is shared
by all: the mean and the scale of a modality, the mean of the result, and the axes of principal
components, which are fitted on the content of all items.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from embed import align as align_stage
from embed import fuse as fuse_stage
from embed.align import align
from embed.vectors.behaviour import Behaviour, behaviour
from embed.vectors.content import Content, load_content
from pipeline.common import paths
from pipeline.common.files import read_array, write_array
from pipeline.settings.embed.align import Align
from pipeline.tables.split import Split
from tests.support.worlds.tiny_world import VECTOR_FILES
from tests.whole.leakage.worlds import Run, cold_items


@pytest.fixture
def run(
    world: int,
    reference_of: Callable[[int], Run],
    copied: Callable[[Run], Run],
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """A world to change, in the working directory."""
    copy = copied(reference_of(world))
    monkeypatch.chdir(copy.work)
    return copy


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    """Up to float32, and sums in another order."""
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def known_and_cold(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Dense ids of items with content: those that `align` learns from, and those not in train."""
    content, seen = load_content(VECTOR_FILES), behaviour_of(run)
    known = np.flatnonzero(content.present & seen.known)
    cold = np.array([item for item in cold_items(run) if content.present[item]])
    assert len(known) >= align_stage.FEWEST
    assert len(cold) >= 3
    return known, cold


def behaviour_of(run: Run) -> Behaviour:
    items = len(read_array(paths.TAGS)) - 1
    return behaviour(Split.load("train"), items, section_of(run))


def section_of(run: Run) -> Align:
    return run.params().align


def with_rows(
    content: Content, items: np.ndarray, change: Callable[[np.ndarray], np.ndarray]
) -> Content:
    """`content` with `change` of those items' features."""
    parts = [part.copy() for part in content.parts]
    for part in parts:
        part[items] = change(part[items])
    return replace(content, parts=parts)


def test_the_regression_is_fitted_on_warm_items_alone(run: Run) -> None:
    """Cold features of the same lengths in other directions move all warm vectors by one shift."""
    known, cold = known_and_cold(run)
    content, seen = load_content(VECTOR_FILES), behaviour_of(run)
    before, r2 = align(content, seen, section_of(run))
    turned = with_rows(content, cold, np.negative)
    after, r2_after = align(turned, seen, section_of(run))
    assert_close(r2_after, r2)
    shift = after[known] - before[known]
    assert_close(shift, np.broadcast_to(shift[0], shift.shape))
    assert not np.allclose(after[cold] - before[cold], shift[0], rtol=0.01, atol=0.001)


def test_exchanged_content_of_cold_items_exchanges_their_vectors(run: Run) -> None:
    """A cold item is its content: nothing else of it is known, and the others do not mind."""
    known, cold = known_and_cold(run)
    before = aligned(run)
    turn = np.roll(cold, 1)
    for path in (paths.TEXT, paths.IMAGE, paths.TEXT_PRESENT, paths.IMAGE_PRESENT):
        rows = np.array(read_array(path))
        rows[cold] = rows[turn]
        write_array(path, rows)
    after = aligned(run)
    assert_close(after[known], before[known])
    assert_close(after[cold], before[turn])
    assert not np.allclose(before[cold], before[turn], rtol=0.01, atol=0.001)


@pytest.mark.parametrize("recipe", ["pca", "align", "both", "concat", "learned"])
def test_so_it_does_in_every_recipe(run: Run, recipe: str) -> None:
    known, cold = known_and_cold(run)
    before = fused(run, recipe)
    turn = np.roll(cold, 1)
    for path in (paths.TEXT, paths.IMAGE, paths.TEXT_PRESENT, paths.IMAGE_PRESENT):
        rows = np.array(read_array(path))
        rows[cold] = rows[turn]
        write_array(path, rows)
    after = fused(run, recipe)
    np.testing.assert_allclose(after[known], before[known], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(after[cold], before[turn], rtol=1e-4, atol=1e-5)


def test_items_of_one_content_have_one_vector_unless_train_knows_them_apart(run: Run) -> None:
    known, cold = known_and_cold(run)
    content = load_content(VECTOR_FILES)
    same = with_rows(content, cold, lambda rows: np.broadcast_to(rows[0], rows.shape))
    vectors, _ = align(same, behaviour_of(run), section_of(run))
    assert_close(vectors[cold], np.broadcast_to(vectors[cold[0]], vectors[cold].shape))
    as_warm = with_rows(content, cold, lambda rows: content_of(content, known[0], rows))
    vectors, _ = align(as_warm, behaviour_of(run), section_of(run))
    own = vectors[known[0]]  # it is left out of
    assert not np.allclose(vectors[cold[0]], own, rtol=0.01, atol=0.001)


def content_of(content: Content, item: int, rows: np.ndarray) -> np.ndarray:
    """Features of `item` in the part that `rows` is of, once for each of `rows`."""
    part = next(part for part in content.parts if part.shape[1] == rows.shape[1])
    return np.broadcast_to(part[item], rows.shape)


def test_behaviour_counts_rows_of_train_alone(run: Run) -> None:
    """Every statistic of items and users, by plain loops over the rows of train."""
    seen, rows, section = behaviour_of(run), Split.load("train"), section_of(run)
    shown, clicked = np.zeros(len(seen.shown)), np.zeros(len(seen.shown))
    pairs = 0
    for row in range(len(rows)):
        shown[rows.target[row]] += 1
        clicked[rows.target[row]] += rows.label[row]
        last = rows.history[row, -section.window :]
        pairs += int(rows.label[row]) * int((last > 0).sum())
    np.testing.assert_array_equal(seen.shown, shown)
    assert seen.pairs == pairs
    mean = (clicked.sum() + 0.5) / (len(rows) + 1)
    rate = (clicked + section.prior * mean) / (shown + section.prior)
    odds = np.log(rate / (1 - rate)) - np.log(mean / (1 - mean))
    np.testing.assert_allclose(seen.appeal, odds, atol=1e-12)
    assert not seen.appeal[cold_items(run)].any()
    assert not seen.company[cold_items(run)].any()


def aligned(run: Run) -> np.ndarray:
    run.stages(align_stage)
    return np.array(read_array(paths.ALIGNED))


def fused(run: Run, recipe: str) -> np.ndarray:
    run.stages(align_stage, fuse_stage, fuse={"task1": recipe})
    return np.array(read_array(paths.TASK1_ITEM))
