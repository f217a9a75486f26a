import logging
import math
import re
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from ctr import train
from ctr.boosting.forest import leaves
from ctr.engine import loop
from ctr.engine.loop import Trained, refuse_few_rows
from ctr.engine.machine import refuse_uneven_batches
from ctr.models.architecture import qin_config
from ctr.models.qin import QIN
from pipeline.common import paths
from pipeline.common.files import InputError, read_array, read_json, write_array
from pipeline.settings.ctr.train import Train
from pipeline.tables.split import Split
from tests.support.worlds.tiny_world import (
    NEARLY_TIED,
    contents,
    forget_accelerator,
    read_curve,
    rescored,
    tiny_params,
)

pytestmark = pytest.mark.usefixtures("cpu", "world")

METRICS = paths.MAIN.metrics
OUTPUTS = [paths.MAIN.weights, paths.MAIN.config, paths.MAIN.curve, METRICS]
TREES = paths.model_files("trees")


def test_training_learns_and_keeps_the_best_epoch() -> None:
    params = tiny_params(epochs=40, patience=2)
    train.main(params.train)
    curve, metrics = read_curve(), read_json(METRICS)
    assert curve.columns.tolist() == [
        "epoch", "learning_rate", "train_loss", "auc", "gauc", "logloss",
    ]  # fmt: skip
    assert curve["epoch"].tolist() == list(range(1, len(curve) + 1))
    best = curve.iloc[int(curve["auc"].argmax())]
    assert best["auc"] > 0.8
    assert best["auc"] > curve["auc"][0] + 0.05
    assert curve["train_loss"].iloc[-1] < 0.9 * curve["train_loss"][0]
    assert metrics["best_epoch"] == best["epoch"] == len(curve) - 2  # patience, then the end
    assert metrics["epochs"] == len(curve) < 40
    for name in ("auc", "gauc", "logloss"):
        assert metrics[name] == best[name]
    found = rescored(params.train.batch_size)
    assert found["auc"] == pytest.approx(metrics["auc"], abs=NEARLY_TIED)
    assert found["logloss"] == pytest.approx(metrics["logloss"], rel=1e-5)


def test_the_model_is_saved_with_what_it_takes_to_use_it() -> None:
    params = tiny_params(epochs=1)
    train.main(params.train)
    content = read_json(paths.MAIN.config)
    assert Train.model_validate(content["train"]) == params.train
    assert content["model"] == "qin"
    assert content["config"]["items"] == 40
    assert content["config"]["neighbors"] is True
    weights = load_file(paths.MAIN.weights)
    learned = [
        value.numel()
        for name, value in weights.items()
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
    ]
    assert read_json(METRICS)["parameters"] == sum(learned)
    assert {value.dtype for value in weights.values()} == {torch.float32, torch.int64}


