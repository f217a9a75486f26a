"""The commands that start training, in processes of their own."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from ctr import predict, train
from ctr.metrics import auc
from pipeline import schema
from tests.ctr.tiny_world import (
    BIN,
    read_curve,
    rescored,
    run_command,
    tiny_params,
    write_params,
    write_world,
)

CURVE = ("train_loss", "auc", "gauc", "logloss", "learning_rate")

pytestmark = pytest.mark.usefixtures("cpu", "world")


def test_two_processes_score_every_row_once() -> None:
    """151 rows divide by neither: the processes score 76 and 75, in batches of 26."""
    write_world(valid_rows=151)
    params = tiny_params(epochs=2, batch_size=26)
    write_params(params)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    output = run_command([str(BIN / "python"), *launcher, "-m", "ctr.train"])
    assert len(epoch_lines(output)) == 2, output  # of the main process alone
    metrics, found = schema.read_json(schema.metrics_path("train")), rescored(batch_size=151)
    assert found["auc"] == metrics["auc"]
    assert found["logloss"] == pytest.approx(metrics["logloss"], rel=1e-5)
    assert read_curve()["train_loss"].between(0.1, 1.0).all()
    predict.main(params)
    predictions = pd.read_parquet(schema.predictions_path("valid"))
    label = schema.Split.load("valid").label
    assert auc(label, predictions["probability"].to_numpy()) == metrics["auc"]


@pytest.mark.parametrize("processes", [2, 4])
def test_several_processes_learn_as_one_does(processes: int, tmp_path: Path) -> None:
    """In float64, dropout and a last batch of 11 rows included: equal but for rounding."""
    write_params(tiny_params(epochs=3, batch_size=40 * processes, dropout=0.3))
    rows = schema.Split.load("train").rows[: 80 * processes + 11]
    schema.write_array(schema.split_path("train"), rows.copy())
    found = {}
    for count in (1, processes):
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)]
        result = tmp_path / f"{count}.safetensors"
        run_command([str(BIN / "python"), *launcher, "-m", "tests.ctr.fit_float64", str(result)])
        found[count] = load_file(result)
    assert set(found[1]) == set(found[processes])
    assert len(found[1]["train_loss"]) == 3
    assert (np.abs(np.diff(found[1]["train_loss"])) > 1e-3).all()
    for name, expected in found[1].items():
        # The weights are Adam's, which divides gradients by their size: small ones by little.
        tolerance = 1e-10 if name in CURVE else 1e-6
        np.testing.assert_allclose(found[processes][name], expected, 0, tolerance, err_msg=name)


def epoch_lines(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("epoch ")]


def test_the_launch_command_prints_a_line_an_epoch() -> None:
    write_params(tiny_params(epochs=3))
    flags = "--num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no"
    script = Path(train.__file__)
    output = run_command([str(BIN / "accelerate"), "launch", *flags.split(), str(script)])
    lines = epoch_lines(output)
    assert [line.split()[1] for line in lines] == ["1", "2", "3"]
    best = schema.read_json(schema.metrics_path("train"))
    assert f"valid AUC {best['auc']:.4f}" in lines[best["best_epoch"] - 1]
    assert lines[best["best_epoch"] - 1].endswith("*")
    assert "were not passed" not in output  # the launcher warns of every flag it has to guess
