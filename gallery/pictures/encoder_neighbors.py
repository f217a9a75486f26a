"""What each encoder alone finds near an item, beside what all of them together find."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embed.vectors.nearest import exact_search, unit_rows
from gallery.pictures.neighbor_sheet import Near, shares_in_common, told_of
from pipeline.common.files import InputError, read_array, read_json
from pipeline.common.paths import TAGS, VLM, VectorFiles, array_info

NEAREST = 4
"""Items that are shown of each encoder."""

READS = {"text": "title", "image": "cover"}
"""By the folder that an encoder's vectors lie in."""


@dataclass(frozen=True)
class Strip:
    """An item's nearest ones by one encoder, nearest first."""

    by: str
    """What it reads and its name, such as `title: main`."""
    encoder: str
    """Which one it is, such as `open_clip ViT-B-32`."""
    neighbors: list[Near]
    in_common: float | None
    """The mean share of the item's tags that they have too."""


def encoder_strips(
    encoders: Sequence[VectorFiles], items: Sequence[int], tags: np.ndarray
) -> dict[int, list[Strip]]:
    """Of each of `items` a strip an encoder that has a vector of it; `tags` is (N + 1, T)."""
    strips: dict[int, list[Strip]] = {item: [] for item in items}
    for files in encoders:
        ids, cosine = nearest(vectors_of(files, len(tags)), items)
        shares, names = shares_in_common(ids, tags), named(files)
        for item in np.intersect1d(items, np.flatnonzero(ids.any(axis=1))).tolist():
            strips[item].append(Strip(*names, *told_of(item, ids, cosine, shares)))
    return strips


def vectors_of(files: VectorFiles, rows: int) -> np.ndarray:
    """(N + 1, d), of which N + 1 are `rows`; d is 0 of an encoder that is switched off."""
    vectors = np.asarray(read_array(files.vectors))
    if len(vectors) != rows:
        raise InputError(
            f"{files.vectors}: has {len(vectors)} rows, {TAGS} has {rows}; run `dvc repro`"
        )
    return vectors


def named(files: VectorFiles) -> tuple[str, str]:
    """`by` and `encoder` of a `Strip`."""
    encoder, folder = read_json(array_info(files.vectors))["encoder"], files.vectors.parent
    if files.vectors == VLM:
        return "title and cover", encoder
    return f"{READS[folder.parent.name]}: {folder.name}", encoder


def nearest(vectors: np.ndarray, items: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Ids and cosines as stage `neighbors` has them, (N + 1, k); zeros but for `items`."""
    ids, cosine = np.zeros((len(vectors), NEAREST), np.int32), np.zeros((len(vectors), NEAREST))
    present, unit = unit_rows(vectors)
    rows = np.flatnonzero(np.isin(present, items))
    count = min(NEAREST, len(present) - 1)
    if count > 0 and len(rows):
        places, found = exact_search(unit, count).nearest(rows, count)
        ids[present[rows], :count] = np.where(places >= 0, present[places], 0)
        cosine[present[rows], :count] = np.where(places >= 0, found, 0)
    return ids, cosine
