import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from ctr.engine.data import ClickLog, Table, load_items, shuffled, shuffled_batches
from pipeline.common import paths
from pipeline.common.files import InputError, write_array, write_json
from pipeline.common.section import Residence
from pipeline.settings.ctr.training import NUMBERS, Features
from tests.support.worlds.tiny_world import one_batch

EVERYTHING = Features(**dict.fromkeys(Features.model_fields, True))
WITHOUT_NUMBERS = EVERYTHING.model_copy(update=dict.fromkeys(NUMBERS, False))
NUMBER_NAMES = ("of_companions", "of_contrast", "rate", "clicks", "length", "of_similarity")
"""In the order of their columns, in which the kinds of the second half are mixed."""
NUMBER_KINDS = {
    "companions": ["of_companions"],
    "contrast": ["of_contrast"],
    "target": ["clicks", "rate"],
    "profile": ["length"],
    "similarity": ["of_similarity"],
}
CPU = torch.device("cpu")


def write_numbers(split: str, rows: int) -> np.ndarray:
    """float16 (rows, 6): numbers that tell rows and columns apart."""
    write_json(paths.ROW_FEATURES, {"names": [*NUMBER_NAMES], "kinds": NUMBER_KINDS})
    numbers = np.arange(rows * len(NUMBER_NAMES)).reshape(rows, -1).astype(np.float16) / 8
    write_array(paths.companions_path(split), numbers)
    return numbers


def some_log(rows: int, rank: int = 0, world: int = 1) -> ClickLog:
    """A log whose target column is the row's number in the whole split."""
    matrix = np.zeros((rows, 6), np.int32)
    matrix[:, 1] = np.arange(rows)
    own = torch.from_numpy(matrix)[rank::world]
    numbers, columns = torch.empty(len(own), 0), torch.empty(0, dtype=torch.int64)
    return ClickLog(Table(own), Table(numbers), columns, rows, WITHOUT_NUMBERS, CPU, rank, world)


def epoch_batches(rows: int, batch_size: int, world: int, seed: int = 1) -> list[list[list[int]]]:
    """The split's row numbers by rank and batch."""
    logs = [some_log(rows, rank, world) for rank in range(world)]
    return [
        [
            log.clicks.rows[part, 1].tolist()
            for part, _ in shuffled_batches(log, batch_size, seed, 3)
        ]
        for log in logs
    ]


@given(st.integers(2, 200), st.integers(2, 10), st.integers(1, 9))
def test_every_row_once_an_epoch_whatever_the_number_of_ranks(
    rows: int, part: int, world: int
) -> None:
    batch_size = part * world
    ranks = epoch_batches(rows, batch_size, world)
    assert sorted(row for batches in ranks for part in batches for row in part) == list(range(rows))
    assert len({len(batches) for batches in ranks}) == 1  # or the ranks would wait for ever
    for parts in zip(*ranks, strict=True):
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    if rows >= 2 * world:
        assert min(len(part) for batches in ranks for part in batches) >= 2


@given(st.integers(8, 200), st.integers(2, 10), st.sampled_from([2, 4, 8]))
def test_ranks_take_the_rows_of_one_processs_batches_in_turn(
    rows: int, part: int, world: int
) -> None:
    batch_size = part * world
    assume(rows % batch_size not in range(1, 2 * world))  # or it joins its neighbour sooner
    (single,) = epoch_batches(rows, batch_size, world=1)
    ranks = epoch_batches(rows, batch_size, world)
    for parts, batch in zip(zip(*ranks, strict=True), single, strict=True):
        in_turn = {
            (place, rank): row for rank, p in enumerate(parts) for place, row in enumerate(p)
        }
        assert [row for _, row in sorted(in_turn.items())] == batch


def test_weights_make_the_mean_over_ranks_the_mean_over_the_batch() -> None:
    loss = torch.rand(103)
    logs = [some_log(103, rank, 4) for rank in range(4)]
    parts = [shuffled_batches(log, 12, 1, 1) for log in logs]
    for of_ranks in zip(*parts, strict=True):
        losses = [
            loss[log.clicks.rows[rows, 1]] for log, (rows, _) in zip(logs, of_ranks, strict=True)
        ]
        weights = [weight for _, weight in of_ranks]
        mean = sum(x.mean() * weight for x, weight in zip(losses, weights, strict=True)) / 4
        assert float(mean) == pytest.approx(float(torch.cat(losses).mean()), rel=1e-5)


