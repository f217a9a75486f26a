"""The map of items: t-SNE of their vectors, each drawn as its cover on a grid without overlap."""

import logging
import math

import numpy as np
from PIL import Image, ImageDraw
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from gallery.pictures.thumbnails import Pictures

ROOM = 1.5
"""Cells of the grid for each item: the empty ones let groups stand apart."""

ASPECT = 1.5
"""Width over height of the map: a screen's."""

FEW = 4
"""t-SNE needs more items than these; fewer are placed by their principal components."""

ITERATIONS = 500
"""Half of t-SNE's usual number, which changes little more than the seconds."""

COARSE = 0.8
"""Width over distance below which t-SNE takes a group of items for one. With its usual 0.5 it takes
half as long again, and near items lie no nearer: trustworthiness 0.998, and here 0.997."""

NO_COVER = (128, 128, 128, 90)
"""Grey, half transparent: seen on white and on black."""

log = logging.getLogger(__name__)


def mapped_items(vectors: np.ndarray, limit: int, seed: int) -> np.ndarray:
    """At most `limit` items that have a vector, ascending; `vectors` is (N + 1, d), 0 padding."""
    items = np.flatnonzero(vectors.any(axis=1))
    if len(items) > limit:
        items = np.sort(np.random.default_rng(seed).choice(items, limit, replace=False))
    return items


def positions(vectors: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    """float64 (n, 2): places at which items of a like direction of `vectors` (n, d) lie together.

    One thread, since the order in which threads add up would change the result.
    """
    unit = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    with threadpool_limits(limits=1):
        if len(unit) <= FEW or not np.ptp(unit, axis=0).any():  # t-SNE crashes on equal ones
            return principal_plane(unit)
        log.info("placing %s items by t-SNE, in %d iterations", f"{len(unit):,}", ITERATIONS)
        tsne = TSNE(
            perplexity=min(perplexity, (len(unit) - 1) / 3),
            max_iter=ITERATIONS,
            init="pca" if min(unit.shape) >= 2 else "random",
            angle=COARSE,
            random_state=seed,
            n_jobs=1,
        )
        return np.asarray(tsne.fit_transform(unit), np.float64)


def principal_plane(unit: np.ndarray) -> np.ndarray:
    """(n, 2): the first two principal components, zeros for what there is not."""
    left, size, _ = np.linalg.svd(unit - unit.mean(0), full_matrices=False)
    plane = np.zeros((len(unit), 2))
    plane[:, : len(size)] = (left * size)[:, :2]
    return plane


def grid_shape(items: int, aspect: float = ASPECT) -> tuple[int, int]:
    """Columns and rows of a grid with ROOM for `items`, `aspect` times as wide as high."""
    rows = max(1, math.ceil(math.sqrt(items * ROOM / aspect)))
    return max(1, math.ceil(items * ROOM / rows)), rows


def snapped(points: np.ndarray, columns: int, rows: int) -> np.ndarray:
    """int64 (n, 2): a cell (column, row) of its own for each of `points` (n, 2), near its place.

    Those in the middle choose first; each takes the nearest cell that is still free.
    """
    scaled = spread(points) * (columns - 1, rows - 1)
    cells = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2)
    chosen = np.zeros((len(points), 2), np.int64)
    free = np.ones(len(cells), bool)
    for point in np.argsort(((scaled - scaled.mean(0)) ** 2).sum(1), kind="stable"):
        distance = np.where(free, ((cells - scaled[point]) ** 2).sum(1), np.inf)
        cell = int(distance.argmin())
        chosen[point], free[cell] = cells[cell], False
    return chosen


def spread(points: np.ndarray) -> np.ndarray:
    """`points` (n, 2) moved and scaled to 0..1 along both axes."""
    low, high = points.min(0), points.max(0)
    return (points - low) / np.where(high > low, high - low, 1)


def painted(
    cells: np.ndarray,
    items: np.ndarray,
    pictures: Pictures,
    shape: tuple[int, int],
    tile: int,
) -> Image.Image:
    """RGBA: the items' covers, `tile` pixels wide, in their `cells` (n, 2) of a grid of `shape`."""
    canvas = Image.new("RGBA", (shape[0] * tile, shape[1] * tile))
    for (column, row), item in zip(cells.tolist(), items.tolist(), strict=True):
        canvas.paste(map_tile(pictures[item], tile), (column * tile, row * tile))
    return canvas


def map_tile(picture: Image.Image | None, tile: int) -> Image.Image:
    """RGBA (tile, tile): the cover with a hair of air around it, or a grey square for none."""
    air = Image.new("RGBA", (tile, tile))
    if picture is None:
        ImageDraw.Draw(air).rectangle((1, 1, tile - 2, tile - 2), fill=NO_COVER)
    else:
        inner = (tile - 2, tile - 2)
        air.paste(picture.resize(inner, Image.Resampling.LANCZOS), (1, 1))
    return air
