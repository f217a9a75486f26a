"""A ranking model trained as stage `train` does it, and its scores of valid."""

import time
from typing import Any

import numpy as np
from accelerate.utils import set_seed

from benchmarks.support.accelerator import opened
from ctr import train
from ctr.boosting.library import library
from ctr.boosting.rows import load_data, read_rows
from ctr.boosting.training import grow
from ctr.engine.loop import fit
from ctr.engine.machine import seed_dropout
from ctr.engine.scoring import score
from ctr.models.architecture import build_model, model_config
from ctr.models.base import ItemTable
from pipeline.settings.ctr.train import Train


def trained(settings: Train) -> tuple[np.ndarray, dict[str, Any]]:
    """The best epoch's logits for valid, float64 (n,), which epoch it was, and seconds."""
    started = time.perf_counter()
    logits, epoch = (trees if settings.model == "lightgbm" else network)(settings)
    return logits, {"epoch": epoch, "seconds": time.perf_counter() - started}


def network(settings: Train, items: ItemTable | None = None) -> tuple[np.ndarray, int]:
    """Reads `items`, or those of the working directory."""
    accelerator = opened("train", settings.mixed_precision)
    set_seed(settings.seed)
    data = train.load_data(settings, accelerator, items)
    model = build_model(model_config(settings, data.items, len(data.train.columns)), settings)
    seed_dropout(settings.seed, accelerator)
    result = fit(model, data, settings, accelerator)
    model.load_state_dict(result.weights)
    (logits,) = score(model, [data.valid], data.items, settings.batch_size, accelerator)
    return logits.double().numpy(), result.best_epoch


def trees(settings: Train) -> tuple[np.ndarray, int]:
    lightgbm = library("train")
    grown = grow(lightgbm, load_data(settings), settings)
    booster = lightgbm.Booster(model_str=grown.text)
    rows = read_rows("valid", settings.features)
    return np.asarray(booster.predict(rows, raw_score=True)), grown.best_epoch
