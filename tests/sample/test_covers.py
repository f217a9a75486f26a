import io

import numpy as np
import pytest
from PIL import Image

from sample.covers import COLOURS, SHAPES, SIDE, Facets, render
from sample.vocabulary import TOPICS

PER_TOPIC = 16


def pixels(facets: Facets, seed: int) -> np.ndarray:
    with Image.open(io.BytesIO(render(facets, np.random.default_rng(seed)))) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (SIDE, SIDE))
        return np.asarray(image).astype(float)


@pytest.fixture(scope="module")
def gallery() -> np.ndarray:
    """(T, PER_TOPIC, SIDE, SIDE, 3): covers of every topic, of all grades."""
    return np.array(
        [
            [pixels(Facets(topic, topic, topic, n % 5), 100 * topic + n) for n in range(PER_TOPIC)]
            for topic in range(len(TOPICS))
        ]
    )


def nearest_centroid_accuracy(features: np.ndarray, classes: np.ndarray) -> float:
    """Centroids of the first half of each topic's `features` (T, PER_TOPIC, d), tried on the rest.

    `classes` (T,) says which topics count as one.
    """
    known, asked = np.split(features, 2, axis=1)
    labels = np.unique(classes)
    centroids = np.stack([known[classes == label].mean(axis=(0, 1)) for label in labels])
    distance = np.linalg.norm(asked[:, :, None] - centroids, axis=-1)
    return float((labels[distance.argmin(-1)] == classes[:, None]).mean())


def test_mean_colour_tells_the_colour_and_narrows_the_topic(gallery: np.ndarray) -> None:
    topics = np.arange(len(TOPICS))
    edge = gallery[:, :, 12:48, :6].mean(axis=(2, 3))
    hue = edge / edge.sum(axis=-1, keepdims=True)
    assert nearest_centroid_accuracy(hue, topics % COLOURS) > 0.8
    assert 3 / len(topics) < nearest_centroid_accuracy(hue, topics) < 0.6


def test_brightness_pattern_tells_the_shape(gallery: np.ndarray) -> None:
    classes = np.arange(len(TOPICS)) % len(SHAPES)
    bright = (gallery[:, :, 14:48, 12:52].min(axis=-1) > 180).astype(float)
    features = bright.reshape(*bright.shape[:2], -1)
    assert nearest_centroid_accuracy(features, classes) > 4 / len(SHAPES)


@pytest.mark.parametrize("seed", range(5))
def test_each_grade_adds_a_mark(seed: int) -> None:
    dark = [
        (pixels(Facets(4, 4, 4, grade), seed)[:14].max(axis=-1) < 60).sum() for grade in range(5)
    ]
    steps = np.diff(dark)
    assert steps.min() > 12
    assert steps.max() < 2 * steps.min()


def test_the_printed_name_is_a_facet_of_its_own() -> None:
    difference = np.abs(pixels(Facets(1, 1, 1, 2), 0) - pixels(Facets(1, 1, 2, 2), 0)).max(axis=-1)
    assert difference[49:].max() > 100
    assert difference[:40].max() == 0


def test_covers_follow_the_generator() -> None:
    facets = Facets(3, 3, 3, 1)
    first = render(facets, np.random.default_rng(1))
    assert first == render(facets, np.random.default_rng(1))
    assert first != render(facets, np.random.default_rng(2))
