"""Stage `predict`: the model's logits for every row of valid and test.

Of the model `main`, or of the one that `--model NAME` names.
"""

import numpy as np
import pandas as pd
from accelerate import Accelerator
from torch import Tensor

from ctr.boosting import model as trees
from ctr.engine.data import ClickLog, load_items
from ctr.engine.machine import machine
from ctr.engine.scoring import score
from ctr.models.architecture import is_neural, load_model
from pipeline.common import paths
from pipeline.common.files import InputError, Outputs, read_array
from pipeline.common.paths import MAIN_MODEL, ModelFiles, model_files, model_section
from pipeline.common.stage import made, run_for_model
from pipeline.settings.ctr.predict import Predict

SPLITS = ("valid", "test")


def main(section: Predict, model: str = MAIN_MODEL) -> None:
    files = model_files(model)
    if is_neural(files):
        trained = files.weights
        with machine("predict", section.mixed_precision) as accelerator:
            scored = scores(files, section.batch_size, accelerator)
    else:
        trained = files.trees
        scored = trees.scores(files, SPLITS, model_section(model))
    for split, logits in scored.items():
        refuse_what_is_not_finite(f"{trained}: the score of {split}", logits)
    with Outputs() as outputs:
        for split, logits in scored.items():
            path = outputs.path(paths.logits_path(model, split))
            table = pd.DataFrame({"ID": row_ids(split, len(logits)), "logit": logits.numpy()})
            table.to_parquet(path, index=False)
    rows = ", ".join(f"{len(logits):,} of {split}" for split, logits in scored.items())
    made(f"{trained} scored {rows}")


def scores(files: ModelFiles, batch_size: int, accelerator: Accelerator) -> dict[str, Tensor]:
    """Each split's logits, float32 (n,), on the host."""
    network, settings = load_model(files)
    network.to(accelerator.device)
    items = load_items(settings.features, accelerator.device)
    logs = [
        ClickLog.load(split, settings.history, settings.features, accelerator.device)
        for split in SPLITS
    ]
    scored = score(network, logs, items, batch_size, accelerator)
    return dict(zip(SPLITS, scored, strict=True))


def refuse_what_is_not_finite(scores: str, logits: Tensor) -> None:
    if not logits.isfinite().all():
        row = int((~logits.isfinite()).nonzero()[0])
        raise InputError(
            f"{scores} row {row} is not finite; train again, or set predict.mixed_precision to no"
        )


def row_ids(split: str, rows: int) -> np.ndarray:
    """int64 (n,): test's own IDs, else the row numbers."""
    return np.array(read_array(paths.TEST_ID)) if split == "test" else np.arange(rows)


if __name__ == "__main__":
    run_for_model("predict", main)
