from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctr.covisitation.tallies import Matches, PairTable, matches

Key = tuple[int, int]


def table_of_pairs(pairs: set[Key], items: int) -> PairTable:
    """The pairs (later, earlier) of items 0 to `items` - 1."""
    by_later = np.array(sorted(pairs), np.int32).reshape(-1, 2)
    turned = np.array(sorted(range(len(pairs)), key=lambda i: by_later[i, ::-1].tolist()), int)
    starts = (np.searchsorted(np.sort(column), range(items + 1)) for column in by_later.T)
    start, turned_start = starts
    return PairTable(start, by_later[:, 1], turned_start, by_later[turned, 0], turned)


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
