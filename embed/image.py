"""Stage `embed_image`: every item's cover to a vector, by each of `image_encoders`.

Writes embeddings/image/<name>/vectors.npy (N + 1, d) float32, not normalised, and present.npy
(N + 1,) bool. An item whose cover is missing or unreadable has a row of zeros and is not present;
if no cover is readable, d is 0.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from accelerate import PartialState

from embed.covers.batches import CoverFile
from embed.covers.decode import name_unreadable
from embed.covers.shards import CoverShards
from embed.encoders.image.pictures import load_image_encoder
from embed.extraction.batches import Batch, read_ahead, spans
from embed.extraction.encoder import named_by
from embed.extraction.extract import Embedded, extracted, tell_start
from embed.vectors.given import given_vectors
from pipeline.common.files import Outputs
from pipeline.common.launch import arithmetic, gpu_or_cpu, open_processes
from pipeline.common.paths import (
    COVERS,
    GIVEN_IMAGE,
    ITEMS,
    MAIN_MODEL,
    encoder_files,
    metrics_path,
)
from pipeline.common.scratch import file_sha256
from pipeline.common.stage import made, run_for_model, stage_of
from pipeline.settings.embed.image import EmbedImage


def main(section: EmbedImage, name: str = MAIN_MODEL) -> None:
    """`name` is the encoder's."""
    state = open_processes("embed_image", section.launch)
    item_ids = pq.read_table(ITEMS, columns=["item_id"])["item_id"].to_numpy()
    if section.library != "given":
        embed_covers(item_ids, section, name, state)
    elif state.is_main_process:
        embedded = Embedded(*given_vectors(GIVEN_IMAGE, "embed_image.library"))
        write(name, embedded, item_ids, int(embedded.present.sum()), {"encoder": "given"})


def embed_covers(item_ids: np.ndarray, section: EmbedImage, name: str, state: PartialState) -> None:
    """Encode every cover, and write each item's vector."""
    device = gpu_or_cpu(state)
    tell_start("embed_image", device, section.mixed_precision, state)
    with named_by("image", name):
        loaded = load_image_encoder(section, device)
    file = CoverFile(COVERS)
    runs = spans(len(file), section.shard_size)

    def read(numbers: list[int]) -> Iterator[Batch]:
        dataset = CoverShards(file, runs, numbers, section.batch_size, loaded.to_pixels)
        return read_ahead(dataset, len(dataset), section.workers, device)

    identity = {
        "covers": file_sha256(COVERS),
        "settings": section.model_dump(exclude={"launch", "workers"}),
        **arithmetic(device),
    }
    stage = stage_of("embed_image", name)
    with extracted(stage, identity, read, loaded.encoder, runs, len(item_ids), state) as embedded:
        if embedded is not None:
            write(name, embedded, item_ids, len(file), loaded.encoder.provenance)


def write(
    name: str, embedded: Embedded, item_ids: np.ndarray, covers: int, provenance: dict[str, Any]
) -> None:
    files = encoder_files("image", name)
    with Outputs() as outputs:
        outputs.array(files.vectors, embedded.vectors, **provenance)
        outputs.array(files.present, embedded.present, **provenance)
        outputs.json(metrics_path(f"embed_image/{name}"), report(embedded, item_ids, covers))


def report(embedded: Embedded, item_ids: np.ndarray, covers: int) -> dict[str, Any]:
    """The stage's metrics, and its closing log lines."""
    items = len(item_ids) - 1
    metrics = {
        "items": items,
        "covers": covers,
        "missing": items - covers,
        "dim": embedded.vectors.shape[1],
        **name_unreadable(embedded.unreadable, item_ids),
    }
    made("{items:,} items, {missing:,} without a cover, dim {dim}".format_map(metrics))
    return metrics


if __name__ == "__main__":
    run_for_model("embed_image", main, launched=True)
