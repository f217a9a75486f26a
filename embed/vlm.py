"""Stage `embed_vlm`: every item's title and cover together to one vector, if it is asked for.

Writes embeddings/vlm/vectors.npy (N + 1, d) float32, not normalised, and present.npy (N + 1,) bool.
An item without a readable cover is read by its title alone; one that has no title either has a row
of zeros and is not present. With library `none`, and if no item is present, d is 0.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from accelerate import PartialState

from embed.covers.batches import CoverFile
from embed.covers.decode import name_unreadable
from embed.encoders.vision_language import ItemShards, cut_batches, load_vision_language
from embed.extraction.batches import Batch, read_ahead, spans
from embed.extraction.extract import Embedded, extracted, tell_start
from embed.extraction.shards import text_sha256
from pipeline.common.files import Outputs
from pipeline.common.launch import arithmetic, gpu_or_cpu, open_processes
from pipeline.common.paths import COVERS, ITEMS, VLM, VLM_PRESENT, metrics_path
from pipeline.common.scratch import file_sha256
from pipeline.common.stage import made, run
from pipeline.settings.embed.vlm import EmbedVlm


def main(section: EmbedVlm) -> None:
    state = open_processes("embed_vlm", section.launch)
    table = pq.read_table(ITEMS, columns=["item_id", "title"])
    item_ids, titles = table["item_id"].to_numpy(), table["title"].to_pylist()
    if section.library != "none":
        embed_items(item_ids, titles, section, state)
    elif state.is_main_process:
        rows = len(item_ids)
        nothing = Embedded(np.zeros((rows, 0), np.float32), np.zeros(rows, bool))
        write(nothing, item_ids, {"encoder": "none"})


def embed_items(
    item_ids: np.ndarray, titles: list[str], section: EmbedVlm, state: PartialState
) -> None:
    """Encode every item that has a title or a cover, and write the vectors."""
    device = gpu_or_cpu(state)
    tell_start("embed_vlm", device, section.mixed_precision, state)
    prompts, encoder = load_vision_language(section, device)
    file = CoverFile(COVERS)
    items = readable(titles, file.items())
    runs = spans(len(items), section.shard_size)

    def read(numbers: list[int]) -> Iterator[Batch]:
        cut = cut_batches(runs, numbers, section.batch_size)
        dataset = ItemShards(items, titles, file, cut, prompts)
        return read_ahead(dataset, len(dataset), section.workers, device)

    identity = {
        "titles": text_sha256(titles),
        "covers": file_sha256(COVERS),
        "settings": section.model_dump(exclude={"launch", "workers"}),
        **arithmetic(device),
    }
    with extracted("embed_vlm", identity, read, encoder, runs, len(item_ids), state) as embedded:
        if embedded is not None:
            write(embedded, item_ids, encoder.provenance)


def readable(titles: list[str], covered: np.ndarray) -> np.ndarray:
    """Dense ids of items that have a title, or a cover that may be readable, ascending."""
    has = np.array([bool(title.strip()) for title in titles])
    has[covered] = True
    return np.flatnonzero(has)


def write(embedded: Embedded, item_ids: np.ndarray, provenance: dict[str, Any]) -> None:
    items = len(item_ids) - 1
    metrics = {
        "items": items,
        "absent": items - int(embedded.present.sum()),
        "dim": embedded.vectors.shape[1],
        **name_unreadable(embedded.unreadable, item_ids),
    }
    with Outputs() as outputs:
        outputs.array(VLM, embedded.vectors, **provenance)
        outputs.array(VLM_PRESENT, embedded.present, **provenance)
        outputs.json(metrics_path("embed_vlm"), metrics)
    made("{items:,} items, {absent:,} absent, dim {dim}".format_map(metrics))


if __name__ == "__main__":
    run("embed_vlm", main, launched=True)
