"""A tiny run that has finished, as the stages before `report` leave it on disk."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from ctr import blend, evaluate, predict, train
from pipeline.common import paths
from pipeline.common.files import read_json, write_array, write_json
from pipeline.settings.params import Params
from tests.support.worlds.tiny_world import (
    ITEMS,
    VECTOR_FILES,
    forget_accelerator,
    run_main,
    tiny_params,
    write_params,
    write_world,
)

NASTY = "</span><script>alert('x')</script> & \"quoted\" <b>"
RIGHT_TO_LEFT = "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627"
TITLES = ["", NASTY, RIGHT_TO_LEFT, "", "\U0001f600 " + "long " * 80]
"""Of the first items; the others have plain ones."""
UNCOVERED, DAMAGED, UNREAD = 3, 4, 5
"""Items without a cover, with half of one, and with one that `ingest` did not read."""

BY_BIN = {"auc": [0.7, None], "rows": [140, 10]}
UNTITLED = (1, 4)
"""Items whose titles the encoder has no vector of."""
ENCODERS = ("open_clip tiny", "timm tiny", "none")
"""Of titles, of covers, of both together."""
PLOTS = {
    "valid/scores": {
        "probability": [0.25, 0.75] * 2,
        "share": [0.8, 0.2, 0.3, 0.7],
        "label": ["not clicked"] * 2 + ["clicked"] * 2,
    },
    "valid/auc_by_history": {"items": ["0", "1-4"], **BY_BIN},
    "valid/auc_by_popularity": {"rows_in_train": ["0", "1-9"], **BY_BIN},
    "fuse/explained_variance": {"components": [1, 2, 3], "explained": [0.5, 0.75, 1.0]},
}
METRICS = {
    "embeddings": {
        "recall_50": 0.25,
        "recall_50_cold": None,
        "recall_50_chance": 0.125,
        "recall_rows": 9,
        "separation": 0.75,
        "effective_rank": 3.5,
        "near_duplicates": 0.0,
        "without_vector": 0,
    },
    "task1": {
        "auc": 0.8125,
        "logloss": 0.5625,
        "auc_warm_items": 0.875,
        "auc_cold_items": None,
    },
}


def report_params() -> Params:
    """The report's settings, made small enough for 40 items, and one model."""
    params = tiny_params()
    small = {"tile": 24, "thumbnail": 48, "sheet_items": 40, "sheet_neighbors": 2}
    models = {paths.MAIN_MODEL: params.models[paths.MAIN_MODEL]}
    report = params.report.model_copy(update=small)
    return params.model_copy(update={"report": report, "models": models})


def write_run() -> None:
    """Into the working directory, by the stages where that takes no more than seconds."""
    write_world()
    write_params(report_params())
    write_items()
    for stage in (train, predict, blend, evaluate):
        forget_accelerator()
        run_main(stage, report_params())
    forget_accelerator()
    for name, columns in PLOTS.items():
        path = Path(f"plots/{name}.csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(columns).to_csv(path, index=False)
    for name, values in METRICS.items():
        write_json(paths.metrics_path(name), values)
    write_encoders()


def write_encoders() -> None:
    """Vectors of titles, which two items have not, and of covers; no vision-language model."""
    rng = np.random.default_rng(7)
    for files, name in zip(VECTOR_FILES, ENCODERS, strict=True):
        vectors = rng.normal(size=(ITEMS + 1, 0 if name == "none" else 5)).astype(np.float32)
        vectors[[0, *UNTITLED] if files.vectors == paths.TEXT else [0]] = 0
        write_array(files.vectors, vectors, encoder=name)
        write_array(files.present, np.arange(ITEMS + 1) > 0)


def write_models(aucs: Mapping[str, float], chosen: str, kind: str = "qin") -> None:
    """Ranking models of `kind` beside main, as far as the page reads of them, and their blend."""
    found = read_json(paths.BLEND_METRICS)
    gain = {"held_out_gain": 0.0125, "held_out_gain_se": 0.25}
    write_json(paths.BLEND_METRICS, found | gain | {"model_auc": aucs, "chosen": chosen})
    for name in set(aucs) - {paths.MAIN_MODEL}:
        files = paths.model_files(name)
        write_json(files.config, {"model": kind})
        write_json(files.metrics, {"logloss": 1 - aucs[name]})


def write_items() -> None:
    titles = [*TITLES, *(f"thing number {item}" for item in range(len(TITLES), ITEMS + 1))]
    ids = [0, *(7 * item + 1 for item in range(1, ITEMS + 1))]
    pq.write_table(pa.table({"item_id": ids, "title": titles}), paths.ITEMS)
    covers: dict[int, bytes | None] = {item: cover(item) for item in range(1, ITEMS + 1)}
    covers[DAMAGED], covers[UNREAD] = cover(DAMAGED)[:80], None
    del covers[UNCOVERED]
    columns = {
        "item": pa.array(list(covers), pa.int32()),
        "image": pa.array(list(covers.values()), pa.binary()),
    }
    pq.write_table(pa.table(columns), paths.COVERS, row_group_size=9)


def cover(item: int) -> bytes:
    """PNG, 60 x 40: blocks of colours of the item's own."""
    blocks = np.random.default_rng(item).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(blocks.repeat(10, 0).repeat(10, 1)).save(buffer, "PNG")
    return buffer.getvalue()
