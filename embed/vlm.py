"""Stage `embed_vlm`: every item's title and cover together to one vector, if it is asked for.

Writes embeddings/vlm/vectors.npy (N + 1, d) float32, not normalised, and present.npy (N + 1,) bool.
An item without a readable cover is read by its title alone; one that has no title either has a row
of zeros and is not present. With library `none`, and if no item is present, d is 0.
"""

from typing import Any

import numpy as np
import pyarrow.parquet as pq

from embed.covers.decode import name_unreadable
from pipeline.common.files import Outputs
from pipeline.common.launcher import is_first_process
from pipeline.common.paths import ITEMS, VLM, VLM_PRESENT, metrics_path
from pipeline.common.stage import made, run
from pipeline.settings.embed.vlm import EmbedVlm


def main(section: EmbedVlm) -> None:
    table = pq.read_table(ITEMS, columns=["item_id", "title"])
    item_ids, titles = table["item_id"].to_numpy(), table["title"].to_pylist()
    if section.library != "none":
        encode(item_ids, titles, section)
    elif is_first_process():
        rows = len(item_ids)
        nothing = np.zeros((rows, 0), np.float32), np.zeros(rows, bool)
        write(*nothing, name_unreadable([], item_ids), {"encoder": "none"})


def encode(item_ids: np.ndarray, titles: list[str], section: EmbedVlm) -> None:
    """Encode every item that has a title or a cover, and write the vectors."""
    # Late, since torch and transformers take as long to import as many a stage to run.
    from embed.encoders.titled_covers import embedded_items

    with embedded_items(titles, section) as found:
        if found is not None:
            embedded, provenance = found
            unreadable = name_unreadable(embedded.unreadable, item_ids)
            write(embedded.vectors, embedded.present, unreadable, provenance)


def write(
    vectors: np.ndarray,
    present: np.ndarray,
    unreadable: dict[str, Any],
    provenance: dict[str, Any],
) -> None:
    items = len(present) - 1
    metrics = {
        "items": items,
        "absent": items - int(present.sum()),
        "dim": vectors.shape[1],
        **unreadable,
    }
    with Outputs() as outputs:
        outputs.array(VLM, vectors, **provenance)
        outputs.array(VLM_PRESENT, present, **provenance)
        outputs.json(metrics_path("embed_vlm"), metrics)
    made("{items:,} items, {absent:,} absent, dim {dim}".format_map(metrics))


if __name__ == "__main__":
    run("embed_vlm", main, launched=True)
