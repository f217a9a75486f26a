import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from open_clip.transform import PreprocessCfg

from embed.cover_batches import CoverBatch, CoverBatches, read_covers
from embed.covers import decode
from embed.encoders import ResizeToPixels
from pipeline.schema import COVERS
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


def test_batches_stay_in_their_row_group_and_are_even(catalogue: Catalogue) -> None:
    sizes = [len(batch) for batch in CoverBatches(COVERS, 5, TO_PIXELS)]
    assert sizes == [4, 4, 4, 4, 4, 4, 4, 4, 4, 2]
    assert sum(sizes) == len(catalogue.covers)


def test_order_is_that_of_the_file(catalogue: Catalogue) -> None:
    items = np.concatenate([batch.items for batch in read_covers(COVERS, 5, TO_PIXELS, 0)])
    assert items.tolist() == catalogue.embeddable


@pytest.mark.usefixtures("catalogue")
def test_dataset_can_be_sent_to_a_spawned_process() -> None:
    dataset = CoverBatches(COVERS, 5, TO_PIXELS)
    copy = pickle.loads(pickle.dumps(dataset))
    for batch, again in zip(dataset, copy, strict=True):
        np.testing.assert_array_equal(batch.pixels, again.pixels)


@pytest.mark.usefixtures("catalogue")
def test_no_covers_at_all() -> None:
    table = pq.read_table(COVERS).slice(0, 0)
    pq.write_table(pa.table(table), COVERS)
    assert list(read_covers(COVERS, 5, TO_PIXELS, 2)) == []
