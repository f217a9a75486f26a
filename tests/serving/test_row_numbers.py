"""A row's numbers on request, bit for bit those that stage `companions` writes of it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr.companions import unit_vectors
from ctr.covisitation.describe import KINDS, LARGEST, NAMES, Describer, of_length_1
from ctr.covisitation.pairs import recent
from pipeline.common import paths
from pipeline.common.files import read_array, read_json
from pipeline.settings.ctr.companions import Companions
from pipeline.tables.split import Split
from serving.folder import read_tallies
from serving.row_numbers import RowNumbers, Standard
from tests.ctr.covisitation.made_up import ITEMS, SECTION, changed, made_up, splits, tables, tallied
from tests.support.worlds.tiny_world import tiny_params, write_world

TAGS, VECTORS = tables(1)
UNIT = of_length_1(VECTORS)
EVERY = np.arange(len(NAMES))


class Stage:
    """What stage `companions` makes of a train split, and of rows that all of it describes."""

    def __init__(self, train: Split, section: Companions) -> None:
        self.section = section
        self.describer = Describer(train, TAGS, UNIT, section)
        rng = np.random.default_rng(len(train))
        self.mean, self.deviation = rng.normal(size=len(NAMES)), rng.uniform(0.1, 3, len(NAMES))

    def raw(self, history: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """float32 (C, F), of a history with padding or without."""
        row = np.concatenate([[0], history, np.zeros(len(Split.TAIL), int)])
        youngest = recent(Split(row[None].astype(np.int32)), np.array([0]), self.section.window)
        none = np.array([self.describer.none])
        found = [self.describer(int(item), youngest, none)[0] for item in candidates]
        return np.array(found, np.float32).reshape(len(candidates), len(NAMES))

    def written(
        self, history: np.ndarray, candidates: np.ndarray, columns: np.ndarray = EVERY
    ) -> np.ndarray:
        standard = (self.raw(history, candidates) - self.mean) / self.deviation
        return np.clip(standard, -LARGEST, LARGEST).astype(np.float16)[:, columns]

    def row_numbers(self, columns: np.ndarray = EVERY) -> RowNumbers:
        standard = Standard(columns, self.mean[columns], self.deviation[columns])
        return RowNumbers(
            tallied(self.describer), UNIT, self.section, standard, self.section.window
        )


def assert_as_written(found: np.ndarray, written: np.ndarray) -> None:
    """Every bit, but the sign of 0."""
    assert found.dtype == np.float32
    assert written.dtype == np.float16
    np.testing.assert_array_equal(found, written.astype(np.float32))


sections = st.builds(
    changed,
    window=st.integers(3, 30),
    within=st.integers(0, 3),
    decay=st.sampled_from([0.5, 0.9, 1.0]),
    smoothing=st.sampled_from([0.1, 20.0]),
    shrinkage=st.sampled_from([0.0, 0.3]),
    prior=st.sampled_from([0.5, 20.0]),
    folds=st.integers(2, 4),
)
lists = st.lists(st.integers(1, ITEMS), max_size=40).map(lambda ids: np.array(ids, np.int64))
"""Of items in any order, often twice; the last item is new."""


@settings(max_examples=40, deadline=None)
@given(splits, sections, lists, lists, st.sets(st.sampled_from(range(len(NAMES)))))
def test_any_history_and_candidates(
    train: Split,
    section: Companions,
    history: np.ndarray,
    candidates: np.ndarray,
    columns: set[int],
) -> None:
    """Histories may be empty, and longer than what is read of them; so may be the candidates."""
    stage, every = Stage(train, section), np.array(sorted(columns), int)
    for read in (EVERY, every):
        found = stage.row_numbers(read)(history, candidates)
        assert_as_written(found, stage.written(history, candidates, read))


@pytest.mark.parametrize("shrinkage", [0.0, 0.4])
def test_all_items_after_a_history_with_repeats(shrinkage: float) -> None:
    stage = Stage(made_up(2, rows=60, history=40), changed(window=35, shrinkage=shrinkage))
    history = np.random.default_rng(3).integers(1, ITEMS, 50)
    candidates = np.random.default_rng(4).permutation(np.repeat(np.arange(1, ITEMS + 1), 2))
    found = stage.row_numbers()(history, candidates)
    assert_as_written(found, stage.written(history, candidates))
    for ending in ("mean_3", "mean_10", "mean", "max_10", "last", "decayed"):
        values = found[:, NAMES.index(f"after_{ending}")]
        assert len(set(values.tolist())) > ITEMS / 2  # so that a fault would show


def test_what_is_older_than_the_window_is_not_read() -> None:
    stage = Stage(made_up(5), SECTION)
    numbers, history = stage.row_numbers(), np.array([8, 1, 7, 2, 3, 4, 2])
    candidates = np.arange(1, ITEMS + 1)
    found = numbers(history, candidates)
    np.testing.assert_array_equal(found, numbers(history[-SECTION.window :], candidates))
    assert not np.array_equal(found, numbers(history[1 - SECTION.window :], candidates))


def test_a_window_that_is_shorter_than_the_sections() -> None:
    """As where the data have fewer items a row."""
    stage, history = Stage(made_up(5, history=3), SECTION), np.array([8, 1, 7, 2, 3, 4, 2])
    whole = stage.row_numbers()
    short = RowNumbers(tallied(stage.describer), whole.unit, SECTION, whole.standard, 3)
    candidates = np.arange(1, ITEMS + 1)
    assert_as_written(short(history, candidates), stage.written(history[-3:], candidates))


@pytest.mark.parametrize("history", [[], [1, 2, ITEMS]])
def test_a_new_item_tells_nothing_but_its_content(history: list[int]) -> None:
    stage, items = Stage(made_up(4), SECTION), np.array([ITEMS])
    found = stage.row_numbers()(np.array(history, int), items)
    assert_as_written(found, stage.written(np.array(history, int), items))
    told = stage.describer.of_new()
    for name in (*KINDS["companions"], *KINDS["contrast"], "clicks", "rows"):
        place = NAMES.index(name)
        raw = found[0, place] * stage.deviation[place] + stage.mean[place]
        assert raw == pytest.approx(told[name], abs=2e-3 * (1 + abs(stage.mean[place]))), name


def test_an_item_that_was_taken_but_never_shown() -> None:
    """It is the first of a history alone."""
    rows = np.array([[ITEMS, 1, 2, 0, 0, 1, 8], [0, 3, 4, 0, 0, 0, 9]], np.int32)
    stage = Stage(Split(rows), SECTION)
    candidates = np.array([ITEMS, ITEMS - 1, 4])
    for history in ([ITEMS], [1, 3], [2, ITEMS, 1]):
        found = stage.row_numbers()(np.array(history), candidates)
        assert_as_written(found, stage.written(np.array(history), candidates))


def test_a_train_split_that_has_no_pair_at_all() -> None:
    rows = np.array([[0, 0, 2, 0, 0, 1, 8], [0, 0, 4, 0, 0, 0, 9]], np.int32)
    stage, candidates = Stage(Split(rows), SECTION), np.array([2, 3, 4])
    for history in ([], [2, 3]):
        found = stage.row_numbers()(np.array(history, int), candidates)
        assert_as_written(found, stage.written(np.array(history, int), candidates))


def test_a_number_that_lies_far_beyond_train_is_the_largest_of_16_bits() -> None:
    stage = Stage(made_up(4), SECTION)
    standard = Standard(EVERY, stage.mean, np.full(len(NAMES), 1e-9))
    numbers = RowNumbers(tallied(stage.describer), UNIT, SECTION, standard, SECTION.window)
    found = numbers(np.array([1, 2]), np.array([3]))
    assert np.abs(found).max() == LARGEST
    assert np.isfinite(found).all()


def test_the_files_that_the_stage_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_world()
    section, told = tiny_params().companions, read_json(paths.ROW_FEATURES)
    mean, deviation = (
        np.array([told[key][name] for name in NAMES]) for key in ("mean", "deviation")
    )
    tallies = read_tallies(paths.TALLIES.parent)
    assert tallies is not None
    numbers = RowNumbers(
        tallies,
        unit_vectors(),
        section,
        Standard(EVERY, mean, deviation),
        section.window,
    )
    for split in ("valid", "test"):
        rows, written = Split.load(split), read_array(paths.companions_path(split))
        for row in range(len(rows)):
            history = rows.history[row][rows.history[row] > 0].astype(np.int64)
            found = numbers(history, rows.target[row : row + 1])
            assert_as_written(found, np.array(written[row : row + 1]))
