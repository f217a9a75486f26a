import numpy as np
import pytest

from gallery.pictures.neighbor_sheet import AT_RANDOM, FAILURE, contact_sheet, shares_in_common
from pipeline.common import paths
from pipeline.common.files import read_array

ITEMS, NEAR, TAGS = 30, 4, 3


@pytest.fixture
def tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ids, cosine, tags; item 7 has no neighbours, item 8 no tags, item 9 only two neighbours."""
    random = np.random.default_rng(4)
    ids = np.stack([random.permutation(ITEMS)[:NEAR] + 1 for _ in range(ITEMS + 1)])
    cosine = -np.sort(-random.uniform(size=ids.shape)).astype(np.float32)
    tags = random.integers(0, 6, (ITEMS + 1, TAGS))
    ids[[0, 7]], tags[[0, 8]], ids[9, 2:] = 0, 0, 0
    return ids, cosine, tags


def by_hand(ids: np.ndarray, tags: np.ndarray, item: int) -> list[float]:
    own = [tag for tag in tags[item] if tag]
    others = [set(tags[near]) for near in ids[item] if near]
    return [sum(tag in other for tag in own) / len(own) for other in others] if own else []


def test_shares_are_those_of_the_sets(tables: tuple[np.ndarray, ...]) -> None:
    ids, _, tags = tables
    shares = shares_in_common(ids, tags)
    for item in range(ITEMS + 1):
        found = shares[item][np.isfinite(shares[item])]
        assert found.tolist() == pytest.approx(by_hand(ids, tags, item))


def test_neighbours_and_cosines_are_those_of_the_file(tables: tuple[np.ndarray, ...]) -> None:
    ids, cosine, tags = tables
    sheet = contact_sheet(ids, cosine, tags, ITEMS, 3)
    assert sorted(entry.item for entry in sheet) == [*range(1, 7), *range(8, ITEMS + 1)]
    for entry in sheet:
        real = ids[entry.item] > 0
        assert [near.item for near in entry.neighbors] == ids[entry.item][real].tolist()
        assert [near.cosine for near in entry.neighbors] == cosine[entry.item][real].tolist()
        shares = by_hand(ids, tags, entry.item)
        found = [near.in_common for near in entry.neighbors]
        assert found == pytest.approx(shares) if shares else not any(found)
        expected = pytest.approx(np.mean(shares)) if shares else None
        assert entry.in_common == expected


def test_half_are_those_with_the_least_in_common(tables: tuple[np.ndarray, ...]) -> None:
    ids, cosine, tags = tables
    sheet = contact_sheet(ids, cosine, tags, 8, 3)
    assert [entry.why for entry in sheet] == [AT_RANDOM] * 4 + [FAILURE] * 4
    assert len({entry.item for entry in sheet}) == 8
    means = {item: np.mean(by_hand(ids, tags, item) or [2]) for item in range(1, ITEMS + 1)}
    worst = max(means[entry.item] for entry in sheet[4:])
    assert sum(mean < worst for mean in means.values() if mean < 2) <= 4
    assert [entry.in_common for entry in sheet[4:]] == pytest.approx(
        [means[entry.item] for entry in sheet[4:]]
    )


def test_the_seed_chooses(tables: tuple[np.ndarray, ...]) -> None:
    ids, cosine, tags = tables
    first, same, other = (contact_sheet(ids, cosine, tags, 8, seed) for seed in (3, 3, 4))
    assert first == same
    assert [entry.item for entry in first] != [entry.item for entry in other]


def test_without_tags_all_are_drawn_at_random(tables: tuple[np.ndarray, ...]) -> None:
    ids, cosine, tags = tables
    sheet = contact_sheet(ids, cosine, np.zeros_like(tags), 8, 3)
    assert {entry.why for entry in sheet} == {AT_RANDOM}
    assert len(sheet) == 8
    assert contact_sheet(ids[:, :0], cosine[:, :0], tags, 8, 3) == []


@pytest.mark.usefixtures("run")
def test_the_tiny_run_has_this_layout() -> None:
    with np.load(paths.NEIGHBORS, allow_pickle=False) as file:
        sheet = contact_sheet(file["ids"], file["cosine"], read_array(paths.TAGS), 6, 1)
    assert len(sheet) == 6
