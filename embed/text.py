"""Stage `embed_text`: every item's title to a vector.

Writes embeddings/text.npy (N + 1, d) float32, not normalised, and text_present.npy (N + 1,) bool.
An item without a title has a row of zeros and is not present; if no item has one, d is 0.
"""

import logging
import time
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from embed.given import given_vectors
from embed.text_encoders import load_text_encoder
from pipeline.params import EmbedText, Params
from pipeline.schema import (
    GIVEN_TEXT,
    ITEMS,
    TEXT,
    TEXT_PRESENT,
    Outputs,
    metrics_path,
)
from pipeline.stage import run

log = logging.getLogger(__name__)


def main(params: Params) -> None:
    section = params.embed_text
    titles = pq.read_table(ITEMS, columns=["title"])["title"].to_pylist()
    if section.library == "given":
        vectors, present = given_vectors(GIVEN_TEXT, "embed_text.library")
        provenance: dict[str, Any] = {"encoder": "given"}
    else:
        vectors, present, provenance = embed_titles(titles, section)
    items = len(titles) - 1
    metrics = {"items": items, "empty": items - int(present.sum()), "dim": vectors.shape[1]}
    with Outputs() as outputs:
        outputs.array(TEXT, vectors, **provenance)
        outputs.array(TEXT_PRESENT, present, **provenance)
        outputs.json(metrics_path("embed_text"), metrics)
    log.info("%(items)d items, %(empty)d without a title's vector, dim %(dim)d", metrics)


def embed_titles(
    titles: list[str], section: EmbedText
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Vectors (N + 1, d), present rows (N + 1,), and the encoder's provenance."""
    encoder = load_text_encoder(section)
    texts, index = distinct(titles)
    present = index >= 0
    if not texts:
        return np.zeros((len(titles), 0), np.float32), present, encoder.provenance
    start = time.perf_counter()
    encoded = encoder.encode(texts)
    log.info("%d distinct titles, %.0f a second", len(texts), _rate(len(texts), start))
    vectors = np.zeros((len(titles), encoded.shape[1]), np.float32)
    vectors[present] = encoded[index[present]]
    return vectors, present, encoder.provenance


def distinct(titles: list[str]) -> tuple[list[str], np.ndarray]:
    """The distinct titles in order of appearance, and each item's place among them, -1 if empty."""
    places: dict[str, int] = {}
    index = [places.setdefault(title, len(places)) if title.strip() else -1 for title in titles]
    return list(places), np.array(index)


def _rate(count: int, start: float) -> float:
    return count / max(time.perf_counter() - start, 1e-9)


if __name__ == "__main__":
    run(main)
