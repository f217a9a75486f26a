"""Stage `embed_text`: every item's title to a vector, by each of `text_encoders`.

Writes embeddings/text/<name>/vectors.npy (N + 1, d) float32, not normalised, and present.npy
(N + 1,) bool. An item without a title has a row of zeros and is not present; if no item has one, d
is 0.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from accelerate import PartialState

from embed.encoders.text.titles import TitleShards, load_text_encoder, refuse_long_prompt
from embed.extraction.batches import Batch, read_ahead, spans
from embed.extraction.encoder import named_by
from embed.extraction.extract import extracted, tell_start
from embed.extraction.shards import text_sha256
from embed.vectors.given import given_vectors
from pipeline.common.files import Outputs
from pipeline.common.launch import arithmetic, gpu_or_cpu, open_processes
from pipeline.common.paths import GIVEN_TEXT, ITEMS, MAIN_MODEL, encoder_files, metrics_path
from pipeline.common.stage import made, run_for_model, stage_of
from pipeline.settings.embed.text import EmbedText


def main(section: EmbedText, name: str = MAIN_MODEL) -> None:
    """`name` is the encoder's."""
    state = open_processes("embed_text", section.launch)
    titles = pq.read_table(ITEMS, columns=["title"])["title"].to_pylist()
    if section.library != "given":
        embed_titles(titles, section, name, state)
    elif state.is_main_process:
        vectors, present = given_vectors(GIVEN_TEXT, "embed_text.library")
        write(name, vectors, present, {"encoder": "given"})


def embed_titles(titles: list[str], section: EmbedText, name: str, state: PartialState) -> None:
    """Encode the distinct titles, and write each item's vector."""
    device = gpu_or_cpu(state)
    tell_start("embed_text", device, section.mixed_precision, state)
    with named_by("text", name):
        loaded = load_text_encoder(section, device)
        if section.prompt:
            refuse_long_prompt(section, loaded.tokenize)
    texts, index = distinct(titles)
    runs = spans(len(texts), section.shard_size)

    def read(numbers: list[int]) -> Iterator[Batch]:
        dataset = TitleShards(texts, runs, numbers, loaded.tokenize, section.batch_size)
        return read_ahead(dataset, len(numbers), section.workers, device)

    identity = {
        "titles": text_sha256(texts),
        "settings": section.model_dump(exclude={"launch", "workers"}),
        **arithmetic(device),
    }
    stage = stage_of("embed_text", name)
    with extracted(stage, identity, read, loaded.encoder, runs, len(texts), state) as embedded:
        if embedded is not None:
            vectors = np.zeros((len(titles), embedded.vectors.shape[1]), np.float32)
            vectors[index >= 0] = embedded.vectors[index[index >= 0]]
            write(name, vectors, index >= 0, loaded.encoder.provenance)


def write(name: str, vectors: np.ndarray, present: np.ndarray, provenance: dict[str, Any]) -> None:
    files = encoder_files("text", name)
    items = len(vectors) - 1
    metrics = {"items": items, "empty": items - int(present.sum()), "dim": vectors.shape[1]}
    with Outputs() as outputs:
        outputs.array(files.vectors, vectors, **provenance)
        outputs.array(files.present, present, **provenance)
        outputs.json(metrics_path(f"embed_text/{name}"), metrics)
    made("{items:,} items, {empty:,} without a title's vector, dim {dim}".format_map(metrics))


def distinct(titles: list[str]) -> tuple[list[str], np.ndarray]:
    """The distinct titles in order of appearance, and each item's place among them, -1 if empty."""
    places: dict[str, int] = {}
    index = [places.setdefault(title, len(places)) if title.strip() else -1 for title in titles]
    return list(places), np.array(index)


if __name__ == "__main__":
    run_for_model("embed_text", main, launched=True)
