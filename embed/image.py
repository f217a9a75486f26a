"""Stage `embed_image`: every item's cover to a vector.

Writes embeddings/image.npy (N + 1, d) float32, not normalised, and image_present.npy (N + 1,) bool.
An item whose cover is missing or unreadable has a row of zeros and is not present; if no cover is
readable, d is 0.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from embed.cover_batches import CoverBatch, read_covers
from embed.encoders import OpenClip, ResizeToPixels, check_finite, load_open_clip, weights_sha256
from embed.given import given_vectors
from pipeline.params import EmbedImage, Params
from pipeline.schema import (
    COVERS,
    GIVEN_IMAGE,
    IMAGE,
    IMAGE_PRESENT,
    ITEMS,
    Outputs,
    metrics_path,
    versions,
)
from pipeline.stage import run

SHOWN = 20
"""Unreadable covers that are named in the metrics and the log."""

log = logging.getLogger(__name__)


@dataclass
class Embedded:
    """All covers' vectors, filled batch by batch."""

    vectors: np.ndarray
    """(N + 1, d) float32."""
    present: np.ndarray
    """(N + 1,) bool."""
    unreadable: list[tuple[int, str]] = field(default_factory=list)
    """(dense item id, reason)."""


def main(params: Params) -> None:
    section = params.embed_image
    item_ids = pq.read_table(ITEMS, columns=["item_id"])["item_id"].to_numpy()
    if section.library == "given":
        embedded = Embedded(*given_vectors(GIVEN_IMAGE, "embed_image.library"))
        provenance: dict[str, Any] = {"encoder": "given"}
        covers = int(embedded.present.sum())
    else:
        embedded, provenance = embed_covers(section, len(item_ids))
        covers = pq.read_metadata(COVERS).num_rows
    with Outputs() as outputs:
        outputs.array(IMAGE, embedded.vectors, **provenance)
        outputs.array(IMAGE_PRESENT, embedded.present, **provenance)
        outputs.json(metrics_path("embed_image"), report(embedded, item_ids, covers))


def embed_covers(section: EmbedImage, rows: int) -> tuple[Embedded, dict[str, Any]]:
    """The covers of `rows` items, and the encoder's provenance."""
    clip = load_open_clip("embed_image", section.model, section.pretrained)
    to_pixels = ResizeToPixels(clip.preprocess)
    batches = read_covers(COVERS, section.batch_size, to_pixels, section.workers)
    provenance = {
        "encoder": f"open_clip {section.model}",
        "pretrained": section.pretrained,
        "weights_sha256": weights_sha256(clip.model),
        "mixed_precision": section.mixed_precision if clip.device.type == "cuda" else "no",
        "versions": versions("open_clip_torch", "pillow", "torch", "torchvision"),
    }
    return collect(encode(batches, clip, section), rows), provenance


def encode(
    batches: Iterable[CoverBatch], clip: OpenClip, section: EmbedImage
) -> Iterator[tuple[CoverBatch, np.ndarray]]:
    """Each batch with the vectors of its readable covers, float32 (B, d)."""
    for batch in batches:
        if len(batch.items) == 0:
            yield batch, np.empty((0, 0), np.float32)
            continue
        vectors = clip.encode_image(batch.pixels, section.mixed_precision)
        check_finite(vectors, "embed_image", section.model)
        yield batch, vectors


def collect(encoded: Iterable[tuple[CoverBatch, np.ndarray]], rows: int) -> Embedded:
    """All batches as one array of `rows` rows; which batch comes first does not matter."""
    embedded = Embedded(np.zeros((rows, 0), np.float32), np.zeros(rows, bool))
    for batch, vectors in encoded:
        embedded.unreadable += batch.unreadable
        if len(batch.items) == 0:
            continue
        if embedded.vectors.shape[1] == 0:
            embedded.vectors = np.zeros((rows, vectors.shape[1]), np.float32)
        embedded.vectors[batch.items] = vectors
        embedded.present[batch.items] = True
    embedded.unreadable.sort()
    return embedded


def report(embedded: Embedded, item_ids: np.ndarray, covers: int) -> dict[str, Any]:
    """The stage's metrics and closing log lines; items are named by the source's ids."""
    unreadable = [(int(item_ids[item]), reason) for item, reason in embedded.unreadable]
    items = len(item_ids) - 1
    metrics = {
        "items": items,
        "covers": covers,
        "missing": items - covers,
        "unreadable": len(unreadable),
        "unreadable_items": [item_id for item_id, _ in unreadable[:SHOWN]],
        "dim": embedded.vectors.shape[1],
    }
    log.info("%(items)d items, %(missing)d without a cover, dim %(dim)d", metrics)
    if unreadable:
        shown = "; ".join(f"item {item_id}: {reason}" for item_id, reason in unreadable[:SHOWN])
        log.warning("%d covers are unreadable and embedded as absent: %s", len(unreadable), shown)
    return metrics


if __name__ == "__main__":
    run(main)
