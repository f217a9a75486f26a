import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from open_clip.transform import PreprocessCfg

from embed.covers.batches import CoverBatch, CoverBatches, CoverFile, read_covers
from embed.covers.decode import decode
from embed.encoders.open_clip_models import ResizeToPixels
from pipeline.common.paths import COVERS
from tests.embed.conftest import Catalogue

TO_PIXELS = ResizeToPixels(PreprocessCfg(size=16))


def by_item(batches: list[CoverBatch]) -> dict[int, np.ndarray]:
    return {
        int(item): pixels
        for batch in batches
        for item, pixels in zip(batch.items, batch.pixels, strict=True)
    }


@pytest.mark.parametrize("workers", [0, 2])
def test_every_readable_cover_comes_once_with_its_own_pixels(
    catalogue: Catalogue, workers: int
) -> None:
    batches = list(read_covers(COVERS, 5, TO_PIXELS, workers))
    seen = by_item(batches)
    assert sorted(seen) == catalogue.embeddable
    assert sum(len(batch.items) for batch in batches) == len(seen)
    for item, pixels in seen.items():
        np.testing.assert_array_equal(pixels, TO_PIXELS(decode(catalogue.covers[item])))


def test_workers_change_neither_batches_nor_what_is_unreadable(catalogue: Catalogue) -> None:
    alone, shared = ([*read_covers(COVERS, 5, TO_PIXELS, workers)] for workers in (0, 2))
    assert {tuple(batch.items) for batch in alone} == {tuple(batch.items) for batch in shared}
    for batches in (alone, shared):
        unreadable = dict(fault for batch in batches for fault in batch.unreadable)
        assert tuple(sorted(unreadable)) == catalogue.unreadable
        assert all(unreadable.values())


def test_batches_are_even_and_span_row_groups(catalogue: Catalogue) -> None:
    sizes = [len(batch) for batch in read_covers(COVERS, 5, TO_PIXELS, 0)]
    assert sizes == [4, 5, 5, 5, 4, 5, 5, 5]
    assert sum(sizes) == len(catalogue.covers)


@given(bounds=st.lists(st.integers(0, 38), min_size=2, max_size=2, unique=True).map(sorted))
@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
def test_any_run_of_rows(catalogue: Catalogue, bounds: list[int]) -> None:
    start, stop = bounds
    table = CoverFile(COVERS).rows(start, stop)
    assert table["item"].to_pylist() == list(catalogue.covers)[start:stop]
    assert table["image"].to_pylist() == list(catalogue.covers.values())[start:stop]


def test_only_the_row_groups_asked_for_are_read(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[list[int]] = []
    original = pq.ParquetFile.read_row_groups

    def recorded(self: pq.ParquetFile, groups: list[int], **options: bool) -> pa.Table:
        read.append(groups)
        return original(self, groups, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", recorded)
    file = CoverFile(COVERS)  # 38 rows in groups of 12
    assert len(file) == len(catalogue.covers) == 38
    for start, stop in ((0, 12), (12, 13), (11, 13), (23, 37), (37, 38)):
        file.rows(start, stop)
    assert read == [[0], [1], [0, 1], [1, 2, 3], [3]]


def test_order_is_that_of_the_file(catalogue: Catalogue) -> None:
    items = np.concatenate([batch.items for batch in read_covers(COVERS, 5, TO_PIXELS, 0)])
    assert items.tolist() == catalogue.embeddable


@pytest.mark.usefixtures("catalogue")
def test_dataset_can_be_sent_to_a_spawned_process() -> None:
    dataset = CoverBatches(CoverFile(COVERS), [(0, 5), (30, 38)], TO_PIXELS)
    copy = pickle.loads(pickle.dumps(dataset))
    for place in range(2):
        np.testing.assert_array_equal(dataset[place].pixels, copy[place].pixels)


@pytest.mark.usefixtures("catalogue")
def test_no_covers_at_all() -> None:
    table = pq.read_table(COVERS).slice(0, 0)
    pq.write_table(pa.table(table), COVERS)
    assert list(read_covers(COVERS, 5, TO_PIXELS, 2)) == []
