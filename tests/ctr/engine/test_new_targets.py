"""Targets of train that are shown as new items."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ctr.engine.data import ClickLog, load_items, numbers_read
from ctr.engine.new_targets import NewTargets, drawn
from ctr.models.base import Clicks, ItemTable
from pipeline.common import paths
from pipeline.common.files import read_json
from tests.support.worlds.tiny_world import tiny_params

pytestmark = pytest.mark.usefixtures("cpu", "world")

CPU = torch.device("cpu")
FEATURES = tiny_params().train.features


def loaded(rank: int = 0, count: int = 1) -> tuple[ClickLog, ItemTable]:
    return ClickLog.load("train", 5, FEATURES, CPU, rank, count), load_items(FEATURES, CPU)


def batch(log: ClickLog, rows: Tensor) -> Clicks:
    [(clicks, _label)] = log.batches([rows])
    return clicks


def test_a_new_target_has_all_of_its_item_but_the_id() -> None:
    log, items = loaded()
    new, rows = NewTargets.of(log, items, 1.0, seed=1), torch.arange(50)
    clicks = batch(log, rows)
    shown = new.shown(clicks, rows, epoch=1)
    assert clicks.target.all()
    assert not new.items.id[shown.target].any()
    assert torch.equal(new.items.id[shown.history], items.id[clicks.history])
    for column in ("tags", "content", "neighbors", "cosine"):
        found, expected = getattr(new.items, column), getattr(items, column)
        assert torch.equal(found[shown.target], expected[clicks.target])
        assert torch.equal(found[shown.history], expected[clicks.history])
    for column in ("history", "likes_level", "views_level"):
        assert torch.equal(getattr(shown, column), getattr(clicks, column))


def test_numbers_that_count_its_clicks_are_those_of_none_and_the_others_stay() -> None:
    log, items = loaded()
    new, rows = NewTargets.of(log, items, 1.0, seed=1), torch.arange(50)
    clicks = batch(log, rows)
    shown = new.shown(clicks, rows, epoch=1)
    of_new = read_json(paths.ROW_FEATURES)["new"]
    assert 0 < len(of_new) < clicks.numbers.shape[1]
    for place, name in enumerate(numbers_read(FEATURES)):
        found = shown.numbers[:, place]
        if name in of_new:
            assert found.tolist() == pytest.approx([of_new[name]] * 50, rel=1e-3, abs=1e-3)
        else:
            assert torch.equal(found, clicks.numbers[:, place])


def test_the_other_rows_stay_as_they_are() -> None:
    log, items = loaded()
    new, rows = NewTargets.of(log, items, 0.3, seed=1), torch.arange(len(log))
    clicks = batch(log, rows)
    shown = new.shown(clicks, rows, epoch=2)
    chosen = shown.target != clicks.target
    assert torch.equal(chosen, drawn(rows, 0.3, 1, 2))
    assert 0.2 < chosen.float().mean() < 0.4
    assert torch.equal(shown.numbers[~chosen], clicks.numbers[~chosen])
    assert (shown.numbers[chosen] != clicks.numbers[chosen]).any(1).all()


@given(st.integers(0, 2**31 - 1), st.integers(1, 1000), st.floats(0.05, 0.95))
def test_as_many_rows_are_drawn_as_are_asked_for(seed: int, epoch: int, share: float) -> None:
    """Within five standard errors."""
    rows = 20_000
    found = drawn(torch.arange(rows), share, seed, epoch).float().mean().item()
    assert abs(found - share) < 5 * (share * (1 - share) / rows) ** 0.5


def test_each_epoch_and_seed_draws_others() -> None:
    rows = torch.arange(10_000)
    draws = [drawn(rows, 0.5, *key) for key in ((1, 1), (1, 2), (2, 1), (2, 2))]
    for place, one in enumerate(draws):
        for other in draws[:place]:
            assert 0.47 < (one == other).float().mean() < 0.53
        neighbours = (one[1:] == one[:-1]).float().mean()
        assert 0.47 < neighbours < 0.53


@pytest.mark.parametrize("count", [2, 3])
def test_processes_draw_what_one_draws(count: int) -> None:
    whole, items = loaded()
    alone = NewTargets.of(whole, items, 0.4, seed=3)
    every = torch.arange(len(whole))
    expected = alone.shown(batch(whole, every), every, epoch=1)
    for rank in range(count):
        log, _ = loaded(rank, count)
        own = torch.arange(len(log))
        found = NewTargets.of(log, items, 0.4, seed=3).shown(batch(log, own), own, epoch=1)
        for name in ("target", "numbers"):
            assert torch.equal(getattr(found, name), getattr(expected, name)[rank::count])


def test_without_numbers_the_id_alone_is_hidden() -> None:
    features = FEATURES.model_copy(
        update=dict.fromkeys(read_json(paths.ROW_FEATURES)["kinds"], False)
    )
    log = ClickLog.load("train", 5, features, CPU)
    paths.ROW_FEATURES.unlink()
    new, rows = NewTargets.of(log, load_items(features, CPU), 1.0, seed=1), torch.arange(9)
    shown = new.shown(batch(log, rows), rows, epoch=1)
    assert shown.numbers.shape == (9, 0)
    assert not new.items.id[shown.target].any()


def test_drawing_knows_no_batch() -> None:
    rows = torch.from_numpy(np.random.default_rng(0).permutation(1000))
    whole = drawn(torch.arange(1000), 0.2, 5, 6)
    parts = torch.cat([drawn(part, 0.2, 5, 6) for part in rows.split(77)])
    assert torch.equal(parts, whole[rows])
