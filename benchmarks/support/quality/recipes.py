"""Item vectors by each recipe, and an accelerator to judge them with."""

from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from ctr.engine.machine import open_accelerator
from embed.align import align
from embed.fuse import fuse
from embed.vectors.behaviour import behaviour
from embed.vectors.content import Content
from pipeline.settings.params import Params
from pipeline.tables.split import Split

RECIPES = ("zeros", "random", "pca", "align", "both")


def vectors_of(recipe: str, content: Content, params: Params) -> np.ndarray:
    """float32 (N + 1, fuse.dim), from `content` and the train split of the working directory."""
    items = len(content.present) - 1
    vectors = np.zeros((items + 1, params.fuse.dim), np.float32)
    if recipe == "random":
        drawn = np.random.default_rng(params.align.seed).normal(size=(items, params.fuse.dim))
        vectors[1:] = drawn / params.fuse.dim**0.5  # of length 1, as the others are
    if recipe in ("zeros", "random"):
        return vectors
    aligned = np.zeros((items + 1, 0), np.float32)
    if recipe in ("align", "both"):
        section = params.align
        seen = behaviour(Split.load("train"), items, section)
        aligned, _ = align(content, seen, section)
    return fuse(content, aligned, params.fuse.model_copy(update={"recipe": recipe}))[0]


def opened(section: str, mixed_precision: Any) -> Accelerator:
    """A new accelerator, as in a process of its own."""
    AcceleratorState._reset_state(reset_partial_state=True)
    return open_accelerator(section, mixed_precision)
