"""Covers: a colour and a shape that together tell the topic, its name, marks for the grade.

Eight colours and seven shapes have no common divisor, so topic t's (t mod 8, t mod 7) is its own,
while a colour or a shape alone is shared by several topics.
"""

import colorsys
import functools
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sample.vocabulary import TOPIC_NAMES

SIDE = 64
JPEG_QUALITY = 88
COLOURS = 8


def _star() -> np.ndarray:
    radius = np.tile([1.0, 0.42], 5)
    angle = np.arange(10) * np.pi / 5 - np.pi / 2
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _circle() -> np.ndarray:
    angle = np.arange(24) * np.pi / 12
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _cross(arm: float = 0.3) -> np.ndarray:
    quarter = np.array([(arm, -1), (arm, -arm), (1, -arm)])
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    return np.concatenate([quarter @ np.linalg.matrix_power(turn, k) for k in range(4)])


SHAPES: tuple[np.ndarray, ...] = (
    _circle(),
    np.array([(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]),
    np.array([(0.0, -1.0), (0.95, 0.8), (-0.95, 0.8)]),
    np.array([(0.0, -1.0), (0.6, 0.0), (0.0, 1.0), (-0.6, 0.0)]),
    _star(),
    _cross(),
    np.array([(-0.8, -1.0), (0.8, -1.0), (-0.8, 1.0), (0.8, 1.0)]),
)
"""Circle, square, triangle, diamond, star, cross, hourglass: corners (x, y) within -1..1."""


@dataclass(frozen=True)
class Facets:
    """What one cover shows; the three topics agree unless the cover misleads."""

    colour_topic: int
    shape_topic: int
    name_topic: int
    grade: int


def render(facets: Facets, rng: np.random.Generator) -> bytes:
    """A SIDE x SIDE RGB JPEG; `rng` varies colour, place, size and turn, and adds noise."""
    image = Image.new("RGB", (SIDE, SIDE), _background(facets.colour_topic, facets.grade, rng))
    draw = ImageDraw.Draw(image)
    _draw_distractors(draw, rng)
    _draw_shape(draw, facets.shape_topic, rng)
    _draw_marks(draw, facets.grade, rng)
    _print_name(draw, TOPIC_NAMES[facets.name_topic], rng)
    return _encode(_noisy(image, rng))


def _background(topic: int, grade: int, rng: np.random.Generator) -> tuple[int, int, int]:
    hue = (topic % COLOURS + rng.normal(0, 0.12)) / COLOURS % 1.0
    saturation, value = rng.uniform(0.6, 0.85), 0.42 + 0.09 * grade + rng.uniform(-0.12, 0.12)
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return int(red * 255), int(green * 255), int(blue * 255)


def _any_colour(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = rng.integers(0, 256, 3)
    return int(red), int(green), int(blue)


def _draw_distractors(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    for _ in range(rng.integers(1, 4)):
        x, y = rng.uniform(0, SIDE, 2)
        width, height = rng.uniform(2, 6, 2)
        draw.ellipse((x - width, y - height, x + width, y + height), fill=_any_colour(rng))


def _draw_shape(draw: ImageDraw.ImageDraw, topic: int, rng: np.random.Generator) -> None:
    turn, size = rng.normal(0, 0.12), rng.uniform(13, 18)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    corners = SHAPES[topic % len(SHAPES)] @ rotation * size + SIDE / 2 + rng.uniform(-4, 4, 2)
    shade = int(rng.integers(215, 256))
    draw.polygon([(float(x), float(y)) for x, y in corners], fill=(shade, shade, shade))


def _draw_marks(draw: ImageDraw.ImageDraw, grade: int, rng: np.random.Generator) -> None:
    """A row of grade + 1 dark marks along the upper edge."""
    left, top = rng.uniform(2, 8), rng.uniform(2, 5)
    size = rng.uniform(6, 8)
    for mark in range(grade + 1):
        x = left + mark * (size + 3)
        draw.rectangle((x, top, x + size, top + size), fill=(20, 20, 20), outline=(255, 255, 255))


def _print_name(draw: ImageDraw.ImageDraw, name: str, rng: np.random.Generator) -> None:
    font = _font()
    width = draw.textlength(name, font=font)
    place = rng.uniform(1, max(1.0, SIDE - 1 - width)), rng.uniform(49, 52)
    draw.text(place, name, fill=(255, 255, 255), font=font)


@functools.cache
def _font() -> ImageFont.ImageFont:
    """That looks the same with and without FreeType."""
    return ImageFont.load_default_imagefont()


def _noisy(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    noise = rng.integers(-18, 19, (SIDE, SIDE, 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def _encode(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
