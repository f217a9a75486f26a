from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr.covisitation.describe import Describer
from ctr.covisitation.tallies import (
    VALUES,
    Matches,
    PairTable,
    length,
    matches,
    table_of,
    tallied,
)
from pipeline.settings.ctr.companions import Companions
from pipeline.tables.split import Split
from tests.ctr.covisitation.made_up import ITEMS, SECTION, changed, made_up, splits, tables
from tests.support.references import covisitation as plain

TAGS, UNIT = tables(1)
Key = tuple[int, int]


def table_of_pairs(pairs: set[Key], items: int) -> PairTable:
    """The pairs (later, earlier) of items 0 to `items` - 1."""
    found = [sorted(earlier for later, earlier in pairs if later == item) for item in range(items)]
    return PairTable.of([np.array(earlier, np.int32) for earlier in found])


@st.composite
def tables_and_lists(draw: st.DrawFn) -> tuple[set[Key], PairTable, list[int], list[int]]:
    items = draw(st.integers(1, 9))
    one = st.integers(0, items - 1)
    pairs = draw(st.sets(st.tuples(one, one), max_size=30))
    lists = st.lists(one, unique=True)
    return pairs, table_of_pairs(pairs, items), draw(lists), draw(lists)


def found_by(between: Callable[[np.ndarray, np.ndarray], Matches]) -> Callable[..., list[Key]]:
    """Of a table and two lists: the pairs found, each by its places, in order."""

    def found(table: PairTable, later: Sequence[int], earlier: Sequence[int]) -> list[Key]:
        first, second, place = between(np.array(later, int), np.array(earlier, int))
        row = np.searchsorted(table.start, place, side="right") - 1
        assert [*zip(row, table.other[place], strict=True)] == [
            (later[i], earlier[j]) for i, j in zip(first, second, strict=True)
        ]
        return sorted(zip(first.tolist(), second.tolist(), strict=True))

    return found


@given(tables_and_lists())
def test_pairs_of_two_lists_as_in_a_double_loop(
    case: tuple[set[Key], PairTable, list[int], list[int]],
) -> None:
    """By the later items, by the earlier ones, and by whichever names fewer pairs."""
    pairs, table, later, earlier = case

    def by_later(rows: np.ndarray, columns: np.ndarray) -> Matches:
        return matches(table.start, table.other, rows, columns)

    def by_earlier(rows: np.ndarray, columns: np.ndarray) -> Matches:
        second, first, place = matches(table.turned_start, table.turned_other, columns, rows)
        return first, second, table.turned_place[place]

    expected = [
        (i, j)
        for i, later_item in enumerate(later)
        for j, earlier_item in enumerate(earlier)
        if (later_item, earlier_item) in pairs
    ]
    for between in (by_later, by_earlier, table.between):
        assert found_by(between)(table, later, earlier) == sorted(expected)


@given(tables_and_lists())
def test_a_table_has_each_pair_by_both_of_its_items(
    case: tuple[set[Key], PairTable, list[int], list[int]],
) -> None:
    pairs, table, _, _ = case
    items = np.arange(len(table.start) - 1)
    later, earlier = (
        np.repeat(items, np.diff(start)) for start in (table.start, table.turned_start)
    )
    assert {*zip(later.tolist(), table.other.tolist(), strict=True)} == pairs
    assert {*zip(table.turned_other.tolist(), earlier.tolist(), strict=True)} == pairs
    assert len(table.other) == len(table.turned_other) == len(pairs)
    assert table.other[table.turned_place].tolist() == earlier.tolist()
    assert length(table.start, items) == length(table.turned_start, items) == len(pairs)


def test_the_side_with_fewer_pairs_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Item 0 was taken after all others, which is many pairs; each of these before it alone."""
    table = table_of_pairs({(0, item) for item in range(1, 9)}, 9)
    read: list[np.ndarray] = []

    def counted(start: np.ndarray, *rest: np.ndarray) -> Matches:
        read.append(start)
        return matches(start, *rest)

    monkeypatch.setattr("ctr.covisitation.tallies.matches", counted)
    assert [x.tolist() for x in table.between(np.array([0]), np.array([3]))] == [[0], [0], [2]]
    assert [len(x) for x in table.between(np.array([1]), np.arange(9))] == [0, 0, 0]
    assert read[0] is table.turned_start
    assert read[1] is table.start


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
    assert found["together"].tolist() == [key in flat.both for key in keys]
    for name, expected in (("after", after), ("after_flat", flat_after), ("contrast", contrasts)):
        assert found[name].dtype == np.float32
        assert found[name].tolist() == pytest.approx(expected, rel=1e-6, abs=1e-7), name
    items = range(ITEMS + 1)
    for name, counted in (("earlier", decayed), ("earlier_flat", flat)):
        assert found[name].tolist() == [counted.earlier.get(i, 0) for i in items]
    total = decayed.total + 0.5 * (ITEMS + 1)
    assert found["share"].tolist() == [(decayed.later.get(i, 0) + 0.5) / total for i in items]
    assert found["rows"].tolist() == told.rows
    assert found["clicks"].tolist() == told.clicks
    assert found["new"].tolist() == [not (told.rows[i] or flat.has(i)) for i in items]
    for name, of_item in (("rate", told.rate), ("tag_rate", told.tag_rate)):
        assert found[name].tolist() == pytest.approx([*map(of_item, items)], rel=1e-12), name


def tallies_of(train: Split, section: Companions) -> dict[str, np.ndarray]:
    describer = Describer(train, TAGS, UNIT, section)
    return tallied(describer, [describer.pairs_of(i).rounded() for i in range(ITEMS + 1)])


def information(counted: plain.Counted, key: Key, section: Companions, shrinkage: float) -> float:
    return counted.information(*key, ITEMS, section.smoothing, shrinkage)


def pairs_in(found: dict[str, np.ndarray]) -> list[Key]:
    """Later and earlier items, in the order of the values."""
    pairs = table_of(found)
    later = np.repeat(np.arange(len(pairs.start) - 1), np.diff(pairs.start))
    return [*zip(later.tolist(), pairs.other.tolist(), strict=True)]


def test_what_can_be_written_to_a_file() -> None:
    """Arrays that lie in one piece, none of objects."""
    found = tallies_of(made_up(3), SECTION)
    for name, array in found.items():
        assert array.flags.c_contiguous, name
        assert array.dtype.kind in "iufb", name


def test_a_train_split_without_any_pair() -> None:
    found = tallies_of(Split(np.array([[0, 2, 0, 0, 1, 8], [0, 4, 0, 0, 0, 9]], np.int32)), SECTION)
    assert pairs_in(found) == []
    assert {len(found[name]) for name in VALUES} == {0}
    assert [len(x) for x in table_of(found).between(np.arange(1, 5), np.arange(1, 5))] == [0, 0, 0]
