from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset

from embed.extraction.batches import Batch, even_spans, read_ahead, spans
from tests.embed.conftest import CPU
from tests.embed.extraction.test_extract import batch


@given(st.integers(0, 300), st.integers(1, 40))
def test_spans_cover_everything_once(count: int, size: int) -> None:
    runs = spans(count, size)
    assert [place for start, stop in runs for place in range(start, stop)] == list(range(count))
    assert all(stop - start == size for start, stop in runs[:-1])


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 40))
def test_even_spans_differ_by_one_at_most(start: int, count: int, size: int) -> None:
    runs = even_spans(start, start + count, size)
    places = [place for first, stop in runs for place in range(first, stop)]
    assert places == list(range(start, start + count))
    sizes = {stop - first for first, stop in runs}
    assert not sizes or (max(sizes) <= size and max(sizes) - min(sizes) <= 1)
    assert len(runs) == -(-count // size)


class Numbered(Dataset[list[Batch]]):
    def __getitem__(self, place: int) -> list[Batch]:
        return [batch(place, [10 * place + i]) for i in range(place)]


def test_batches_are_in_order_for_any_number_of_workers() -> None:
    for workers in (0, 2):
        items = [int(found.items[0]) for found in read_ahead(Numbered(), 4, workers, CPU)]
        assert items == [10, 20, 21, 30, 31, 32]
    assert list(read_ahead(Numbered(), 0, 2, CPU)) == []
