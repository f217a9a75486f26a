"""Training in several processes, and the command that starts them."""

from pathlib import Path

import pandas as pd
import pytest

from ctr import predict, train
from ctr.evaluation.metrics import auc
from pipeline.common import paths
from pipeline.common.files import read_json
from pipeline.tables.split import Split
from tests.support.references import fit_float64
from tests.support.worlds.tiny_world import (
    BIN,
    NEARLY_TIED,
    keep_rows,
    read_curve,
    rescored,
    run_command,
    tiny_params,
    write_params,
    write_world,
)

pytestmark = pytest.mark.usefixtures("cpu", "world")


def test_the_launch_command_scores_every_row_once_and_prints_a_line_an_epoch() -> None:
    """151 rows do not halve: the two processes score 76 and 75, in batches of 26."""
    write_world(valid_rows=151)
    params = tiny_params(epochs=3, batch_size=26)
    write_params(params)
    flags = "--num_machines 1 --mixed_precision no --dynamo_backend no --num_processes 2"
    command = [str(BIN / "accelerate"), "launch", *flags.split(), "--multi_gpu"]
    output = run_command([*command, str(Path(train.__file__))])
    assert "were not passed" not in output  # the launcher warns of every flag it has to guess
    metrics, found = read_json(paths.MAIN.metrics), rescored(batch_size=151)
    assert found["auc"] == pytest.approx(metrics["auc"], abs=NEARLY_TIED)
    assert found["logloss"] == pytest.approx(metrics["logloss"], rel=1e-5)
    assert read_curve()["train_loss"].between(0.1, 1.0).all()

    lines = [line for line in output.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in lines] == ["1", "2", "3"]  # of the main process alone
    assert f"valid AUC {metrics['auc']:.4f}" in lines[metrics["best_epoch"] - 1]
    assert lines[metrics["best_epoch"] - 1].endswith("*")

    predict.main(params.predict)
    predictions = pd.read_parquet(paths.logits_path("main", "valid"))
    label = Split.load("valid").label
    found_auc = auc(label, predictions["logit"].to_numpy())
    assert found_auc == pytest.approx(metrics["auc"], abs=NEARLY_TIED)


def test_several_processes_learn_as_one_does(tmp_path: Path) -> None:
    """In float64, dropout and a last batch of 11 rows included: equal but for rounding."""
    write_params(tiny_params(epochs=3, batch_size=160, dropout=0.3))
    keep_rows("train", 320 + 11)
    alone, together = tmp_path / "alone.safetensors", tmp_path / "together.safetensors"
    fit_float64.fit(alone)
    fit_float64.fit_together(4, together)
    fit_float64.assert_equal_but_for_rounding(alone, together, epochs=3)
