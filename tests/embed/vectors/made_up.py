"""Made-up vectors of titles and covers, and their fusion in plain loops."""

import numpy as np

from embed.vectors.content import Content, standardize
from pipeline.common.files import write_array
from pipeline.common.paths import (
    ALIGNED,
    IMAGE,
    IMAGE_PRESENT,
    LEARNED,
    TEXT,
    TEXT_PRESENT,
    VLM,
    VLM_PRESENT,
)
from tests.embed.conftest import N

Parts = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def parts(rows: int = 50, text_dim: int = 7, image_dim: int = 9) -> Parts:
    """Text and image vectors; items 3 to 6 lack one, item 7 both; row 0 is padding."""
    random = np.random.default_rng(1)
    text = random.normal(2, [1 + i for i in range(text_dim)], (rows, text_dim)).astype(np.float32)
    image = random.normal(-1, 3, (rows, image_dim)).astype(np.float32)
    text_present, image_present = np.ones(rows, bool), np.ones(rows, bool)
    text_present[[0, 3, 4, 7]] = False
    image_present[[0, 5, 6, 7]] = False
    text[~text_present] = 0
    image[~image_present] = 0
    return text, text_present, image, image_present


def content_of(*given: np.ndarray) -> Content:
    """Vectors and presence in turn, as `load_content` would make them content."""
    present = list(given[1::2])
    joined = [standardize(vectors, rows) for vectors, rows in zip(given[::2], present, strict=True)]
    return Content(joined, np.logical_or.reduce(present))


def aligned_vectors(columns: int = 4) -> np.ndarray:
    """Of the items of `parts`; float32, of mean norm about 20."""
    vectors = np.random.default_rng(2).normal(0, 10, (50, columns)).astype(np.float32)
    vectors[[0, 7]] = 0
    return vectors


def learned_vectors() -> np.ndarray:
    """Likewise; item 7, which has no content, has one."""
    vectors = np.random.default_rng(4).normal(0, 10, (50, 3)).astype(np.float32)
    vectors[[0, 9]] = 0
    return vectors


def write_parts() -> list[np.ndarray]:
    """What the embedding stages and `align` write; item 7 has nothing but a vector of the VLM."""
    vlm, vlm_present = np.random.default_rng(3).normal(size=(N + 1, 3)), np.arange(N + 1) % 5 == 2
    given = [*parts(rows=N + 1), vlm.astype(np.float32), vlm_present]
    paths = (TEXT, TEXT_PRESENT, IMAGE, IMAGE_PRESENT, VLM, VLM_PRESENT)
    for path, array in zip(paths, given, strict=True):
        write_array(path, array)
    write_array(ALIGNED, aligned_vectors()[: N + 1])
    write_array(LEARNED, learned_vectors()[: N + 1])
    return given


def plain_concatenation(text: Parts, rows: int = 50) -> np.ndarray:
    """Item by item, in plain loops: unit rows less their mean, zeros where absent."""
    columns = []
    for vectors, present in ((text[0], text[1]), (text[2], text[3])):
        unit = {
            i: vectors[i].astype(float) / np.sqrt((vectors[i].astype(float) ** 2).sum())
            for i in range(rows)
            if present[i]
        }
        mean = sum(unit.values()) / len(unit)
        columns.append([unit[i] - mean if i in unit else mean * 0 for i in range(rows)])
    return np.concatenate(columns, axis=1)


def plain_scores(given: Parts, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """(50, columns) by a plain SVD, of mean norm 1 over present rows, and the variance ratios."""
    joined = plain_concatenation(given)
    present = given[1] | given[3]
    _, singular, axes = np.linalg.svd(joined[present], full_matrices=False)
    scores = joined @ axes[:columns].T
    ratios = singular**2 / (singular**2).sum()
    return scores / np.linalg.norm(scores[present], axis=1).mean(), ratios[:columns]


def with_signs_of(columns: np.ndarray, pattern: np.ndarray) -> np.ndarray:
    return np.asarray(columns * np.sign((columns * pattern).sum(axis=0)))


def cosines(vectors: np.ndarray) -> np.ndarray:
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
    return np.asarray(unit @ unit.T)
