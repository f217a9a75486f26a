import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from gallery.pictures.embedding_map import (
    NO_COVER,
    grid_shape,
    mapped_items,
    painted,
    positions,
    principal_plane,
    snapped,
)

POINTS = st.integers(1, 40).flatmap(
    lambda n: arrays(np.float64, (n, 2), elements=st.floats(-1e6, 1e6, width=32))
)


@settings(deadline=None)  # the machine may be busy
@given(points=POINTS, aspect=st.floats(0.2, 5))
def test_no_two_items_share_a_cell_and_all_lie_on_the_grid(
    points: np.ndarray, aspect: float
) -> None:
    columns, rows = grid_shape(len(points), aspect)
    cells = snapped(points, columns, rows)
    assert len({tuple(cell) for cell in cells.tolist()}) == len(points)
    assert (cells >= 0).all()
    assert (cells < (columns, rows)).all()


def test_a_point_takes_its_own_cell_where_that_is_free() -> None:
    points = np.array([[0.0, 0.0], [2.0, 0.0], [4.0, 6.0], [1.0, 3.0]])
    assert snapped(points, 5, 7).tolist() == points.astype(int).tolist()


def test_a_point_whose_cell_is_taken_lies_beside_it() -> None:
    points = np.array([[0.0, 0.0], [4.0, 4.0], [2.0, 2.0], [2.0, 2.0], [2.0, 2.0]])
    cells = snapped(points, 5, 5)
    distances = np.abs(cells[2:] - 2).sum(1)
    assert sorted(distances) == [0, 1, 1]


def groups(count: int = 20) -> np.ndarray:
    """Three groups of `count` vectors, each around a direction of its own."""
    noise = np.random.default_rng(5).normal(scale=0.05, size=(3 * count, 12))
    return np.eye(12)[np.repeat(np.arange(3), count)] + noise


def test_items_of_one_group_lie_together_whatever_their_length() -> None:
    vectors = groups() * np.random.default_rng(6).uniform(0.5, 20, (60, 1))
    points = positions(vectors, 10.0, 3)
    middles = points.reshape(3, 20, 2).mean(1)
    nearest = ((points[:, None] - middles) ** 2).sum(2).argmin(1)
    assert nearest.tolist() == np.repeat(np.arange(3), 20).tolist()


def test_the_length_of_a_vector_has_no_part_in_it() -> None:
    longer = groups() * 2.0 ** np.random.default_rng(6).integers(-3, 9, (60, 1))
    assert np.array_equal(positions(longer, 10.0, 3), positions(groups(), 10.0, 3))


@pytest.mark.parametrize("width", [1, 12])
def test_positions_are_the_same_twice(width: int) -> None:
    vectors = groups()[:, :width] + 0.5
    assert np.array_equal(positions(vectors, 10.0, 3), positions(vectors, 10.0, 3))


@pytest.mark.parametrize("count", [1, 2, 4, 5, 8])
@pytest.mark.parametrize("width", [1, 6])
def test_few_items_have_places_too(count: int, width: int) -> None:
    vectors = np.random.default_rng(count).normal(size=(count, width)) + 3
    points = positions(vectors, 30.0, 1)
    assert points.shape == (count, 2)
    assert np.isfinite(points).all()


def test_the_principal_plane_keeps_the_distances_of_a_plane() -> None:
    points = np.array([[0.0, 0, 0], [3, 0, 0], [0, 4, 0]])
    found = principal_plane(points)
    assert np.linalg.norm(found[1] - found[2]) == pytest.approx(5)
    assert np.linalg.norm(found[0] - found[2]) == pytest.approx(4)


def test_items_without_a_vector_and_padding_are_not_on_the_map() -> None:
    vectors = np.ones((8, 3))
    vectors[[0, 4]] = 0
    assert mapped_items(vectors, 10, 1).tolist() == [1, 2, 3, 5, 6, 7]
    some = mapped_items(vectors, 3, 1)
    assert len(some) == 3
    assert set(some) <= {1, 2, 3, 5, 6, 7}
    assert some.tolist() == mapped_items(vectors, 3, 1).tolist()
    assert some.tolist() != mapped_items(vectors, 3, 4).tolist()


def test_each_cover_is_painted_in_its_cell() -> None:
    pictures = {5: Image.new("RGB", (20, 20), "red"), 9: None}
    cells, items = np.array([[2, 0], [0, 1]]), np.array([5, 9])
    image = painted(cells, items, pictures, (3, 2), 10)
    assert image.size == (30, 20)
    assert image.getpixel((25, 5)) == (255, 0, 0, 255)
    assert image.getpixel((5, 15)) == NO_COVER
    assert image.getpixel((5, 5)) == (0, 0, 0, 0)


def test_vectors_that_are_all_the_same_lie_in_one_place() -> None:
    places = positions(np.ones((10, 8), np.float32), 30.0, 1)
    np.testing.assert_allclose(places, 0, atol=1e-12)
