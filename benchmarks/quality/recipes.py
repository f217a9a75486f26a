"""Item vectors by each recipe."""

import re
from argparse import ArgumentTypeError

import numpy as np

from embed.align import align
from embed.vectors.behaviour import behaviour
from embed.vectors.content import Content
from embed.vectors.learned import learned
from embed.vectors.recipes import fuse, fuse_learned
from pipeline.settings.embed.align import Align
from pipeline.settings.params import Params
from pipeline.tables.split import Split

RECIPES = ("zeros", "random", "pca", "align", "both", "learned")
LEARNING = ("align", "both", "learned")
"""Those that read `align.dim`."""
NAMES = 18
"""Letters of the longest recipe's name and a space."""
NAME = re.compile(rf"({'|'.join(RECIPES)})(?::(\d+))?(:white)?")
"""With another `align.dim`, and whether all columns are given the same deviation."""


RELATIVE = 1e-3
"""Of the largest deviation: columns below it are not made larger."""


def recipe_name(name: str) -> str:
    """Of a command line. Raises ArgumentTypeError."""
    found = NAME.fullmatch(name)
    if not found or (found[2] and found[1] not in LEARNING) or name == "zeros:white":
        raise ArgumentTypeError(f"found {name!r}; expected one of {RECIPES}, :dim or :white after")
    return name


def vectors_of(name: str, content: Content, params: Params) -> np.ndarray:
    """float32 (N + 1, fuse.dim), from `content` and the train split of the working directory."""
    found = NAME.fullmatch(name)
    assert found is not None
    recipe, dim, white = found.groups()
    if dim:
        section = Align.model_validate(params.align.model_dump() | {"dim": int(dim)})
        params = params.model_copy(update={"align": section})
    vectors = _vectors(recipe, content, params)
    return whitened(vectors) if white else vectors


def whitened(vectors: np.ndarray) -> np.ndarray:
    """Columns that differ, of the rows (N + 1, d) that are not zero, to mean 0 and deviation 1; all
    then by one scalar to a mean norm of 1."""
    rows = vectors.any(axis=1)
    deviation = vectors[rows].std(axis=0, dtype=np.float64)
    varies = deviation > RELATIVE * deviation.max()
    result = np.zeros_like(vectors)
    centred = vectors[rows][:, varies] - vectors[rows][:, varies].mean(axis=0, dtype=np.float64)
    result[np.ix_(rows, varies)] = centred / deviation[varies]
    return np.asarray(result / np.linalg.norm(result[rows], axis=1).mean())


def _vectors(recipe: str, content: Content, params: Params) -> np.ndarray:
    items = len(content.present) - 1
    vectors = np.zeros((items + 1, params.fuse.dim), np.float32)
    if recipe == "random":
        drawn = np.random.default_rng(params.align.seed).normal(size=(items, params.fuse.dim))
        vectors[1:] = drawn / params.fuse.dim**0.5  # of length 1, as the others are
    if recipe in ("zeros", "random"):
        return vectors
    aligned = np.zeros((items + 1, 0), np.float32)
    if recipe != "pca":
        section = params.align
        seen = behaviour(Split.load("train"), items, section)
        aligned, _ = align(content, seen, section)
    if recipe == "learned":
        own = learned(aligned, content.present, seen, section.balance)
        return fuse_learned(own, params.fuse.dim)
    return fuse(content, aligned, recipe, params.fuse.dim)[0]