def test_it_tells_on_what_it_trains_and_what_an_epoch_takes(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.common.launch.unused_gpu", lambda: None)
    monkeypatch.setattr("pipeline.common.outlook.SECONDS", 0.0)
    with caplog.at_level(logging.INFO):
        train.main(tiny_params(epochs=3, batch_size=50, mixed_precision="bf16").train)
    told = [line for line in caplog.messages if not line.startswith("epoch ")]
    assert len(told) == 2
    assert re.fullmatch(r"train: on 1 thread of a CPU \(\w+\), bf16", told[0])
    expected = r"an epoch takes about \d+ s without scoring valid"
    all_of_them = r", all 3 of them \d+ s"
    assert re.fullmatch(f"{expected}{all_of_them}, unless patience ends it", told[1])
    for epochs, more in ((1, ""), (3, all_of_them)):
        caplog.clear()
        forget_accelerator()
        with caplog.at_level(logging.INFO):
            train.main(tiny_params(epochs=epochs, patience=3, batch_size=50).train)
        assert any(re.fullmatch(expected + more, line) for line in caplog.messages)


def test_equal_seeds_give_equal_bytes_and_others_do_not() -> None:
    seen = []
    for seed in (1, 1, 2):
        train.main(tiny_params(epochs=2, seed=seed).train)
        seen.append(contents([paths.MAIN.weights, paths.MAIN.curve]))
    assert seen[0] == seen[1]
    for path in seen[0]:
        assert seen[0][path] != seen[2][path]


def test_the_seed_draws_the_initial_weights() -> None:
    """Seen at a rate so low that they hardly change."""
    seen = []
    for seed in (1, 2):
        train.main(tiny_params(epochs=1, seed=seed, learning_rate=1e-9).train)
        seen.append(load_file(paths.MAIN.weights)["asta.query.weight"])
    assert (seen[0] - seen[1]).abs().mean() > 0.1


def fit_scripted(monkeypatch: pytest.MonkeyPatch, aucs: list[float], **settings: Any) -> Trained:
    """`fit` on the tiny world, but valid's AUC is as `aucs` says, epoch by epoch."""
    script = iter(aucs)
    monkeypatch.setattr(
        loop, "evaluate", lambda *_: {"auc": next(script), "gauc": 0.5, "logloss": 0.7}
    )
    params = tiny_params(epochs=len(aucs), **settings).train
    accelerator = Accelerator()
    torch.manual_seed(5)
    data = train.load_data(params, accelerator)
    model = QIN(qin_config(params, data.items, len(data.train.columns)))
    return loop.fit(model, data, params, accelerator)


def rates(trained: Trained) -> list[float]:
    return [entry["learning_rate"] for entry in trained.curve]


def test_an_epoch_without_gain_halves_the_rate_and_patience_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    aucs = [0.6, 0.7, 0.7, 0.65, 0.71, 0.5, 0.6, 0.7, 0.99]  # 0.7 again is no gain
    trained = fit_scripted(monkeypatch, aucs, learning_rate=0.008, patience=3)
    assert rates(trained) == [0.008, 0.008, 0.008, 0.004, 0.002, 0.002, 0.001, 0.0005]
    assert [entry["auc"] for entry in trained.curve] == aucs[:-1]
    assert trained.best_epoch == 5


def test_the_best_epochs_weights_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    longer = fit_scripted(monkeypatch, [0.6, 0.7, 0.5, 0.7, 0.6], patience=9)
    shorter = fit_scripted(monkeypatch, [0.6, 0.7], patience=9)
    assert longer.best_epoch == shorter.best_epoch == 2
    assert longer.weights.keys() == shorter.weights.keys()
    for name, weight in longer.weights.items():
        assert torch.equal(weight, shorter.weights[name]), name


def test_the_rate_has_a_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = fit_scripted(monkeypatch, [0.6, *[0.5] * 5], learning_rate=3e-6, patience=9)
    assert rates(trained) == pytest.approx([3e-6, 3e-6, 1.5e-6, 1e-6, 1e-6, 1e-6], rel=1e-12)


def test_divergence_is_an_input_error_and_leaves_earlier_outputs() -> None:
    train.main(tiny_params(epochs=1).train)
    before = contents(OUTPUTS)
    content = read_array(paths.ITEM).copy()
    content[3] = math.nan
    write_array(paths.ITEM, content)
    with pytest.raises(InputError, match=r"diverged.*lower learning_rate"):
        train.main(tiny_params(epochs=1).train)
    assert contents(OUTPUTS) == before
    assert not [path for output in OUTPUTS for path in output.parent.glob(".*")]


def test_a_gauc_that_does_not_exist_is_null() -> None:
    rows = Split.load("valid").rows.copy()
    rows[:, -1] = range(len(rows))  # every user once
    write_array(paths.split_path("valid"), rows)
    train.main(tiny_params(epochs=1).train)
    metrics = read_json(METRICS)
    assert metrics["gauc"] is None
    assert metrics["auc"] == read_curve()["auc"][0]


def test_bf16_trains_as_well() -> None:
    aucs, weights = [], []
    for mixed_precision in ("no", "bf16"):
        forget_accelerator()
        train.main(tiny_params(epochs=8, mixed_precision=mixed_precision).train)
        aucs.append(read_json(METRICS)["auc"])
        weights.append(load_file(paths.MAIN.weights))
    assert aucs[1] == pytest.approx(aucs[0], abs=0.02)
    assert not torch.equal(*(weight["qnn.out.weight"] for weight in weights))
    assert {value.dtype for value in weights[1].values()} == {torch.float32, torch.int64}


@pytest.mark.parametrize("batch_size", [2, 3, 10])
def test_a_batch_that_the_processes_cannot_share(batch_size: int) -> None:
    refuse_uneven_batches("train", 6, 3)
    with pytest.raises(
        InputError,
        match=rf"judge.batch_size is {batch_size} for 3 processes; make it a multiple of 3",
    ):
        refuse_uneven_batches("judge", batch_size, 3)


def test_settings_reach_the_model_and_the_data() -> None:
    for collapsed in (True, False):
        settings = tiny_params(collapsed=collapsed, residence="file").train
        data = train.load_data(settings, Accelerator())
        config = qin_config(settings, data.items, numbers=7)
        assert (config.collapsed, config.numbers, config.numbers_dim) == (collapsed, 7, 4)
        assert data.train.clicks.file is not None
        assert data.train.numbers.file is not None
    on_device = tiny_params(residence="device").train
    log = train.load_data(on_device, Accelerator()).train
    assert log.clicks.file is log.numbers.file is None


def test_too_few_rows_for_the_processes() -> None:
    refuse_few_rows(8, 4)
    with pytest.raises(InputError, match=r"train\.npy: found 7 rows for 4 processes"):
        refuse_few_rows(7, 4)


def test_a_valid_of_one_class_cannot_choose_an_epoch() -> None:
    rows = Split.load("valid").rows.copy()
    rows[:, Split.TAIL.index("label") - len(Split.TAIL)] = 1
    write_array(paths.split_path("valid"), rows)
    with pytest.raises(InputError, match=r"valid\.npy: all labels are 1; AUC"):
        train.main(tiny_params(epochs=1).train)
    assert not paths.MAIN.weights.exists()


def test_a_log_line_says_none_where_there_is_no_gauc() -> None:
    entry = {"epoch": 3, "train_loss": 0.5, "auc": 0.75, "gauc": math.nan, "logloss": 0.6}
    line = loop.progress_line(entry | {"learning_rate": 0.001}, 1234.0, is_best=True)
    assert "valid AUC 0.7500  gAUC none  logloss 0.6000" in line
    assert "nan" not in line
    assert "gAUC 0.6250  " in loop.progress_line(
        entry | {"learning_rate": 0.001, "gauc": 0.625}, 1234.0, is_best=False
    )


def test_freed_memory_is_bounded_after_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    bounded: list[None] = []
    counter = SimpleNamespace(bound=lambda: bounded.append(None))
    monkeypatch.setattr(loop, "FREED_MEMORY", counter)  # and not that of scoring
    train.main(tiny_params(epochs=1).train)
    assert len(bounded) == 6


def train_trees(trees: int = 70, model: str = "trees") -> Train:
    """Of the repository's settings, but for their number."""
    sizes = tiny_params().train.lightgbm.model_dump() | {"trees": trees, "patience": trees}
    settings = tiny_params(model="lightgbm", lightgbm=sizes).train
    train.main(settings, model)
    return settings


def test_trees_leave_what_other_models_leave(caplog: pytest.LogCaptureFixture) -> None:
    train.main(tiny_params(epochs=1).train)
    with caplog.at_level(logging.INFO):
        settings = train_trees()
    metrics, config = read_json(TREES.metrics), read_json(TREES.config)
    assert metrics.keys() == read_json(METRICS).keys()
    assert config.keys() == read_json(paths.MAIN.config).keys()
    curve = pd.read_csv(TREES.curve, dtype=str).map(float)
    assert curve.columns.tolist() == read_curve().columns.tolist()
    best = curve.iloc[int(curve["auc"].argmax())]
    assert metrics["best_epoch"] == best["epoch"]
    assert metrics["epochs"] == curve["epoch"].iloc[-1]
    for name in ("auc", "gauc", "logloss"):
        assert metrics[name] == best[name]
    assert best["auc"] > 0.85
    text = TREES.trees.read_text()
    assert text.count("Tree=") == metrics["best_epoch"]
    assert metrics["parameters"] == leaves(text)
    assert Train.model_validate(config["train"]) == settings
    assert config["model"] == "lightgbm"
    assert {*read_json(paths.MAIN.config)["items"], str(paths.ROW_FEATURES)} == {*config["items"]}
    told = [line for line in caplog.messages if line.startswith("tree ")]
    assert [line.split()[1] for line in told] == ["50", str(metrics["epochs"])]
    assert f"valid AUC {curve['auc'].iloc[-1]:.4f}" in told[-1]


def test_trees_that_take_the_place_of_a_network_leave_nothing_of_it() -> None:
    """And the other way round."""
    train.main(tiny_params(epochs=1).train)
    train_trees(model="main")
    left = {path.name for path in paths.MAIN.config.parent.iterdir()}
    assert left == {"config.json", "model.txt"}
    train.main(tiny_params(epochs=1).train)
    assert not paths.MAIN.trees.exists()
    assert paths.MAIN.weights.exists()
