from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ctr.data import ClickLog, load_items, shuffled_batches
from pipeline import schema
from pipeline.params import Features
from pipeline.schema import InputError

EVERYTHING = Features(id=True, tags=True, content=True, levels=True, history=True, neighbors=True)
CPU = torch.device("cpu")


def epoch_rows(rows: int, batch_size: int, world: int, seed: int = 1) -> list[list[list[int]]]:
    """Row numbers by rank and batch."""
    return [
        [part.tolist() for part, _ in shuffled_batches(rows, batch_size, seed, 3, rank, world)]
        for rank in range(world)
    ]


@given(st.integers(2, 200), st.integers(2, 40), st.integers(1, 4))
def test_every_row_once_an_epoch_whatever_the_number_of_ranks(
    rows: int, batch_size: int, world: int
) -> None:
    batch_size = max(batch_size, 2 * world)
    ranks = epoch_rows(rows, batch_size, world)
    assert sorted(row for batches in ranks for part in batches for row in part) == list(range(rows))
    assert len({len(batches) for batches in ranks}) == 1  # or the ranks would wait for ever
    if rows >= 2 * world:
        assert min(len(part) for batches in ranks for part in batches) >= 2


@given(st.integers(8, 200), st.integers(8, 40))
def test_ranks_share_the_batches_of_one_process(rows: int, batch_size: int) -> None:
    (single,) = epoch_rows(rows, batch_size, world=1)
    ranks = epoch_rows(rows, batch_size, world=3)
    together = [row for parts in zip(*ranks, strict=True) for part in parts for row in part]
    assert together == [row for part in single for row in part]


def test_weights_make_the_mean_over_ranks_the_mean_over_the_batch() -> None:
    loss = torch.rand(103)
    parts = [list(shuffled_batches(103, 10, 1, 1, rank, 4)) for rank in range(4)]
    for of_ranks in zip(*parts, strict=True):
        mean_of_ranks = sum(loss[rows].mean() * weight for rows, weight in of_ranks) / 4
        batch = torch.cat([rows for rows, _ in of_ranks])
        assert float(mean_of_ranks) == pytest.approx(float(loss[batch].mean()), rel=1e-6)


def test_order_depends_on_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return torch.cat([rows for rows, _ in shuffled_batches(50, 8, seed, epoch)]).tolist()

    orders = [order(1, 1), order(1, 2), order(2, 1)]
    assert order(1, 1) == orders[0]
    assert all(one != other for one, other in pairwise([*orders, orders[0]]))


def test_a_last_batch_of_one_row_joins_its_neighbour() -> None:
    (batches,) = epoch_rows(rows=17, batch_size=8, world=1)
    assert [len(batch) for batch in batches] == [8, 9]
    (batches,) = epoch_rows(rows=18, batch_size=8, world=1)
    assert [len(batch) for batch in batches] == [8, 8, 2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = np.array([[0, 0, 3, 1, 5, 6, 1, 9], [4, 2, 3, 2, 7, 8, 0, 9]], np.int32)
    schema.write_array(schema.split_path("train"), rows)
    schema.write_array(schema.ITEM, np.arange(10, dtype=np.float32).reshape(5, 2))
    schema.write_array(schema.TAGS, np.arange(5, dtype=np.int32).reshape(5, 1))
    np.savez(schema.NEIGHBORS, ids=np.ones((5, 3), np.int32), cosine=np.ones((5, 3), np.float32))
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_batch_takes_the_last_items_and_every_column() -> None:
    log = ClickLog.load("train", 2, EVERYTHING)
    clicks, label = log.batch(torch.tensor([1, 0]), CPU)
    assert clicks.history.tolist() == [[2, 3], [0, 3]]
    assert clicks.target.tolist() == [2, 1]
    assert clicks.likes_level.tolist() == [7, 5]
    assert clicks.views_level.tolist() == [8, 6]
    assert label.tolist() == [0.0, 1.0]
    assert log.column("user").tolist() == [9, 9]


@pytest.mark.usefixtures("folder")
def test_what_is_switched_off_is_padding() -> None:
    nothing = Features(
        id=False, tags=False, content=False, levels=False, history=False, neighbors=False
    )
    clicks, _ = ClickLog.load("train", 3, nothing).batch(torch.tensor([0, 1]), CPU)
    assert not clicks.history.any()
    assert not clicks.likes_level.any()
    assert not clicks.views_level.any()
    assert clicks.target.tolist() == [1, 2]
    items = load_items(nothing, CPU)
    assert not items.id.any()
    assert not items.tags.any()
    assert not items.content.any()
    assert items.neighbors.shape == items.cosine.shape == (5, 0)
    assert load_items(EVERYTHING, CPU).id.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.usefixtures("folder")
def test_without_content_nothing_made_of_it_is_left() -> None:
    items = load_items(EVERYTHING.model_copy(update={"content": False}), CPU)
    assert not items.content.any()
    assert items.neighbors.shape == items.cosine.shape == (5, 0)
    assert load_items(EVERYTHING, CPU).neighbors.shape == (5, 3)


@pytest.mark.usefixtures("folder")
def test_tables_of_different_lengths_are_refused() -> None:
    schema.write_array(schema.TAGS, np.zeros((4, 1), np.int32))
    with pytest.raises(InputError, match=r"tags\.npy has 4"):
        load_items(EVERYTHING, CPU)
