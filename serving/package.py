"""Stage `package`: the model `main` with all that it takes to score, in one folder.

packages/main/ needs neither the data nor the other outputs of the pipeline: `serving/folder.py` has
the list of its files, `serving/scorer.py` scores with it. Its README.md is a model card as the
Hugging Face hub reads one.
"""

import shutil
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from ctr.covisitation import tallies
from ctr.models.trained_on import read_description, trained_file
from pipeline.common import paths
from pipeline.common.files import InputError, Outputs, read_array, read_json
from pipeline.common.paths import MAIN_MODEL, model_files, package_path
from pipeline.common.stage import made, run
from pipeline.tables.split import LEVEL_COLUMNS, Split
from serving import folder
from serving.card import card


def main() -> None:
    files, to = model_files(MAIN_MODEL), package_path(MAIN_MODEL)
    description = read_description(files)
    trained = trained_file(files, description["model"])
    numbers = read_json(paths.ROW_FEATURES)
    stats = read_json(paths.STATS)
    arrays = item_arrays()
    with Outputs() as outputs:
        shutil.copyfile(trained, outputs.path(to / trained.name))
        outputs.json(to / folder.CONFIG, description)
        outputs.json(to / folder.NUMBERS, numbers | {"history": stats["settings"]["history"]})
        if reads_numbers(description, numbers):
            for name in tqdm(tallies.FILES, "tallies", unit="file", leave=False, disable=None):
                copied = outputs.path(to / folder.TALLIES / name)
                shutil.copyfile(paths.TALLIES / name, copied)
        pq.write_table(items_table(len(arrays["tags"])), outputs.path(to / folder.ITEMS))
        outputs.tensors(to / folder.ITEM_ARRAYS, arrays)
        written = {str(path.relative_to(to)): partial for path, partial in outputs.partial.items()}
        outputs.path(to / folder.SUMS).write_text(folder.sums_of(written), encoding="utf-8")
        text = card(description, stats, read_json(files.metrics))
        outputs.path(to / folder.CARD).write_text(text, encoding="utf-8")
        for name in folder.OPTIONAL - written.keys():  # of an earlier model
            (to / name).unlink(missing_ok=True)
    size = sum(path.stat().st_size for path in to.rglob("*") if path.is_file())
    made(f"{to}, {description['model']} and {len(arrays['tags']) - 1:,} items, {size / 1e6:.1f} MB")


def reads_numbers(description: dict[str, Any], numbers: dict[str, Any]) -> bool:
    features = description["train"]["features"]
    return any(features[kind] for kind in numbers["kinds"])


def item_arrays() -> dict[str, np.ndarray]:
    """What is known of item i in row i: `ctr.models.base.items_read` takes them."""
    with np.load(paths.NEIGHBORS, allow_pickle=False) as file:
        neighbors, cosine = file["ids"], file["cosine"]
    return {
        "content": np.array(read_array(paths.ITEM)),
        "tags": np.array(read_array(paths.TAGS)),
        "neighbors": neighbors,
        "cosine": cosine,
    }


def items_table(rows: int) -> pa.Table:
    """Raw ids and titles, and the levels of an item's last row of all splits; 0 where none has it.

    Row 0 is padding.
    """
    items = pq.read_table(paths.ITEMS, columns=["item_id", "title"])
    if len(items) != rows:
        raise InputError(
            f"{paths.ITEMS}: has {len(items)} rows, {paths.TAGS} has {rows}; run `dvc repro`"
        )
    levels = {name: np.zeros(rows, np.int64) for name in LEVEL_COLUMNS}
    for split in paths.SPLITS:
        clicks = Split.load(split)
        for name, level in levels.items():
            level[clicks.target] = clicks.column(name)
    for name, level in levels.items():
        items = items.append_column(name, pa.array(level))
    return items


if __name__ == "__main__":
    run("package", main)
