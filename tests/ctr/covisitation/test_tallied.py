from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr.covisitation.describe import Describer
from ctr.covisitation.tallied import write_pairs
from ctr.covisitation.tallies import PAIR_FILES, VALUES, Tallies
from pipeline.settings.ctr.companions import Companions
from pipeline.tables.split import Split
from tests.ctr.covisitation.made_up import ITEMS, SECTION, changed, splits, tables, tallied
from tests.support.references import covisitation as plain

TAGS, UNIT = tables(1)
Key = tuple[int, int]

sections = st.builds(
    changed,
    window=st.integers(3, 9),
    within=st.integers(0, 3),
    decay=st.sampled_from([0.5, 0.9, 1.0]),
    folds=st.integers(2, 4),
)


@settings(max_examples=25, deadline=None)
@given(splits, sections)
def test_all_of_train_is_counted_as_one_pair_at_a_time(train: Split, section: Companions) -> None:
    found = tallies_of(train, section)
    clicked = plain.pairs_of_rows(train, 1, section.window)
    taken = [*clicked, *plain.pairs_within_histories(train, section.within)]
    passed = plain.pairs_of_rows(train, 0, section.window)
    decayed, flat, of_clicked, of_passed = (
        plain.Counted(pairs, decay, ())
        for pairs, decay in ((taken, section.decay), (taken, 1.0), (clicked, 1.0), (passed, 1.0))
    )
    told = plain.Rates(train, TAGS, section.prior, ())
    keys = sorted({*flat.both, *of_passed.both})
    after = [information(decayed, key, section, section.shrinkage) for key in keys]
    flat_after = [information(flat, key, section, 0.0) for key in keys]
    contrasts = [
        plain.contrast(
            of_clicked.both.get(key, 0),
            of_passed.both.get(key, 0),
            told.rate(key[0]),
            section.prior,
        )
        for key in keys
    ]
    assert pairs_in(found) == keys
    assert found.values.dtype == np.float32
    expected = [[float(key in flat.both) for key in keys], after, flat_after, contrasts]
    for name, column, values in zip(VALUES, found.values.T, expected, strict=True):
        assert column.tolist() == pytest.approx(values, rel=1e-6, abs=1e-7), name
    items, of = range(ITEMS + 1), found.of
    for name, counted in (("earlier", decayed), ("earlier_flat", flat)):
        assert of[name].tolist() == [counted.earlier.get(i, 0) for i in items]
    total = decayed.total + 0.5 * (ITEMS + 1)
    assert of["share"].tolist() == [(decayed.later.get(i, 0) + 0.5) / total for i in items]
    assert of["rows"].tolist() == told.rows
    assert of["clicks"].tolist() == told.clicks
    assert of["new"].tolist() == [not (told.rows[i] or flat.has(i)) for i in items]
    for name, of_item in (("rate", told.rate), ("tag_rate", told.tag_rate)):
        assert of[name].tolist() == pytest.approx([*map(of_item, items)], rel=1e-12), name


def tallies_of(train: Split, section: Companions) -> Tallies:
    return tallied(Describer(train, TAGS, UNIT, section))


def information(counted: plain.Counted, key: Key, section: Companions, shrinkage: float) -> float:
    return counted.information(*key, ITEMS, section.smoothing, shrinkage)


def pairs_in(found: Tallies) -> list[Key]:
    """Later and earlier items, in the order of the values."""
    start = found.pairs.start
    later = np.repeat(np.arange(len(start) - 1), np.diff(start))
    return [*zip(later.tolist(), found.pairs.other.tolist(), strict=True)]


@given(splits, st.integers(1, 40))
def test_each_pair_is_there_by_both_of_its_items(train: Split, at_a_time: int) -> None:
    """However many are turned at a time."""
    with mock.patch("ctr.covisitation.tallied.AT_A_TIME", at_a_time):
        found = tallies_of(train, SECTION)
    start, other, turned_start, turned_other, place = found.pairs
    earlier = np.repeat(np.arange(ITEMS + 1), np.diff(turned_start))
    turned = [*zip(turned_other.tolist(), earlier.tolist(), strict=True)]
    assert turned == sorted(pairs_in(found), key=lambda pair: pair[::-1])
    assert [pairs_in(found)[i] for i in place] == turned
    assert len(start) == len(turned_start) == ITEMS + 2
    assert {array.dtype for array in (other, turned_other, place)} == {np.dtype(np.int32)}


def test_of_an_item_before_more_pairs_than_are_turned_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ctr.covisitation.tallied.AT_A_TIME", 2)
    rows = [[0, 1, target, 0, 0, 1, user] for user, target in enumerate((2, 3, 4, 5, 1))]
    found = tallies_of(Split(np.array(rows, np.int32)), SECTION)
    assert found.pairs.turned_start.tolist() == [0, 0, *[5] * (ITEMS)]
    assert found.pairs.turned_other.tolist() == [1, 2, 3, 4, 5]


def test_a_train_split_without_any_pair() -> None:
    found = tallies_of(Split(np.array([[0, 2, 0, 0, 1, 8], [0, 4, 0, 0, 0, 9]], np.int32)), SECTION)
    assert pairs_in(found) == []
    assert found.values.shape == (0, len(VALUES))
    assert [len(x) for x in found.pairs.between(np.arange(1, 5), np.arange(1, 5))] == [0, 0, 0]


def test_of_no_items(tmp_path: Path) -> None:
    """As where `companions.tallies` is off."""
    starts = write_pairs(tmp_path.joinpath, ())
    assert {name: start.tolist() for name, start in starts.items()} == {
        "start": [0],
        "turned_start": [0],
    }
    assert {name: len(np.load(tmp_path / name)) for name in PAIR_FILES} == dict.fromkeys(
        PAIR_FILES, 0
    )