def test_order_depends_on_seed_and_epoch() -> None:
    keys = [(1, 1), (1, 2), (2, 1), (2, 2)]
    orders = [shuffled(800, seed, epoch, CPU).tolist() for seed, epoch in keys]
    assert shuffled(800, 1, 1, CPU).tolist() == orders[0]
    assert all(one != other for one, other in combinations(orders, 2))


def test_the_order_is_well_mixed() -> None:
    """Neither place and row number nor the orders of two epochs have to do with each other."""
    first, second = (shuffled(20_000, 1, epoch, CPU).double() for epoch in (1, 2))
    pairs = torch.stack([torch.arange(20_000).double(), first, second])
    assert torch.corrcoef(pairs).fill_diagonal_(0).abs().max() < 0.03
    for apart in (1, 2, 8):
        steps = torch.stack([first[:-apart], first[apart:]])
        assert torch.corrcoef(steps)[0, 1].abs() < 0.03


def test_a_last_batch_of_one_row_joins_its_neighbour() -> None:
    (batches,) = epoch_batches(rows=17, batch_size=8, world=1)
    assert [len(batch) for batch in batches] == [8, 9]
    (batches,) = epoch_batches(rows=18, batch_size=8, world=1)
    assert [len(batch) for batch in batches] == [8, 8, 2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = np.array([[0, 0, 3, 1, 5, 6, 1, 9], [4, 2, 3, 2, 7, 8, 0, 9]], np.int32)
    write_array(paths.split_path("train"), rows)
    write_numbers("train", 2)
    write_array(paths.ITEM, np.arange(10, dtype=np.float32).reshape(5, 2))
    write_array(paths.TAGS, np.arange(5, dtype=np.int32).reshape(5, 1))
    paths.NEIGHBORS.parent.mkdir()
    np.savez(paths.NEIGHBORS, ids=np.ones((5, 3), np.int32), cosine=np.ones((5, 3), np.float32))
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("residence", ["device", "file"])
def test_batch_takes_the_last_items_and_every_column(residence: Residence) -> None:
    log = ClickLog.load("train", 2, EVERYTHING, CPU, residence=residence)
    for table in (log.clicks, log.numbers):
        assert (table.file is None) == (residence == "device")
    clicks, label = one_batch(log, torch.tensor([1, 0]))
    assert clicks.history.tolist() == [[2, 3], [0, 3]]
    assert clicks.target.tolist() == [2, 1]
    assert clicks.likes_level.tolist() == [7, 5]
    assert clicks.views_level.tolist() == [8, 6]
    assert (8 * clicks.numbers).tolist() == [[6, 7, 8, 9, 10, 11], [0, 1, 2, 3, 4, 5]]
    assert clicks.numbers.dtype == torch.float32
    assert label.tolist() == [0.0, 1.0]


@pytest.mark.usefixtures("folder")
def test_rows_that_fit_are_read_from_no_file_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ClickLog.load("train", 3, EVERYTHING, CPU).clicks.file is None
    monkeypatch.setattr("ctr.engine.data.available_memory", lambda: 1)
    assert ClickLog.load("train", 3, EVERYTHING, CPU).clicks.file is not None


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("history", [4, 9])
def test_the_file_gives_the_batches_of_the_device(
    history: int, world: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    matrix = np.random.default_rng(1).integers(0, 99, (500, 9 + 5), dtype=np.int32)
    write_array(paths.split_path("train"), matrix)
    numbers = write_numbers("train", 500)
    for rank in range(world):
        streams = []
        for residence in ("device", "file"):
            log = ClickLog.load("train", history, EVERYTHING, CPU, rank, world, residence)
            batches = shuffled_batches(log, 64, seed=5, epoch=2)
            places = [rows for rows, _ in batches]
            found = [
                torch.column_stack([*clicks[:-1], label, clicks.numbers])
                for clicks, label in log.batches(places)
            ]
            streams.append(found)
        assert len(streams[0]) == 8
        for place, resident, streamed in zip(places, *streams, strict=True):
            columns = [*range(9 - history, 9), 9, 10, 11, 12]
            of_clicks = matrix[rank::world][place][:, columns]
            expected = np.column_stack([of_clicks, numbers[rank::world][place]])
            assert resident.tolist() == streamed.tolist() == expected.tolist()


@pytest.mark.parametrize("residence", ["device", "file"])
@pytest.mark.parametrize(("last", "kept"), [(0, 23), (5, 5), (23, 23), (99, 23)])
@pytest.mark.parametrize("world", [1, 2, 4])
def test_the_last_rows_are_shared_out_in_turn(
    world: int,
    last: int,
    kept: int,
    residence: Residence,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    matrix = np.random.default_rng(1).integers(0, 99, (23, 9 + 5), dtype=np.int32)
    write_array(paths.split_path("train"), matrix)
    numbers = write_numbers("train", 23)
    for rank in range(world):
        log = ClickLog.load("train", 4, EVERYTHING, CPU, rank, world, residence, last)
        assert log.total == kept
        assert log.clicks.rows.tolist() == matrix[23 - kept :][rank::world, -9:].tolist()
        assert log.numbers.rows.tolist() == numbers[23 - kept :][rank::world].tolist()
        clicks, _ = one_batch(log, torch.tensor([0]))
        assert clicks.target.tolist() == [matrix[23 - kept + rank, 9]]
        assert clicks.numbers.tolist() == [numbers[23 - kept + rank].tolist()]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("residence", ["device", "file"])
@pytest.mark.parametrize(
    ("kinds", "columns"),
    [
        ([*NUMBERS], [0, 1, 2, 3, 4, 5]),
        (["target"], [2, 3]),
        (["similarity", "companions"], [0, 5]),
        (["profile", "target", "contrast"], [1, 2, 3, 4]),
    ],
)
def test_numbers_of_the_kinds_that_are_on_are_read_in_the_order_of_the_file(
    kinds: list[str], columns: list[int], residence: Residence
) -> None:
    features = WITHOUT_NUMBERS.model_copy(update=dict.fromkeys(kinds, True))
    log = ClickLog.load("train", 3, features, CPU, residence=residence)
    assert log.columns.tolist() == columns
    clicks, _ = one_batch(log, torch.tensor([1, 0, 1]))
    expected = np.arange(12).reshape(2, 6)[[1, 0, 1]][:, columns] / 8
    assert clicks.numbers.tolist() == expected.tolist()


@pytest.mark.parametrize("residence", ["device", "file"])
def test_without_numbers_none_are_looked_for(folder: Path, residence: Residence) -> None:
    shutil.rmtree(folder / "companions")
    log = ClickLog.load("train", 3, WITHOUT_NUMBERS, CPU, residence=residence)
    assert len(log.columns) == 0
    clicks, _ = one_batch(log, torch.tensor([1, 0, 1]))
    assert clicks.numbers.shape == (3, 0)
    assert clicks.target.tolist() == [2, 1, 2]
    with pytest.raises(FileNotFoundError, match=r"companions/features\.json"):
        ClickLog.load("train", 3, EVERYTHING, CPU, residence=residence)


@pytest.mark.usefixtures("folder")
def test_numbers_of_other_rows_are_refused() -> None:
    write_numbers("train", 3)
    with pytest.raises(
        InputError,
        match=r"these differ in rows: data/train\.npy has 2, companions/train\.npy has 3; run",
    ):
        ClickLog.load("train", 3, EVERYTHING, CPU, last=1)
    ClickLog.load("train", 3, WITHOUT_NUMBERS, CPU)


@pytest.mark.usefixtures("folder")
def test_what_is_switched_off_is_padding() -> None:
    nothing = Features(**dict.fromkeys(Features.model_fields, False))
    log = ClickLog.load("train", 3, nothing, CPU)
    clicks, _ = one_batch(log, torch.tensor([0, 1]))
    assert not clicks.history.any()
    assert not clicks.likes_level.any()
    assert not clicks.views_level.any()
    assert clicks.numbers.shape == (2, 0)
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
    write_array(paths.TAGS, np.zeros((4, 1), np.int32))
    with pytest.raises(InputError, match=r"tags\.npy has 4"):
        load_items(EVERYTHING, CPU)
