import math
from pathlib import Path

import pytest
import torch

from benchmarks.support import training
from benchmarks.support.training_world import write_world
from ctr.models.qin import QINConfig
from pipeline.settings.params import load_params

SETTINGS = load_params(training.RECIPE).train


@pytest.mark.usefixtures("cpu")
def test_figures_of_a_small_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_world(items=50, tags=9, train_rows=300, valid_rows=20, history=6)
    changes = {"batch_size": 50, "history": 6, "embedding_dim": 8, "mixed_precision": "no"}
    found = training.measure(SETTINGS.model_copy(update=changes), steps=4, scored_batches=2)
    assert set(found["seconds"]) == {"data", "forward", "backward", "optimizer"}
    assert min(found["seconds"].values()) > 0
    share = found["seconds"]["data"] / sum(found["seconds"].values())
    assert found["loader_share"] == pytest.approx(share)
    assert found["samples_per_s"] > 0
    assert found["predicted_per_s"] > 0
    assert 1e8 < found["peak_bytes"]["host"] < 4e9
    assert found["peak_bytes"]["device"] == 0
    assert 0 < found["flops_per_s"] < found["matmul_flops_per_s"]
    assert len(found["losses"]) == 3
    assert found["losses"][-1] < math.log(2)  # it learned something


def test_flops_are_those_of_the_published_arithmetic() -> None:
    with torch.device("meta"):
        config = QINConfig(items=91_717, tags=11_740)
    layer = 2 * 1024 * 4096
    folded = 2 * 384 * 384 * 2 + 2 * 2 * 64 * 384
    assert training.flops_a_sample(config, history=64) == 3 * (4 * layer + folded)
