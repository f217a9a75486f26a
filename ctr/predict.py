"""Stage `predict`: click probabilities for every row of valid and test."""

import logging

import numpy as np
import pandas as pd
from safetensors.torch import load_file
from torch import Tensor

from ctr.data import ClickLog, load_items
from ctr.machine import open_accelerator, prepare_cpu
from ctr.qin import QIN, QINConfig
from ctr.scoring import score
from pipeline import schema
from pipeline.params import Params, Train
from pipeline.schema import InputError, Outputs
from pipeline.stage import run

log = logging.getLogger(__name__)

SPLITS = ("valid", "test")


def main(params: Params) -> None:
    prepare_cpu()
    accelerator = open_accelerator("predict", params.predict.mixed_precision)
    model, settings = load_model()
    model.to(accelerator.device)
    items = load_items(settings.features, accelerator.device)
    logs = [
        ClickLog.load(split, settings.history, settings.features, accelerator.device)
        for split in SPLITS
    ]
    scored = score(model, logs, items, params.predict.batch_size, accelerator)
    with Outputs() as outputs:
        for split, logits in zip(SPLITS, scored, strict=True):
            predictions = table(split, logits)
            predictions.to_parquet(outputs.path(schema.predictions_path(split)), index=False)
            mean = predictions["probability"].mean()
            log.info("%s: %d rows, mean probability %.4f", split, len(predictions), mean)


def table(split: str, logits: Tensor) -> pd.DataFrame:
    """ID and probability of every row. Raises InputError for a logit that is not finite."""
    if not logits.isfinite().all():
        row = int((~logits.isfinite()).nonzero()[0])
        raise InputError(
            f"{schema.MODEL}: the score of {split} row {row} is not finite; "
            "train again, or set predict.mixed_precision to no"
        )
    probability = logits.double().sigmoid().numpy()
    return pd.DataFrame({"ID": row_ids(split, len(logits)), "probability": probability})


def load_model() -> tuple[QIN, Train]:
    """The trained model, and the settings it was trained with."""
    content = schema.read_json(schema.MODEL_CONFIG)
    model = QIN(QINConfig(**content["qin"]))
    model.load_state_dict(load_file(schema.MODEL))
    return model, Train.model_validate(content["train"])


def row_ids(split: str, rows: int) -> np.ndarray:
    """int64 (n,): test's own IDs, else the row numbers."""
    return np.array(schema.read_array(schema.TEST_ID)) if split == "test" else np.arange(rows)


if __name__ == "__main__":
    run("predict", main)
